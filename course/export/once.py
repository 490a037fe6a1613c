"""An export that is made once on a machine: a later one of the same network is a copy.

A network is the same if its structure, its weights and buffers, the attributes of its modules and the files of its code
are. What cannot be compared, such as a network that a notebook defines, a hook or an attribute of another kind, is
exported each time. Not seen are changes in other folders than the code's own.
"""

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
_OF_EVERY_MODULE = {name for name in vars(torch.nn.Module()) if not name.endswith("hooks")}
_PLAIN = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device, torch.memory_format)


def place(model: torch.nn.Module, args: Sequence[torch.Tensor], settings: object) -> Path | None:
    """Where the file is kept, named by all that it depends on; None for a network that cannot be compared.

    args: of them shapes and dtypes count. settings: how it is exported.
    """
    shapes = [f"{tensor.dtype} {tuple(tensor.shape)}" for tensor in map(torch.as_tensor, args)]
    key = hashlib.sha256(f"{model}\0{shapes}\0{settings}\0{[_version(name) for name in PACKAGES]}".encode())
    kinds: set[type] = set()
    try:
        for name, part in model.named_modules():
            own = {name: value for name, value in vars(part).items() if name not in _OF_EVERY_MODULE}
            key.update(f"{name}\0{_described(own, kinds)}".encode())
            kinds.add(type(part))
        code = {_file(kind).parent for kind in kinds if not _is_theirs(kind)}
    except (OSError, TypeError):
        return None
    for folder in (*sorted(code), Path(__file__).parent):  # `forward` may call functions beside its class
        for file in sorted(folder.glob("*.py")):
            key.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        key.update(f"{name}\0{tensor.dtype}{tuple(tensor.shape)}".encode())
        key.update(_bytes(tensor))
    return cache_dir() / "onnx" / f"{key.hexdigest()[:16]}.onnx"


def known(kept: Path, path: Path) -> Exported | None:
    """Write the file that is kept to `path`, if there is one and it is whole."""
    started = time.perf_counter()
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none, or a damaged one: export again
        facts = json.loads(kept.with_suffix(".json").read_text())
        data = kept.read_bytes()
        if hashlib.sha256(data).hexdigest() == facts["sha256"]:
            found = Exported(path, **facts | {"notes": tuple(facts["notes"]), "cached": True})
            atomic_write(path, data)
            return dataclasses.replace(found, seconds=time.perf_counter() - started)
    return None


def keep(kept: Path, done: Exported) -> None:
    """Remember an export. A full disk is no fault of it: then it is made again next time."""
    facts = {field.name: getattr(done, field.name) for field in dataclasses.fields(done) if field.name != "path"}
    with contextlib.suppress(CourseError, OSError):
        atomic_write(kept, Path(done.path).read_bytes())
        atomic_write(kept.with_suffix(".json"), json.dumps(facts).encode())


def _described(value: object, kinds: set[type]) -> str:
    """An attribute in full; classes in it are added to `kinds`. Raises TypeError if it is of a kind that is not compared."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(_bytes(value)).hexdigest()}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}[{', '.join(_described(one, kinds) for one in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_described(key, kinds)}: {_described(one, kinds)}' for key, one in value.items())}}}"
    if isinstance(value, type):
        kinds.add(value)
        return torch.typename(value)
    raise TypeError(f"{type(value).__name__} is not compared")


def _file(kind: type) -> Path:
    """Where a class is written. Raises TypeError if that is a notebook, or the program that runs."""
    if torch.typename(kind).startswith("__main__."):
        raise TypeError("its file, if it has one, need not be what was run")
    return Path(inspect.getfile(kind))


def _is_theirs(kind: type) -> bool:
    """Whether a version says all about its code."""
    return torch.typename(kind).startswith(("torch.", "torchvision."))


def _bytes(tensor: torch.Tensor) -> memoryview:
    return memoryview(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def _version(name: str) -> str:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return ""
