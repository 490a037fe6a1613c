"""The whole examination: the parts put together, and the causes sorted out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course.kernels.compiler import Notes, read_notes
from course.native.plugins import interview, layouts, performance
from course.native.plugins.contract import Contract
from course.native.plugins.endings import of_end, place_of
from course.native.plugins.report import Finding, Report, once
from course.native.plugins.session import Answers, Arrays, Wrap, run
from course.native.plugins.sources import Sources

MOST = 8  # combinations beside those that the contract asks for


def examine_compiled(
    folder: Path,
    sources: Sources,
    contract: Contract,
    *,
    headers: str = "",
    seconds: float = 10.0,
    wrap: Wrap | None = None,
) -> Report:
    """Examine what `compile_for_examination` made.

    Args:
        headers: what it was compiled with, for the report. seconds: limit for each of the processes.
        wrap: puts each process into a sandbox, see `session.Wrap`.

    Raises:
        CourseError: the library cannot be loaded.
    """
    began, notes = time.monotonic(), read_notes(folder / "kernels.so")
    outputs = len(contract.answers(contract.like(contract.shapes[0]), contract.attributes))
    steps = interview.steps(contract, outputs)
    answers = run(folder, steps, Arrays(), seconds=seconds, wrap=wrap)
    judge = interview.Judge(contract, steps, answers)
    ending = of_end(answers, steps, sources, notes)
    found = [*judge.creator()]
    programs: list[tuple[performance.Program, bool]] = []
    said: list[Answers] = []
    if not any(finding.kind == "not-registered" for finding in found):
        found += [*judge.identity(), *judge.shapes(), *judge.formats(), *judge.plan()]
        found += _kept(judge.all("kept"), sources)
        programs = _programs(contract, judge)

        def perform(one: tuple[performance.Program, bool]) -> Answers:
            return run(folder, one[0].steps, one[0].arrays, seconds=seconds, wrap=wrap)

        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(perform, programs))
    found += [ending] if ending else []
    for (made, required), one in zip(programs, said):
        found += _of_performance(made, required, one, sources, notes)
    return Report(
        f"{contract.name}, version {contract.version}",
        once(_sorted_out(found)),
        headers,
        tuple(layouts.words(made.combination) for made, _ in programs),
        time.monotonic() - began,
        answers.done and all(one.done for (_, required), one in zip(programs, said) if required),
        answers.printed + "".join(one.printed for one in said),
    )


def _programs(contract: Contract, judge: interview.Judge) -> list[tuple[performance.Program, bool]]:
    """For each combination that is run; and whether the contract asks for it."""
    required, accepted = [judge.required(name) for name in contract.types], judge.spoken().accepted
    asked = [one for one in required if one in accepted or not accepted]
    more = sorted((one for one in accepted if one not in required), key=_plainness)[:MOST]
    return [(performance.program(contract, one, whole=one in required), one in required) for one in [*asked, *more]]


def _of_performance(
    made: performance.Program, required: bool, said: Answers, sources: Sources, notes: Notes
) -> list[Finding]:
    """Findings of one combination. One that the contract does not ask for must not have been taken if it fails."""
    found, ending = [*performance.judge(made, said, notes, required)], of_end(said, made.steps, sources, notes)
    if required:
        left = [said.steps[n] for n, step in enumerate(made.steps) if step["do"] == "kept" and said.done]
        return [*found, *([ending] if ending else []), *_kept(left, sources)]
    if ending and not found:
        message = f"it takes {layouts.words(made.combination)}, and enqueue cannot do that: {ending.message}"
        return [Finding("format-too-wide", "supportsFormatCombination", message, ending.file, ending.line)]
    return found


def _plainness(combination: performance.Combination) -> tuple[int, int, performance.Combination]:
    """One layout for all first, then few types."""
    return (len({layout for _, layout in combination}), len({kind for kind, _ in combination}), combination)


def _kept(answers: list[dict], sources: Sources) -> list[Finding]:
    """Memory that stays after destroy."""
    found = []
    for answer in answers:
        for block in answer["host"]:
            file, line = place_of(block, sources)
            found.append(
                Finding(
                    "leak", "destroy", f"{block['bytes']} bytes that were taken here are not given back", file, line
                )
            )
        for one in answer["gpu"]["findings"]:
            if one["kind"] == "memory-leak":
                message = f"{one['bytes']} bytes of {one['buffer']} are not given back"
                found.append(Finding("device-leak", "terminate", message))
    return found


def _sorted_out(findings: list[Finding]) -> Iterator[Finding]:
    """Without consequences: of what has a cause that is named already."""
    kinds = {finding.kind for finding in findings}
    wrong = [finding for finding in findings if finding.kind == "wrong-output"]
    halves = [finding for finding in wrong if _is_half(finding)]
    for finding in findings:
        if finding in halves and len(halves) == len(wrong):
            yield Finding("half-ignored", "enqueue", f"float32 is right; {finding.message}", details=finding.details)
        elif finding.kind == "kernel" and halves and len(halves) == len(wrong):
            continue  # of a kernel for float on half as much memory
        elif finding.kind in ("wrong-output", "stale-shape") and "workspace-overrun" in kinds:
            continue
        elif finding.kind == "wrong-output" and kinds & {"kernel", "host-access"}:
            continue
        else:
            yield finding


def _is_half(finding: Finding) -> bool:
    return all(kind == layouts.TYPES["float16"] for kind, _ in finding.details.get("combination", ((0, 0),))[:1])
