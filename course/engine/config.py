"""How to build an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from course.engine import registry
from course.engine.profiles import Profile
from course.engine.types import BuildProgress
from course.errors import BuildError

Precision = Literal["fp32", "tf32", "fp16", "int8"]
PRECISIONS = ("fp32", "tf32", "fp16", "int8")


@dataclass(frozen=True)
class BuildConfig:
    """How to build an engine.

    Args:
        precision: "fp32" (TF32 off), "tf32", "fp16" (may keep single layers in FP32), "int8" (from a
            calibrator where the runtime has implicit INT8, else from Q/DQ nodes in the model; other layers
            may use FP16 where the runtime chooses precisions, and stay as written elsewhere).
        profiles: one or more; needed as soon as an input has a dynamic dimension.
        optimization_level: 0 (quick build) to 5 (long search); None is the runtime's default.
        timing_cache: file that remembers measured kernels between builds; ours, not one of trtexec's.
        calibrator: a TensorRT `IInt8Calibrator`; its memory should come from torch.
        tactic_sources: kernel libraries TensorRT may use, such as {"CUBLAS", "CUDNN"}; empty is none, None is
            its default without the libraries that do not work on this machine.
        workspace_bytes: scratch memory that a kernel may ask for.
        keep_outputs: inner tensors to return as well; a kept tensor cannot be fused away.
        progress: called during the build; return False to cancel. TensorRT 8.6 cannot stop in the middle:
            there the build is over first, also after Ctrl-C.
        threads: of the CPU that an engine may use; None is all cores. It has no meaning on a GPU.
        runtime: "tensorrt", "onnxruntime" or "rtx"; "auto" is TensorRT where it works, else ONNX Runtime.

    Raises:
        BuildError: a value is out of range.
    """

    precision: Precision = "fp32"
    profiles: tuple[Profile, ...] = ()
    optimization_level: int | None = None
    timing_cache: Path | None = None
    calibrator: object | None = None
    tactic_sources: frozenset[str] | None = None
    workspace_bytes: int = 1 << 30
    keep_outputs: tuple[str, ...] = ()
    progress: Callable[[BuildProgress], bool] | None = None
    threads: int | None = None
    runtime: str = "auto"

    def __post_init__(self) -> None:
        tidy = {
            "profiles": _several(self.profiles, Profile),
            "keep_outputs": _several(self.keep_outputs, str),
            "timing_cache": None if self.timing_cache is None else Path(self.timing_cache),
            "tactic_sources": None if self.tactic_sources is None else frozenset(self.tactic_sources),
        }
        for name, value in tidy.items():
            object.__setattr__(self, name, value)
        checks = {
            "precision": (self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            "runtime": (self.runtime in ("auto", *registry.names()), f"one of auto, {', '.join(registry.names())}"),
            "optimization_level": (self.optimization_level in (None, *range(6)), "None or 0, 1, 2, 3, 4, 5"),
            "threads": (self.threads is None or self.threads >= 1, "None or a whole number above 0"),
            "workspace_bytes": (self.workspace_bytes >= 0, "a number of bytes, 0 or more"),
            "profiles": (all(isinstance(p, Profile) for p in self.profiles), "a tuple of Profile"),
        }
        for name, (good, wanted) in checks.items():
            if not good:
                raise BuildError(
                    f"BuildConfig({name}={getattr(self, name)!r}) is not possible.",
                    f"It must be {wanted}.",
                    f"Change {name} and build again.",
                )


def _several(value: Any, kind: type) -> tuple:
    return (value,) if isinstance(value, kind) else tuple(value)
