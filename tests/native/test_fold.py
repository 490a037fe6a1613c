"""CourseFold, the plugin of stage 3's lessons: one definition in NumPy, PyTorch, ONNX, and C++."""

from __future__ import annotations

import ctypes
import dataclasses
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from course.engine import available_runtimes
from course.native import fold, plugin
from course.native.fold import by_hand, lookup, recorded, restorer, saved

needs_rtx = pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason="TensorRT-RTX is not here")


@pytest.fixture(scope="module")
def cut() -> onnx.ModelProto:
    """The body's model: Tanh -> patches [1, 192, 8, 8]. (What comes before the patches does not matter here.)"""
    graph = helper.make_graph(
        [helper.make_node("Tanh", ["image"], [restorer.PATCHES], name="tanh")],
        "cut",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 192, 8, 8])],
        [helper.make_tensor_value_info(restorer.PATCHES, onnx.TensorProto.FLOAT, [1, 192, 8, 8])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0), (1, 1, 0), (5, 3, 2)])
def test_numpys_fold_is_pytorchs(window) -> None:
    kernel, stride, padding = window
    x = torch.randn(2, 3 * kernel**2, 4, 5)
    sides = [(side - 1) * stride + kernel - 2 * padding for side in x.shape[2:]]
    wanted = torch.nn.functional.fold(x.flatten(2), sides, kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(fold.fold(x.numpy(), *window), wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("way", [restorer.rewritten, restorer.decomposed])
def test_the_other_ways_are_the_fold(way) -> None:
    patches = torch.randn(2, 192, 3, 5)
    torch.testing.assert_close(way(patches), restorer.folded(patches))


def test_onnxs_operator_is_the_fold(cut) -> None:
    image = np.random.default_rng(0).standard_normal((1, 192, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        restorer.with_col2im(cut).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (got,) = session.run(None, {"image": image})
    np.testing.assert_allclose(got, fold.fold(np.tanh(image), 8, 4, 2), atol=1e-5)


@pytest.mark.parametrize("major", [8, 11])
def test_the_courses_own_plugin_is_right(tmp_path, major) -> None:
    report = plugin.examine(fold.write(tmp_path, fold.source()), fold.contract(), using=plugin_headers(major))
    assert report.ok, str(report)
    assert saved.plan_bytes(tmp_path, kernel=8, stride=4, padding=2) == np.array([8, 4, 2], np.int32).tobytes()


def test_an_attribute_of_another_type_is_refused(tmp_path) -> None:
    contract = dataclasses.replace(
        fold.contract(),
        reference=lambda x, **words: fold.fold(x, **{name: int(value) for name, value in words.items()}),
        attributes={"kernel": 3.0, "stride": 2, "padding": 1},
    )
    report = plugin.examine(fold.write(tmp_path, fold.source()), contract)
    assert "no-plugin" in report.kinds


@needs_rtx
def test_three_words_find_the_creator_and_attributes_come_as_the_node_has_them(cut) -> None:
    found = lookup.parse(restorer.with_plugin(cut))
    assert found.found and found.fields == {"kernel": [8], "stride": [4], "padding": [2]}
    for words in ({"op_type": "CourseUnfold"}, {"plugin_version": "2"}, {"plugin_namespace": "course"}):
        answer = lookup.parse(restorer.with_plugin(cut, **words))
        assert not answer.found and "are the plugin name, version, and namespace correct?" in answer.message
    assert lookup.parse(restorer.with_plugin(cut), version="2").found is False
    assert lookup.parse(restorer.with_plugin(cut, kernel=8.0)).fields["kernel"] == [8.0]


@needs_rtx
def test_the_parser_refuses_col2im_and_says_what_it_would_take(cut) -> None:
    model = restorer.with_col2im(cut)
    answer = lookup.parse(model)
    assert (answer.found, answer.code, answer.operator) == (False, "UNSUPPORTED_NODE", "Col2Im")
    assert lookup.parts(model) == [[0, 1]]
    assert lookup.parts(cut) == [[0]]


def test_the_stand_in_registry_has_the_methods_of_its_version() -> None:
    methods = {version: by_hand.Registry(version) for version in (8, 10, 11)}
    assert [hasattr(one, "get_plugin_creator") for one in methods.values()] == [True, True, False]
    assert [hasattr(one, "get_creator") for one in methods.values()] == [False, True, True]
    assert methods[8].get_plugin_creator("CourseFold", "1", "") is not None
    assert methods[8].get_plugin_creator("CourseFold", "1", "course") is None


def test_the_recorded_table_shows_every_way(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(recorded, "PLACES", (tmp_path / "none.json",))
    assert recorded.show() is None and "Open" in capsys.readouterr().out
    (tmp_path / "some.json").write_text(
        '{"tensorrt": "8.6.0", "side": 512, "lines": {"cut": 18}, "messages": {"Col2Im": ["no importer"]}, "results": {"b1": '
        '{"PyTorch": {"p50_ms": 2.0, "error": 0.001}, "cut, GPU": {"p50_ms": 1.0, "times": [2.0, 1.9, 2.1], "error": 0.002}}}}'
    )
    monkeypatch.setattr(recorded, "PLACES", (tmp_path / "some.json",))
    recorded.show()
    said = capsys.readouterr().out
    assert "2.00 (1.90 to 2.10)" in said and "cut, GPU" in said and "no importer" in said


def plugin_headers(major: int):
    from course.native.plugins.headers import stand_in

    return stand_in(major)


@pytest.mark.parametrize("name", [None, b"named"])
def test_a_creator_reads_a_field_as_tensorrt_8_gives_it(name):
    """The data of a PluginField is a bare pointer in a capsule in 8.6.0: seen on an H200."""
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    value = np.array([7], np.int32)
    field = SimpleNamespace(name="kernel", type=SimpleNamespace(name="INT32"), data=new(value.ctypes.data, name, None))
    assert by_hand.Creator().create_plugin("fold", [field]).window["kernel"] == 7
