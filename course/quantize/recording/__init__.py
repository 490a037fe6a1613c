"""TensorRT where it works, else a stand-in that records: for lessons on calibrators and build scripts.

trt = tensorrt_here()          # also what `import tensorrt` gives from now on
trt.recording.events           # on the stand-in: everything that was called
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from course.engine import available_runtimes
from course.errors import UnsupportedError
from course.quantize.calibration import collect, scales
from course.quantize.recording.watch import watched
from course.quantize.trt_cache import ALGORITHMS, cache_from

__all__ = ["FOLDER", "calibrate", "stand_in", "tensorrt_here", "watched"]

FOLDER = Path(__file__).parent
"""On `sys.path` it gives `import tensorrt` the stand-in; only the folder `tensorrt` in it is needed."""
_METHODS = {algorithm: method for method, algorithm in ALGORITHMS.items()} | {"EntropyCalibration": "entropy"}


def tensorrt_here(tell: bool = True, needs: str = "") -> ModuleType:
    """The module `tensorrt` of this machine: TensorRT if it works, else the stand-in, whose scales the course computes.

    Args:
        tell: print which one it is.
        needs: a name that TensorRT must have, such as one that 11 has no more; without it the stand-in is given.

    Raises:
        UnsupportedError: neither works; says why.
    """
    reasons = available_runtimes()
    if reasons["tensorrt"] is None:
        import tensorrt

        if not needs or hasattr(tensorrt, needs):
            if tell:
                print(f"TensorRT {tensorrt.__version__}")
            return tensorrt
        reasons = reasons | {"tensorrt": f"TensorRT {tensorrt.__version__} has no {needs}."}
    trt = stand_in(reasons["rtx"])
    if tell:
        print(f"{trt.recording.NOTICE}\n  Why: {reasons['tensorrt']}")
    return trt


def stand_in(why_not: str | None = None) -> ModuleType:
    """The stand-in as `sys.modules["tensorrt"]`, without its events of before.

    Args:
        why_not: why TensorRT-RTX, which it builds with, does not work.

    Raises:
        UnsupportedError: `why_not` is given, or TensorRT-RTX cannot be imported.
    """
    if why_not is None:
        try:
            import tensorrt_rtx  # noqa: F401
        except ImportError as error:
            why_not = str(error)
    if why_not is not None:
        raise UnsupportedError(
            "There is nothing to build with here.",
            f"The stand-in for TensorRT needs TensorRT-RTX: {why_not}",
            "Run `course doctor`. On Linux on x86-64, `pip install tensorrt_rtx` is enough.",
        )
    known = sys.modules.get("tensorrt")
    if not getattr(known, "RECORDING", False):
        for name in [name for name in sys.modules if name == "tensorrt" or name.startswith("tensorrt.")]:
            del sys.modules[name]
        folder = FOLDER / "tensorrt"
        spec = importlib.util.spec_from_file_location(
            "tensorrt", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        known = importlib.util.module_from_spec(spec)
        sys.modules["tensorrt"] = known
        spec.loader.exec_module(known)
    known.recording.clear()
    known.recording.calibrate = calibrate
    return known


def calibrate(onnx: bytes, batches: Sequence[Mapping[str, np.ndarray]], algorithm: str) -> bytes:
    """The cache that TensorRT would write, with scales by the course's methods: the stand-in's hook.

    Args:
        algorithm: as in a cache's first line: "EntropyCalibration2", "EntropyCalibration" or "MinMaxCalibration".

    Raises:
        UnsupportedError: another algorithm.
        CourseError: the network or the batches cannot be used.
    """
    if algorithm not in _METHODS:
        raise UnsupportedError(
            f"The course has no {algorithm}.",
            f"It has {', '.join(_METHODS)}.",
            "Derive your calibrator from IInt8EntropyCalibrator2 or IInt8MinMaxCalibrator.",
        )
    found = cache_from(scales(collect(onnx, batches), _METHODS[algorithm])).text()
    header, _, lines = found.partition("\n")
    return f"{header.rpartition('-')[0]}-{algorithm}\n{lines}".encode()
