"""Runs the checker over the second set and appends what came out to docs/results/kernels_second_set.json.

    python -m tests.kernels.second_set.run --note "first run"

Earlier entries of the file stay as they are. `--dry` prints only. `--other-values` runs the cases of OTHER_VALUES instead.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from course import kernels
from course.files import atomic_write
from course.paths import ROOT
from tests.kernels.second_set import manifest

HERE = Path(__file__).parent
RESULTS = ROOT / "docs" / "results" / "kernels_second_set.json"
ORDERS = (0, 1, 2, 3)

KINDS = {
    "rmsnorm_half8.cu": {"misaligned"},
    "softmax_block.cu": {"race"},
    "cdf_rows.cu": {"divergent-barrier"},
    "histogram_calibration.cu": {"array-index", "out-of-bounds"},
    "amax_channels.cu": {"race"},
    "im2col_padded.cu": {"unwritten-output"},
    "instancenorm_gated.cu": {"race", "uninitialized-read"},
    "argmax_rows.cu": {"deadlock", "invalid-mask", "undefined-shuffle"},
}
"""The checker's words that describe the bug of a faulty kernel; written down before the first run."""


def _argmax_below_zero() -> list[Any]:
    given = manifest.CASES[-1].make()
    x = given[0].array - np.float32(5)
    return [manifest.In(x), replace(given[1], right=x.argmax(1)), replace(given[2], right=x.max(1)), *given[3:]]


OTHER_VALUES = [
    replace(manifest.CASES[-1], make=_argmax_below_zero, about="argmax_rows.cu with every value below zero")
]
"""Not part of the set: a kernel that was missed, unchanged, on values that tell why. Made after the first run."""


def arguments(case: manifest.Case) -> list[Any]:
    """As the checker takes them."""
    given: list[Any] = []
    for argument in case.make():
        match argument:
            case manifest.In(array):
                given.append(array)
            case manifest.Out(_, shape, dtype, _):
                given.append(kernels.out(shape, dtype))
            case manifest.InOut(_, array, _):
                given.append(kernels.inout(array))
            case _:
                given.append(argument)
    return given


def describes(case: manifest.Case, finding: kernels.Finding) -> bool:
    """The finding is of the right kind and points to one of the right lines; for unwritten outputs, to the output."""
    if finding.kind not in KINDS.get(case.file, ()):
        return False
    if finding.kind == "unwritten-output":
        return finding.buffer in {item.name for item in case.make() if isinstance(item, manifest.Out)}
    lines = {finding.line} | ({finding.other.line} if finding.other else set())
    return bool(lines & set(case.where))


def wrong_outputs(case: manifest.Case, outputs: tuple[np.ndarray, ...]) -> dict[str, str]:
    """Output -> how it differs from numpy. Empty if all are right."""
    wanted = [item for item in case.make() if isinstance(item, (manifest.Out, manifest.InOut))]
    got = {item.name: array for item, array in zip(wanted, outputs)}
    right = {item.name: item.right for item in wanted if item.right is not None}
    wrong = {}
    for name, array in case.canonical(got).items():
        if name not in right:
            continue
        if np.issubdtype(array.dtype, np.integer):
            same = array == right[name]
        else:
            same = np.isclose(array.astype(np.float64), right[name], rtol=case.tolerance, atol=case.tolerance)
        if not same.all():
            off = np.abs(array.astype(np.float64) - right[name])
            wrong[name] = f"{(~same).sum()} of {same.size} elements, by up to {off.max():.3g}"
    return wrong


def as_dict(case: manifest.Case, finding: kernels.Finding) -> dict[str, Any]:
    other = finding.other
    return {
        "kind": finding.kind,
        "file": finding.file,
        "line": finding.line,
        "kernel": finding.kernel,
        "thread": finding.thread,
        "block": finding.block,
        "buffer": finding.buffer,
        "other": other and {"line": other.line, "thread": other.thread, "block": other.block, "access": other.access},
        "message": finding.message,
        "advice": finding.advice,
        "orders": finding.orders,
        "describes_the_bug": describes(case, finding),
    }


def judged(case: manifest.Case) -> dict[str, Any]:
    """What the checker says of one kernel, beside what is right."""
    row: dict[str, Any] = {
        "file": case.file,
        "truth": "correct" if case.correct else "faulty",
        "bug": case.kind,
        "lines_of_the_bug": sorted(case.where),
    }
    start = time.perf_counter()
    try:
        report = kernels.check(HERE / case.file, case.launcher, *arguments(case), orders=ORDERS, seconds=20)
        alone = [
            kernels.check(HERE / case.file, case.launcher, *arguments(case), orders=(order,), seconds=20)
            for order in ORDERS
        ]
    except kernels.KernelError as error:
        refused = "refused" if isinstance(error, kernels.RefusedError) else "error"
        return row | {"verdict": refused, "message": str(error)}
    hits = [finding for finding in report.findings if describes(case, finding)]
    seen = sorted({order for finding in hits for order in finding.orders})
    if case.correct:
        verdict = "passed" if report.ok else "false report"
    elif hits:
        verdict = "found"
    else:
        verdict = "missed" if report.ok else "missed, other findings"
    return row | {
        "verdict": verdict,
        "kind_reported": sorted({finding.kind for finding in hits}),
        "lines_reported": sorted(
            {line for hit in hits for line in (hit.line, hit.other.line if hit.other else 0) if line}
        ),
        "orders_that_showed_it": seen,
        "ran_orders": report.orders,
        "findings_beside_the_bug": sum(not describes(case, finding) for finding in report.findings),
        "result": report.result,
        "wrong_outputs_by_order": {
            str(order): wrong_outputs(case, one.outputs) for order, one in zip(ORDERS, alone, strict=True)
        },
        "seconds_for_all": round(time.perf_counter() - start, 1),
        "findings": [as_dict(case, finding) for finding in report.findings],
        "report": str(report),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--note", default="", help="what this run is")
    parser.add_argument("--only", nargs="*", help="files")
    parser.add_argument("--other-values", action="store_true", help="the cases of OTHER_VALUES")
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    rows = []
    for case in OTHER_VALUES if options.other_values else manifest.CASES:
        if options.only and case.file not in options.only:
            continue
        row = judged(case)
        rows.append(row)
        print(f"{row['file']:28} {row['truth']:8} {row['verdict']:24} {row.get('kind_reported', row.get('message'))}")
    faulty = [row for row in rows if row["truth"] == "faulty"]
    correct = [row for row in rows if row["truth"] == "correct"]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    entry = {
        "note": options.note,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m tests.kernels.second_set.run " + shlex.join(sys.argv[1:]),
        "commit": commit,
        "orders": ORDERS,
        "found": sum(row["verdict"] == "found" for row in faulty),
        "of_faulty": len(faulty),
        "false_reports": sum(row["verdict"] == "false report" for row in correct),
        "of_correct": len(correct),
        "refused": sum(row["verdict"] in ("refused", "error") for row in rows),
        "kernels": rows,
    }
    print(f"found {entry['found']} of {len(faulty)}, false reports {entry['false_reports']} of {len(correct)}")
    if not options.dry:
        runs = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        atomic_write(RESULTS, (json.dumps([*runs, entry], indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
