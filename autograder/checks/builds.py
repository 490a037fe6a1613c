"""What the checks of build scripts share: the stand-in's folder, and what the judge makes of a build's answer.

An answer comes out of a box that a script shares, so nothing in it is certain to be there, or to be what it seems. Which part of
it is believed says each check's docstring; a plan's bytes are compared with a plan of the judge's own (`plans`).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from autograder.checks import plans, probe
from autograder.checks.base import Bench
from course.engine import available_runtimes
from course.quantize import recording

INSIDE = "autograder/artifacts/build_inside.py"
"""What every box with a build script sees, besides its own module."""


def why_no_stand_in() -> str:
    """Why the stand-in for TensorRT 8.6 cannot build on this machine; "" if it can."""
    reason = available_runtimes()["rtx"]
    return f"The stand-in for TensorRT 8.6 needs TensorRT-RTX: {reason} `pip install tensorrt_rtx`." if reason else ""


def stand_in(at: Bench) -> str:
    """A folder that holds the stand-in alone: seen where it lies, it would show the course's name."""
    return at.once("stand-in", lambda: _stand_in(at))


def _stand_in(at: Bench) -> str:
    folder = at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-stand-in-"))
    shutil.copytree(
        recording.FOLDER / "tensorrt", Path(folder) / "tensorrt", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


def events(answer: Mapping, call: str) -> list[dict]:
    """What the box says of one call. Nothing in it is certain to be there, or to be what it seems."""
    found = answer.get("events")
    return (
        [event for event in found if isinstance(event, dict) and event.get("call") == call]
        if isinstance(found, list)
        else []
    )


def asked(answer: Mapping) -> dict:
    """What the last build was asked for, as the box says."""
    return next(reversed(events(answer, "Builder.build_serialized_network")), {})


def flags(told: Mapping) -> set[str]:
    """The flags of a build, as the box says."""
    found = told.get("flags")
    return {str(flag) for flag in found} if isinstance(found, list) else set()


def wrote(answer: Mapping) -> bool:
    """Whether there was a plan, as the box says."""
    size = answer.get("plan")
    return isinstance(size, int) and size > 0


def no_plan(answer: Mapping, onnx: bytes, *judges: plans.Expected | None) -> str:
    """Why there is no plan of this file; "" if there is one.

    answer: with "bytes", the plan itself. judges: what it is compared with, if anything.
    """
    if raised := str(answer.get("raised") or ""):
        return raised[:500]
    told = asked(answer)
    if not told:
        return "The script did not build: build_serialized_network was not called."
    if told.get("network") != hashlib.sha256(onnx).hexdigest():
        return "The script built another network than the file it was given."
    if not wrote(answer):
        return "No plan was written to the path that was given."
    return next(filter(None, (judge.problem(answer["bytes"]) for judge in judges if judge is not None)), "")


def other_profile(answer: Mapping, shapes: Sequence, judges: plans.Expected | None) -> str:
    """What is wrong with the profile of a plan; "" if nothing is. shapes: smallest, usual and largest, as lists."""
    profiles = asked(answer).get("profiles")
    if profiles == [{probe.INPUT: shapes}]:
        return (
            ""
            if judges is None or judges.has_profile(answer["bytes"])
            else "The plan's profile is another one than told."
        )
    shown = str(profiles)[:200] if profiles else "none"
    return f"The profile is {shown}; asked for was {probe.INPUT} with {shapes}."


def silent(answer: Mapping) -> str:
    """What is wrong with a build of a file that breaks off half-way: "" for an error that was raised on purpose, and no plan.

    Half a model, since TensorRT-RTX takes bytes that are no model at all for an empty network, and its parser says nothing.
    """
    if not answer.get("raised") or wrote(answer):
        return "A file that breaks off half-way was built without an error: the parser's word was not asked for."
    if answer.get("meant") is not True:
        return (
            f"A file that breaks off half-way ended in an error that nobody raised on purpose: {str(answer['raised'])[:200]} "
            "Ask for what parse_from_file returns, and raise an error that says what failed."
        )
    return ""
