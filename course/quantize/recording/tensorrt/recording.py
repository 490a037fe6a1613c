"""What the stand-in remembers, and who computes scales for it.

events: everything that was called, in order; a list of dicts that JSON can hold, each with a key "call".
calibrate: (ONNX bytes, batches, algorithm) -> text of a calibration cache, as bytes. A batch is input name -> float32
    array; algorithm is "EntropyCalibration2", "MinMaxCalibration", …, as TensorRT writes it into a cache. The stand-in
    cannot run a network, so whoever holds one sets this; without it a calibration fails and says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

NOTICE = (
    "This is the course's recording stand-in for TensorRT 8.6, not TensorRT. Network, parser, profiles and plan are "
    "TensorRT-RTX's; flags and calibrators are recorded and acted upon, kernels are never run."
)
Calibrate = Callable[[bytes, "list[dict[str, np.ndarray]]", str], bytes]

events: list[dict] = []
calibrate: Calibrate | None = None
most_batches = 4096
"""More batches than this are taken for a calibrator that does not end."""


def record(call: str, **what: object) -> dict:
    """Remember a call with what JSON can hold of it."""
    events.append({"call": call, **what})
    return events[-1]


def clear() -> None:
    """Forget all events."""
    events.clear()


def calls(name: str) -> list[dict]:
    """The events of one call, such as "IBuilderConfig.set_flag" or "get_batch"."""
    return [event for event in events if event["call"] == name]
