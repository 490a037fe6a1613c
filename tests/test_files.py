"""Files are whole or not there, and what killed writers left goes."""

from __future__ import annotations

import os
import time

from course.files import atomic_write


def test_what_killed_writers_left_goes_after_an_hour(tmp_path):
    names = {
        "killed long ago": ".state[1].npz.abcdefgh",
        "at work": ".state[1].npz.ijklmnop",
        "of another file": ".state.npz.abcdefgh",
        "nobody's": ".state[1].npz.notes.txt",
    }
    for who, name in names.items():
        (tmp_path / name).write_text(who)
        if who != "at work":
            os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    atomic_write(tmp_path / "state[1].npz", b"whole")
    assert (tmp_path / "state[1].npz").read_bytes() == b"whole"
    assert sorted(path.read_text() for path in tmp_path.glob(".*")) == ["at work", "nobody's", "of another file"]
