"""What a check says of a file that it does not find."""

from __future__ import annotations

import os
import subprocess
import traceback
from pathlib import Path


def what_is_missing(error: FileNotFoundError) -> str:
    """What is missing, the cause and the next step. Cells write below the notebook's own folder: only what is missing
    there is blamed on one that was not run.
    """
    if not isinstance(error.filename, (str, bytes)):  # raised by hand: its words are all there is
        return (
            "A file is missing.\n"
            f"  Cause: {error or 'FileNotFoundError, without a word'}\n"
            "  Next step: look in your answer for what opens a file, then run this cell again."
        )
    name, program = os.fsdecode(error.filename), _of_a_program(error)
    if not program and _is_below_here(name):
        return (
            f"{name} is missing.\n"
            "  Cause: this exercise works on a file that an earlier cell writes.\n"
            "  Next step: run the notebook's cells from the top down to this one."
        )
    return (
        f"{name} is not there.\n"
        f"  Cause: a {'program' if program else 'file or folder'} of this name was asked for, and there is none.\n"
        "  Next step: correct the name where your answer has it, or put there what is missing; then run this cell again."
    )


def _of_a_program(error: FileNotFoundError) -> bool:
    """Whether it was to be started: then a bare name is looked for on PATH, not in this folder."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_code.co_filename == subprocess.__file__


def _is_below_here(name: str) -> bool:
    try:
        return Path(os.path.abspath(name)).is_relative_to(Path.cwd())
    except OSError:  # the current folder itself is gone
        return False
