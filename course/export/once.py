"""An export that is made once on a machine: a later one of the same network is a copy."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from course.errors import CourseError
from course.export.exported import Exported
from course.files import atomic_write
from course.paths import cache_dir

PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxslim", "onnxruntime", "tensorrt")
"""What is in a file, or whether it is accepted, may change with these."""


def known(model: torch.nn.Module, args: Sequence[torch.Tensor], settings: object, path: Path) -> Exported | None:
    """Write the file of an earlier export to `path`, if there was one of this network and it is whole."""
    started = time.perf_counter()
    if not (kept := _place(model, args, settings)):
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no cache, or a damaged one: export again
        facts = json.loads(kept.with_suffix(".json").read_text())
        data = kept.read_bytes()
        if hashlib.sha256(data).hexdigest() == facts["sha256"]:
            found = Exported(path, **facts | {"notes": tuple(facts["notes"]), "cached": True})
            atomic_write(path, data)
            return dataclasses.replace(found, seconds=time.perf_counter() - started)
    return None


def keep(model: torch.nn.Module, args: Sequence[torch.Tensor], settings: object, done: Exported) -> None:
    """Remember an export. A full disk is no fault of it: then it is made again next time."""
    if not (kept := _place(model, args, settings)):
        return
    facts = {field.name: getattr(done, field.name) for field in dataclasses.fields(done) if field.name != "path"}
    with contextlib.suppress(CourseError, OSError):
        atomic_write(kept, Path(done.path).read_bytes())
        atomic_write(kept.with_suffix(".json"), json.dumps(facts).encode())


def _place(model: torch.nn.Module, args: Sequence[torch.Tensor], settings: object) -> Path | None:
    """Named by all that the file depends on: structure, code and weights of the network, the examples' shapes, how it
    is exported, and the versions of packages and of this folder. None for a network whose code is in no file, as in a
    notebook: its change would not be noticed.
    """
    shapes = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in map(torch.as_tensor, args)]
    key = hashlib.sha256(f"{model}\0{shapes}\0{settings}\0{[_version(name) for name in PACKAGES]}".encode())
    kinds = {type(part) for part in model.modules()}
    try:
        own = {inspect.getfile(kind) for kind in kinds if not kind.__module__.startswith(("torch.", "torchvision."))}
    except (OSError, TypeError):
        return None
    for file in (*sorted(own), *sorted(Path(__file__).parent.glob("*.py"))):
        key.update(Path(file).read_bytes())  # whole files: `forward` may call functions beside its class
    for name, tensor in model.state_dict().items():
        key.update(name.encode())
        key.update(memoryview(tensor.detach().cpu().contiguous().numpy()).cast("B"))
    return cache_dir() / "onnx" / f"{key.hexdigest()[:16]}.onnx"


def _version(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""
