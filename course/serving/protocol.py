"""Requests and answers of the KServe v2 protocol, which Triton speaks over HTTP, with tensors as bytes.

A body is a piece of JSON that names the tensors, followed by their bytes in that order; a header says how long the JSON
is. Source: the "binary tensor data" extension in triton-inference-server/server,
docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from course.errors import DtypeError
from course.serving.words import ServingError

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""The protocol's names of dtypes. BYTES, for texts and files, is an array of objects in NumPy."""
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
LENGTH = "Inference-Header-Content-Length"


def dtype_name(dtype: np.dtype) -> str:
    """The protocol's name for a NumPy dtype.

    Raises:
        DtypeError: it has none.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "OSU":
        return "BYTES"
    if dtype not in _NAMES:
        raise DtypeError(f"dtype {dtype}", "Triton's protocol has no name for it.", f"Use one of {', '.join(DTYPES)}.")
    return _NAMES[dtype]


def encode(inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> tuple[bytes, int]:
    """A request's body, and how many bytes of it are JSON.

    Args:
        inputs: name -> array, the batch dimension included. Arrays of bytes or str go as BYTES.
        outputs: names of the outputs that are wanted; none means all.
    """
    heads, parts = [], []
    for name, array in inputs.items():
        array = np.asarray(array)
        data = _packed(array) if array.dtype.kind in "OSU" else np.ascontiguousarray(array).tobytes()
        parts.append(data)
        heads.append(
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": dtype_name(array.dtype),
                "parameters": {"binary_data_size": len(data)},
            }
        )
    head = {"inputs": heads, "parameters": {"binary_data_output": True}}
    if outputs:
        head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    text = json.dumps(head, separators=(",", ":")).encode()
    return b"".join([text, *parts]), len(text)


def decode(body: bytes, length: int | None) -> dict[str, np.ndarray]:
    """The outputs of an answer: name -> array of its shape and dtype.

    Args:
        length: how many bytes are JSON (the header `LENGTH`); None: all of them.

    Raises:
        ServingError: the answer does not hold what its head promises.
    """
    head = json.loads(body[:length])
    outputs, place = {}, len(body) if length is None else length
    for tensor in head.get("outputs", []):
        name, shape, datatype = tensor["name"], tensor["shape"], tensor["datatype"]
        size = tensor.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(tensor["data"], DTYPES.get(datatype, object))
        else:
            data = body[place : place + size]
            place += size
            values = _unpacked(data) if datatype == "BYTES" else np.frombuffer(data, DTYPES[datatype])
        if values.size != np.prod(shape, dtype=int):
            raise ServingError(
                f"Output {name} is not whole.",
                f"It has {values.size} values, which do not make the shape {shape}.",
                "Look at what the model's execute() puts into this tensor. (Beside NumPy 2 Triton 2.51 leaves it empty.)",
            )
        outputs[name] = values.reshape(shape)
    return outputs


def _packed(array: np.ndarray) -> bytes:
    """BYTES: each element as 4 bytes of length, little-endian, and its bytes."""
    items = [item.encode() if isinstance(item, str) else bytes(item) for item in array.ravel().tolist()]
    return b"".join(len(item).to_bytes(4, "little") + item for item in items)


def _unpacked(data: bytes) -> np.ndarray:
    items, place = [], 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        items.append(data[place + 4 : place + 4 + size])
        place += 4 + size
    array = np.empty(len(items), object)
    array[:] = items
    return array
