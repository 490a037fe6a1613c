"""The practice runtime on the CPU: right results, TensorRT's rules, clear errors, silence."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from course.engine import BuildConfig, Profile, build, load
from course.errors import (
    BuildError,
    CourseError,
    DtypeError,
    EngineMismatchError,
    ParseError,
    ProfileError,
    ShapeError,
    UnsupportedError,
)
from tests.engine import zoo


def config(**options) -> BuildConfig:
    return BuildConfig(**{"runtime": "onnxruntime", "profiles": zoo.PROFILE, **options})


@pytest.fixture(scope="module")
def engine():
    with build(zoo.convnet(), config(profiles=(zoo.PROFILE, zoo.LARGE))) as engine:
        yield engine


def test_engine_describes_itself(engine):
    assert (engine.runtime, engine.device, engine.precision) == ("onnxruntime", "cpu", "fp32")
    assert engine.inputs[0].name == "x" and engine.inputs[0].shape == (-1, 3, 16, 16)
    assert engine.inputs[0].dtype == np.float32 and engine.outputs[0].shape == (-1, 10)
    assert engine.profiles == (zoo.PROFILE, zoo.LARGE) and engine.build_seconds > 0 and engine.build_log
    assert "onnxruntime" in repr(engine) and len(engine.onnx_sha256) == 64


@pytest.mark.parametrize("batch, profile", [(1, 0), (3, 0), (8, 1)])
def test_numpy_in_numpy_out(engine, batch, profile):
    x = zoo.images(batch)
    y = engine.run({"x": x}, profile=profile)["y"]
    assert isinstance(y, np.ndarray)
    np.testing.assert_allclose(y, zoo.convnet_reference(x), atol=1e-5)


def test_torch_in_torch_out_with_gradients_and_strides(engine):
    x = torch.from_numpy(zoo.images(2)).requires_grad_()
    y = engine.run({"x": x})["y"]
    assert isinstance(y, torch.Tensor)
    np.testing.assert_allclose(y.numpy(), zoo.convnet_reference(zoo.images(2)), atol=1e-5)
    sideways = zoo.images(2).transpose(0, 1, 3, 2)
    assert not sideways.flags.c_contiguous
    np.testing.assert_allclose(
        engine.run({"x": sideways})["y"], zoo.convnet_reference(np.ascontiguousarray(sideways)), atol=1e-5
    )
    strided = torch.from_numpy(zoo.images(4))[::2]
    np.testing.assert_allclose(
        engine.run({"x": strided})["y"].numpy(), zoo.convnet_reference(strided.numpy()), atol=1e-5
    )


def test_bad_inputs(engine):
    with pytest.raises(ProfileError, match="profile=1"):
        engine.run({"x": zoo.images(8)})
    with pytest.raises(ProfileError, match="build the engine with a profile"):
        engine.run({"x": zoo.images(17)})
    with pytest.raises(DtypeError, match="float64"):
        engine.run({"x": zoo.images(1).astype(np.float64)})
    with pytest.raises(ShapeError, match="missing"):
        engine.run({})


def test_static_model_needs_no_profile():
    with build(zoo.convnet(batch=2), BuildConfig(runtime="onnxruntime")) as engine:
        np.testing.assert_allclose(
            engine.run({"x": zoo.images(2)})["y"], zoo.convnet_reference(zoo.images(2)), atol=1e-5
        )
        with pytest.raises(ShapeError):
            engine.run({"x": zoo.images(1)})


def test_inputs_that_do_not_belong_together():
    profile = Profile({"a": ((1, 4), (2, 4), (4, 4)), "b": ((1, 4), (2, 4), (4, 4))})
    with build(zoo.two_inputs(), config(profiles=profile)) as engine:
        with pytest.raises(ShapeError) as error:
            engine.run({"a": np.zeros((2, 4), np.float32), "b": np.zeros((3, 4), np.float32)})
    assert "'a' and 'b'" in error.value.what
    assert error.value.cause == "Dimension 'batch' is 2 in a [2, 4] and 3 in b [3, 4]."


def test_shape_that_depends_on_the_data():
    with build(zoo.nonzero(), config(profiles=Profile({"x": ((1, 4), (2, 4), (8, 4))}))) as engine:
        assert engine.outputs[0].shape == (2, -1)
        for x in (np.eye(2, 4, dtype=np.float32), np.zeros((3, 4), np.float32)):
            np.testing.assert_array_equal(engine.run({"x": x})["where"], np.stack(np.nonzero(x)))
    with build(zoo.suppression(), BuildConfig(runtime="onnxruntime")) as engine:
        selected = engine.run(zoo.suppression_feeds())["selected"]
    assert sorted(map(tuple, selected.tolist())) == [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 4), (0, 1, 5)]


def sparse_weights(coordinates: bool) -> onnx.ModelProto:
    """The convnet with the linear layer's weights as the positions and values that are not 0."""
    model = zoo.convnet()
    (full,) = [tensor for tensor in model.graph.initializer if tensor.name == "w3"]
    values = onnx.numpy_helper.to_array(full)
    places = np.argwhere(values) if coordinates else np.flatnonzero(values)
    sparse = model.graph.sparse_initializer.add()
    sparse.dims.extend(values.shape)
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(values[values != 0], "w3"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(places.astype(np.int64), "w3_places"))
    model.graph.initializer.remove(full)
    return model


def weights_as_inputs(ir_version: int) -> onnx.ModelProto:
    """The convnet with each weight declared as an input, too: up to IR version 3 a must, later one that may be replaced."""
    model = zoo.convnet()
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = ir_version
    return model


@pytest.mark.parametrize("precision, error", [("fp32", 1e-5), ("fp16", 0.01)])
@pytest.mark.parametrize(
    "model",
    [sparse_weights(False), sparse_weights(True), weights_as_inputs(3), weights_as_inputs(8)],
    ids=["sparse", "coordinates", "inputs", "inputs-8"],
)
def test_weights_in_other_forms_are_weights(model, precision, error):
    x = zoo.images(2)
    with build(model, config(precision=precision)) as engine:
        assert [spec.name for spec in engine.inputs] == ["x"]
        np.testing.assert_allclose(engine.run({"x": x})["y"], zoo.convnet_reference(x), atol=error, rtol=error)


def test_weights_as_inputs_are_folded_as_others_are():
    """An input may be replaced, so ONNX Runtime folds nothing into it: Conv and its activation would stay apart."""

    def kinds(model: onnx.ModelProto) -> list[str]:
        with build(model, config()) as engine:
            return [layer.kind for layer in engine.layers()]

    assert kinds(weights_as_inputs(8)) == kinds(zoo.convnet())


def test_sparse_weights_beyond_memory_are_refused_and_wrong_places_named():
    model = sparse_weights(False)
    model.graph.sparse_initializer[0].dims[:] = [1 << 40]
    with pytest.raises(UnsupportedError, match="'w3'.*GB"):
        build(model, config())
    model.graph.sparse_initializer[0].dims[:] = [2, 2]
    with pytest.raises(ParseError, match="sparse weights 'w3'"):
        build(model, config())


def test_fp16_keeps_the_interface_and_is_close():
    x = zoo.images(4)
    with build(zoo.convnet(), config(precision="fp16")) as engine:
        y = engine.run({"x": x})["y"]
        assert engine.precision == "fp16" and engine.inputs[0].dtype == np.float32
        assert engine.memory().weights_bytes < build(zoo.convnet(), config()).memory().weights_bytes
    want = zoo.convnet_reference(x)
    assert 0 < np.abs(y - want).max() < 5e-3  # rounded, so not equal, but close


def test_int8_runs_qdq_models_only():
    with build(zoo.quantised(), config(precision="int8")) as engine:
        got = engine.run({"x": zoo.images(2)})["y"]
    np.testing.assert_allclose(got, zoo.quantised_reference(zoo.images(2)), atol=0.01)
    with pytest.raises(UnsupportedError, match="Q/DQ"):
        build(zoo.convnet(), config(precision="int8"))
    with pytest.raises(UnsupportedError, match="calibrator"):
        build(zoo.convnet(), config(precision="int8", calibrator=object()))
    with pytest.raises(UnsupportedError, match="TF32"):
        build(zoo.convnet(), config(precision="tf32"))


def test_settings_without_meaning_on_a_cpu_are_named_in_the_log(tmp_path):
    engine = build(zoo.convnet(), config(optimization_level=3, timing_cache=tmp_path / "t", tactic_sources={"CUDNN"}))
    text = " ".join(line.text for line in engine.build_log)
    assert all(name in text for name in ("optimization_level", "timing_cache", "tactic_sources"))
    assert not (tmp_path / "t").exists()


def test_kept_outputs_come_after_the_models_own():
    with build(zoo.convnet(), config(keep_outputs=("r1",))) as engine:
        result = engine.run({"x": zoo.images(2)})
        assert list(result) == ["y", "r1"] and result["r1"].shape == (2, 8, 16, 16) and result["r1"].min() == 0
        fused = {node for layer in engine.layers() if len(layer.onnx_nodes) > 1 for node in layer.onnx_nodes}
    np.testing.assert_allclose(result["y"], zoo.convnet_reference(zoo.images(2)), atol=1e-5)
    assert "conv1" in fused  # keeping the end of a fusion does not prevent it …
    with build(zoo.convnet(), config(keep_outputs=("c1",))) as engine:
        alone = [layer for layer in engine.layers() if layer.onnx_nodes == ("conv1",)]
    assert alone  # … keeping its middle does
    with pytest.raises(BuildError) as error:
        build(zoo.convnet(), config(keep_outputs=("r11",)))
    assert "r1" in error.value.cause


def test_layers_show_the_fusions_that_really_happened(engine):
    layers = engine.layers()
    by_node = {node: layer for layer in layers for node in layer.onnx_nodes}
    assert set(by_node) == {"conv1", "relu1", "conv2", "sigmoid2", "mul2", "pool", "flatten", "linear"}
    assert by_node["conv1"] is by_node["relu1"] and by_node["sigmoid2"] is by_node["mul2"]
    assert sum(len(layer.onnx_nodes) for layer in layers) == 8
    assert by_node["linear"].outputs[0].shape == (-1, 10)


def test_capture_is_for_gpus(engine):
    with pytest.raises(UnsupportedError, match="CUDA graph"):
        engine.capture({"x": zoo.images(1)})


def test_save_and_load(engine, tmp_path):
    x = zoo.images(3)
    engine.save(tmp_path / "a.engine")
    again = load(tmp_path / "a.engine", onnx=zoo.convnet())
    np.testing.assert_array_equal(again.run({"x": x})["y"], engine.run({"x": x})["y"])
    assert again.profiles == engine.profiles and again.onnx_sha256 == engine.onnx_sha256
    with pytest.raises(ProfileError):
        again.run({"x": zoo.images(5)})
    with pytest.raises(EngineMismatchError, match="another model"):
        load(tmp_path / "a.engine", onnx=zoo.quantised())
    engine.save_plan(tmp_path / "a.onnx")
    assert build(tmp_path / "a.onnx", config()).run({"x": x})["y"].shape == (3, 10)


def test_memory_says_what_is_known(engine):
    memory = engine.memory()
    assert memory.weights_bytes == 4 * (8 * 3 * 9 + 8 + 8 * 8 * 9 + 8 + 80 + 8 + 2)
    assert memory.activation_bytes is None and memory.plan_bytes == len(zoo.convnet().SerializeToString())


def test_closed_engine_says_so():
    engine = build(zoo.convnet(), config())
    engine.close()
    engine.close()
    with pytest.raises(CourseError, match="closed"):
        engine.run({"x": zoo.images(1)})


def test_progress_reports_and_cancels():
    seen = []
    build(zoo.convnet(), config(progress=lambda p: seen.append(p) or True))
    assert seen[0].phase == "Read the model" and seen[-1].phase == "Done"
    assert all(a.seconds <= b.seconds for a, b in zip(seen, seen[1:]))
    with pytest.raises(BuildError, match="cancelled"):
        build(zoo.convnet(), config(progress=lambda p: p.phase != "Optimise the graph"))
    with pytest.raises(ZeroDivisionError):
        build(zoo.convnet(), config(progress=lambda p: 1 / 0))


@pytest.mark.parametrize("mistake", zoo.broken())
def test_broken_models_name_node_and_operator(mistake):
    data, node, operator = zoo.broken()[mistake]
    with pytest.raises(ParseError) as error:
        build(data, config())
    assert (
        (f"'{node}'" in error.value.what and operator in error.value.what) if node else "the model" in error.value.what
    )
    assert error.value.cause and "RuntimeError" not in str(error.value)


def test_unknown_operator_says_what_to_do():
    with pytest.raises(ParseError) as error:
        build(zoo.broken()["unknown operator"][0], config())
    assert "does not know operator MySwish" in error.value.what and "plugin" in error.value.next_step


def test_model_of_a_future_opset():
    future = zoo.convnet()
    future.opset_import[0].version = 99
    with pytest.raises(ParseError, match="too new"):
        build(future, config())


def test_nothing_reaches_stdout_or_stderr():
    code = """
from tests.engine import zoo
from course.engine import BuildConfig, build
from course.errors import CourseError
import numpy as np
for precision in ("fp32", "fp16"):
    config = BuildConfig(runtime="onnxruntime", profiles=zoo.PROFILE, precision=precision)
    engine = build(zoo.convnet(), config)
    engine.run({"x": zoo.images(2)}), engine.layers()
for data, _, _ in zoo.broken().values():
    try:
        build(data, BuildConfig(runtime="onnxruntime", profiles=zoo.PROFILE))
        raise SystemExit("was accepted")
    except CourseError:
        pass
"""
    result = zoo.run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's older exporter, which is quicker
def test_resnet50_keeps_its_answers_and_fuses(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    net = torchvision.models.resnet50(weights=None).eval()
    x = torch.randn(2, 3, 64, 64)
    path = tmp_path / "resnet50.onnx"
    torch.onnx.export(
        net,
        (x,),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        opset_version=17,
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        dynamo=False,
    )
    with torch.no_grad():
        want = net(x).numpy()
    with build(path, config(profiles=Profile.batch(path, 1, 2, 4))) as engine:
        np.testing.assert_allclose(engine.run({"image": x.numpy()})["logits"], want, atol=1e-3, rtol=1e-3)
        layers = engine.layers()
    nodes = [node for layer in layers for node in layer.onnx_nodes]
    assert len(nodes) == len(set(nodes)) and len(layers) < 70 < 120 < len(nodes)
    assert any(len(layer.onnx_nodes) == 3 for layer in layers)  # convolution, addition and Relu in one
