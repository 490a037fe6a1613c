"""How the grader bears being killed, many writers, and what it costs. Raw numbers go to a JSON file.

    python benchmarks/grading_robustness.py --to docs/results/grading/robustness.json

1. A class of 24: the grader is ended by SIGKILL at 20 random moments, then run to its end. Lost are scores that
   differ from those of an undisturbed run.
2. 32 processes write scores into one gradebook at once.
3. The time for 100 submissions with two jobs.
4. CPU seconds per submission, against plain `nbgrader autograde` (no sandbox, one process for the class) on the same
   submissions, in turns. Counted by a control group of the kernel, so that every process counts, also those that nobody
   waits for; this needs root.

The lesson is the small one of tests/hostile/notebooks/course; its notebook itself needs next to no time, so that the
grader's own cost is measured. Measuring milestones is not part of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from nbgrader.api import Gradebook  # noqa: E402

from course.files import atomic_write  # noqa: E402
from course.paths import ROOT
from tests.classroom import box  # noqa: E402


def make_class(root: Path, size: int) -> Path:
    box.make_course(root)
    box.run(root)
    for number in range(size):
        box.hand_in(root, f"s{number:03}", box.solved(root) if number % 3 else box.blank(root))
    return root


def kills(folder: Path, size: int, times: int, seed: int) -> dict:
    calm, wild = make_class(folder / "calm", size), make_class(folder / "wild", size)
    box.run(calm)
    expected = {f"s{n:03}": box.scores(calm, f"s{n:03}") for n in range(size)}
    script = _grader(folder, wild)
    draw, moments = random.Random(seed), []
    for _ in range(times):
        grader = subprocess.Popen([sys.executable, str(script)])
        moment = draw.uniform(0.5, 9.0)
        try:
            grader.wait(moment)
        except subprocess.TimeoutExpired:
            grader.send_signal(signal.SIGKILL)
            grader.wait()
        states = [
            json.loads(path.read_text())["status"] for path in (wild / ".grading/state" / box.STAGE).glob("*.json")
        ]
        moments.append(
            {
                "s": round(moment, 2),
                "killed": grader.returncode == -signal.SIGKILL,
                "measured_then": sum(status == "measured" for status in states),
            }
        )
        if moments[-1]["measured_then"] == size:  # all done: begin again, or later kills would hit nothing
            shutil.rmtree(wild / ".grading/state" / box.STAGE)
    outcomes = box.run(wild)
    lost = [name for name, scores in expected.items() if box.scores(wild, name) != scores]
    return {
        "class": size,
        "kills": moments,
        "not_measured_after_rerun": [name for name, outcome in outcomes.items() if outcome.status != "measured"],
        "lost": lost,
    }


def _write(url: str, writer: int, rounds: int, longest) -> None:
    for number in range(rounds):
        begin, student = time.perf_counter(), f"w{writer}-{number}"
        with Gradebook(url, "trt-course") as book:
            book.update_or_create_student(student)
            for notebook in book.update_or_create_submission(box.STAGE, student).notebooks:
                for grade in notebook.grades:
                    grade.auto_score = 1.0
            book.db.commit()
        with longest.get_lock():
            longest.value = max(longest.value, time.perf_counter() - begin)


def writers(folder: Path, count: int, rounds: int) -> dict:
    root = make_class(folder / "writers", 0)
    url, longest = f"sqlite:///{root}/.grading/gradebook.db?timeout=120", multiprocessing.Value("d", 0.0)
    begin = time.perf_counter()
    processes = [multiprocessing.Process(target=_write, args=(url, n, rounds, longest)) for n in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with Gradebook(url, "trt-course") as book:
        found = sum(
            grade.auto_score == 1.0
            for submission in book.assignment_submissions(box.STAGE)
            for notebook in submission.notebooks
            for grade in notebook.grades
        )
    return {
        "writers": count,
        "writes": count * rounds * 4,
        "found": found,
        "longest_wait_s": round(longest.value, 2),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _grader(folder: Path, root: Path, options: str = "") -> Path:
    """A program that grades a class, to be started and ended as one."""
    script = folder / "grader.py"
    script.write_text(
        f"import sys\nsys.path[:0] = [{str(ROOT)!r}]\nfrom pathlib import Path\n"
        "from tests.classroom import box\n"
        f"if __name__ == '__main__':\n    box.run(Path({str(root)!r}), {options})\n"
    )
    return script


def hundred(folder: Path, size: int) -> dict:
    root = make_class(folder / "hundred", size)
    begin = time.perf_counter()
    outcomes = box.run(root, jobs=2, measure=False)
    return {
        "submissions": size,
        "jobs": 2,
        "seconds": round(time.perf_counter() - begin, 1),
        "failed": sum(outcome.status == "failed" for outcome in outcomes.values()),
    }


PLAIN = """
c = get_config()
c.CourseDirectory.course_id = "trt-course"
c.CourseDirectory.root = {root!r}
c.CourseDirectory.source_directory = ".grading/source"
for step in ("release", "submitted", "autograded", "feedback"):
    c.CourseDirectory[f"{{step}}_directory"] = f".grading/{{step}}"
c.CourseDirectory.db_url = "sqlite:///{root}/.grading/gradebook.db?timeout=120"
"""


def cpu_seconds(command: list[str], folder: Path) -> float:
    """CPU seconds, user and system, of a program and all processes that it starts, also those that outlive it.

    Raises:
        OSError: no control group can be made here (it needs root).
        RuntimeError: the program failed.
    """
    base = Path("/sys/fs/cgroup/cpuacct")
    old = base.is_dir()  # version 1 counts in nanoseconds, version 2 in microseconds among other numbers
    group = (base if old else Path("/sys/fs/cgroup")) / f"grading-{os.getpid()}"
    group.mkdir()
    try:
        members = group / ("tasks" if old else "cgroup.procs")
        done = subprocess.run(
            command, cwd=folder, preexec_fn=lambda: members.write_text(str(os.getpid())), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
        while members.read_text().split():  # kernels that end after their grader
            time.sleep(0.1)
        if old:
            return int((group / "cpuacct.usage").read_text()) / 1e9
        return int((group / "cpu.stat").read_text().split("usage_usec")[1].split()[0]) / 1e6
    finally:
        group.rmdir()


def cpu(folder: Path, size: int, rounds: int) -> dict:
    spent: dict[str, list[float]] = {"ours": [], "plain nbgrader": []}
    for number in range(rounds):
        ours = make_class(folder / f"ours{number}", size)
        spent["ours"].append(cpu_seconds([sys.executable, str(_grader(folder, ours, "jobs=1, measure=False"))], folder))
        plain = make_class(folder / f"plain{number}", size)
        (plain / "nbgrader_config.py").write_text(PLAIN.format(root=str(plain)))
        spent["plain nbgrader"].append(
            cpu_seconds([sys.executable, "-m", "nbgrader", "autograde", box.STAGE, "--create"], plain)
        )
        for root, kind in ((ours, "ours"), (plain, "plain")):  # the same work: the same scores
            scores = {name: box.scores(root, name)["fold-test"] for name in (f"s{n:03}" for n in range(size))}
            expected = {f"s{n:03}": 4.0 if n % 3 else 0.0 for n in range(size)}
            if scores != expected:
                raise RuntimeError(f"{kind}: {scores} instead of {expected}")
    return {
        "submissions": size,
        "jobs": 1,
        "unit": "CPU seconds per submission, milestones not measured",
        "samples": {name: [round(value / size, 2) for value in values] for name, values in spent.items()},
        "ratio": [round(a / b, 2) for a, b in zip(*spent.values())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--only", choices=["kills", "writers", "hundred", "cpu"], action="append")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "Object of type")  # nbgrader's own, when it adds a submission
    parts = {
        "kills": lambda folder: kills(folder, 24, 20, args.seed),
        "writers": lambda folder: writers(folder, 32, 4),
        "hundred": lambda folder: hundred(folder, 100),
        "cpu": lambda folder: cpu(folder, 12, 3),
    }
    os.environ["PATH"] = f"{sys.prefix}/bin{os.pathsep}{os.environ['PATH']}"
    results = json.loads(args.to.read_text()) if args.to.is_file() else {}
    for name in args.only or parts:
        with tempfile.TemporaryDirectory(prefix="grading-") as folder:
            results[name] = {**parts[name](Path(folder)), "load_after": round(os.getloadavg()[0], 1)}
        results["machine"] = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        atomic_write(args.to, (json.dumps(results, indent=1) + "\n").encode())
        print(name, json.dumps(results[name])[:400], flush=True)


if __name__ == "__main__":
    main()
