"""Messages between the grader and the process that runs an artifact: a JSON head and plain arrays. No pickle.

A message is: 4 bytes length of the head, 8 bytes length of the body (both little-endian), the head in JSON,
then the arrays one after the other, C order. The head's key "arrays" lists [dtype, shape] of each. Nothing in
a message is believed before its lengths agree.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from collections.abc import Sequence

import numpy as np

_LENGTHS = struct.Struct("<IQ")
MOST_HEAD, MOST_BODY = 16 << 20, 1 << 30
DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int32", "int64", "bool")


class WireError(Exception):
    """The other side closed the pipe, or sent what is no message."""


class WireTimeout(WireError):
    """The other side did not answer in time."""


def send(fd: int, head: dict, arrays: Sequence[np.ndarray] = (), *, deadline: float | None = None) -> None:
    """Send one message. `deadline`: of time.monotonic(); it needs a pipe set to non-blocking."""
    arrays = [np.asarray(array, order="C") for array in arrays]
    for array in arrays:
        if array.dtype.name not in DTYPES:
            raise WireError(f"an array of dtype {array.dtype} cannot be sent")
    shapes = [[array.dtype.name, list(array.shape)] for array in arrays]
    text = json.dumps({**head, "arrays": shapes}).encode()
    _write(fd, _LENGTHS.pack(len(text), sum(array.nbytes for array in arrays)) + text, deadline)
    for array in arrays:
        _write(fd, memoryview(array.reshape(-1)).cast("B") if array.size else b"", deadline)


def receive(fd: int, *, deadline: float | None = None, most_body: int = MOST_BODY) -> tuple[dict, list[np.ndarray]]:
    """The next message.

    Raises:
        WireError: the pipe is closed, or the message is malformed or larger than allowed.
        WireTimeout: the deadline passed.
    """
    head_bytes, body_bytes = _LENGTHS.unpack(_read(fd, _LENGTHS.size, deadline))
    if head_bytes > MOST_HEAD or body_bytes > most_body:
        raise WireError(f"a message of {head_bytes} + {body_bytes} bytes is too large")
    try:
        head = json.loads(bytes(_read(fd, head_bytes, deadline)))
        layout = [(np.dtype(name), tuple(shape)) for name, shape in head.pop("arrays") if name in DTYPES]
        whole = all(type(n) is int and n >= 0 for _, shape in layout for n in shape)
        sizes = [dtype.itemsize * math.prod(shape) for dtype, shape in layout]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"the head of a message is malformed: {error}") from error
    if not whole or sum(sizes) != body_bytes:
        raise WireError("a message's arrays do not fill its body")
    arrays = [
        np.frombuffer(_read(fd, size, deadline), dtype).reshape(shape) for (dtype, shape), size in zip(layout, sizes)
    ]
    return head, arrays


def _read(fd: int, count: int, deadline: float | None) -> bytearray:
    data = bytearray(count)
    view, done = memoryview(data), 0
    while done < count:
        _wait(fd, select.POLLIN, deadline)
        got = os.readv(fd, [view[done : done + (1 << 20)]])
        if not got:
            raise WireError("the pipe is closed")
        done += got
    return data


def _write(fd: int, data: bytes | memoryview, deadline: float | None) -> None:
    view = memoryview(data)
    while len(view):
        _wait(fd, select.POLLOUT, deadline)
        try:
            view = view[os.write(fd, view[: 1 << 20]) :]
        except BlockingIOError:
            continue
        except BrokenPipeError as error:
            raise WireError("the pipe is closed") from error


def _wait(fd: int, event: int, deadline: float | None) -> None:
    if deadline is None:
        return
    left = deadline - time.monotonic()
    poll = select.poll()
    poll.register(fd, event)
    if left <= 0 or not poll.poll(left * 1000):
        raise WireTimeout("no answer in time")
