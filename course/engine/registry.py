"""Which runtimes there are: one module each in `runtimes/`, found by its file name.

Such a module has `why_not()`, `build(onnx, config)`, `load(path, header, payload)` and `network_layers(onnx)`; see
`course.engine.api` for what they give back.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent / "runtimes"


@functools.cache
def names() -> tuple[str, ...]:
    """The runtimes that the course knows, working here or not."""
    return tuple(sorted(path.stem for path in FOLDER.glob("[!_]*.py")))


def module(name: str) -> ModuleType:
    """The module of a runtime, imported when it is asked for."""
    return importlib.import_module(f"course.engine.runtimes.{name}")
