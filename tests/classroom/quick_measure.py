"""Stands for `autograder measure` on the small milestone of `box.py`: the same arguments, guard and report."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from autograder.artifacts.file import take
from autograder.measuring.report import CheckResult, Report  # noqa: E402
from autograder.rejected import Rejected  # noqa: E402

RIGHT = bytes.fromhex("00008040") * 9


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("milestone")
    for name in ("--workdir", "--mode", "--who", "--json"):
        parser.add_argument(name)
    args = parser.parse_args()
    print("    0.0 s  reading artifacts/answer.bin", flush=True)
    time.sleep(1)  # long enough for the grader to look
    points, reason = 0.0, ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            data = take(args.workdir, "artifacts/answer.bin", Path(folder), 1, refuse=lambda *_: None).path.read_bytes()
            points = 20.0 if data == RIGHT else 7.5 if data[:4] == RIGHT[:4] else 0.0
            if data == b"break the grader":
                return 3
        except Rejected as error:
            reason = str(error)
    status = "passed" if points == 20 else "partial" if points else "failed"
    check = CheckResult("right", "The answer is right", status, points, 20.0, f"{points:g} points", "all numbers")
    report = Report(
        args.milestone,
        "The box",
        "rejected" if reason else "measured",
        "cpu",
        args.mode,
        args.who,
        (check,),
        0.1,
        reason=reason,
    )
    Path(args.json).parent.mkdir(parents=True, exist_ok=True)
    Path(args.json).write_text(report.to_json())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
