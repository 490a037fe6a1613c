"""Milestone 3a's notebook tries the build script: what it prints of a right one, of one that is not written, and of a silent one."""

from __future__ import annotations

import shutil

import onnx
import pytest
from onnx import TensorProto, helper

from course.engine import available_runtimes
from course.exercises.stage3_plugins.activation_milestone import rehearse
from course.native import toolchain
from course.paths import ROOT

pytestmark = [
    pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason="TensorRT-RTX does not work here"),
    pytest.mark.skipif(available_runtimes()["tensorrt"] is None, reason="where TensorRT works, it needs a plugin"),
    pytest.mark.skipif(toolchain.find().compiler is None, reason="needs a C++ compiler"),
]
SOLUTION = ROOT / "solutions/stage3_plugins/m3a/build_engine.py"


@pytest.fixture
def network(tmp_path):
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 64, 64]) for name in ("image", "logits")
    ]
    node = helper.make_node("CourseMish", ["image"], ["logits"], domain="course", beta=1.5, plugin_version="1")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("course", 1)]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_right_script_builds_twice_and_says_what_is_wrong_with_half_a_file(network, tmp_path, capsys):
    shutil.copy(SOLUTION, tmp_path)
    rehearse(tmp_path, network)
    notice, single, half, broken = capsys.readouterr().out.splitlines()
    assert "stand-in" in notice
    assert single.startswith("FP32: a plan of ") and half.startswith("FP16: a plan of ")
    assert "RuntimeError" in broken and "half.onnx cannot be parsed" in broken


def test_a_script_that_is_not_written_is_run_once(network, capsys):
    rehearse(ROOT / "stage3_plugins/m3a", network)
    assert "not written yet (build_engine.py, line " in capsys.readouterr().out.splitlines()[-1]


def test_what_a_wrong_script_does_is_shown(network, tmp_path, capsys):
    (tmp_path / "build_engine.py").write_text("import tensorrt\n")
    rehearse(tmp_path, network)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "FP32: no error, and no plan",
        "FP16: no error, and no plan",
        "half of the file, which must be an error: no error, and no plan",
    ]


def test_without_the_network(tmp_path, capsys):
    rehearse(tmp_path, tmp_path / "net.onnx")
    assert capsys.readouterr().out.endswith("net.onnx is not there yet.\n")
