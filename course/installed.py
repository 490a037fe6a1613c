"""A clear word instead of a traceback where the course is started with a Python that does not have its packages."""

from __future__ import annotations

import importlib.util
import sys


def require() -> None:
    """End the program, with exit status 1, if this Python lacks the packages of the course.

    `typer` stands for all of them: they are installed together, and every command needs it first.
    """
    if importlib.util.find_spec("typer") is None:
        sys.exit(
            f"This Python does not have the course's packages: {sys.executable}\n"
            "  Cause: The course is installed in another one, usually in .venv, or not at all.\n"
            "  Next step: In the course's folder run ./start once, then `source .venv/bin/activate`."
        )
