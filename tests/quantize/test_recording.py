"""The stand-in for TensorRT 8.6: what it has, what it asks a calibrator, what it notices, what it cannot do."""

from __future__ import annotations

import _ctypes
import ctypes
import hashlib
import json
import mmap
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper

from course.engine import available_runtimes
from course.errors import UnsupportedError
from course.native import toolchain
from course.native.plugin import stand_in_library
from course.quantize import calibrate, quantize
from course.quantize import recording as stand_in_for
from course.quantize.trt_cache import parse_cache
from tests.contract import wheels
from tests.quantize import quantize_zoo as zoo

pytestmark = pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason=str(available_runtimes()["rtx"]))
MODEL = zoo.residual_net().SerializeToString()
X = zoo.images(32)


@pytest.fixture
def trt():
    """Fresh events; `sys.modules` as before afterwards."""
    before = sys.modules.get("tensorrt")
    yield stand_in_for.stand_in()
    if before is None:
        sys.modules.pop("tensorrt")


def calibrator(trt, data=X, base="IInt8EntropyCalibrator2", batch=8, **changes):
    """A right one, in 8.6's manner; `changes` replace methods."""

    class Mine(getattr(trt, base)):
        def __init__(self):
            super().__init__()
            self.batches = iter(data[start : start + batch] for start in range(0, len(data), batch))
            self.cache, self.held = None, None

        def get_batch_size(self):
            return batch

        def get_batch(self, names):
            assert names == ["image"]
            part = next(self.batches, None)
            if part is None:
                return None
            self.held = torch.tensor(part)
            return [self.held.data_ptr()]

        def read_calibration_cache(self):
            return self.cache

        def write_calibration_cache(self, cache):
            self.cache = bytes(cache)

    return type("Changed", (Mine,), changes)()


def build(trt, calibrator=None, flags=("INT8", "FP16"), model=MODEL, explicit=True, profile=True, change=None):
    """As a script of 8.6 builds; the plan or None, and what the logger got."""

    class Logger(trt.ILogger):
        said: list[str] = []

        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, message):
            self.said.append(f"{severity.name} {message}")

    logger = Logger()
    logger.said = Logger.said = []
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH) if explicit else 0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        return None, [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    if profile:
        shapes = builder.create_optimization_profile()
        shapes.set_shape("image", (1, 3, 32, 32), (8, 3, 32, 32), (16, 3, 32, 32))
        config.add_optimization_profile(shapes)
        config.set_calibration_profile(shapes)
    if calibrator is not None:
        config.int8_calibrator = calibrator
    if change:
        change(builder, network, config)
    return builder.build_serialized_network(network, config), logger.said


def names(trt, *wanted: str) -> list[str]:
    return [event["call"] for event in trt.recording.events if not wanted or event["call"] in wanted]


CALIBRATOR = ("get_algorithm", "get_batch_size", "read_calibration_cache", "get_batch", "write_calibration_cache")


@pytest.mark.parametrize(
    "base, algorithm, method",
    [
        ("IInt8EntropyCalibrator2", "EntropyCalibration2", "entropy"),
        ("IInt8EntropyCalibrator", "EntropyCalibration", "entropy"),
        ("IInt8MinMaxCalibrator", "MinMaxCalibration", "min-max"),
    ],
)
def test_it_asks_as_8_6_does_and_gives_the_scales_of_the_method(trt, base, algorithm, method):
    mine = calibrator(trt, base=base)
    plan, _ = build(trt, mine)
    assert plan.nbytes > 100_000
    assert names(trt, *CALIBRATOR) == [
        *CALIBRATOR[:3],
        *["get_batch"] * 5,
        "read_calibration_cache",
        "write_calibration_cache",
    ]
    given = [event["sha256"] for event in trt.recording.calls("get_batch") if not event["end"]]
    assert given == [[hashlib.sha256(X[start : start + 8].tobytes()).hexdigest()] for start in range(0, 32, 8)]
    cache = parse_cache(mine.cache.decode())
    assert (cache.version, cache.algorithm) == ("8600", algorithm)
    expected = calibrate(MODEL, X, method)
    assert cache.scales == pytest.approx(dict(expected.scales), rel=1e-6)
    (done,) = trt.recording.calls("calibrated")
    assert (done["batches"], done["cache"], done["missing"]) == (4, "written", [])
    json.dumps(trt.recording.events)


def test_a_cache_is_read_first_and_then_no_batch_is_asked_for(trt):
    mine = calibrator(trt)
    build(trt, mine)
    again = calibrator(trt)
    again.cache = mine.cache
    trt.recording.clear()
    plan, said = build(trt, again)
    assert plan is not None and names(trt, *CALIBRATOR) == [*CALIBRATOR[:3], "read_calibration_cache"]
    assert any("Generated calibration scales using calibration cache" in line for line in said)


def test_a_cache_of_another_algorithm_is_neither_used_nor_replaced(trt):
    """TensorRT 8.6.0 calibrates, asks for the cache again, is given the same, and writes nothing: the same next time."""
    first = calibrator(trt)
    build(trt, first)
    for cache in (first.cache.replace(b"Entropy", b"MinMax"), b"\xff\x00"):
        mine = calibrator(trt)
        mine.cache = cache
        trt.recording.clear()
        build(trt, mine)
        (done,) = trt.recording.calls("calibrated")
        assert (done["batches"], done["cache"]) == (4, "") and "write_calibration_cache" not in names(trt)


def test_a_cache_of_another_version_is_used(trt):
    first = calibrator(trt)
    build(trt, first)
    mine = calibrator(trt)
    mine.cache = first.cache.replace(b"8600", b"8601")
    trt.recording.clear()
    build(trt, mine)
    (done,) = trt.recording.calls("calibrated")
    assert (done["batches"], done["cache"]) == (0, "read")


def test_tensors_that_a_cache_lacks_are_named(trt):
    mine = calibrator(trt)
    build(trt, mine)
    short = calibrator(trt)
    short.cache = b"\n".join(line for line in mine.cache.splitlines() if not line.startswith(b"block0.add_out"))
    trt.recording.clear()
    _, said = build(trt, short)
    assert trt.recording.calls("calibrated")[0]["missing"] == ["block0.add_out"]
    assert [line for line in said if "Missing scale and zero-point for tensor block0.add_out" in line]


def test_what_the_build_was_asked_for(trt):
    def change(builder, network, config):
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 28)
        config.builder_optimization_level = 2
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        network.get_layer(0).precision = trt.float32
        assert network.get_layer(0).precision_is_set and not network.get_layer(1).precision_is_set
        config.set_timing_cache(config.create_timing_cache(b""), False)
        assert config.get_flag(trt.BuilderFlag.INT8) and config.flags >> int(trt.BuilderFlag.INT8) & 1

    build(trt, calibrator(trt), change=change)
    (asked,) = trt.recording.calls("Builder.build_serialized_network")
    assert asked["flags"] == ["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "TF32"]
    assert asked["profiles"] == [{"image": [[1, 3, 32, 32], [8, 3, 32, 32], [16, 3, 32, 32]]}]
    assert asked["calibration_profile"] == asked["profiles"][0]
    assert asked["calibrator"] == {"class": "Changed", "base": "IInt8EntropyCalibrator2"}
    assert (asked["level"], asked["pools"], asked["quantised"]) == (2, {"WORKSPACE": 1 << 28}, False)
    assert list(asked["precisions"].values()) == ["FLOAT"]
    assert asked["network"] == hashlib.sha256(MODEL).hexdigest()


# ---------------------------------------------------------------- memory


def test_memory_that_was_freed_is_noticed(trt):
    def get_batch(self, names):
        part = torch.tensor(next(self.batches))
        return [part.data_ptr()]

    plan, said = build(trt, calibrator(trt, get_batch=get_batch))
    assert plan is None and any("freed" in line for line in said), said
    assert "freed" in trt.recording.calls("problem")[0]["words"]


def test_large_memory_that_was_given_back_to_the_system_is_no_crash(trt):
    """Blocks of many MB are unmapped when they are freed."""
    large = np.random.default_rng(0).standard_normal((8, 3, 512, 512)).astype(np.float32)
    model = zoo.residual_net()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 512

    def get_batch(self, names):
        part = np.array(large)
        return [part.ctypes.data]

    def change(builder, network, config):
        shapes = builder.create_optimization_profile()
        shapes.set_shape("image", (8, 3, 512, 512), (8, 3, 512, 512), (8, 3, 512, 512))
        config.add_optimization_profile(shapes)
        config.set_calibration_profile(shapes)

    mine = calibrator(trt, get_batch=get_batch)
    plan, said = build(trt, mine, model=model.SerializeToString(), profile=False, change=change)
    assert plan is None and re.search("freed|cannot be read", " ".join(said)), said


@pytest.mark.parametrize("address", [0, 8, 1 << 46, 1 << 63, -8, 1 << 70])
def test_an_address_of_nothing_is_an_error_and_no_crash(trt, address):
    plan, said = build(trt, calibrator(trt, get_batch=lambda self, names: [address]))
    assert plan is None and any("cannot be read" in line for line in said), said


def test_one_buffer_for_all_batches_is_right(trt):
    def get_batch(self, names):
        part = next(self.batches, None)
        if part is None:
            return []
        self.held = torch.empty(part.shape) if self.held is None else self.held
        self.held.copy_(torch.from_numpy(part))
        return [self.held.data_ptr()]

    build(trt, calibrator(trt, get_batch=get_batch))
    assert trt.recording.calls("calibrated")[0]["batches"] == 4 and not trt.recording.calls("problem")


# ---------------------------------------------------------------- calibrators that are wrong


def test_a_calibrator_without_end_is_ended(trt):
    def get_batch(self, names):
        self.held = torch.tensor(X[:8])
        return [self.held.data_ptr()]

    plan, said = build(trt, calibrator(trt, get_batch=get_batch))
    assert plan is None and "does not end" in " ".join(said) and len(trt.recording.calls("get_batch")) == 16


def test_an_error_in_get_batch_looks_like_the_end_of_the_data(trt, capsys):
    def get_batch(self, names):
        part = next(self.batches)
        if self.held is not None:
            raise ValueError("no more memory")
        self.held = torch.tensor(part)
        return [self.held.data_ptr()]

    plan, _ = build(trt, calibrator(trt, get_batch=get_batch))
    assert plan is not None and trt.recording.calls("calibrated")[0]["batches"] == 1
    assert "[ERROR] Exception caught in get_batch(): ValueError: no more memory" in capsys.readouterr().err


@pytest.mark.parametrize("given", [None, [], ["a"], 3.5, torch.zeros(3)])
def test_without_a_batch_there_are_no_scales(trt, given):
    plan, said = build(trt, calibrator(trt, get_batch=lambda self, names: given))
    assert plan is None and any("no scaling factors detected" in line for line in said)


def test_the_caches_memory_is_gone_when_the_call_returns(trt):
    mine = calibrator(trt, write_calibration_cache=lambda self, cache: setattr(self, "view", cache))
    build(trt, mine)
    with pytest.raises(ValueError, match="released"):
        bytes(mine.view)


def test_the_base_wants_its_init(trt):
    class Forgot(trt.IInt8MinMaxCalibrator):
        def __init__(self):
            self.batch = 8

    with pytest.raises(TypeError, match=r"IInt8MinMaxCalibrator.__init__\(\) must be called when overriding"):
        Forgot()


# ---------------------------------------------------------------- flags and networks


def test_int8_needs_scales_pairs_need_int8_and_pairs_make_a_calibrator_useless(trt):
    assert build(trt)[0] is None and build(trt, flags=())[0] is not None
    pairs = quantize(MODEL, calibrate(MODEL, X, "min-max")).SerializeToString()
    plan, said = build(trt, flags=("FP16",), model=pairs)
    assert plan is None and any("INT8 mode needs to be enabled" in line for line in said)
    trt.recording.clear()
    plan, said = build(trt, calibrator(trt), model=pairs)
    assert plan is not None and not names(trt, *CALIBRATOR)
    assert any("Calibrator won't be used in explicit precision mode" in line for line in said)
    trt.recording.clear()
    build(trt, calibrator(trt), flags=("FP16",))
    assert "the flag INT8 is not set" in trt.recording.calls("problem")[0]["words"] and not names(trt, *CALIBRATOR)


def test_ranges_set_by_hand_take_the_place_of_a_calibrator(trt):
    def change(builder, network, config):
        for index in range(network.num_layers):
            assert network.get_layer(index).get_output(0).set_dynamic_range(-3, 3)
        network.get_input(0).dynamic_range = (-2.5, 2.5)
        assert network.get_input(0).dynamic_range == (-2.5, 2.5)

    plan, said = build(trt, change=change)
    assert plan is not None and trt.recording.calls("calibrated")[0]["missing"] == []


def test_without_explicit_batch_the_parser_refuses(trt):
    plan, errors = build(trt, explicit=False)
    assert plan is None and "explicitly" not in errors[0] and "EXPLICIT_BATCH" in errors[0]


def test_an_open_shape_needs_a_profile_and_profile_0_calibrates_if_no_other_is_given(trt):
    plan, said = build(trt, calibrator(trt), profile=False)
    assert plan is None and any("no optimization profile has been defined" in line for line in said)

    def change(builder, network, config):
        shapes = builder.create_optimization_profile()
        shapes.set_shape("image", (1, 3, 32, 32), (8, 3, 32, 32), (16, 3, 32, 32))
        config.add_optimization_profile(shapes)

    plan, said = build(trt, calibrator(trt), profile=False, change=change)
    assert plan is not None and any("Calibrating with Profile 0" in line for line in said)


def test_a_network_by_hand_passes_through(trt):
    def add(builder, network, config):
        image = network.get_input(0)
        layer = network.add_activation(image, trt.ActivationType.RELU)
        layer.name = "mine"
        layer.set_output_type(0, trt.float16)
        assert layer.output_type_is_set(0) and layer.get_output(0).name
        joined = network.add_concatenation([layer.get_output(0), image])
        network.mark_output(joined.get_output(0))

    plan, _ = build(trt, flags=("FP16",), change=add)
    assert plan is not None and trt.recording.calls("ILayer.set_output_type")[0]["layer"] == "mine"


def test_wrong_types_and_names_are_errors_as_in_the_bindings(trt):
    def change(builder, network, config):
        for wrong in (
            lambda: config.set_flag("INT8"),
            lambda: config.set_flag(1),
            lambda: setattr(config, "int8_calibrator", object()),
            lambda: setattr(network.get_layer(0), "precision", "int8"),
            lambda: builder.build_serialized_network(network, None),
            lambda: 1 << trt.BuilderFlag.INT8,
        ):
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(AttributeError):
            config.int8_calibrater = None
        with pytest.raises(AttributeError):
            config.progress_monitor = None  # of 10 and later
        assert trt.BuilderFlag.INT8 != 1 and int(trt.BuilderFlag.INT8) == 1

    build(trt, flags=(), change=change)


def test_parser_errors_are_real(trt):
    b = zoo.Builder()
    model = b.model(b.op("Det", "det", b.op("MatMul", "product", "image", "image")), ("batch", 3))
    plan, errors = build(trt, model=model.SerializeToString())
    assert plan is None and "Det" in " ".join(errors)


# ---------------------------------------------------------------- plugins

needs_compiler = pytest.mark.skipif(toolchain.find().compiler is None, reason="needs a C++ compiler")


def with_node(name: str, **attributes) -> bytes:
    b = zoo.Builder()
    model = b.model(b.op("Relu", "before", "image"), ("batch", 3, 32, 32))
    model.graph.node.append(
        helper.make_node(name, ["before_out"], ["custom_out"], "custom", domain="anybody", **attributes)
    )
    model.graph.output[0].name = "custom_out"
    model.opset_import.append(helper.make_opsetid("anybody", 1))
    return model.SerializeToString()


def library(tmp_path, name: str) -> str:
    """Of a node that multiplies by numbers that only it knows."""
    numbers = np.random.default_rng(0).standard_normal((3, 32, 32)).astype(np.float32)
    function = helper.make_function(
        "course",
        name,
        ["x"],
        ["y"],
        [
            helper.make_node("Constant", [], ["numbers"], value=numpy_helper.from_array(numbers)),
            helper.make_node("Mul", ["x", "numbers"], ["y"]),
        ],
        [helper.make_opsetid("", 17)],
        ["plugin_version", "plugin_namespace"],
    )
    return str(stand_in_library(function.SerializeToString(), tmp_path / f"{name}.so"))


def load(trt, path):
    handle = trt.get_plugin_registry().load_library(path)
    assert handle is not None
    return lambda: trt.get_plugin_registry().deregister_library(handle)


def open_it(trt, path):
    handle = ctypes.CDLL(path)._handle
    return lambda: _ctypes.dlclose(handle)


@needs_compiler
@pytest.mark.parametrize("way", [load, open_it])
def test_a_node_is_parsed_while_its_library_is_open(trt, way, tmp_path):
    name = f"Scale{way.__name__}"
    path, model = library(tmp_path, name), with_node(name)
    plan, errors = build(trt, flags=(), model=model)
    assert plan is None and "Plugin not found" in errors[0] and name in errors[0]

    close = way(trt, path)
    plan, _ = build(trt, flags=(), model=model)
    assert plan is not None and np.random.default_rng(0).standard_normal(3072).astype(np.float32)[
        :100
    ].tobytes() in bytes(plan)
    registry = trt.get_plugin_registry()
    assert name in [one.name for one in registry.plugin_creator_list]
    assert registry.get_plugin_creator(name, "1", "") and not registry.get_plugin_creator(name, "2", "")
    asked = trt.recording.calls("Builder.build_serialized_network")[-1]
    assert asked["network"] == hashlib.sha256(model).hexdigest(), "it is the file that was given"

    close()
    plan, errors = build(trt, flags=(), model=model)
    assert plan is None and "Plugin not found" in errors[0]


@needs_compiler
@pytest.mark.parametrize("slip", [{"plugin_version": "2"}, {"plugin_namespace": "mine"}, {"plugin_version": 1}])
def test_version_and_namespace_must_be_the_creators(trt, tmp_path, slip):
    close = load(trt, library(tmp_path, "ScaleSlip"))
    plan, errors = build(trt, flags=(), model=with_node("ScaleSlip", **slip))
    assert plan is None and "Plugin not found" in errors[0]
    assert build(trt, flags=(), model=with_node("ScaleSlip", plugin_version="1", plugin_namespace=""))[0]
    close()


@needs_compiler
def test_what_is_no_plugin_library_is_not_loaded(trt, tmp_path):
    (tmp_path / "text.so").write_text("no library")
    (tmp_path / "plain.c").write_text("int nothing;")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "plain.so", tmp_path / "plain.c"], check=True)
    for name in ("text.so", "plain.so", "missing.so"):
        assert trt.get_plugin_registry().load_library(str(tmp_path / name)) is None
    assert [event["good"] for event in trt.recording.calls("IPluginRegistry.load_library")] == [False] * 3


@needs_compiler
def test_a_library_that_is_only_looked_at_is_not_open(trt, tmp_path):
    path = library(tmp_path, "ScaleSeen")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC):
        assert path in Path("/proc/self/maps").read_text()
        assert build(trt, flags=(), model=with_node("ScaleSeen"))[0] is None


@needs_compiler
def test_a_broken_file_stays_the_parsers(trt, tmp_path):
    close = load(trt, library(tmp_path, "ScaleBroken"))
    model = with_node("ScaleBroken")
    plan, errors = build(trt, flags=(), model=model[: len(model) // 2])
    assert plan is None and errors
    close()


def test_an_engine_is_not_run(trt):
    plan, _ = build(trt, flags=())
    assert trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR)).deserialize_cuda_engine(plan) is None


# ---------------------------------------------------------------- what it is


def test_it_is_known_as_a_stand_in_and_course_engine_is_not_fooled(trt):
    import tensorrt

    assert tensorrt is trt and trt.RECORDING and trt.__version__ == "8.6.0"
    if available_runtimes()["tensorrt"] is not None:
        assert stand_in_for.tensorrt_here(tell=False) is trt
    with pytest.raises(UnsupportedError, match="nothing to build with here"):
        stand_in_for.stand_in("no wheel for this machine")


def test_it_stands_alone(tmp_path):
    """A box sees this folder and no course."""
    code = (
        "import sys, tensorrt as trt; "
        "trt.Builder(trt.Logger(trt.Logger.ERROR)); "
        "assert not [name for name in sys.modules if name.split('.')[0] == 'course']; print(trt.RECORDING)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(stand_in_for.FOLDER), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "True", done.stderr


def test_it_has_the_names_of_8_6(trt):
    try:
        api = wheels.load_api("8.6")
    except wheels.Unavailable as reason:
        pytest.skip(str(reason))
    known, classes = api["modules"][""], api["classes"]
    assert [name for name in trt.__all__ if name not in known and name not in ("recording", "volume")] == []
    for kind in (
        "BuilderFlag",
        "NetworkDefinitionCreationFlag",
        "CalibrationAlgoType",
        "PreviewFeature",
        "TacticSource",
    ):
        theirs = {name for name, entry in classes[kind].items() if entry["kind"] == "member"}
        assert set(getattr(trt, kind).__members__) == theirs, kind
    for kind in ("IBuilderConfig", "IInt8EntropyCalibrator2"):
        ours = {name for name in dir(getattr(trt, kind)) if not name.startswith("_")}
        assert ours <= set(classes[kind]) | set(classes["IInt8Calibrator"]), kind
        assert kind != "IBuilderConfig" or set(classes[kind]) - ours - {
            name for name in classes[kind] if name.startswith("_")
        } == {"can_run_on_DLA", "get_device_type", "is_device_type_set", "reset_device_type", "set_device_type"}
    registry = {name for name in dir(trt.IPluginRegistry) if not name.startswith("_")}
    assert registry == {name for name in classes["IPluginRegistry"] if not name.startswith("_")}
    for gone in ("IProgressMonitor", "IPluginV3", "ISerializationConfig"):
        assert not hasattr(trt, gone)


def test_the_folder_holds_no_import_of_the_course():
    for path in (Path(stand_in_for.FOLDER) / "tensorrt").glob("*.py"):
        assert not re.search(r"^\s*(from|import) course", path.read_text(), re.M), path


def test_watched_writes_down_what_is_asked_and_what_was_given(trt):
    mine = stand_in_for.watched(type(calibrator(trt)))()
    build(trt, mine)
    assert mine.calls == [
        ("get_batch_size", 8),
        ("read_calibration_cache", False),
        *[("get_batch", True)] * 4,
        ("get_batch", False),
        ("read_calibration_cache", False),
        ("write_calibration_cache", len(mine.written)),
    ]
    assert mine.cache == mine.written and mine.written.startswith(b"TRT-8600-")


def test_watched_keeps_the_error_that_tensorrt_swallows(trt):
    def fails(self, names):
        raise ValueError("no more memory")

    mine = stand_in_for.watched(type(calibrator(trt, get_batch=fails)))()
    build(trt, mine)
    method, error = mine.calls[-1]
    assert method == "get_batch" and isinstance(error, ValueError)


def test_the_stand_in_comes_where_tensorrt_lacks_a_name(trt, monkeypatch):
    monkeypatch.setattr(stand_in_for, "available_runtimes", lambda: {"tensorrt": None, "rtx": None})
    assert stand_in_for.tensorrt_here(tell=False, needs="Builder") is trt
    assert stand_in_for.tensorrt_here(tell=False, needs="NoSuchName").RECORDING
