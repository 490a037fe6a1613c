"""The seeds of a measurement's inputs, which are drawn in the grader's process; labels never leave it.

In self-check the seed is public. In grading it is an HMAC of the student and the milestone with the
instructor's secret: no file of inputs could leak, and no two students get the same images. Every image is
moved, zoomed, mirrored and relit by numbers from the same seed, so that there is no finite list of images
to learn by heart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from pathlib import Path

from course.errors import CourseError
from course.paths import ROOT

SECRET_VARIABLE = "TRT_GRADER_SECRET"
MODES = ("public", "hidden")
_SHORTEST = 16


def secret(root: Path = ROOT) -> bytes:
    """The instructor's secret: from the environment, else from `.grading/secret`, which is made at its first
    use.

    Raises:
        CourseError: it is too short, or others could read the file.
    """
    if text := os.environ.get(SECRET_VARIABLE):
        if len(text) < _SHORTEST:
            raise CourseError(
                f"{SECRET_VARIABLE} is too short.",
                f"It has {len(text)} characters.",
                f"Use at least {_SHORTEST}, for example from `openssl rand -hex 32`.",
            )
        return text.encode()
    path = root / ".grading" / "secret"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        key = file.read(4096).strip()
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise CourseError(
            f"Others can read {path}.",
            f"Its permissions are {stat.filemode(mode)}.",
            f"Run `chmod 600 {path}`; if a learner may have read it, delete it.",
        )
    if len(key) < _SHORTEST:
        raise CourseError(f"{path} holds no secret.", f"It has {len(key)} bytes.", "Delete it; a new one is made.")
    return key


def seed(mode: str, who: str, milestone: str, purpose: str, key: bytes | None = None) -> int:
    """256-bit seed. `key` is the secret of mode "hidden".

    Raises:
        CourseError: there is no such mode, or a hidden seed was asked for without a student or a secret.
    """
    if mode not in MODES:
        raise CourseError(f"There is no mode {mode!r}.", f"Modes: {', '.join(MODES)}.", "Use one of these.")
    if mode == "hidden" and (not who or not key):
        raise CourseError(
            "Hidden inputs need a student and a secret.",
            "One of them is empty.",
            "Give --who, and let the instructor's account run the grader.",
        )
    who, key = (who, key) if mode == "hidden" else ("", b"public")
    message = json.dumps([mode, who, milestone, purpose]).encode()  # a list: no two students share a text
    return int.from_bytes(hmac.new(key, message, hashlib.sha256).digest(), "big")
