"""Trusted measurement of one milestone from files. No learner's code runs here, no number of theirs is read.

python -m autograder measure s1.m1 --workdir work/stage1_converter
python -m autograder measure s1.m1 --workdir SUBMISSION --mode hidden --who STUDENT --json report.json
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import logging
import math
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from autograder.artifacts.file import take
from autograder.checks import accuracy
from autograder.measuring.report import CheckResult, Report
from autograder.milestones import LANES, Check, Milestone, get
from autograder.rejected import Rejected
from autograder.sandbox.process import Runner
from autograder.tasks import inputs
from autograder.tasks.detector import Answer
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
    artifact = milestone.artifacts[0]
    with tempfile.TemporaryDirectory(prefix="grader-") as folder:
        try:
            say(f"reading {artifact.path}")
            copy = take(workdir, artifact.path, Path(folder), artifact.max_mb)
        except Rejected as error:
            return _rejected(milestone, lane, error)
        record = {"artifacts": {artifact.path: copy.sha256}}
        with Runner(
            copy.path,
            memory_gb=milestone.memory_gb * (4 if lane == "gpu" else 1),
            cpu_s=7200,
            gpu=lane == "gpu",
            package=milestone.reference.split(".")[0],
        ) as runner:
            try:
                facts, _ = runner.ask(
                    "inspect",
                    seconds=120,
                    name=artifact.path,
                    max_nodes=artifact.max_nodes,
                    max_elements=artifact.max_elements,
                    allow_ops=list(artifact.allow_ops),
                )
            except Rejected as error:
                return record | _rejected(milestone, lane, error)
            sources: dict[str, None] = {}

            def draw(purpose: str, count: int, *size) -> inputs.Drawn | inputs.DrawnScenes:
                make = inputs.draw_scenes if size else inputs.draw
                drawn = make(mode, who, milestone.id, purpose, count, *size, key=key)
                sources[drawn.source] = None
                return drawn

            context = accuracy.Context(
                milestone,
                lane,
                mode,
                runner,
                facts,
                draw,
                functools.partial(reference_answers, milestone.reference),
                functools.partial(_weights, milestone.reference),
                say,
            )
            results: list[CheckResult] = []
            for check in milestone.checks:
                results.append(_one(context, check, results))
            notes = tuple(f"{'Scenes' if milestone.task == 'detector' else 'Images'}: {source}." for source in sources)
            if runner.why_open and mode == "hidden":
                notes += (f"The model ran in a process of its own, but in no sandbox: {runner.why_open}.",)
            return record | {"status": "measured", "checks": tuple(results), "notes": notes}


def _one(context: accuracy.Context, check: Check, before: list[CheckResult]) -> CheckResult:
    """Measure one check; an artifact's failure is the check's result, a failure of ours is raised."""
    params = check.lanes.get(context.lane)
    if params is None:
        return _open(check)
    missing = [result.title for result in before if result.id in check.needs and result.points == 0]
    if missing:
        result = _result(check, 0.0, "not measured", "", {}, context.lane)
        return dataclasses.replace(result, message=f"It waits for: {'; '.join(missing)}. Repair that first.", hint="")
    try:
        share, measured, message, values = accuracy.MEASURE[type(params)](context, check, params)
    except Rejected as error:
        share, measured, message, values = 0.0, "could not be measured", f"{error.what} {error.cause}", {}
    return _result(check, share, measured, message, values, context.lane)


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
        accuracy.threshold(check.lanes[lane]),
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
        accuracy.threshold(check.lanes[lane]),
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
            accuracy.threshold(check.lanes[lane]),
        )
        for check in milestone.checks
    )


MOST_REMEMBERED = 1_000_000_000
"""Bytes of the reference's answers."""
_answers: dict[tuple[str, bytes], np.ndarray | Answer] = {}


def reference_answers(reference: str, x: np.ndarray) -> np.ndarray | Answer:
    """The reference's answers to images, computed in this process on the CPU; remembered per input.

    Logits, float32 [N, classes]; of a detector its boxes and scores.
    """
    import torch

    digest = (reference, hashlib.sha256(np.ascontiguousarray(x)).digest())
    if digest not in _answers:
        parts = _in_parallel(_reference(reference), np.array_split(x, math.ceil(len(x) / 8)))
        if isinstance(parts[0], tuple):
            answer = Answer(*(torch.cat(part).float().numpy() for part in zip(*parts)))
        else:
            answer = torch.cat(parts).float().numpy()
        if len(_answers) > 256 or sum(map(_bytes, _answers.values())) > MOST_REMEMBERED:
            _answers.clear()
        _answers[digest] = answer
    return _answers[digest]


def _in_parallel(model, parts: list[np.ndarray]) -> list:
    """The module's answers to each part, every part on one thread of its own.

    Threads that share the work of one small convolution wait for each other: on two busy cores (load 5) 64 scenes of
    320 px took PyTorch 17 and 28 s in that way, and 5 and 7 s in this one.
    """
    import torch

    threads = torch.get_num_threads()

    def one(part: np.ndarray):
        torch.set_num_threads(1)  # a setting of the thread, in part
        with torch.inference_mode():
            return model(torch.from_numpy(part))

    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, parts))
    finally:
        torch.set_num_threads(threads)


def _bytes(answer: np.ndarray | Answer) -> int:
    return answer.boxes.nbytes + answer.scores.nbytes if isinstance(answer, Answer) else answer.nbytes


def _weights(reference: str) -> int:
    """How many numbers the reference has learned."""
    return sum(value.numel() for value in _reference(reference).parameters())


@functools.lru_cache(maxsize=2)
def _reference(reference: str):
    from autograder.artifacts.onnx_inside import load_reference

    return load_reference(reference)


def main(argv: list[str] | None = None) -> int:
    """0 if the milestone was measured (or its artifact rejected), 2 if the grader failed."""
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

    report = measure(args.milestone, args.workdir, args.mode, args.who, lane=args.lane, say=None if args.quiet else say)
    if args.json:
        atomic_write(args.json, report.to_json().encode())
    print(report.text())
    if report.needs_manual:
        print(report.problem, file=sys.stderr)
    return 2 if report.needs_manual else 0
