"""The box of a build script beside TensorRT itself, with a module in its place: what is open before, and what engines tell."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from autograder.checks import plans, probe
from course.engine import available_runtimes
from course.native import toolchain
from course.paths import ROOT

TENSORRT = """
__version__ = "8.6.0"
class ProfilingVerbosity:
    DETAILED = "detailed"
class Config:
    profiling_verbosity, sources = "names", None
    def set_tactic_sources(self, sources):
        self.sources = sources
class Builder:
    def build_serialized_network(self, network, config):
        return f"{network} {config.profiling_verbosity} {config.sources}".encode()
"""
PLUGIN = """
const char* mark = "course-plugin-built-for-tensorrt=8.6.0;";
int opened = 0;
__attribute__((constructor)) void enrol(void) { opened += 1; }
"""
SCRIPT = """
import ctypes
from pathlib import Path
import tensorrt as trt

def build(onnx, plan, library, shapes, fp16=False):
    opened = ctypes.c_int.in_dll(ctypes.CDLL(library), "opened").value
    if fp16:
        raise RuntimeError("no FP16 here")
    Path(plan).write_bytes(trt.Builder().build_serialized_network(f"{Path(onnx).read_text()} {shapes} {opened}", trt.Config()))
"""
BOX = """
import sys, numpy as np
from pathlib import Path
from autograder.artifacts.plugin_build_inside import PluginScript
box = PluginScript(Path(sys.argv[1]))
print(box.start(np.fromfile(sys.argv[2], np.uint8), stand_in=""))
for fp16 in (False, False, True):
    answer, plans = box.build(np.frombuffer(b"net", np.uint8), shapes=[[1, 3], [2, 3], [4, 3]], fp16=fp16)
    print(answer["raised"].split()[-3:], answer["meant"], *(plan.tobytes() for plan in plans))
"""


@pytest.mark.skipif(toolchain.find().compiler is None, reason="needs a C++ compiler")
def test_beside_tensorrt_the_plugin_is_open_once_and_engines_tell_their_layers(tmp_path):
    for name, text in {"tensorrt.py": TENSORRT, "plugin.c": PLUGIN, "build_engine.py": SCRIPT}.items():
        (tmp_path / name).write_text(text)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "made.so", "plugin.c"], cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-c", BOX, str(tmp_path / "build_engine.py"), "made.so"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    plan = b"net ((1, 3), (2, 3), (4, 3)) 1 detailed 0"
    assert done.stdout.splitlines() == [
        "({'tensorrt': '8.6.0'}, [])",
        f"[] False {plan}",
        f"[] False {plan}",
        "['no', 'FP16', 'here'] True",
    ], done.stderr


@pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason="TensorRT-RTX does not work here")
def test_a_plan_counts_only_with_the_node_of_the_library():
    rng, shapes = np.random.default_rng(2), [[size, 3, 48, 40] for size in (1, 4, 6)]
    plain, mine, other = probe.network(rng, (3, 48, 40)), probe.function(rng, "One"), probe.function(rng, "One")
    networks = [probe.inlined(probe.with_node(plain, "One"), function) for function in (mine, other)]
    expected = plans.expected(*networks, "tf32", probe.INPUT, shapes)
    again = plans.expected(*networks, "tf32", probe.INPUT, shapes)
    without = plans.expected(plain, plain, "tf32", probe.INPUT, shapes)
    assert expected.problem(again.plan) == ""
    assert expected.problem(again.other) == expected.differs
    assert expected.problem(without.plan) and expected.problem(mine * 50 + plain)
