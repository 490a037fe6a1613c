"""Triton for a few lines of a notebook, or the word that it is not set up: a lesson goes on without it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from course.serving import environment
from course.serving.server import Server

Result = TypeVar("Result")


def with_triton(repository: str | Path, use: Callable[[Server], Result], **options: object) -> Result | None:
    """Start Triton on `repository`, return `use(server)`; it is stopped behind that.

    Where Triton is not set up, print how to get it and return None.

    Args:
        repository: a folder of models.
        use: gets the server when every model is ready.
        options: for `Server`, such as `arguments`.

    Raises:
        ServingError: a model could not be loaded, or what `use` raises.
    """
    if reason := environment.why_not():
        print(f"Open on this machine. {reason} Then run this cell again.")
        return None
    server = Server(repository, **{"stop_seconds": 1.0, **options}).start()
    try:
        return use(server)
    finally:
        stop_behind(server)


def stop_behind(server: Server) -> None:
    """Stop a server while the caller goes on: it takes a second or two, and the next one has other ports."""
    threading.Thread(target=server.stop).start()
