"""Grade a class: run every submission in the sandbox, then measure the milestones, one at a time.

python -m autograder grade STAGE [--jobs N] [--student NAME ...] [--no-measure | --measure-only] [--force]

Submissions are read from .grading/submitted/STUDENT/STAGE, where `nbgrader collect` puts them. A run that was ended,
even by `kill -9`, is completed by the same command: what was graded already is not graded again, unless the submission
or the lesson has changed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import wait
from pathlib import Path
from typing import BinaryIO

import psutil
from nbgrader.api import MissingEntry
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autograder.authoring import release
from autograder.classroom import gradebook, submission, tempfolders
from autograder.classroom.gradebook import Place
from autograder.classroom.guard import DiskFullError, ends_with_us, guard, only_one, stop_if_all
from autograder.classroom.kernel import LEAST_FREE, PRINTED
from autograder.classroom.screen import Screen, cells, last_line
from autograder.classroom.student import grade_one, read_state, write_state
from autograder.classroom.untrusted import folder_name, shown, shown_lines, student_id
from autograder.measuring.report import Report
from autograder.milestones import Milestone, all_milestones
from autograder.sandbox import bwrap, cgroup, sockets
from course.errors import CourseError, MissingFileError
from course.kernels import toolkit
from course.native.plugins import compiler as plugin_compiler
from course.paths import ROOT
from course.serving import environment as triton

UNPROTECTED = "--i-accept-running-student-code-unprotected"
MEASURE = (sys.executable, "-m", "autograder", "measure")
_LIMIT_S = 3600.0
JUDGE_S = 1200.0
"""Seconds of a measurement beyond what the handed-in files may take (`limits_s`): the grader's own work."""
ROOM_TRIES = 20  # of half a second


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
        CourseError: there is no such stage or student, no sandbox, another grader is at work on this stage, the disk
            is full, or the gradebook cannot be written. Nothing else stops the batch: what goes wrong with one
            submission is that submission's outcome.
    """
    root = Path(root).resolve()
    place = gradebook.open_place(root)
    if execute and not unprotected:
        bwrap.require()
    wanted = [m for m in (all_milestones() if milestones is None else milestones) if m.stage == stage]
    with only_one(place.grading / f"grade-{stage}.lock", f"the grader of {stage}"):
        tempfolders.sweep(*tempfolders.places(place.grading))
        master = _prepare(place, stage)
        marks: dict[str, str] = {}
        outcomes: dict[str, Outcome] = {}
        for student in _students(place, stage, students):
            marks[student] = ""
            with guard(_failed(outcomes, student), "its files could not be read"):
                marks[student] = submission.fingerprint(place.folder("submitted", student, stage), master)
                outcomes[student] = _known(place, stage, student, marks[student])
        screen = console or Console(stderr=True)
        if execute:
            _fetch_tools(place, stage, screen)
            todo = [s for s, known in outcomes.items() if force or known.status not in ("executed", "measured")]
            changes = {"SandboxedExecute": {"i_accept_running_student_code_unprotected": True}} if unprotected else {}
            with Screen(screen, "running notebooks", len(todo)) as bar:
                for outcome in _execute(place, stage, {s: marks[s] for s in todo}, jobs, limit_s, changes, bar.now):
                    outcomes[outcome.student] = outcome
                    bar.done(outcome.student, "ran")
        if measure:
            again = ("measured", "new") if force and not execute else ()  # new: nbgrader's own button ran it
            todo = [
                o
                for o in outcomes.values()
                if o.status == "executed"
                or (o.status in again and place.folder("autograded", o.student, stage).is_dir())
            ]
            with (
                Screen(screen, "measuring", len(todo)) as bar,
                only_one(place.grading / "measure.lock", "a measurement", patient=True) as lock,
            ):
                for outcome in todo:
                    with guard(_failed(outcomes, outcome.student), "it could not be measured"):
                        _measure(place, wanted, outcome, measure_command, lane, mode, lock, bar.now)
                        state = read_state(_state(place, stage, outcome.student))
                        write_state(_state(place, stage, outcome.student), **{**state, "status": "measured"})
                        outcome.status, outcome.skipped = "measured", False
                    bar.done(outcome.student, "measured")
    return list(outcomes.values())


def _failed(outcomes: dict[str, Outcome], student: str) -> Callable[[str], None]:
    return lambda reason: outcomes.update({student: Outcome(student, "failed", reason)})


def _prepare(place: Place, stage: str) -> bytes:
    """Bring nbgrader's source, release and gradebook up to date; a fingerprint of the source."""
    release.stage_names(place.root, [stage])
    source = release.write_source(place.root, [stage]) / stage
    mark = submission.fingerprint(source).encode()
    stamp = place.grading / "state" / stage / ".released"
    if not (stamp.is_file() and stamp.read_bytes() == mark and place.release(stage).is_dir()):
        done = subprocess.run(
            [sys.executable, "-m", "autograder.classroom.app", "generate_assignment", stage, "--force", "--create"],
            cwd=place.root,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=environment(),
        )
        if done.returncode:
            raise CourseError(
                f"nbgrader could not release {stage}.",
                last_words(done.stderr),
                f"Run `nbgrader generate_assignment {stage} --force` in {place.root} and read its log.",
            )
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_bytes(mark)
    with place.gradebook():
        pass  # makes the course's row, which parallel processes would make at once
    return mark


def _fetch_tools(place: Place, stage: str, screen: Console) -> None:
    """What lessons on CUDA and on Triton fetch from PyPI: a submission could not, for it has no network. And what they
    compile for all kernels and plugins alike: each submission would do it again."""
    lessons = [path.read_text(errors="replace") for path in place.release(stage).glob("*.ipynb")]

    def tell(line: str) -> None:
        screen.print(line, markup=False)

    cuda = (plugin_compiler.prepare, toolkit.nvcc, toolkit.cuobjdump)  # fetched where there is no toolkit
    wanted = {"course.kernels": cuda, "course.serving": (triton.make,)}
    for get in [one for word, several in wanted.items() if any(word in text for text in lessons) for one in several]:
        try:
            get(tell)
        except CourseError as error:
            tell(f"Warning, cells that need it will fail: {error}")


def _students(place: Place, stage: str, wanted: Sequence[str]) -> list[str]:
    base = place.folder("submitted", "", stage).parent
    found = sorted(
        student_id(path.name)
        for path in base.glob("*")
        if not path.is_symlink() and (path / stage).is_dir() and not (path / stage).is_symlink()
    )
    named = {student if student in found else student_id(student) for student in wanted}
    for student in sorted(named):
        if student not in found:
            name = shown(folder_name(student))
            raise MissingFileError(
                f"{name} has handed in nothing for {stage}.",
                f"There is no folder {base.relative_to(place.root)}/{name}/{stage}.",
                f"Collect first (`nbgrader collect {stage}`), or correct the name.",
            )
    return [student for student in found if not named or student in named]


def _state(place: Place, stage: str, student: str) -> Path:
    return place.grading / "state" / stage / f"{student}.json"


def _known(place: Place, stage: str, student: str, mark: str) -> Outcome:
    state = read_state(_state(place, stage, student))
    if state.get("fingerprint") != mark or not place.folder("autograded", student, stage).is_dir():
        return Outcome(student, "new")
    try:
        return Outcome(student, state["status"], state["reason"], state["notes"], state["seconds"], skipped=True)
    except KeyError:  # of another version of the grader
        return Outcome(student, "new")


def _execute(
    place: Place,
    stage: str,
    marks: dict[str, str],
    jobs: int,
    limit_s: float,
    changes: dict,
    show: Callable[[dict[str, str]], None],
) -> Iterator[Outcome]:
    """One process per student, forked from a clean one that has nbgrader loaded. `show` is told who is at which cell.

    Who ran while the disk was full is run again at the end, alone: it may have been another one's doing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["autograder.classroom.student"])
    with sockets.short_names():
        forkserver.ensure_running()
    logs = place.grading / "logs" / stage
    logs.mkdir(parents=True, exist_ok=True)
    waiting, running, again = list(marks), {}, None
    shortage = _Shortage(tempfolders.places(place.grading))
    shortage.start()
    try:
        while waiting or running or again:
            if not waiting and not running:
                waiting, again, jobs = again, (), 1
            while waiting and len(running) < max(1, jobs):
                student = waiting.pop(0)
                state = _state(place, stage, student)
                state.unlink(missing_ok=True)
                state.with_suffix(".now").unlink(missing_ok=True)
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
                begin = time.monotonic()  # before it starts: what it meets at once is not missed
                process.start()
                running[student] = (process, begin)
            wait([process.sentinel for process, _ in running.values()], timeout=0.5)
            show(cells(_state(place, stage, "").parent, running))
            for student, (process, begin) in list(running.items()):
                late = time.monotonic() - begin > limit_s
                if process.is_alive() and not late:
                    continue
                if process.is_alive():
                    _end(process.pid)
                process.join()
                tempfolders.sweep(*tempfolders.places(place.grading), pid=process.pid)  # if it could not do so itself
                del running[student]
                _state(place, stage, student).with_suffix(".now").unlink(missing_ok=True)
                if shortage.last >= begin and again != ():
                    again = [*(again or []), student]
                    continue
                seconds, reason = time.monotonic() - begin, f"it took longer than {limit_s:.0f} s" if late else ""
                settled: dict[str, Outcome] = {}
                with guard(_failed(settled, student), "its grading failed, and that could not be written down"):
                    settled[student] = _settle(place, stage, student, marks[student], seconds, reason)
                yield settled[student]
    finally:
        shortage.stop()
        for process, _ in running.values():
            _end(process.pid)
            process.join()
            tempfolders.sweep(*tempfolders.places(place.grading), pid=process.pid)


class _Shortage(threading.Thread):
    """Knows when a disk was last full (`last`, by `time.monotonic`)."""

    def __init__(self, places: Sequence[Path]):
        super().__init__(daemon=True)
        self._places, self._over, self.last = places, threading.Event(), float("-inf")

    def run(self) -> None:
        while not self._over.wait(0.05):
            rooms = [os.statvfs(place) for place in self._places]
            if any(room.f_bavail * room.f_frsize < LEAST_FREE / 4 for room in rooms):
                self.last = time.monotonic()

    def stop(self) -> None:
        self._over.set()


def _settle(place: Place, stage: str, student: str, mark: str, seconds: float, reason: str) -> Outcome:
    """Write down how it ended. Where another submission has just filled the disk, wait until that one is stopped."""
    for _ in range(ROOM_TRIES):
        try:
            return _settle_once(place, stage, student, mark, seconds, reason)
        except Exception as error:
            with contextlib.suppress(DiskFullError):
                stop_if_all(error)
                raise
            time.sleep(0.5)
    return _settle_once(place, stage, student, mark, seconds, reason)


def _settle_once(place: Place, stage: str, student: str, mark: str, seconds: float, reason: str) -> Outcome:
    state = read_state(_state(place, stage, student))
    if state.get("status") == "executed" and not reason:
        return Outcome(student, "executed", "", state["notes"], state["seconds"])
    log = place.grading / "logs" / stage / f"{student}.log"
    reason = reason or last_words(log.read_text(errors="replace") if log.is_file() else "")
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
    place: Place,
    milestones: Sequence[Milestone],
    outcome: Outcome,
    command: Sequence[str],
    lane: str | None,
    mode: str,
    lock: int,
    show: Callable[[dict[str, str]], None],
) -> None:
    """`lock`: descriptor of the lock that says that something is being measured. The measuring process inherits it, so
    that it holds for as long as that process lives, even if this one is killed. `show` is told the steps."""
    for milestone in milestones:
        student, stage = outcome.student, milestone.stage
        path = place.grading / "reports" / stage / student / f"{milestone.id}.json"
        path.unlink(missing_ok=True)
        log = place.grading / "logs" / stage / f"{student}.{milestone.id}.log"
        argv = [
            *ends_with_us(),
            *command,
            milestone.id,
            "--workdir",
            str(place.folder("autograded", student, stage)),
            "--mode",
            mode,
            f"--who={student}",
            "--json",
            str(path),
            *(["--lane", lane] if lane else []),
        ]
        ended, words = False, ""
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "wb") as file:
                ended = _watched(
                    argv,
                    file,
                    lock,
                    milestone.limits_s["all"],
                    lambda: show({student: f"{milestone.id}: {_step(log)}"}),
                )
            report = Report.from_json(path.read_text())
            gradebook.save_milestone(
                place, milestone, student, report.points, report.text(), report._repr_html_(), report.needs_manual
            )
        except Exception as error:
            stop_if_all(error)
            if isinstance(error, subprocess.TimeoutExpired):
                words = f"took longer than {error.timeout:.0f} s"
            elif not ended:
                words = f"did not start: {shown(str(error))}"
            else:
                words = f"ended without a report: {last_words(log.read_text(errors='replace'))}"
            text = f"{milestone.title}: the measurement {words}. No points for now; a person will look at it."
            gradebook.save_milestone(place, milestone, student, 0.0, text, needs_manual=True)
            outcome.notes.append(text)


def _step(log: Path) -> str:
    """The last line of a measurement's log, without the seconds in front."""
    return re.sub(r"^[\d.]+ s +", "", last_line(log, "starting"))


def _watched(argv: Sequence[str], log: BinaryIO, lock: int, seconds: float, tell: Callable[[], None]) -> bool:
    """Run a measurement to its end; `tell` is called twice a second.

    Raises:
        subprocess.TimeoutExpired: after `seconds`; it is ended then.
    """
    begin = time.monotonic()
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        pass_fds=(lock,),
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment(),
        stdin=subprocess.DEVNULL,
    )
    try:
        while time.monotonic() - begin < seconds:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
                return True
            tell()
        raise subprocess.TimeoutExpired(argv, seconds)
    finally:
        process.kill()  # does nothing if it has ended
        process.wait()


def _end(pid: int) -> None:
    """End a worker with all that it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        worker = psutil.Process(pid)
        for process in (worker, *worker.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    programs = os.pathsep.join([f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath)])  # nbgrader calls alembic
    return {**os.environ, "PYTHONPATH": path, "PATH": programs, "PYTHONIOENCODING": "utf-8"}


def last_words(log: str) -> str:
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
    return shown((named or lines or ["its log is empty"])[-1])


def _table(place: Place, stage: str, outcomes: Sequence[Outcome]) -> Table:
    table = Table("student", "state", "points", "of", "late", "notes", title=stage)
    with place.gradebook() as book:
        for outcome in outcomes:
            words = "\n".join([outcome.reason, *outcome.notes]).strip()
            student, notes = Text(shown(outcome.student, 60)), Text(shown_lines(words))  # no markup of anybody's
            if outcome.status == "new":
                table.add_row(student, "not run yet", "", "", "", "")
                continue
            try:
                submission = book.find_submission(stage, outcome.student)
            except MissingEntry:
                table.add_row(student, outcome.status, "", "", "", notes)
                continue
            gradebook.settle_lateness(place, book, submission)
            manual = " (a person must look)" if submission.needs_manual_grade else ""
            table.add_row(
                student,
                outcome.status,
                f"{submission.score:g}{manual}",
                f"{submission.max_score:g}",
                f"-{submission.late_submission_penalty:g}" if submission.late_submission_penalty else "",
                notes,
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
    if not args.unprotected and bwrap.available() is None:
        print(cgroup.words(), file=sys.stderr)
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
