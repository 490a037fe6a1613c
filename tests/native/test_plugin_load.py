"""A plugin finds TensorRT's functions even where TensorRT was loaded for itself alone, as the wheel of 8.6 does it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from course.native import toolchain

TENSORRT = "int getPluginRegistry(void) { return 7; }"
PLUGIN = """
int getPluginRegistry(void);
int seen;
__attribute__((constructor)) void enrol(void) { seen = getPluginRegistry(); }
"""
SCRIPT = """
import ctypes, os, sys
from course.native.plugins import building
ctypes.CDLL(sys.argv[1], os.RTLD_LOCAL | os.RTLD_NOW)
try:
    ctypes.CDLL(sys.argv[2], os.RTLD_NOW)
except OSError as error:
    print("alone:", error)
building.built_for = lambda library: "8.6.1"
print("seen", ctypes.c_int.in_dll(building.load(sys.argv[2], "8.6.0"), "seen").value)
"""


@pytest.mark.skipif(toolchain.find().compiler is None, reason="needs a C++ compiler")
def test_a_plugin_sees_the_registry_of_a_tensorrt_that_was_loaded_for_itself(tmp_path):
    made = {}
    for name, code in (("libnvinfer.so.8", TENSORRT), ("plugin.so", PLUGIN)):
        (tmp_path / "code.c").write_text(code)
        made[name] = tmp_path / name
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", made[name], tmp_path / "code.c"], check=True)
    command = [sys.executable, "-c", SCRIPT, *map(str, made.values())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "undefined symbol: getPluginRegistry" in done.stdout, "the test shows nothing: " + done.stdout + done.stderr
    assert done.stdout.endswith("seen 7\n"), done.stderr
