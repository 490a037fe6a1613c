"""Trusted measurement of one milestone from files. No learner's code runs here, no number of theirs is read.

python -m autograder measure s1.m1 --workdir work/stage1_converter
python -m autograder measure s1.m1 --workdir SUBMISSION --mode hidden --who STUDENT --json report.json
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import logging
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from autograder.artifacts.base import Taken
from autograder.checks.base import Bench, OpenHere
from autograder.measuring.report import CheckResult, Report
from autograder.milestones import LANES, Check, Milestone, get
from autograder.rejected import Rejected
from autograder.sandbox.process import Budget
from autograder.tasks import inputs
from autograder.tasks.base import Seeds
from course.errors import CourseError
from course.files import atomic_write

__all__ = ["CheckResult", "Report", "measure"]
log = logging.getLogger("autograder.measure")

NO_GPU = "This needs a GPU with TensorRT; this machine has none. The points stay open."


def measure(
    milestone: str | Milestone,
    workdir: str | Path,
    mode: str = "public",
    who: str = "",
    *,
    lane: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Measure what lies in `workdir`.

    Whatever is in it, the answer is a Report: what cannot be measured gets no points and a reason; if the
    grader itself fails, the status is "error", the points are 0 and the log goes to `logging`
    ("autograder.measure").

    Args:
        milestone: its id, or a declaration.
        workdir: the folder of the notebook; artifacts are below it.
        mode: "public" for self-check, "hidden" for grading.
        who: the student; needed in mode "hidden".
        lane: "cpu" or "gpu"; None is "gpu" where TensorRT works, else "cpu".
        say: called with a line now and then.

    Raises:
        CourseError: there is no such milestone, mode, lane or secret: the caller's mistake, not the
        learner's.
    """
    milestone = get(milestone) if isinstance(milestone, str) else milestone
    key = inputs.secret() if mode == "hidden" else None
    inputs.seed(mode, who, milestone.id, "", key)
    if lane not in (None, *LANES):
        raise CourseError(f"There is no lane {lane!r}.", f"Lanes: {', '.join(LANES)}.", "Leave it out, or use one.")
    begin, say = time.perf_counter(), say or (lambda text: None)
    found = {
        "milestone": milestone.id,
        "title": milestone.title,
        "mode": mode,
        "who": who if mode == "hidden" else "",
    }
    try:
        found["lane"] = lane or machine_lane()
        found |= _measure(milestone, Path(workdir), key, say, **{name: found[name] for name in ("mode", "who", "lane")})
    except Exception as error:  # ours, whatever it is: the batch goes on, and a person looks at it
        log.error("measuring %s of %s failed: %r", milestone.id, who or "the learner", error)
        found |= {
            "status": "error",
            "problem": traceback.format_exc(),
            "lane": found.get("lane", "cpu"),
            "checks": _all_failed(milestone, found.get("lane", "cpu")),
            "reason": "The grader itself failed, which is not your fault. A person will look at it.",
        }
    return Report(**found, seconds=round(time.perf_counter() - begin, 1))


def machine_lane() -> str:
    """ "gpu" where TensorRT works, else "cpu"."""
    from course.engine import available_runtimes

    return "cpu" if available_runtimes()["tensorrt"] else "gpu"


def _measure(
    milestone: Milestone, workdir: Path, key: bytes | None, say: Callable, *, mode: str, who: str, lane: str
) -> dict:
    seeds, sources = Seeds(mode, who, milestone.id, key), {}

    @functools.lru_cache(maxsize=2)  # a detector's scenes of two sizes serve two checks
    def draw(purpose: str, count: int, size: int | tuple[int, int] | None = None):
        drawn = milestone.task.draw(seeds, purpose, count, size)
        sources[f"{milestone.task.drawn}: {drawn.source}."] = None
        return drawn

    with tempfile.TemporaryDirectory(prefix="grader-") as folder, contextlib.ExitStack() as boxes:
        taken, refused = _take(milestone, workdir, Path(folder), say)
        measures = [
            (check.judged(milestone.artifacts).path, check.lanes[lane])
            for check in milestone.checks
            if lane in check.lanes
        ]
        bench = Bench(
            task=milestone.task,
            lane=lane,
            mode=mode,
            taken=taken,
            artifacts={artifact.path: artifact for artifact in milestone.artifacts},
            measures=measures,
            limits_s=milestone.limits_s,
            memory_gb=milestone.memory_gb,
            draw=draw,
            say=say,
            boxes=boxes,
            budget=Budget(milestone.seconds(lane)),
        )
        for path, measure in measures:
            if path not in refused:
                try:
                    measure.open(dataclasses.replace(bench, path=path))
                except Rejected as error:
                    refused[path] = error
        record = {"artifacts": {path: copy.sha256 for path, copy in taken.items()}}
        if len(refused) == len(milestone.artifacts):
            return record | _rejected(milestone, lane, next(iter(refused.values())))
        results: list[CheckResult] = []
        for check in milestone.checks:
            path = check.judged(milestone.artifacts).path
            results.append(_one(dataclasses.replace(bench, check=check.id, path=path), check, results, refused))
        return record | {"status": "measured", "checks": tuple(results), "notes": (*sources, *bench.notes)}


def _take(
    milestone: Milestone, workdir: Path, folder: Path, say: Callable
) -> tuple[dict[str, Taken], dict[str, Rejected]]:
    """Private copies of the artifacts, and what was refused."""
    taken, refused = {}, {}
    for number, artifact in enumerate(milestone.artifacts):
        say(f"reading {artifact.path}")
        place = folder / str(number)  # each alone in its folder: a box sees no other
        place.mkdir()
        try:
            taken[artifact.path] = artifact.take(workdir, place)
        except Rejected as error:
            refused[artifact.path] = error
    return taken, refused


def _one(bench: Bench, check: Check, before: list[CheckResult], refused: dict[str, Rejected]) -> CheckResult:
    """Measure one check; an artifact's failure is the check's result, a failure of ours is raised."""
    measure = check.lanes.get(bench.lane)
    if measure is None:
        return _open(check)
    if waits := [result for result in before if result.id in check.needs and result.status == "open"]:
        return dataclasses.replace(_open(check), message=waits[0].message)
    missing = [result.title for result in before if result.id in check.needs and result.points == 0]
    if missing:
        result = _result(check, 0.0, "not measured", "", {}, bench.lane)
        return dataclasses.replace(result, message=f"It waits for: {'; '.join(missing)}. Repair that first.", hint="")
    try:
        if bench.path in refused:
            raise refused[bench.path]
        share, measured, message, values = measure.measure(bench)
    except Rejected as error:
        share, measured, message, values = 0.0, "could not be measured", f"{error.what} {error.cause}", {}
    except OpenHere as error:
        return dataclasses.replace(_open(check), message=str(error))
    return _result(check, share, measured, message, values, bench.lane)


def _result(check: Check, share: float, measured: str, message: str, values: dict, lane: str) -> CheckResult:
    """Points are rounded down to hundredths. Who lost some reads the cause, and one hint: the more points,
    the fewer words (nothing earned: the first step; some: the second; nearly all: the third)."""
    if not 0.0 <= share <= 1.0 or math.isnan(share):
        raise ValueError(f"check {check.id} gave the share {share}")
    points = math.floor(check.points * share * 100 + 1e-6) / 100
    status = "passed" if points == check.points else "failed" if points == 0 else "partial"
    if status == "passed":
        message = hint = ""
    else:
        message = f"{check.on_fail} {message}".strip()
        hint = check.hints[0 if share == 0 else 1 if share < 0.8 else 2]
    return CheckResult(
        check.id,
        check.title,
        status,
        points,
        check.points,
        measured,
        check.lanes[lane].wanted(),
        message,
        hint,
        values,
    )


def _open(check: Check) -> CheckResult:
    lane = next(iter(check.lanes))
    return CheckResult(
        check.id,
        check.title,
        "open",
        0.0,
        check.points,
        "not measured",
        check.lanes[lane].wanted(),
        NO_GPU,
    )


def _rejected(milestone: Milestone, lane: str, error: Rejected) -> dict:
    return {"status": "rejected", "reason": str(error), "checks": _all_failed(milestone, lane)}


def _all_failed(milestone: Milestone, lane: str) -> tuple[CheckResult, ...]:
    return tuple(
        _open(check)
        if lane not in check.lanes
        else CheckResult(
            check.id,
            check.title,
            "failed",
            0.0,
            check.points,
            "not measured",
            check.lanes[lane].wanted(),
        )
        for check in milestone.checks
    )


def main(argv: list[str] | None = None, milestones: Sequence[Milestone] = ()) -> int:
    """0 if the milestone was measured (or its artifact rejected), 2 if the grader failed.

    milestones: declared elsewhere than in `autograder.milestones`; looked up before those.
    """
    parser = argparse.ArgumentParser(prog="python -m autograder measure", description=__doc__.split("\n")[0])
    parser.add_argument("milestone", help="its id, such as s1.m1")
    parser.add_argument("--workdir", type=Path, default=Path(), help="folder of the notebook (default: this one)")
    parser.add_argument("--mode", choices=inputs.MODES, default="public")
    parser.add_argument("--who", default="", help="the student, in mode hidden")
    parser.add_argument("--lane", choices=LANES, help="default: gpu where TensorRT works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    args = parser.parse_args(argv)
    begin = time.perf_counter()

    def say(text: str) -> None:
        print(f"  {time.perf_counter() - begin:5.1f} s  {text}", flush=True)

    own = {milestone.id: milestone for milestone in milestones}
    milestone = own.get(args.milestone, args.milestone)
    report = measure(milestone, args.workdir, args.mode, args.who, lane=args.lane, say=None if args.quiet else say)
    if args.json:
        atomic_write(args.json, report.to_json().encode())
    print(report.text())
    if report.needs_manual:
        print(report.problem, file=sys.stderr)
    return 2 if report.needs_manual else 0
