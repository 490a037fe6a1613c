"""The committed table of compute-sanitizer follows from its raw samples."""

from __future__ import annotations

import gzip
import json

import pytest

from course.paths import ROOT
from tests.kernels.sanitizer import table
from tests.kernels.sanitizer.cases import Case, all_cases

FOLDER = ROOT / "docs" / "results" / "h200" / "sanitizer"


def test_the_table_is_what_the_logs_say() -> None:
    runs = {(one["name"], one["tool"]): one for one in map(json.loads, gzip.open(FOLDER / "runs.jsonl.gz", "rt"))}
    saved = json.loads((FOLDER / "table.json").read_text())
    for case, one in zip(all_cases(), saved["kernels"], strict=True):
        assert case.name == one["name"]
        ran = [tool for tool in table.TOOLS if (case.name, tool) in runs]
        assert one["sanitizer"] == {tool: table.tool_says(case, runs[case.name, tool]) for tool in ran}
    assert saved["totals"] == table.totals(saved["kernels"])
    assert (FOLDER / "table.md").read_text() == table.markdown(saved["kernels"], saved["totals"])


@pytest.mark.parametrize(
    "summary, log, words",
    [
        ("0 errors", "", "nothing"),
        ("0 hazards displayed (0 errors, 0 warnings)", "", "nothing"),
        ("1 error", " in relu.cu:9\n", "found"),
        ("3 errors", " in relu.cu:8\n", "elsewhere"),
        ("5 hazards displayed (0 errors, 5 warnings)", " in relu.cu:9\n", "found"),
        ("1 error", "Host API memory access error", "found"),
        (None, "========= COMPUTE-SANITIZER", "ended early"),
    ],
)
def test_a_report_counts_at_the_line_of_the_bug(summary: str | None, log: str, words: str) -> None:
    case = Case("relu", "planted", FOLDER / "relu.cu", "launchRelu", (), frozenset({"race"}), frozenset({9}))
    assert table.tool_says(case, {"ended": True, "summary": summary, "log": log}) == words
