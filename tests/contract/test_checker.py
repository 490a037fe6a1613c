"""The checker itself: planted mistakes are found in the versions that have them, and guarded code passes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .api import Api, misfit, parse_signature
from .checker import check_source

HEAD = "from __future__ import annotations\nimport contextlib\nimport tensorrt as trt\n"


def planted() -> dict[str, tuple[list[str], str]]:
    """Name of each case in planted.txt -> (versions in which it is wrong, source)."""
    text = Path(__file__).with_name("planted.txt").read_text()
    parts = re.split(r"^## (.*): (?:right|wrong in (.*))\n", text, flags=re.MULTILINE)[1:]
    return {
        name: (versions.split(", ") if versions else [], source.strip() + "\n")
        for name, versions, source in zip(parts[::3], parts[1::3], parts[2::3])
    }


CASES = planted()


@pytest.mark.parametrize("case", CASES)
def test_planted_code(case: str, apis: list[Api]) -> None:
    wrong_in, source = CASES[case]
    violations = check_source(HEAD + source, apis).violations
    assert len(violations) == bool(wrong_in), violations
    for violation in violations:
        line = re.match(r"snippet\.py:(\d+): ", violation)
        assert line and HEAD.count("\n") < int(line[1]) <= (HEAD + source).count("\n")
        named = violation.rpartition(" in TensorRT ")[2].split(", ")
        assert [version.rsplit(".", version.count(".") - 1)[0] for version in named] == wrong_in


def test_the_planted_code_has_both_kinds() -> None:
    assert sum(bool(wrong_in) for wrong_in, _ in CASES.values()) > 50
    assert sum(not wrong_in for wrong_in, _ in CASES.values()) > 35


def test_code_that_no_version_reaches_is_no_proof(apis: list[Api]) -> None:
    source = HEAD + "def _nobody_calls_this():\n    trt.Builder(None).platform_has_tf32\n"
    assert ["never reached" in violation for violation in check_source(source, apis).violations] == [True]


def test_what_stays_open_is_listed(apis: list[Api]) -> None:
    source = HEAD + "def f(name, thing):\n    getattr(trt.BuilderFlag, name)\n    thing.num_layers\n"
    report = check_source(source, apis)
    assert report.violations == []
    assert [finding.line for finding in report.unresolved] == [5, 6]


@pytest.mark.parametrize(
    ("positional", "keywords", "fits"),
    [
        (1, [], True),
        (2, [], True),
        (3, [], False),
        (0, [], False),
        (1, ["flags"], True),
        (2, ["flags"], False),
        (1, ["flag"], False),
    ],
)
def test_signatures(positional: int, keywords: list[str], fits: bool) -> None:
    signature = parse_signature("(network: a.B<c, d>, flags: int = <Flag.X: 0>) -> List[Tuple[int, str]]")
    assert [parameter.name for parameter in signature.parameters] == ["network", "flags"]
    assert signature.returns == "List[Tuple[int, str]]"
    assert (misfit((signature,), positional, keywords) is None) is fits
