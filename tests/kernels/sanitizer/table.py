"""The checker on this CPU beside compute-sanitizer on a GPU, kernel by kernel.

    python -m tests.kernels.sanitizer.table RUNS docs/results/h200/sanitizer

RUNS is what `there.py` wrote. A tool has found a bug if it reports anything and, where the bug has a line and the report names
lines of the kernel's file, one of them is that line.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.progress import track

from course.files import atomic_write
from course.kernels import Report
from tests.kernels.sanitizer.cases import Case, all_cases, checked, second_set
from tests.kernels.second_set import run as second

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")


def tool_says(case: Case, run: dict) -> str:
    """ "found", "elsewhere" (a report, but of another line), "nothing", "no end" or "ended early"."""
    if not run["ended"]:
        return "no end"
    if run["summary"] is None:
        return "ended early"
    if not any(int(number) for number in re.findall(r"(\d+) (?:error|warning)", run["summary"])):
        return "nothing"
    named = {int(line) for line in re.findall(rf" in {re.escape(case.file.name)}:(\d+)", run["log"])}
    return "elsewhere" if case.lines and named and not named & case.lines else "found"


def checker_says(case: Case, report: Report) -> str:
    """The same words for the checker of this course; "found" if every thread order shows the bug."""
    if not report.findings:
        return "nothing"
    if case.set == "second":
        hits = [one for one in report.findings if second.describes(second_set(case.name), one)]
    else:
        of_kind = [one for one in report.findings if one.kind in case.kinds]
        hits = [one for one in of_kind if not case.lines or {one.line, one.other and one.other.line} & case.lines]
    orders = {order for one in hits for order in one.orders}
    return "elsewhere" if not hits else "found" if orders == set(report.orders) else "found in some orders"


def plain_says(run: dict) -> str:
    """What a user sees who runs the kernel on the GPU: an error of CUDA's, or nothing."""
    if not run["ended"]:
        return "no end"
    if run["status"] < 0:
        return f"signal {-run['status']}"
    said = re.search(r"SAID (.*)", run["said"])
    if said is None:
        return "failed: " + run["said"].strip().splitlines()[-1]
    statuses = [status for status in json.loads(said[1]).values() if status]
    return f"error {statuses[0]}" if statuses else "no error"


def numbers(case: Case, outputs: Path) -> str:
    """Whether the GPU's numbers are right, where they are known. Empty where they are not."""
    if not outputs.exists():
        return ""
    with np.load(outputs) as file:
        got = [file[f"a{number}"] for number in sorted(int(name[1:]) for name in file.files)]
    if case.set == "second":
        written = sum(not isinstance(one, second.manifest.In) for one in second_set(case.name).make())
        if not got or written < len(got):
            return ""
        return "wrong" if second.wrong_outputs(second_set(case.name), tuple(got)) else "right"
    if not case.right or not got:
        return ""
    near = [
        np.allclose(got[number], wanted, rtol=tolerance, atol=tolerance)
        for number, (wanted, tolerance) in case.right.items()
    ]
    return "right" if all(near) else "wrong"


def row(case: Case, runs: dict[str, dict], outputs: Path) -> dict:
    """One kernel; a tool that was not run has no entry."""
    plain = runs.get("plain")
    return {
        "name": case.name,
        "set": case.set,
        "kind": sorted(case.kinds),
        "tool": case.tool,
        "checker": checker_says(case, checked(case)),
        "plain": plain_says(plain) if plain else "not run",
        "numbers": numbers(case, outputs),
        "sanitizer": {tool: tool_says(case, runs[tool]) for tool in TOOLS if tool in runs},
        "summary": {tool: runs[tool]["summary"] for tool in TOOLS if tool in runs},
    }


def totals(rows: list[dict]) -> list[dict]:
    """Per set and kind of tool: how many bugs each found; for correct kernels how often each reported something."""
    groups = defaultdict(list)
    for one in rows:
        groups[
            f"{one['set']}, correct" if one["set"] == "second" and not one["kind"] else one["set"], one["tool"]
        ].append(one)
    return [
        {
            "set": name,
            "tool": tool or "each",
            "kernels": len(group),
            "checker": sum(one["checker"] != "nothing" if not tool else one["checker"] == "found" for one in group),
            "sanitizer": sum(_seen(one, tool) for one in group),
            "sanitizer_open": sum(_open(one, tool) for one in group),
            "plain_without_error": sum(one["plain"] == "no error" for one in group),
            "numbers_right": sum(one["numbers"] == "right" for one in group),
        }
        for (name, tool), group in sorted(groups.items())
    ]


def _seen(one: dict, tool: str) -> bool:
    """The tool for such bugs found it, or, where no tool is for them or there is no bug, any tool said something."""
    if tool in TOOLS:
        return one["sanitizer"].get(tool) == "found"
    return any(says in ("found", "elsewhere") for says in one["sanitizer"].values())


def _open(one: dict, tool: str) -> bool:
    """What counts was not run."""
    return tool not in one["sanitizer"] if tool in TOOLS else len(one["sanitizer"]) < len(TOOLS)


def markdown(rows: list[dict], summed: list[dict]) -> str:
    """Both tables."""
    lines = [
        "| set | tool | kernels | checker, CPU | compute-sanitizer | of it not run | run plain: no error |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in summed:
        cells = [one[key] for key in ("set", "tool", "kernels", "checker", "sanitizer", "sanitizer_open")]
        lines.append("| " + " | ".join(map(str, [*cells, one["plain_without_error"]])) + " |")
    lines += [
        "",
        f"| kernel | set | bug | checker, CPU | {' | '.join(TOOLS)} | run plain |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in rows:
        tools = [one["sanitizer"].get(tool, "not run") for tool in TOOLS]
        plain = ", ".join(filter(None, [one["plain"], one["numbers"]]))
        lines.append(
            f"| `{one['name']}` | {one['set']} | {', '.join(one['kind']) or '–'} | {one['checker']} | "
            f"{' | '.join(tools)} | {plain} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    runs: dict[str, dict[str, dict]] = defaultdict(dict)
    for line in (options.runs / "runs.jsonl").read_text().splitlines():
        one = json.loads(line)
        runs[one["name"]][one["tool"]] = one
    rows = [
        row(case, runs[case.name], options.runs / "outputs" / f"{case.name}.npz")
        for case in track(all_cases(), "checking on the CPU")
    ]
    summed = totals(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(options.runs / "machine.txt", options.out / "machine.txt")
    raw = gzip.compress((options.runs / "runs.jsonl").read_bytes(), mtime=0)
    atomic_write(options.out / "runs.jsonl.gz", raw)
    atomic_write(
        options.out / "table.json", (json.dumps({"totals": summed, "kernels": rows}, indent=1) + "\n").encode()
    )
    atomic_write(options.out / "table.md", markdown(rows, summed).encode())
    print(markdown(rows, summed))


if __name__ == "__main__":
    main()
