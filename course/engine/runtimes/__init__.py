"""One module a runtime, found by its file name: `why_not`, `build`, `load`, `network_layers`."""
from __future__ import annotations

import functools
import importlib
import pkgutil
from types import ModuleType


@functools.cache
def names() -> tuple[str, ...]:
    """The runtimes that the course knows, working here or not."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__)))


def module(name: str) -> ModuleType:
    """The module of a runtime, imported when it is asked for."""
    return importlib.import_module(f"{__name__}.{name}")
