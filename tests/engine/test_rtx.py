"""TensorRT-RTX on the CPU: the real parser, profile checks and fusion of the TensorRT family; build-only."""

from __future__ import annotations

import logging
import os
import threading

import pytest

from course.engine import BuildConfig, Profile, available_runtimes, build, load, network_layers
from course.errors import BuildError, DamagedFileError, ParseError, UnsupportedError
from tests.engine import zoo

REASON = available_runtimes()["rtx"]
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"TensorRT-RTX: {REASON}")


def config(**options) -> BuildConfig:
    return BuildConfig(**{"runtime": "rtx", "profiles": zoo.PROFILE, **options})


@pytest.fixture(scope="module")
def engine():
    return build(zoo.convnet(), config())


def test_builds_and_describes_itself(engine):
    assert (engine.runtime, engine.device) == ("rtx", "none")
    assert engine.inputs[0].shape == (-1, 3, 16, 16) and engine.outputs[0].name == "y"
    memory = engine.memory()
    assert memory.plan_bytes > memory.weights_bytes > 0 and memory.activation_bytes > 0
    assert {line.severity for line in engine.build_log} >= {"VERBOSE", "INFO"}


def test_layers_are_the_fused_kernels(engine):
    layers = engine.layers()
    by_node = {node: layer for layer in layers for node in layer.onnx_nodes}
    assert set(by_node) == {"conv1", "relu1", "conv2", "sigmoid2", "mul2", "pool", "flatten", "linear"} - {"flatten"}
    assert by_node["conv1"] is by_node["relu1"] and by_node["sigmoid2"] is by_node["mul2"]
    conv = by_node["conv1"]
    assert conv.outputs[0].shape == (-1, 8, 16, 16) and conv.outputs[0].dtype == "float32" and conv.outputs[0].format
    assert all(layer.inputs or layer.outputs for layer in layers) and layers[-1].outputs[0].name == "y"


def test_keeping_the_middle_of_a_fusion_prevents_it():
    kept = build(zoo.convnet(), config(keep_outputs=("c1",)))
    by_node = {node: layer for layer in kept.layers() for node in layer.onnx_nodes}
    assert [spec.name for spec in kept.outputs] == ["y", "c1"]
    assert any("c1" in {t.name for t in layer.outputs} for layer in kept.layers()) and "conv1" in by_node


def test_network_before_fusion():
    layers = network_layers(zoo.convnet(), "rtx")
    kinds = [layer.kind for layer in layers]
    assert kinds.count("CONVOLUTION") == 2 and "ACTIVATION" in kinds and "MATRIX_MULTIPLY" in kinds
    conv = next(layer for layer in layers if layer.name == "conv1")
    assert (
        conv.onnx_nodes == ("conv1",) and conv.inputs[0].shape == (-1, 3, 16, 16) and conv.inputs[0].dtype == "float32"
    )


def test_fp16_converts_the_model_and_keeps_the_interface():
    engine = build(zoo.convnet(), config(precision="fp16"))
    assert str(engine.inputs[0].dtype) == "float32"
    assert "float16" in {tensor.dtype for layer in engine.layers() for tensor in layer.outputs}


def test_int8_takes_qdq_and_refuses_a_calibrator():
    engine = build(zoo.quantised(), config(precision="int8"))
    assert "int8" in {tensor.dtype for layer in engine.layers() for tensor in (*layer.inputs, *layer.outputs)}
    with pytest.raises(UnsupportedError, match="no calibrator"):
        build(zoo.convnet(), config(precision="int8", calibrator=object()))
    with pytest.raises(BuildError) as error:
        build(zoo.convnet(), config(precision="int8"))
    assert "Q/DQ" in error.value.next_step and "calibrator." not in error.value.next_step
    with pytest.raises(BuildError, match="ignore"):
        build(zoo.quantised(), config(precision="int8", calibrator=object()))
    with pytest.raises(BuildError, match="precision is fp32"):
        build(zoo.convnet(), config(calibrator=object()))


def test_two_profiles():
    assert build(zoo.convnet(), config(profiles=(zoo.PROFILE, zoo.LARGE))).profiles == (
        zoo.PROFILE,
        zoo.LARGE,
    )


def test_operators_that_parse_but_have_no_kernel_here():
    with pytest.raises(ParseError, match="does not know operator NonZero"):
        build(zoo.nonzero(), config(profiles=Profile({"x": ((1, 4), (2, 4), (8, 4))})))
    with pytest.raises(BuildError) as error:
        build(zoo.suppression(), BuildConfig(runtime="rtx"))
    assert "nms" in error.value.cause and "outside the engine" in error.value.next_step


@pytest.mark.parametrize("mistake", zoo.broken())
def test_broken_models_name_node_and_operator(mistake):
    data, node, operator = zoo.broken()[mistake]
    with pytest.raises(ParseError) as error:
        build(data, config())
    assert (
        (f"'{node}'" in error.value.what and operator in error.value.what) if node else "the model" in error.value.what
    )
    assert "cpp" not in error.value.cause and "/_src" not in error.value.cause


def test_operator_of_the_standard_that_the_parser_lacks():
    from onnx import TensorProto, helper

    det = zoo.model(
        [helper.make_node("Det", ["x"], ["y"], "determinant")],
        outputs=[("y", TensorProto.FLOAT, ["batch", 3])],
    )
    with pytest.raises(ParseError) as error:
        build(det, config())
    assert "does not know operator Det" in error.value.what and "plugin" in error.value.next_step


def test_what_tensorrt_cannot_feed():
    from onnx import TensorProto, helper

    text = zoo.model(
        [helper.make_node("Identity", ["x"], ["y"], "same")],
        inputs=[("x", TensorProto.STRING, [2])],
        outputs=[("y", TensorProto.STRING, [2])],
    )
    with pytest.raises(ParseError):
        build(text, BuildConfig(runtime="rtx"))
    reshape = zoo.model(
        [helper.make_node("Reshape", ["x", "to"], ["y"], "reshape")],
        inputs=[("x", TensorProto.FLOAT, [2, 8]), ("to", TensorProto.INT64, [2])],
        outputs=[("y", TensorProto.FLOAT, ["a", "b"])],
    )
    with pytest.raises(UnsupportedError, match="'to' decides the shape"):
        build(reshape, BuildConfig(runtime="rtx"))


def test_cannot_run_here(engine, tmp_path):
    for call in (engine.run, engine.capture):
        with pytest.raises(UnsupportedError, match="cannot"):
            call({"x": zoo.images(1)})
    engine.save(tmp_path / "a.engine")
    with pytest.raises(UnsupportedError, match="TensorRT-RTX"):
        load(tmp_path / "a.engine")
    engine.save_plan(tmp_path / "a.plan")
    with pytest.raises(DamagedFileError, match="bare TensorRT plan"):
        load(tmp_path / "a.plan")


def test_tactic_sources():
    assert build(zoo.convnet(), config(tactic_sources=frozenset())).layers()
    with pytest.raises(UnsupportedError) as error:
        build(zoo.convnet(), config(tactic_sources={"CUDNN"}))
    assert "CUDNN" in error.value.what and "JIT_CONVOLUTIONS" in error.value.cause


def test_progress_reports_nested_phases_and_cancels():
    seen = []
    build(zoo.convnet(), config(progress=lambda p: seen.append(p) or True))
    assert [p.phase for p in seen[:3]] == ["Read the model", "Parse the model", "Build"] and seen[-1].phase == "Done"
    assert any(p.parent == "Building engine" and p.steps and 0 < p.step <= p.steps for p in seen)
    calls = []
    with pytest.raises(BuildError, match="cancelled"):
        build(zoo.convnet(), config(progress=lambda p: calls.append(p) or p.parent is None))
    assert len(calls) < len(seen)
    with pytest.raises(ZeroDivisionError):
        build(zoo.convnet(), config(progress=lambda p: 1 / (p.parent is None)))


def test_ctrl_c_inside_a_callback_of_native_code_ends_the_build_cleanly():
    code = """
import logging, os, signal
from tests.engine import zoo
from course.engine import BuildConfig, build

class Press(logging.Handler):
    pressed = False
    def emit(self, record):
        if not self.pressed and "Parsing node" in record.getMessage():
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)

config = BuildConfig(runtime="rtx", profiles=zoo.PROFILE)
logger, press = logging.getLogger("course.tensorrt"), Press()
logger.setLevel(logging.DEBUG)
logger.addHandler(press)
before = signal.getsignal(signal.SIGINT)
try:
    build(zoo.convnet(), config)
except KeyboardInterrupt:
    assert press.pressed and signal.getsignal(signal.SIGINT) is before
    print(len(build(zoo.convnet(), config).layers()) > 0)
"""
    result = zoo.run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")


def test_builds_in_another_thread():
    result = []
    thread = threading.Thread(target=lambda: result.append(build(zoo.convnet(), config())))
    thread.start()
    thread.join(60)
    assert result[0].layers()


def test_log_reaches_the_logger(caplog):
    with caplog.at_level(logging.DEBUG, "course.tensorrt"):
        build(zoo.convnet(), config())
    assert any(
        record.name == "course.tensorrt" and "Building" in record.message or "conv1" in record.message
        for record in caplog.records
    )


def test_nothing_reaches_stdout_or_stderr():
    code = """
from tests.engine import zoo
from onnx import TensorProto, helper
from course.engine import BuildConfig, build, network_layers
from course.errors import CourseError
for precision in ("fp32", "tf32", "fp16"):
    config = BuildConfig(runtime="rtx", profiles=zoo.PROFILE, precision=precision, timing_cache="t.cache")
    build(zoo.convnet(), config).layers()
network_layers(zoo.convnet(), "rtx")
text = zoo.model([helper.make_node("Identity", ["x"], ["y"], "same")],
                 inputs=[("x", TensorProto.STRING, [2])], outputs=[("y", TensorProto.STRING, [2])])
for data, _, _ in [*zoo.broken().values(), (text, "", "")]:
    try:
        build(data, BuildConfig(runtime="rtx", profiles=() if data is text else zoo.PROFILE))
        raise SystemExit("was accepted")
    except CourseError:
        pass
"""
    result = zoo.run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not os.path.exists("t.cache")
