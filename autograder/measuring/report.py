"""What a measurement found, as data, as text and as HTML."""

from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from course.errors import CourseError

STATUSES = ("passed", "partial", "failed", "open")
_MARK = {"passed": "✓", "partial": "◐", "failed": "✗", "open": "○"}
_COLOUR = {"passed": "#1a7f37", "partial": "#9a6700", "failed": "#cf222e", "open": "#57606a"}


@dataclass(frozen=True)
class CheckResult:
    """One line. `measured` and `threshold` are words with units; `values` the numbers behind them."""

    id: str
    title: str
    status: str
    points: float
    max_points: float
    measured: str
    threshold: str
    message: str = ""
    hint: str = ""
    values: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A measurement of one milestone.

    status: "measured"; "rejected", if the artifact could not be measured at all (`reason` says why); or
        "error", if the grader itself failed: no points, `needs_manual` is set, and the instructor finds the
        log in `problem`.
    lane: "cpu" or "gpu". mode: "public" (self-check) or "hidden" (grading). who: the student in mode
        "hidden".
    artifacts: path -> SHA-256 of what was measured. notes: what the reader should know about this machine.
    """

    milestone: str
    title: str
    status: str
    lane: str
    mode: str
    who: str
    checks: tuple[CheckResult, ...]
    seconds: float
    artifacts: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def points(self) -> float:
        return round(sum(check.points for check in self.checks), 2)

    @property
    def max_points(self) -> float:
        return sum(check.max_points for check in self.checks)

    @property
    def open_points(self) -> float:
        """Points that this machine could not measure."""
        return sum(check.max_points for check in self.checks if check.status == "open")

    @property
    def needs_manual(self) -> bool:
        return self.status == "error"

    def to_json(self) -> str:
        """Lossless; `from_json` gives an equal Report. The sums are in it for readers in other languages."""
        sums = {
            "points": self.points,
            "max_points": self.max_points,
            "open_points": self.open_points,
            "needs_manual": self.needs_manual,
        }
        return json.dumps({"format": "autograder.report 1", **asdict(self), **sums}, indent=1, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Report:
        """Raises:
        CourseError: not a report.
        """
        try:
            data = json.loads(text)
            if data.pop("format") != "autograder.report 1":
                raise ValueError("another format")
            for name in ("points", "max_points", "open_points", "needs_manual"):
                data.pop(name)
            checks = tuple(CheckResult(**check) for check in data.pop("checks"))
            return Report(checks=checks, notes=tuple(data.pop("notes")), **data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CourseError(
                "This is no report of a measurement.",
                f"{type(error).__name__}: {error}",
                "Measure again with `python -m autograder measure`.",
            ) from error

    def text(self) -> str:
        """The score-board for a terminal, 100 columns wide."""
        lines = [f"{self.title}: {self.points:g} of {self.max_points:g} points{self._open_words()}"]
        if self.reason:
            lines += [f"  {line}" for line in self.reason.splitlines()]
        for check in self.checks:
            lines.append(f"{_MARK[check.status]} {check.title}: {check.points:g} of {check.max_points:g}")
            for label, words in self._rows(check):
                lines += textwrap.wrap(words, 96, initial_indent=f"    {label}: ", subsequent_indent="      ")
        lines += [line for note in self._footer() for line in textwrap.wrap(note, 98)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for check in self.checks:
            colour, words = (
                _COLOUR[check.status],
                "".join(
                    f"<div><span style='opacity:.65'>{html.escape(label)}:</span> {html.escape(text)}</div>"
                    for label, text in self._rows(check)
                ),
            )
            rows.append(
                f"<tr style='border-top:1px solid rgba(128,128,128,.35)'>"
                f"<td style='color:{colour};font-size:1.3em;vertical-align:top'>{_MARK[check.status]}</td>"
                f"<td style='text-align:left'><b>{html.escape(check.title)}</b>{words}</td>"
                f"<td style='vertical-align:top;white-space:nowrap'>{check.points:g} / "
                f"{check.max_points:g}</td></tr>"
            )
        part = 100 * self.points / self.max_points if self.max_points else 0
        unseen = 100 * self.open_points / self.max_points if self.max_points else 0
        reason = f"<p style='color:{_COLOUR['failed']}'>{html.escape(self.reason)}</p>" if self.reason else ""
        bar = (
            f"<div role='img' aria-label='{part:.0f} percent of the points' style='display:flex;height:.6em;"
            f"border-radius:.3em;overflow:hidden;background-color:rgba(128,128,128,.25)'>"
            f"<div style='width:{part:.2f}%;background-color:{_COLOUR['passed']}'></div>"
            f"<div style='width:{unseen:.2f}%;background-color:rgba(128,128,128,.3);background-image:"
            f"repeating-linear-gradient(45deg,rgba(128,128,128,.5) 0 .3em,transparent .3em .6em)'></div></div>"
        )
        footer = "".join(f"<div>{html.escape(note)}</div>" for note in self._footer())
        # `table-layout` and `margin`: JupyterLab gives tables columns of equal width, and centres them.
        return (
            f"<div style='max-width:56em'><h3 style='margin:.3em 0'>{html.escape(self.title)}: "
            f"{self.points:g} of {self.max_points:g} points"
            f"{html.escape(self._open_words())}</h3>{bar}{reason}"
            f"<table style='table-layout:auto;width:100%;margin:0;border-collapse:collapse'>{''.join(rows)}</table>"
            f"<div style='opacity:.7;font-size:.9em'>{footer}</div></div>"
        )

    def _open_words(self) -> str:
        return f", {self.open_points:g} open" if self.open_points else ""

    def _rows(self, check: CheckResult) -> list[tuple[str, str]]:
        rows = [
            ("measured", check.measured),
            ("wanted", check.threshold),
            ("why", check.message),
            ("hint", check.hint),
        ]
        return [(label, words) for label, words in rows if words]

    def _footer(self) -> tuple[str, ...]:
        where = {"cpu": "on the CPU", "gpu": "on the GPU"}[self.lane]
        return (f"Measured {where} in {self.seconds:.0f} s.", *self.notes)
