"""The engine's words: what they refuse before any runtime sees it, and the file of a saved engine."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from course.engine import BuildConfig, Profile, available_runtimes, build, container, graph, load, log, network_layers
from course.engine.feeds import check
from course.engine.progress import Progress
from course.engine.trt import inspector
from course.engine.types import LogLine, TensorSpec
from course.errors import (
    BuildError,
    CourseError,
    DamagedFileError,
    DtypeError,
    EngineMismatchError,
    MissingFileError,
    ParseError,
    ProfileError,
    ShapeError,
    UnsupportedError,
)
from tests.engine import zoo

X = (TensorSpec("x", np.dtype("float32"), (-1, 3, 16, 16)),)


def test_timing_cache_file_is_whole_or_not_used(tmp_path):
    from course.engine.trt.build import read_timing_cache, write_timing_cache

    path = tmp_path / "t.cache"
    assert read_timing_cache(path) == b""
    write_timing_cache(path, b"kernels")
    assert read_timing_cache(path) == b"kernels"
    for damaged in (path.read_bytes()[:-1], b"", b"this is no timing cache" * 20):
        path.write_bytes(damaged)
        assert read_timing_cache(path) is None


def test_an_output_that_no_node_makes_is_refused_before_any_runtime():
    with pytest.raises(ParseError, match="No node makes its output 'y'"):
        graph.read(zoo.broken()["output from nowhere"][0])


def test_import_is_cheap_and_loads_no_framework():
    code = (
        "import sys, course.engine; "
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'tensorrt', 'tensorrt_rtx') if m in sys.modules])"
    )
    result = zoo.run_python(code)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "code, reason",
    [
        ("raise OSError('libnvinfer.so.8: cannot open shared object file')", "libnvinfer.so.8"),
        ("raise RuntimeError('broken')", "broken"),
        ("", "is not TensorRT"),
        ("class Builder: pass", "no NVIDIA driver"),
    ],
)
def test_broken_tensorrt_gives_a_reason_not_a_traceback(monkeypatch, tmp_path, code, reason):
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)

    def no_driver(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", no_driver)
    found = available_runtimes()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    assert reason in found["tensorrt"] and found["onnxruntime"] is None
    assert build(zoo.convnet(), BuildConfig(profiles=zoo.PROFILE)).runtime == "onnxruntime"


def test_runtime_that_does_not_work_here_says_why():
    reason = available_runtimes()["tensorrt"]
    if reason is None:
        pytest.skip("TensorRT works here")
    with pytest.raises(UnsupportedError) as error:
        build(zoo.convnet(), BuildConfig(runtime="tensorrt", profiles=zoo.PROFILE))
    assert reason in error.value.cause


@pytest.mark.parametrize(
    "field, value",
    [
        ("precision", "bf16"),
        ("runtime", "cuda"),
        ("optimization_level", 6),
        ("workspace_bytes", -1),
        ("profiles", ({"x": 1},)),
    ],
)
def test_config_names_the_bad_field(field, value):
    with pytest.raises(BuildError) as error:
        BuildConfig(**{field: value})
    assert field in error.value.what and "must be" in error.value.cause


def test_config_takes_single_values_where_it_wants_several():
    config = BuildConfig(profiles=zoo.PROFILE, keep_outputs="r1", tactic_sources=["CUDNN"], timing_cache="a.cache")
    assert config.profiles == (zoo.PROFILE,) and config.keep_outputs == ("r1",)
    assert config.tactic_sources == {"CUDNN"} and config.timing_cache == Path("a.cache")


# --- profiles


def test_batch_profile_fills_only_the_batch():
    profile = Profile.batch(zoo.convnet(), 1, 8, 32)
    assert profile.shapes == {"x": ((1, 3, 16, 16), (8, 3, 16, 16), (32, 3, 16, 16))}
    assert Profile.batch(zoo.two_inputs(), 1, 2, 3).shapes["b"] == ((1, 4), (2, 4), (3, 4))


def test_batch_profile_refuses_a_static_model_and_more_than_the_batch():
    with pytest.raises(ProfileError, match="no open batch"):
        Profile.batch(zoo.convnet(batch=2), 1, 2, 4)
    with pytest.raises(ProfileError) as error:
        Profile.batch(zoo.convnet(height="h", width="w"), 1, 2, 4)
    assert "'x'" in error.value.what and "Profile({" in error.value.next_step


@pytest.mark.parametrize("shapes", [[1, 2], {"x": ((1, 3), (2, 3))}, {"x": 4}, {"x": ((1.5,), (2,), (3,))}])
def test_profile_refuses_what_is_not_three_shapes(shapes):
    with pytest.raises(ProfileError):
        Profile(shapes)


@pytest.mark.parametrize(
    "shapes, words",
    [
        ({"image": ((1, 3, 16, 16),) * 3, "x": ((1, 3, 16, 16),) * 3}, ["no input 'image'"]),
        ({}, ["'x'", "no entry"]),
        ({"x": ((1, 3, 16), (2, 3, 16), (4, 3, 16))}, ["'x'", "3 dimensions", "4"]),
        (
            {"x": ((1, 1, 16, 16), (2, 1, 16, 16), (4, 1, 16, 16))},
            ["Dimension 1", "'x'", "1 in the min", "fixes it to 3"],
        ),
        ({"x": ((4, 3, 16, 16), (2, 3, 16, 16), (1, 3, 16, 16))}, ["Dimension 0", "min 4", "opt 2", "max 1"]),
        ({"x": ((1, 3, 16, 16), (9, 3, 16, 16), (8, 3, 16, 16))}, ["opt 9", "max 8"]),
        ({"x": ((0, 3, 16, 16), (1, 3, 16, 16), (8, 3, 16, 16))}, ["Dimension 0", "is 0"]),
    ],
)
def test_profile_that_does_not_fit_names_input_dimension_and_value(shapes, words):
    with pytest.raises(ProfileError) as error:
        build(zoo.convnet(), BuildConfig(runtime="onnxruntime", profiles=Profile(shapes)))
    assert all(word in error.value.cause for word in words), error.value


def test_dynamic_model_without_profile_gets_the_profile_to_write():
    with pytest.raises(ProfileError) as error:
        build(zoo.convnet(), BuildConfig(runtime="onnxruntime"))
    written = error.value.next_step.split("profiles=(")[1].rsplit(",)", 1)[0]
    assert eval(written, {"Profile": Profile}) == Profile.batch(zoo.convnet(), 1, 8, 32)


# --- feeds


@pytest.mark.parametrize(
    "feeds, kind, words",
    [
        ([1], DtypeError, ["list", "dict"]),
        ({}, ShapeError, ["'x' is missing", "float32 [-1, 3, 16, 16]"]),
        ({"x": zoo.images(1), "z": zoo.images(1)}, ShapeError, ["no input 'z'"]),
        ({"X": zoo.images(1)}, ShapeError, ["no input 'X'"]),
        ({"x": [[1.0]]}, DtypeError, ["'x' is a list", "np.asarray"]),
        ({"x": zoo.images(1).astype(np.float64)}, DtypeError, ["float64", "float32", "astype(np.float32)"]),
        ({"x": zoo.images(1).transpose(0, 2, 3, 1)}, ShapeError, ["[1, 16, 16, 3]", "transpose(0, 3, 1, 2)"]),
        ({"x": zoo.images(1)[0]}, ShapeError, ["[3, 16, 16]", "x[None]"]),
        ({"x": np.zeros((1, 3, 8, 16), np.float32)}, ShapeError, ["Dimension 2 is 8 and must be 16"]),
        ({"x": np.zeros(3, np.float32)}, ShapeError, ["4 dimensions instead of 1"]),
        (
            {"x": zoo.images(5)},
            ProfileError,
            ["Dimension 0 is 5", "from 1 to 4", "outside optimisation profile 0"],
        ),
    ],
)
def test_bad_input_is_named_with_what_it_is_what_it_should_be_and_the_fix(feeds, kind, words):
    with pytest.raises(kind) as error:
        check(X, (zoo.PROFILE,), feeds, 0)
    assert type(error.value) is kind
    assert all(word in str(error.value) for word in words), error.value


def test_feeds_of_two_kinds_and_torch_dtypes():
    torch = pytest.importorskip("torch")
    two = (*X, TensorSpec("z", np.dtype("float32"), (-1, 3, 16, 16)))
    with pytest.raises(DtypeError, match="two kinds"):
        check(two, (), {"x": zoo.images(1), "z": torch.zeros(1, 3, 16, 16)}, 0)
    with pytest.raises(DtypeError, match=r"to\(torch.float32\)"):
        check(X, (), {"x": torch.zeros(1, 3, 16, 16).half()}, 0)
    with pytest.raises(DtypeError, match="NumPy has no bfloat16"):
        check((TensorSpec("x", "bfloat16", (1,)),), (), {"x": np.zeros(1, np.float32)}, 0)
    assert check((TensorSpec("x", "bfloat16", (1,)),), (), {"x": torch.zeros(1).bfloat16()}, 0) == "torch"


def test_profile_error_names_the_profile_that_fits_and_unknown_indices():
    with pytest.raises(ProfileError, match="profile=1"):
        check(X, (zoo.PROFILE, zoo.LARGE), {"x": zoo.images(8)}, 0)
    assert check(X, (zoo.PROFILE, zoo.LARGE), {"x": zoo.images(8)}, 1) == "numpy"
    for index in (2, -1, "0", True):
        with pytest.raises(ProfileError, match="no optimisation profile"):
            check(X, (zoo.PROFILE, zoo.LARGE), {"x": zoo.images(4)}, index)


# --- reading models


def test_models_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingFileError, match="nothing.onnx"):
        graph.read(tmp_path / "nothing.onnx")
    for content, words in (
        (b"hello, this is no protobuf", "not an ONNX model"),
        (b"", "not a usable"),
        (b"version https://git-lfs.github.com/spec/v1", "LFS"),
        (zoo.convnet().SerializeToString()[:-40], "ONNX model"),
    ):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        with pytest.raises(ParseError) as error:
            graph.read(path)
        assert words in str(error.value) and "bad.onnx" in error.value.what


def test_weights_in_other_files(tmp_path):
    path = tmp_path / "outside.onnx"
    onnx.save(zoo.convnet(), str(path), save_as_external_data=True, location="outside.bin", size_threshold=0)
    model = graph.read(path)
    assert graph.weights_bytes(model.proto) == graph.weights_bytes(zoo.convnet())
    with build(path, BuildConfig(runtime="onnxruntime", profiles=zoo.PROFILE)) as engine:
        got = engine.run({"x": zoo.images(2)})["y"]
    np.testing.assert_allclose(got, zoo.convnet_reference(zoo.images(2)), atol=1e-5)
    with pytest.raises(MissingFileError, match="Give the path"):
        graph.read(path.read_bytes())
    (tmp_path / "outside.bin").write_bytes(b"short")
    with pytest.raises(ParseError, match="outside.bin"):
        graph.read(path)
    (tmp_path / "outside.bin").unlink()
    with pytest.raises(MissingFileError, match="outside.bin"):
        graph.read(path)


def test_sources_of_one_model_have_one_hash(tmp_path):
    data = zoo.convnet().SerializeToString(deterministic=True)
    (tmp_path / "m.onnx").write_bytes(data)
    hashes = {
        graph.read(source).sha256 for source in (tmp_path / "m.onnx", str(tmp_path / "m.onnx"), data, zoo.convnet())
    }
    assert len(hashes) == 1


def test_float16_conversion_keeps_the_interface_and_the_original():
    model = graph.read(zoo.convnet())
    before = model.proto.SerializeToString()
    half = graph.prepared(model, float16=True)
    assert model.proto.SerializeToString() == before and half.sha256 == model.sha256
    assert {t.data_type for t in half.proto.graph.initializer} == {onnx.TensorProto.FLOAT16}
    assert {v.type.tensor_type.elem_type for v in (*half.proto.graph.input, *half.proto.graph.output)} == {
        onnx.TensorProto.FLOAT
    }
    with pytest.raises(UnsupportedError, match="Q/DQ"):
        graph.prepared(graph.read(zoo.quantised()), float16=True)


# --- the file


def header(**changes) -> container.Header:
    given = container.Header(
        "tensorrt",
        "8.6.0",
        "fp16",
        X,
        (TensorSpec("y", "bfloat16", (-1, 10)),),
        (zoo.PROFILE,),
        "a" * 64,
        1.5,
        100,
        "NVIDIA H200",
        "9.0",
    )
    return dataclasses.replace(given, **changes)


def test_file_keeps_header_and_payload(tmp_path):
    path = container.write(tmp_path / "a.engine", header(), b"plan")
    assert container.read(path) == (header(), b"plan")


def test_damaged_files_are_refused(tmp_path):
    whole = container.write(tmp_path / "a.engine", header(), b"p" * 1000).read_bytes()
    cases = {
        b"": "empty",
        whole[:20]: "cut short",
        whole[:200]: "cut short",
        whole[:-1]: "cut short",
        whole[:-5] + b"XXXXX": "damaged",
        whole[:60] + b"#" + whole[61:]: "damaged",
        zoo.convnet().SerializeToString(): "ONNX model",
        b"ftrt" + bytes(100): "bare TensorRT plan",
        b"\x7fELF" + bytes(100): "begins with",
    }
    for data, words in cases.items():
        (tmp_path / "b.engine").write_bytes(data)
        with pytest.raises(DamagedFileError) as error:
            load(tmp_path / "b.engine")
        assert (
            words in str(error.value) and "b.engine" in error.value.what and "course.engine.build" in str(error.value)
        )
    with pytest.raises(MissingFileError):
        load(tmp_path / "none.engine")


def test_file_of_a_newer_course_is_refused(tmp_path):
    import hashlib

    text = json.dumps({"format": 99, "course": "9.0"}).encode()
    data = struct.pack("<8sI32s", container.MAGIC, len(text), hashlib.sha256(text).digest()) + text
    (tmp_path / "a.engine").write_bytes(data)
    with pytest.raises(EngineMismatchError, match="format 99"):
        load(tmp_path / "a.engine")


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"runtime_version": "10.16.1"}, ["TensorRT 10.16.1", "here is 8.6.0"]),
        (
            {"compute_capability": "8.0", "gpu": "NVIDIA A100"},
            ["8.0", "NVIDIA A100", "here is 9.0", "NVIDIA H200"],
        ),
    ],
)
def test_foreign_engine_names_the_difference(changes, words):
    with pytest.raises(EngineMismatchError) as error:
        container.require_same_machine("a.engine", header(**changes), "8.6.0", "9.0", "NVIDIA H200")
    assert all(word in error.value.cause for word in words) and "Build it again" in error.value.next_step
    container.require_same_machine("a.engine", header(), "8.6.0", "9.0", "NVIDIA H200 NVL")  # same architecture


def test_full_disk_leaves_no_partial_file(tmp_path, monkeypatch):
    path = tmp_path / "a.engine"
    container.write(path, header(), b"old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CourseError) as error:
        container.write(path, header(), b"new")
    assert "No space left" in error.value.cause
    assert [p.name for p in tmp_path.iterdir()] == ["a.engine"] and container.read(path)[1] == b"old"


# --- log, progress, inspector


def test_log_goes_to_the_python_logger_and_never_to_stderr(caplog, capfd):
    with caplog.at_level(logging.DEBUG, "course.tensorrt"), log.capture() as lines:
        log.record("ERROR", "an error")
        log.record("VERBOSE", "detail")
        with log.captured_stderr():
            os.write(2, b"printed by native code\n")
    assert lines == [
        LogLine("ERROR", "an error"),
        LogLine("VERBOSE", "detail"),
        LogLine("ERROR", "printed by native code"),
    ]
    assert [r.levelname for r in caplog.records] == ["ERROR", "DEBUG", "ERROR"]
    code = "from course.engine import log; log.record('ERROR', 'no handler was configured')"
    result = zoo.run_python(code)
    assert result.stderr == "" and capfd.readouterr().err == ""


def test_progress_follows_the_log_of_a_tensorrt_without_monitor():
    seen = []
    progress = Progress(lambda p: seen.append((p.phase, p.step, p.steps)) or True)
    for text in (
        "Applying generic optimizations to the graph for inference.",
        "After concat removal: 2 layers",
        "=============== Computing costs for conv1 + relu1",
        "noise",
        "=============== Computing costs for linear",
        "Formats and tactics selection completed in 1.5 seconds.",
        "Engine generation completed in 2 seconds.",
    ):
        progress.follow_log(LogLine("VERBOSE", text))
    assert seen == [
        ("Optimise the graph", 0, None),
        ("Time kernels", 0, 2),
        ("Time kernels", 1, 2),
        ("Generate the engine", 0, None),
        ("Serialise", 0, None),
    ]


def test_progress_never_raises_into_native_code_but_later():
    progress = Progress(lambda p: 1 / 0)
    assert progress.tell("Build") is False
    with pytest.raises(ZeroDivisionError):
        progress.check("m.onnx")


def test_inspector_reads_the_json_of_8_6_and_of_10():
    old = (
        '{"Layers": [{"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", '
        '"Location": "Device", "Dimensions": [-1,3,16,16], "Format/Datatype": '
        '"Channel major FP16 format where channel % 8 == 0"}], "Outputs": '
        '[{"Name": "r1", "Dimensions": [-1,8,16,16], "Format/Datatype": "Row major linear FP32"}], '
        '"TacticName": "sm80_xmma", "Metadata": "[ONNX Layer: conv1]\x1e[ONNX Layer: relu1]"}, '
        '{"Name": "conv1 + relu1 [profile 1]", "LayerType": "CaskConvolution"}, '
        '{"Name": "PWN(PWN(sigmoid2), mul2)", "LayerType": "PointWiseV2", "Weights": {"Type": "Half", "Count": 64}, '
        '"Outputs": [{"Name": "m", "Dimensions": [-1,8], "Format/Datatype": "N/A due to dynamic shapes"}]}, '
        '{"Name": "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1", "LayerType": "Reformat"}, '
        '{"Name": "a || b", "LayerType": "CaskConvolution"}], "Bindings": ["x"]}'
    )
    first, point, reformat, merged = inspector.parse(old)
    assert first.onnx_nodes == ("conv1", "relu1") and first.tactic == "sm80_xmma"
    assert (first.inputs[0].dtype, first.outputs[0].dtype) == ("float16", "float32") and first.inputs[0].shape == (
        -1,
        3,
        16,
        16,
    )
    assert point.onnx_nodes == ("sigmoid2", "mul2") and reformat.onnx_nodes == () and merged.onnx_nodes == ("a", "b")
    assert (first.precision, point.precision, reformat.precision) == ("float32", "float16", "")
    assert point.outputs[0].dtype == ""
    new = (
        '{"Layers": [{"Name": "k", "LayerType": "kgen", "Inputs": [], "Outputs": [{"Name": "y", '
        '"Dimensions": [2], "Format": "Row major linear", "Datatype": "BFloat16"}], '
        '"Metadata": "[ONNX Layer: a][ONNX Layer: a]"}]}'
    )
    (layer,) = inspector.parse(new)
    assert layer.onnx_nodes == ("a",) and layer.outputs[0].dtype == "bfloat16"
    assert inspector.parse('{"Layers": ["conv1", "relu1"]}')[1].name == "relu1"
    assert [
        inspector.dtype_name(w)
        for w in ("Two wide channel vectorized row major Int8 format", "", "Row major linear Bool")
    ] == ["int8", "", "bool"]


def test_network_layers_are_the_onnx_nodes_on_the_cpu():
    layers = network_layers(zoo.convnet(), "onnxruntime")
    assert [layer.kind for layer in layers] == [
        "Conv",
        "Relu",
        "Conv",
        "Sigmoid",
        "Mul",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    ]
    assert layers[0].name == "conv1" and layers[0].inputs[1].shape == (8, 3, 3, 3)
    assert layers[0].outputs[0].shape == (-1, 8, 16, 16) and layers[0].outputs[0].dtype == "float32"
    with pytest.raises(UnsupportedError, match="no runtime 'cuda'"):
        network_layers(zoo.convnet(), "cuda")


def test_quantised_convolutions_say_their_kernel():
    """TensorRT 8.6's parser refuses a convolution with Q/DQ weights and without `kernel_shape` (seen on a GPU)."""
    model = graph.read(zoo.quantised())
    ready = graph.prepared(model)
    conv = next(node for node in ready.proto.graph.node if node.op_type == "Conv")
    assert next(list(a.ints) for a in conv.attribute if a.name == "kernel_shape") == [3, 3]
    assert ready.sha256 == model.sha256 and ready.data != model.data
    assert graph.prepared(ready).data == ready.data  # what says its kernel is left alone
    plain = graph.read(zoo.convnet())
    assert graph.prepared(plain) is plain
