"""Grade a class: run every submission in the sandbox, then measure the milestones, one at a time.

python -m autograder grade STAGE [--jobs N] [--student NAME ...] [--no-measure | --measure-only] [--force]

Submissions are read from .grading/submitted/STUDENT/STAGE, where `nbgrader collect` puts them. A run that was ended,
even by `kill -9`, is completed by the same command: what was graded already is not graded again, unless the submission
or the lesson has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from autograder.authoring import release
from autograder.classroom import gradebook, submission
from autograder.classroom.gradebook import Place
from autograder.classroom.kernel import PRINTED
from autograder.classroom.student import grade_one, read_state, write_state
from autograder.measuring.report import Report
from autograder.milestones import Milestone, all_milestones
from autograder.sandbox import bwrap
from course.errors import CourseError, MissingFileError
from course.paths import ROOT

UNPROTECTED = "--i-accept-running-student-code-unprotected"
MEASURE = (sys.executable, "-m", "autograder", "measure")
_LIMIT_S = 3600.0


@dataclass
class Outcome:
    """Of one student: "measured" (all done), "executed" (milestones not measured yet) or "failed" (no points)."""

    student: str
    status: str
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    skipped: bool = False


def grade(
    stage: str,
    root: Path = ROOT,
    *,
    students: Sequence[str] = (),
    jobs: int = 1,
    execute: bool = True,
    measure: bool = True,
    force: bool = False,
    limit_s: float = _LIMIT_S,
    unprotected: bool = False,
    lane: str | None = None,
    mode: str = "hidden",
    milestones: Iterable[Milestone] | None = None,
    measure_command: Sequence[str] = MEASURE,
    console: Console | None = None,
) -> list[Outcome]:
    """Grade the submissions of a stage.

    Args:
        students: only these; all by default.
        jobs: how many submissions run at once. Measuring is never parallel.
        limit_s: seconds for one student's submission; backs up the limits inside it.
        unprotected: run learners' code without a sandbox.
        lane, mode: as in `autograder.measuring.measure`.
        milestones: those of this course by default.
        measure_command: what measures; gets the arguments of `python -m autograder measure`.

    Raises:
        CourseError: there is no such stage or student, no sandbox, or another grader is at work on this stage.
    """
    root = Path(root).resolve()
    place = gradebook.open_place(root)
    if execute and not unprotected:
        bwrap.require()
    wanted = [m for m in (all_milestones() if milestones is None else milestones) if m.stage == stage]
    with _only_one(place.grading / f"grade-{stage}.lock", f"the grader of {stage}"):
        master = _prepare(place, stage)
        marks = {
            student: submission.fingerprint(place.folder("submitted", student, stage), master)
            for student in _students(place, stage, students)
        }
        screen = console or Console(stderr=True)
        outcomes = {student: _known(place, stage, student, mark) for student, mark in marks.items()}
        if execute:
            todo = [s for s, known in outcomes.items() if force or known.status not in ("executed", "measured")]
            changes = {"SandboxedExecute": {"i_accept_running_student_code_unprotected": True}} if unprotected else {}
            with _progress(screen) as bar:
                task = bar.add_task("running notebooks", total=len(todo))
                for outcome in _execute(place, stage, {s: marks[s] for s in todo}, jobs, limit_s, changes):
                    outcomes[outcome.student] = outcome
                    bar.update(task, advance=1, description=f"ran {outcome.student}")
        if measure:
            again = ("measured", "new") if force and not execute else ()  # new: nbgrader's own button ran it
            todo = [
                o
                for o in outcomes.values()
                if o.status == "executed"
                or (o.status in again and place.folder("autograded", o.student, stage).is_dir())
            ]
            with _progress(screen) as bar, _only_one(place.grading / "measure.lock", "a measurement", patient=True):
                task = bar.add_task("measuring", total=len(todo))
                for outcome in todo:
                    bar.update(task, description=f"measuring {outcome.student}")
                    _measure(place, wanted, outcome, measure_command, lane, mode)
                    state = read_state(_state(place, stage, outcome.student))
                    write_state(_state(place, stage, outcome.student), **{**state, "status": "measured"})
                    outcome.status, outcome.skipped = "measured", False
                    bar.update(task, advance=1)
    return list(outcomes.values())


def _prepare(place: Place, stage: str) -> bytes:
    """Bring nbgrader's source, release and gradebook up to date; a fingerprint of the source."""
    release.stage_names(place.root, [stage])
    source = release.write_source(place.root, [stage]) / stage
    mark = submission.fingerprint(source).encode()
    stamp = place.grading / "state" / stage / ".released"
    if not (stamp.is_file() and stamp.read_bytes() == mark and place.release(stage).is_dir()):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", "generate_assignment", stage, "--force", "--create"],
            cwd=place.root,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
        )
        if done.returncode:
            raise CourseError(
                f"nbgrader could not release {stage}.",
                _last_words(done.stderr),
                f"Run `nbgrader generate_assignment {stage} --force` in {place.root} and read its log.",
            )
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_bytes(mark)
    with place.gradebook():
        pass  # makes the course's row, which parallel processes would make at once
    return mark


def _students(place: Place, stage: str, wanted: Sequence[str]) -> list[str]:
    base = place.folder("submitted", "", stage).parent
    found = sorted(
        path.name
        for path in base.glob("*")
        if not path.is_symlink() and (path / stage).is_dir() and not (path / stage).is_symlink()
    )
    for student in wanted:
        if student not in found:
            raise MissingFileError(
                f"{student} has handed in nothing for {stage}.",
                f"There is no folder {base.relative_to(place.root)}/{student}/{stage}.",
                f"Collect first (`nbgrader collect {stage}`), or correct the name.",
            )
    return [student for student in found if not wanted or student in wanted]


def _state(place: Place, stage: str, student: str) -> Path:
    return place.grading / "state" / stage / f"{student}.json"


def _known(place: Place, stage: str, student: str, mark: str) -> Outcome:
    state = read_state(_state(place, stage, student))
    if state.get("fingerprint") != mark or not place.folder("autograded", student, stage).is_dir():
        return Outcome(student, "new")
    return Outcome(student, state["status"], state["reason"], state["notes"], state["seconds"], skipped=True)


def _execute(
    place: Place, stage: str, marks: dict[str, str], jobs: int, limit_s: float, changes: dict
) -> Iterator[Outcome]:
    """One process per student, forked from a clean one that has nbgrader loaded."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["autograder.classroom.student"])
    logs = place.grading / "logs" / stage
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running = list(marks), {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, jobs):
                student = waiting.pop(0)
                state = _state(place, stage, student)
                state.unlink(missing_ok=True)
                process = context.Process(
                    target=grade_one,
                    args=(
                        str(place.root),
                        stage,
                        student,
                        marks[student],
                        changes,
                        str(logs / f"{student}.log"),
                        str(state),
                    ),
                )
                process.start()
                running[student] = (process, time.monotonic())
            wait([process.sentinel for process, _ in running.values()], timeout=0.5)
            for student, (process, begin) in list(running.items()):
                late = time.monotonic() - begin > limit_s
                if process.is_alive() and not late:
                    continue
                if process.is_alive():
                    _end(process.pid)
                process.join()
                del running[student]
                yield _settle(
                    place,
                    stage,
                    student,
                    marks[student],
                    time.monotonic() - begin,
                    f"it took longer than {limit_s:.0f} s" if late else "",
                )
    finally:
        for process, _ in running.values():
            _end(process.pid)


def _settle(place: Place, stage: str, student: str, mark: str, seconds: float, reason: str) -> Outcome:
    state = read_state(_state(place, stage, student))
    if state.get("status") == "executed" and not reason:
        return Outcome(student, "executed", "", state["notes"], state["seconds"])
    reason = reason or _last_words((place.grading / "logs" / stage / f"{student}.log").read_text(errors="replace"))
    comment = f"Grading failed: {reason}. There are no points for now; a person will look at it."
    gradebook.zero(place, stage, student, comment)
    gradebook.write_failed(place, stage, student, comment)
    write_state(
        _state(place, stage, student),
        status="failed",
        fingerprint=mark,
        seconds=round(seconds, 1),
        reason=reason,
        notes=[],
    )
    return Outcome(student, "failed", reason, [], round(seconds, 1))


def _measure(
    place: Place, milestones: Sequence[Milestone], outcome: Outcome, command: Sequence[str], lane: str | None, mode: str
) -> None:
    for milestone in milestones:
        student, stage = outcome.student, milestone.stage
        path = place.grading / "reports" / stage / student / f"{milestone.id}.json"
        path.unlink(missing_ok=True)
        argv = [
            *command,
            milestone.id,
            "--workdir",
            str(place.folder("autograded", student, stage)),
            "--mode",
            mode,
            "--who",
            student,
            "--json",
            str(path),
            "--quiet",
            *(["--lane", lane] if lane else []),
        ]
        try:
            done = subprocess.run(
                argv,
                cwd=ROOT,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=_environment(),
                timeout=milestone.limits_s["all"],
                stdin=subprocess.DEVNULL,
            )
            report = Report.from_json(path.read_text())
            gradebook.save_milestone(
                place, milestone, student, report.points, report.text(), report._repr_html_(), report.needs_manual
            )
        except (subprocess.TimeoutExpired, OSError, CourseError) as error:
            words = (
                f"took longer than {milestone.limits_s['all']:.0f} s"
                if isinstance(error, subprocess.TimeoutExpired)
                else f"ended without a report: {_last_words(done.stderr or done.stdout)}"
            )
            text = f"{milestone.title}: the measurement {words}. No points for now; a person will look at it."
            gradebook.save_milestone(place, milestone, student, 0.0, text, needs_manual=True)
            outcome.notes.append(text)


@contextlib.contextmanager
def _only_one(path: Path, what: str, patient: bool = False) -> Iterator[None]:
    """Hold a lock that ends with this process. Timings must not share the machine: a `patient` one waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if patient else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise CourseError(
                f"There is {what} at work already.", f"It holds {path.name}.", "Wait until it is done, or end it."
            ) from error
        yield


def _end(pid: int) -> None:
    """End a worker with all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        worker = psutil.Process(pid)
        for process in (worker, *worker.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    programs = os.pathsep.join([f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath)])  # nbgrader calls alembic
    return {**os.environ, "PYTHONPATH": path, "PATH": programs, "PYTHONIOENCODING": "utf-8"}


def _last_words(log: str) -> str:
    """The line of a log that most likely says why."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", log).splitlines() if line.strip()]
    lines = [
        line for line in lines if not line.startswith(PRINTED)
    ]  # what a learner's code printed is no reason of ours
    named = [
        line
        for line in lines
        if re.match(r"[\w.]*(Error|Exception|Interrupt|Exit)\b", line) and "NbGraderException" not in line
    ]
    return (named or lines or ["its log is empty"])[-1][:300]


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _table(place: Place, stage: str, outcomes: Sequence[Outcome]) -> Table:
    table = Table("student", "state", "points", "of", "late", "notes", title=stage)
    with place.gradebook() as book:
        for outcome in outcomes:
            if outcome.status == "new":
                table.add_row(outcome.student, "not run yet", "", "", "", "")
                continue
            submission = book.find_submission(stage, outcome.student)
            manual = " (a person must look)" if submission.needs_manual_grade else ""
            table.add_row(
                outcome.student,
                outcome.status,
                f"{submission.score:g}{manual}",
                f"{submission.max_score:g}",
                f"-{submission.late_submission_penalty:g}" if submission.late_submission_penalty else "",
                "\n".join([outcome.reason, *outcome.notes]).strip(),
            )
    return table


def main(argv: list[str] | None = None) -> int:
    """0 if every submission was graded, 1 if any failed."""
    parser = argparse.ArgumentParser(
        prog="python -m autograder grade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", help="a folder below solutions/, such as stage1_converter")
    parser.add_argument(
        "--jobs",
        type=int,
        default=max(1, (os.cpu_count() or 2) // 2),
        help="submissions that run at once (default: half of the cores)",
    )
    parser.add_argument("--student", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--no-measure", action="store_true", help="run the notebooks only")
    parser.add_argument("--measure-only", action="store_true", help="measure what was run before")
    parser.add_argument("--force", action="store_true", help="also what was graded already")
    parser.add_argument("--lane", choices=("cpu", "gpu"), help="of the measurement; default: gpu where TensorRT works")
    parser.add_argument("--limit", type=float, default=_LIMIT_S, metavar="S", help="seconds for one submission")
    parser.add_argument("--root", type=Path, default=ROOT, help="the course folder")
    parser.add_argument(
        UNPROTECTED,
        action="store_true",
        dest="unprotected",
        help="run without a sandbox: a submission can do all that you can",
    )
    args = parser.parse_args(argv)
    if args.no_measure and args.measure_only:
        parser.error("--no-measure and --measure-only leave nothing to do")
    if os.geteuid() == 0 and not args.measure_only:
        print(
            "Warning: you grade as root, so the limit on processes is only watched, not enforced. Use an ordinary "
            "user.",
            file=sys.stderr,
        )
    begin = time.monotonic()
    outcomes = grade(
        args.stage.strip("/"),
        args.root,
        students=args.student,
        jobs=args.jobs,
        execute=not args.measure_only,
        measure=not args.no_measure,
        force=args.force,
        limit_s=args.limit,
        unprotected=args.unprotected,
        lane=args.lane,
    )
    Console().print(_table(gradebook.open_place(args.root), args.stage.strip("/"), outcomes))
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    print(
        f"{len(outcomes)} submissions, {sum(o.skipped for o in outcomes)} graded before, {failed} failed, "
        f"{time.monotonic() - begin:.0f} s. Logs: .grading/logs/{args.stage.strip('/')}"
    )
    return 1 if failed else 0
