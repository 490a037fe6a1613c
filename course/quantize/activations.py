"""Inner tensors of an ONNX model, computed by ONNX Runtime batch by batch; and the batches themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from course.engine.graph import one_line
from course.errors import CourseError, DtypeError, ShapeError
from course.quantize.network import Network

Feed = Mapping[str, np.ndarray]
Data = np.ndarray | Feed | Iterable[np.ndarray | Feed]
"""Calibration data: an array [N, …] for a model with one input; input name -> array [N, …]; or batches of either, made
one by one (a list or a generator), so that a large set need not fit into memory."""

BATCH = 8
"""Images at once. A ResNet-50's inner tensors take 40 MB an image; larger batches were slower on two cores."""


def batches(data: Data, inputs: Sequence[str], batch: int = BATCH) -> Iterator[dict[str, np.ndarray]]:
    """The batches of `data` as feeds: input name -> array. Arrays are split into `batch` rows, batches stay as given.

    Raises:
        ShapeError: an input is missing or unknown, or the inputs of a batch have different numbers of rows.
        CourseError: `batch` is below 1.
    """
    _check_batch(batch)
    if isinstance(data, (np.ndarray, Mapping)):
        feed = _feed(data, inputs)
        rows = len(next(iter(feed.values())))
        for start in range(0, rows, batch):
            yield {name: array[start : start + batch] for name, array in feed.items()}
        return
    for one in data:
        yield _feed(one, inputs)


def count_batches(data: Data, batch: int = BATCH) -> int | None:
    """How many batches there will be; None for a generator. Raises: as `batches`."""
    _check_batch(batch)
    if isinstance(data, Mapping):
        data = next(iter(data.values()), np.empty(0))
    if isinstance(data, np.ndarray):
        return -(-len(data) // batch)
    return len(data) if isinstance(data, Sequence) else None


def feed_digest(feed: Feed) -> bytes:
    """SHA-256 of a batch: names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(feed):
        array = np.ascontiguousarray(feed[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.digest()


def inner_tensors(proto: onnx.ModelProto, tensors: Sequence[str]) -> Callable[[Feed], dict[str, np.ndarray]]:
    """A function from a feed to the values of these tensors, graph inputs and outputs among them if they are named.

    Raises:
        CourseError: a tensor is no float32 activation of the model, or ONNX Runtime cannot run the model.
    """
    net = Network(proto)
    for tensor in tensors:
        if not net.is_activation(tensor):
            known = tensor in net.dtypes
            raise CourseError(
                f"Tensor {tensor!r} cannot be observed.",
                "It is not a float32 activation." if known else "The model has no tensor of this name.",
                "Take names from course.quantize.Network(model).activations().",
            )
    made = [tensor for tensor in tensors if tensor not in net.inputs]
    session = _session(_with_outputs(proto, net, made))

    def run(feed: Feed) -> dict[str, np.ndarray]:
        try:
            values = session.run(made, dict(feed)) if made else []
        except Exception as error:  # ONNX Runtime has a class of its own for every status code
            shapes = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in feed.items())
            raise CourseError(
                f"The model does not run on {shapes}.",
                one_line(error),
                "Give calibration data of the shape and dtype that the model's inputs have, after the "
                "same preprocessing as in use.",
            ) from error
        return {**{name: feed[name] for name in tensors if name in net.inputs}, **dict(zip(made, values))}

    return run


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise CourseError(
            f"Data cannot be split into batches of {batch}.", "A batch has at least one row.", f"Use batch={BATCH}."
        )


def _feed(data: np.ndarray | Feed, inputs: Sequence[str]) -> dict[str, np.ndarray]:
    if not isinstance(data, Mapping):
        if len(inputs) != 1:
            raise ShapeError(
                "One array is not enough for this model.",
                f"Its inputs are {', '.join(inputs)}.",
                "Give a dict: input name -> array.",
            )
        data = {inputs[0]: data}
    if set(data) != set(inputs):
        raise ShapeError(
            f"The data is for inputs {', '.join(sorted(data))}.",
            f"The model's inputs are {', '.join(inputs)}.",
            "Use the model's input names as the keys.",
        )
    feed = {name: np.asarray(data[name]) for name in inputs}
    if any(array.dtype == object or array.ndim == 0 for array in feed.values()):
        raise DtypeError(
            "A batch is no array of numbers.",
            ", ".join(f"{name} is {array.dtype} {array.shape}" for name, array in feed.items()),
            "Stack the preprocessed samples to one array [N, …].",
        )
    if len({len(array) for array in feed.values()}) != 1:
        raise ShapeError(
            "The inputs of a batch have different numbers of rows.",
            ", ".join(f"{name} {array.shape}" for name, array in feed.items()),
            "Give one row for each sample in every input.",
        )
    return feed


def _with_outputs(proto: onnx.ModelProto, net: Network, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy whose outputs are just these tensors (of the model's own outputs those among them)."""
    twin = onnx.ModelProto()
    twin.CopyFrom(proto)
    del twin.graph.output[:]
    for tensor in tensors:
        shape = net.shapes.get(tensor)
        dims = None if shape is None else [None if dim < 0 else dim for dim in shape]
        twin.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, dims))
    if not tensors:  # ONNX Runtime wants an output
        twin.graph.output.extend(proto.graph.output)
    return twin


def _session(proto: onnx.ModelProto):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # silent: what it has to say comes as an exception
    # Between two batches the histograms need the cores; ONNX Runtime's idle threads would spin on them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise CourseError(
            "ONNX Runtime cannot run this model.",
            one_line(error),
            "Build it with course.engine.build(model), which names the node.",
        ) from error
