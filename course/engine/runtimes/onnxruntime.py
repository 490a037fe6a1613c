"""ONNX Runtime on the CPU: the practice runtime, with TensorRT's rules for profiles, shapes and dtypes."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from course.engine import graph, onnx_layers, profiles
from course.engine.base import Engine
from course.engine.config import BuildConfig
from course.engine.container import Header
from course.engine.feeds import PROBES, check
from course.engine.fusion import fused_layers, original_tensor
from course.engine.progress import Progress
from course.engine.types import Captured, Layer, LogLine, Memory, TensorSpec
from course.errors import CourseError, ParseError, ShapeError, UnsupportedError

_DTYPES = {
    "float": "float32",
    "float16": "float16",
    "double": "float64",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "bool": "bool",
}
# What ONNX Runtime says about a node (groups: node, op, why), and whether it knows the operator.
_ERRORS = (
    (re.compile(r"(?:[\w.]+:)?(?P<op>\w+)\(-?\d+\) is not a registered function/op"), False),
    (re.compile(r'In Node, \("(?P<node>[^"]*)", (?P<op>\w+),.*?Error (?P<why>No Op registered .*)'), False),
    (re.compile(r"Could not find an implementation for (?P<op>\w+)\(\d+\) node with name '(?P<node>[^']*)'"), False),
    (re.compile(r'In Node, \("(?P<node>[^"]*)", (?P<op>\w+),.*?Error (?P<why>.*)'), True),
    (re.compile(r"Node ?\((?P<node>[^)]*)\) Op \((?P<op>\w+)\) (?P<why>.*)"), True),
    (re.compile(r"(?P<why>Type parameter.*?\(tensor.*?\)) in node \((?P<node>[^)]*)\)"), True),
    (re.compile(r"running (?P<op>\w+) node\. Name:'(?P<node>[^']*)' (?:Status Message: )?(?P<why>.*)"), True),
)


def why_not() -> str | None:
    """None if ONNX Runtime can be used here, else the reason."""
    try:
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        return f"It is not installed (`pip install onnxruntime`). [{error}]"
    except Exception as error:  # a missing or broken library can fail in any way
        return f"It is installed, but does not load: {error}"
    return None


def build(onnx, config: BuildConfig) -> Engine:
    """Optimise the model for this CPU and try it once. See `course.engine.build`."""
    import onnxruntime

    progress = Progress(config.progress)
    progress.tell("Read the model")
    model = graph.read(onnx)
    _refuse(model, config)
    profiles.check(model.name, graph.inputs(model.proto), config.profiles)
    ready = graph.prepared(model, config.keep_outputs, float16=config.precision == "fp16")
    progress.tell("Optimise the graph")
    session = _session(ready, config.threads)
    inputs = graph.with_dim_names(_specs(session.get_inputs()), model.proto)
    outputs = _specs(session.get_outputs())
    progress.tell("Try it once")
    probed = () if progress.stopped else _try(session, ready, inputs, config)
    progress.check(model.name)
    header = Header(
        "onnxruntime",
        onnxruntime.__version__,
        config.precision,
        inputs,
        outputs,
        config.profiles,
        model.sha256,
        progress.seconds,
        graph.weights_bytes(ready.proto),
    )
    progress.tell("Done")
    return OrtEngine(header, ready, session, (*_notes(config), *probed))


def load(path, header: Header, payload: bytes) -> Engine:
    """An engine from its file; any version of ONNX Runtime may read it."""
    model = graph.read(payload)
    return OrtEngine(header, model, _session(model), ())


def network_layers(onnx) -> tuple[Layer, ...]:
    """The ONNX nodes. See `course.engine.network_layers`."""
    return onnx_layers.layers(graph.read(onnx))


class OrtEngine(Engine):
    """An ONNX Runtime session with the course's rules around it."""

    device = "cpu"

    def __init__(self, header: Header, model: graph.Model, session, build_log: tuple[LogLine, ...]):
        super().__init__(header, model.data, build_log)
        self._model, self._session = model, session

    def run(self, feeds: Mapping[str, Any], *, profile: int = 0, stream: Any = None) -> dict[str, Any]:
        """See `Engine.run`. There is no stream on a CPU; the argument is ignored."""
        if self._session is None:
            raise CourseError("This engine is closed.", "close() gave its memory back.", "Build or load it again.")
        kind = check(self.inputs, self.profiles, feeds, profile)
        arrays = {name: _to_numpy(name, x) for name, x in feeds.items()} if kind == "torch" else dict(feeds)
        try:
            values = self._session.run(None, arrays)
        except Exception as error:  # ONNX Runtime has a class of its own for every status code
            shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in arrays.items())
            node, operator, why, _ = explain(error, self._model)
            raise ShapeError(
                f"Node {node!r} ({operator}) failed for inputs {shapes}."
                if node
                else f"The engine failed for inputs {shapes}.",
                why,
                "Check that the inputs belong together, with one batch size.",
            ) from error
        results = {spec.name: value for spec, value in zip(self.outputs, values)}
        return {name: _to_torch(value) for name, value in results.items()} if kind == "torch" else results

    def capture(self, feeds: Mapping[str, Any], *, profile: int = 0) -> Captured:
        raise UnsupportedError(
            "There is no CUDA graph on a CPU.",
            "This engine runs on ONNX Runtime on the CPU.",
            "Use Engine.run here, and capture() on a machine with a GPU and TensorRT.",
        )

    def layers(self) -> tuple[Layer, ...]:
        """The nodes that ONNX Runtime really runs. `tactic` is the kernel's family where not standard."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimised.onnx"
            _session(self._model, optimised=path)
            return fused_layers(self._model.proto, path)

    def memory(self) -> Memory:
        """Weights and model size. ONNX Runtime does not plan activation memory ahead: None."""
        return Memory(self._header.weights_bytes, None, len(self._payload))

    def close(self) -> None:
        self._session = None


def _refuse(model: graph.Model, config: BuildConfig) -> None:
    if config.precision == "tf32":
        raise UnsupportedError(
            "A CPU has no TF32.",
            "TF32 is a mode of the tensor cores of NVIDIA GPUs.",
            'Build with precision="fp32" here, and with "tf32" on a GPU.',
        )
    if config.calibrator is not None:
        raise UnsupportedError(
            "ONNX Runtime takes no calibrator.",
            "It quantises only what Q/DQ nodes in the model say.",
            "Insert Q/DQ nodes into the ONNX model and build without a calibrator.",
        )
    if config.precision == "int8" and not graph.has_qdq(model.proto):
        raise UnsupportedError(
            f"{model.name} cannot be built in INT8 on the CPU.",
            "It has no Q/DQ nodes.",
            "Insert Q/DQ nodes into the ONNX model first.",
        )


def _notes(config: BuildConfig) -> tuple[LogLine, ...]:
    ignored = [
        name for name in ("optimization_level", "timing_cache", "tactic_sources") if getattr(config, name) is not None
    ]
    return (
        LogLine("INFO", "ONNX Runtime optimised the graph at its highest level."),
        *(LogLine("INFO", f"{name} has no meaning on a CPU and is ignored.") for name in ignored),
    )


def _session(model: graph.Model, threads: int | None = None, optimised: Path | None = None):
    """An InferenceSession that prints nothing.

    Raises:
        ParseError: names the node, the operator and what to do.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # silent: what it has to say comes as an exception
    # Idle threads that spin would steal the CPU from whatever is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    try:
        return onnxruntime.InferenceSession(model.data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a class of its own for every status code
        raise _parse_error(error, model) from error


def _parse_error(error: Exception, model: graph.Model) -> ParseError:
    version = re.search(r"Opset (\d+) is under development|IR version: (\d+)", str(error))
    if version:
        return ParseError(
            f"{model.name} is too new for this ONNX Runtime.",
            graph.one_line(error),
            'Export it again with course.export.export(..., target="onnxruntime").',
        )
    return graph.parse_error(model, *explain(error, model), "ONNX Runtime")


def explain(error: Exception, model: graph.Model) -> tuple[str, str, str, bool]:
    """(node, operator, why, operator is known) from ONNX Runtime's message; "" where it names none."""
    text, nodes = graph.one_line(error), model.proto.graph.node
    names = {graph.node_name(node, index): node for index, node in enumerate(nodes)}
    lost = re.search(r"Node input '([^']*)' is not a graph input", text)
    if lost:
        name = next((name for name, node in names.items() if lost[1] in node.input), "")
        return name, names[name].op_type if name else "", text, True
    for pattern, known in _ERRORS:
        if match := pattern.search(text):
            found = {"node": "", "op": "", "why": "", **match.groupdict()}
            tensor = original_tensor(found["node"])
            here = [
                name
                for name, node in names.items()
                if tensor in node.output or (not tensor and node.op_type == found["op"])
            ]
            name = found["node"] if found["node"] in names or not here else here[0]
            operator = found["op"] or (names[name].op_type if name in names else "")
            return name, operator, found["why"] or text, known
    return "", "", text, True


def _specs(arguments) -> tuple[TensorSpec, ...]:
    specs = []
    for argument in arguments:
        name = _DTYPES.get(argument.type.removeprefix("tensor(").removesuffix(")"))
        if name is None:
            raise UnsupportedError(
                f"Tensor {argument.name!r} is a {argument.type}.",
                "The course feeds and reads tensors of numbers only.",
                "Leave this part out of the model.",
            )
        shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in argument.shape)
        specs.append(TensorSpec(argument.name, name if name == "bfloat16" else np.dtype(name), shape))
    return tuple(specs)


def _try(session, model: graph.Model, inputs: tuple[TensorSpec, ...], config: BuildConfig) -> tuple[LogLine, ...]:
    """Run the smallest shapes once: TensorRT refuses in a build what ONNX Runtime only meets in a run.

    Nobody says which values are valid. Zeros are a valid index and no valid size or factor; so ones and a few other
    numbers are tried, too, and one that works is enough. If none works, the model is at fault where its inputs are
    plain floats; where it takes integers or a scalar, which may be sizes, it is only the probe that failed.

    Returns:
        A line for the build log if the probe failed.

    Raises:
        ParseError: a model of plain floats cannot be run.
    """
    if any(spec.dtype == "bfloat16" for spec in inputs):
        return ()  # NumPy cannot make them
    profile = config.profiles[0].shapes if config.profiles else {}
    shapes = {spec.name: profile[spec.name][0] if spec.name in profile else spec.shape for spec in inputs}
    first = None
    for number in PROBES:
        try:
            session.run(None, {spec.name: np.full(shapes[spec.name], number, spec.dtype) for spec in inputs})
            return ()
        except Exception as error:
            first = first or error
    values_matter = any(np.dtype(spec.dtype).kind != "f" or len(shapes[spec.name]) < 2 for spec in inputs)
    if not values_matter:
        raise graph.parse_error(model, *explain(first, model), "ONNX Runtime") from first
    text = " ".join(str(first).split())
    tried = ", ".join(map(str, PROBES))
    return (LogLine("WARNING", f"The probe failed: inputs full of {tried} are no valid input of this model. {text}"),)


def _to_numpy(name: str, tensor) -> np.ndarray:
    if tensor.device.type != "cpu":
        raise UnsupportedError(
            f"Input {name!r} is on {tensor.device}.", "This engine runs on the CPU.", f"Feed {name}.cpu()."
        )
    if str(tensor.dtype) == "torch.bfloat16":
        raise UnsupportedError(
            f"Input {name!r} is bfloat16.",
            "ONNX Runtime reads inputs through NumPy, which has no bfloat16.",
            "Let the model begin with a cast from float32.",
        )
    return tensor.detach().numpy()


def _to_torch(value: np.ndarray):
    import torch

    return torch.from_numpy(value)
