"""ONNX to a TensorRT plan: parse, configure, build. Shared with TensorRT-RTX; `trt` is the module."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from course.engine import graph, log, profiles
from course.engine.config import BuildConfig
from course.engine.progress import Progress, ctrl_c_waits
from course.engine.trt import features as compat
from course.engine.trt.inspector import ONNX_LAYER
from course.engine.types import Layer, LogLine, TensorInfo, TensorSpec
from course.errors import BuildError, CourseError, UnsupportedError
from course.files import atomic_write

_CACHE_MAGIC = b"COURSETC"
# What to do about a failed build, by words in TensorRT's errors.
_FREE_MEMORY = "Free GPU memory (close other engines and processes), or use a smaller max shape."
_ADVICE = (
    ("out of memory", _FREE_MEMORY),
    ("OutOfMemory", _FREE_MEMORY),
    ("Could not find any implementation", "Raise workspace_bytes, or use other tactic_sources or precision."),
    ("no runners", "There is no kernel for this layer: leave it out and compute it outside the engine."),
    ("alibrat", "Check the calibrator: its batches, their shape and dtype, and where their memory is."),
    ("cudnn", "Build with tactic_sources=frozenset()."),
    ("cublas", "Build with tactic_sources=frozenset()."),
)


@dataclass(frozen=True)
class Built:
    """A finished build."""

    plan: bytes
    model: graph.Model
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    seconds: float
    log: tuple[LogLine, ...]


def build_plan(trt, product: str, source, config: BuildConfig) -> Built:
    """Build a plan. `product` is how messages name the runtime.

    Raises: as `course.engine.build`.
    """
    progress = Progress(config.progress)
    progress.tell("Read the model")
    model = _prepare(trt, product, graph.read(source), config)
    profiles.check(model.name, graph.inputs(model.proto), config.profiles)
    follow = None if compat.reports_progress(trt) else progress.follow_log
    with warnings.catch_warnings(), log.capture(also=follow) as lines, ctrl_c_waits(progress.stop):
        warnings.simplefilter("ignore", DeprecationWarning)  # of flags that old versions need
        progress.tell("Parse the model")
        builder = _builder(trt, product)
        network, _parser = parse(trt, product, builder, model)  # the parser owns weights: keep it
        inputs, outputs = _specs(network)
        plan = None if progress.stopped else _build(trt, builder, network, config, model, progress)
    progress.check(model.name)
    if plan is None:
        reason = log.errors(lines)
        advice = next(
            (text for word, text in _ADVICE if word in reason),
            'Read Engine.build_log\'s errors in the Python logger "course.tensorrt".',
        )
        raise BuildError(f"{product} {trt.__version__} could not build {model.name}.", short_reason(reason), advice)
    progress.tell("Done")
    return Built(plan, model, graph.with_dim_names(inputs, model.proto), outputs, progress.seconds, tuple(lines))


def _prepare(trt, product: str, model: graph.Model, config: BuildConfig) -> graph.Model:
    quantised = graph.has_qdq(model.proto)
    if config.calibrator is not None and quantised:
        raise BuildError(
            f"{model.name} has Q/DQ nodes, and a calibrator was given.",
            "TensorRT would silently ignore the calibrator.",
            "Use one of the two.",
        )
    if config.calibrator is not None and config.precision != "int8":
        raise BuildError(
            f"A calibrator was given, but the precision is {config.precision}.",
            "A calibrator is only used for INT8.",
            'Build with precision="int8".',
        )
    if config.precision == "int8" and not quantised and config.calibrator is None:
        raise BuildError(
            f"{model.name} cannot be built in INT8.",
            "It has no Q/DQ nodes, and no calibrator was given, so that no scale is known.",
            "Insert Q/DQ nodes into the model" + (", or give a calibrator." if compat.takes_calibrator(trt) else "."),
        )
    convert = config.precision == "fp16" and not compat.sets_precision_by_flag(trt)
    return graph.prepared(model, config.keep_outputs, float16=convert)


def _builder(trt, product: str):
    with log.capture() as lines:
        try:
            return trt.Builder(log.trt_logger(trt))
        except TypeError as error:  # what the bindings make of a null pointer
            raise UnsupportedError(
                f"{product} {trt.__version__} cannot start a build.",
                short_reason(log.errors(lines)),
                "Run `course doctor`: it checks the GPU, the driver and CUDA.",
            ) from error


def parse(trt, product: str, builder, model: graph.Model):
    """ONNX to (network, parser).

    Raises:
        ParseError: names the node, the operator and what to do.
    """
    network = builder.create_network(compat.network_flags(trt))
    parser = trt.OnnxParser(network, log.trt_logger(trt))
    with log.capture() as lines, log.captured_stderr():
        parsed = parser.parse(model.data)
    if parsed:
        return network, parser
    if parser.num_errors == 0:
        raise graph.parse_error(model, "", "", short_reason(log.errors(lines)), True, product)
    error = parser.get_error(0)
    node, operator = compat.parser_error_node(error, model.proto.graph.node)
    reason = short_reason(error.desc())
    no_plugin = "not found in plugin registry" in reason  # operators that TensorRT itself makes of plugins
    supported = not operator or (parser.supports_operator(operator) and not no_plugin)
    if not supported:
        reason = "The operator is not in its ONNX parser, and no plugin has its name."
    raise graph.parse_error(model, node, operator, reason, supported, f"{product} {trt.__version__}")


def _build(trt, builder, network, options: BuildConfig, model: graph.Model, progress: Progress) -> bytes | None:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for Engine.layers()
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    compat.set_precision(trt, config, options.precision, graph.has_qdq(model.proto))
    compat.share_profiles(trt, config)
    for name in compat.set_tactic_sources(trt, config, options.tactic_sources):
        log.record("INFO", f"Tactic source {name} is off: its library does not work on this machine.")
    for profile in options.profiles:
        config.add_optimization_profile(_trt_profile(builder, profile.shapes))
    if not options.profiles and _data_decides_a_shape(network):
        # Without a profile TensorRT 8.6 builds an engine here that cannot tell the shape of its own inputs.
        inputs = {spec.name: (spec.shape,) * 3 for spec in _specs(network)[0]}
        config.add_optimization_profile(_trt_profile(builder, inputs))
    if options.calibrator is not None:
        shapes = options.profiles[0].shapes if options.profiles else {}
        usual = {name: (opt, opt, opt) for name, (_, opt, _) in shapes.items()}  # calibration has one shape
        profile = _trt_profile(builder, usual) if usual else None
        compat.set_calibrator(trt, config, options.calibrator, profile)
    if options.timing_cache is not None:
        _use_timing_cache(config, options.timing_cache)
    _monitor = compat.attach_monitor(trt, config, progress)  # must live as long as the build
    progress.tell("Build")
    plan = builder.build_serialized_network(network, config)
    if plan is not None and options.timing_cache is not None:
        _save_timing_cache(config, options.timing_cache)
    return None if plan is None else bytes(plan)


def _data_decides_a_shape(network) -> bool:
    """Whether an output has an open dimension although all inputs are fixed, as behind NonMaxSuppression."""
    inputs, outputs = _specs(network)
    return all(-1 not in spec.shape for spec in inputs) and any(-1 in spec.shape for spec in outputs)


def _trt_profile(builder, shapes):
    profile = builder.create_optimization_profile()
    for name, (low, usual, high) in shapes.items():
        profile.set_shape(name, low, usual, high)
    return profile


def _use_timing_cache(config, path: Path) -> None:
    """Give the builder the kernels measured in earlier builds. A foreign file is left out with a log line."""
    saved = read_timing_cache(path)
    cache = None if saved is None else config.create_timing_cache(saved)
    if cache is None or not config.set_timing_cache(cache, False):
        log.record("WARNING", f"The timing cache {path} is from another GPU or TensorRT, or damaged: it is not used.")
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _save_timing_cache(config, path: Path) -> None:
    """Write what is known now, together with what another process may have written meanwhile."""
    cache = config.get_timing_cache()
    if saved := read_timing_cache(path):
        other = config.create_timing_cache(saved)
        if other is not None:
            cache.combine(other, False)
    try:
        write_timing_cache(path, bytes(cache.serialize()))
    except CourseError as error:  # the engine is worth more than its timing cache
        log.record("WARNING", str(error))


def write_timing_cache(path: Path, cache: bytes) -> None:
    """The magic, the SHA-256 of the cache (32 bytes), the cache.

    Raises:
        CourseError: the file cannot be written.
    """
    atomic_write(path, _CACHE_MAGIC + hashlib.sha256(cache).digest() + cache)


def read_timing_cache(path: Path) -> bytes | None:
    """The cache in a file; empty if there is no file, None if it is damaged or not ours.

    The check is needed: TensorRT 8.6 crashes the process when it is given bytes that are no timing cache.
    """
    if not path.is_file():
        return b""
    data = path.read_bytes()
    head, digest, cache = data[: len(_CACHE_MAGIC)], data[len(_CACHE_MAGIC) :][:32], data[len(_CACHE_MAGIC) + 32 :]
    return cache if head == _CACHE_MAGIC and digest == hashlib.sha256(cache).digest() else None


def _specs(network) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    for tensor in inputs:
        if tensor.is_shape_tensor:
            raise UnsupportedError(
                f"Input {tensor.name!r} decides the shape of other tensors.",
                "The course feeds inputs in GPU memory, and this one must be on the host.",
                "Export the model with this value as a constant.",
            )
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    return (
        tuple(spec(t.name, t.dtype, t.shape) for t in inputs),
        tuple(spec(t.name, t.dtype, t.shape) for t in outputs),
    )


def spec(name: str, dtype, shape) -> TensorSpec:
    """A TensorSpec from TensorRT's dtype and dims.

    Raises:
        UnsupportedError: a dtype that neither NumPy nor torch tensors can feed.
    """
    known = compat.DTYPES.get(dtype.name, dtype.name)
    if known not in ("float32", "float16", "bfloat16", "int8", "int32", "int64", "bool", "uint8"):
        raise UnsupportedError(
            f"Tensor {name!r} has dtype {known}.",
            "The course cannot feed or read this dtype.",
            "Let the model begin and end with a cast to float32 or float16.",
        )
    return TensorSpec(name, known if known == "bfloat16" else np.dtype(known), tuple(shape))


def parsed_layers(trt, product: str, source) -> tuple[Layer, ...]:
    """The layers of the network as the parser made it, before any fusion."""
    model = graph.read(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network, _parser = parse(trt, product, _builder(trt, product), model)
        return tuple(_layer(network.get_layer(i)) for i in range(network.num_layers))


def _layer(layer) -> Layer:
    nodes = tuple(ONNX_LAYER.findall(layer.metadata or ""))
    return Layer(
        layer.name,
        layer.type.name,
        _infos(layer.num_inputs, layer.get_input),
        _infos(layer.num_outputs, layer.get_output),
        nodes,
    )


def _infos(count: int, get: Callable) -> tuple[TensorInfo, ...]:
    tensors = (get(i) for i in range(count))  # an optional input that is not used is None
    return tuple(
        TensorInfo(t.name, compat.DTYPES.get(t.dtype.name, t.dtype.name), _shape(t)) for t in tensors if t is not None
    )


def _shape(tensor) -> tuple[int, ...] | None:
    try:
        return tuple(tensor.shape)
    except ValueError:  # a tensor of unknown rank has a negative length
        return None


def short_reason(reason: str) -> str:
    """TensorRT's text without its own source lines and without the echo of a missing GPU driver."""
    text = " ".join(line for line in reason.splitlines() if "catchCudaError" not in line)
    for pattern, kept in (
        (r'^Assertion failed: .* && "(.*)"$', r"\1"),
        (r"^Assertion failed: .*?\)?: (?=[A-Z])", ""),
        (r"^Invalid Node - \S+\s*", ""),
        (r"\[\w+\.\w+::\w+::\d+\] ", ""),
        (r"\w+::\w+: Error Code \d+: ", ""),
        (r"\s*In \w+ at /[^\s)]*", ""),
    ):
        text = re.sub(pattern, kept, text)
    return graph.one_line(text) or "The parser gave no reason."
