"""TensorRT's verbose build log as tables: what was fused, which tactics were tried and chosen, memory, warnings.

It reads `Engine.build_log`, and the text of `trtexec --verbose`. Versions differ in wording; lines that say nothing
known are left out, so that an unknown version gives short tables and not wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from course.engine.types import LogLine
from course.errors import CourseError

_TEXT_LINE = re.compile(
    r"^(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?(?:\[TRT\] )?\[(?P<level>[VIWEF])\] ?(?:\[TRT\] "
    r")?(?P<text>.*)$"
)
_LEVELS = {"V": "VERBOSE", "I": "INFO", "W": "WARNING", "E": "ERROR", "F": "INTERNAL_ERROR"}
_TIME = r"(?P<ms>[\d.]+(?:e[+-]?\d+)?|inf)"
_COUNT = re.compile(r"^(?P<stage>Original|After [\w ,-]+?): (?P<count>\d+) layers$")
_FUSION = re.compile(r"^(?P<kind>\w+): Fusing (?P<first>.+?) with (?P<second>.+)$")
_COSTS = re.compile(r"^=+ Computing costs for (?P<layer>.*)$")
_FORMATS = re.compile(r"^\*+ Autotuning (?:format combination|Reformat): (?P<formats>.*?) \*+$")
_RUNNER = re.compile(r"^-+ Timing Runner: (?P<layer>.*) \((?P<runner>\w+)(?:\[\w+\])?\)$")
_NAMED = re.compile(r"Set Tactic Name: (?P<name>.+?) Tactic: (?P<id>\S+)$")  # 8.4 and older: the time comes next
_TACTIC = re.compile(rf"^(?:Tactic Name: (?P<name>.+?) )?Tactic: (?P<id>\S+) Time: {_TIME}")
_CHOSE = re.compile(r"^>+ Chose Runner Type: (?P<runner>\w+) Tactic: (?P<id>\S+)")
_MEMORY = re.compile(r"^(?P<what>(?:Total|Max) [\w ]+Memory): (?P<bytes>\d+)(?: bytes)?$")
_SECONDS = re.compile(r"^(?P<what>[\w ]+?)(?: time:| completed in) (?P<seconds>[\d.e+-]+) seconds\.?$")


@dataclass(frozen=True)
class Fusion:
    """Two layers that became one; `kind` is TensorRT's name of the rule."""

    kind: str
    first: str
    second: str


@dataclass(frozen=True)
class Tactic:
    """One kernel that was timed for one layer and one combination of data formats.

    ms: its time, None where the log gives none. chosen: the fastest for these formats. name: "" where not given; of a GEMM it
    holds spaces ("… numSplitK: -1 numBuffers: 0 numKernels: 1").
    """

    layer: str
    runner: str
    formats: str
    id: str
    name: str = ""
    ms: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class BuildLog:
    """stages: name -> number of layers after it. memory: name -> bytes. seconds: phase -> seconds."""

    stages: Mapping[str, int] = field(default_factory=dict)
    fusions: tuple[Fusion, ...] = ()
    tactics: tuple[Tactic, ...] = ()
    memory: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    def __str__(self) -> str:
        stages = list(self.stages.items())
        ends = f"{stages[0][1]} layers at first, {stages[-1][1]} at the end; " if stages else ""
        layers = {t.layer for t in self.tactics}
        return (
            f"{ends}{_count(self.fusions, 'fusion')} by name, {_count(self.tactics, 'tactic')} timed for "
            f"{_count(layers, 'layer')}, {_count(self.warnings, 'warning')}, {_count(self.errors, 'error')}"
        )


def _count(things: Collection, word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def read_build_log(source: str | Sequence[LogLine]) -> BuildLog:
    """Read `Engine.build_log`, or the text that `trtexec --verbose` or a logger printed.

    Raises:
        CourseError: it is empty, no line is TensorRT's, or it holds several runs of trtexec.
    """
    lines = list(_lines_of(source))
    if not lines:
        raise CourseError(
            "This build log is empty.",
            "It has no line with TensorRT's marks, such as [V] or [I].",
            "Give Engine.build_log of a fresh build (a loaded engine has none), or all that "
            "`trtexec --verbose` printed.",
        )
    runs = len(re.findall(r"^&&&& RUNNING ", source, re.M)) if isinstance(source, str) else 1
    if runs > 1:
        raise CourseError(
            f"This text holds {runs} runs of trtexec.",
            "Their layers and times would be mixed.",
            'Read one at a time: a run goes from a line "&&&& RUNNING" up to the next one.',
        )
    stages: dict[str, int] = {}
    fusions, memory, seconds = [], {}, {}
    for _, text in lines:
        if match := _COUNT.match(text):
            stages[match["stage"]] = int(match["count"])
        elif match := _FUSION.match(text):
            fusions.append(Fusion(match["kind"], match["first"], match["second"]))
        elif match := _MEMORY.match(text):
            memory[match["what"]] = int(match["bytes"])
        elif match := _SECONDS.match(text):
            seconds[match["what"]] = float(match["seconds"])

    def of(*severities: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(text for severity, text in lines if severity in severities and text))

    return BuildLog(
        stages,
        tuple(fusions),
        _tactics(text for _, text in lines),
        memory,
        seconds,
        of("WARNING"),
        of("ERROR", "INTERNAL_ERROR"),
    )


def _lines_of(source: str | Sequence[LogLine]) -> Iterable[tuple[str, str]]:
    """(severity, text) of every line; what follows a line without a mark of its own belongs to it."""
    if not isinstance(source, str):
        for line in source:
            yield from ((line.severity, text.strip()) for text in line.text.splitlines())
        return
    severity = None
    for line in source.splitlines():
        if match := _TEXT_LINE.match(line):
            severity = _LEVELS[match["level"]]
            yield severity, match["text"].strip()
        elif severity is not None and not line.startswith("&&&&"):
            yield severity, line.strip()


def _tactics(lines: Iterable[str]) -> tuple[Tactic, ...]:
    found: list[Tactic] = []
    layer = runner = formats = ""
    names: dict[str, str] = {}
    begin = 0  # of the tactics for the present formats
    for text in lines:
        if match := _COSTS.match(text):
            layer, begin = match["layer"], len(found)
        elif match := _FORMATS.match(text):
            formats, begin = match["formats"], len(found)
        elif match := _RUNNER.match(text):
            layer, runner = match["layer"], match["runner"]
        elif match := _NAMED.search(text):
            names[match["id"]] = match["name"]
        elif match := _TACTIC.match(text):
            name = match["name"] or names.get(match["id"], "")
            ms = float(match["ms"])
            found.append(Tactic(layer, runner, formats, match["id"], name, ms if ms < float("inf") else None))
        elif match := _CHOSE.match(text):
            here = [i for i in range(begin, len(found)) if found[i].id == match["id"] and found[i].layer == layer]
            if here:
                found[here[-1]] = _marked(found[here[-1]])
            else:  # chosen without a time of its own, as where there is only one
                found.append(Tactic(layer, match["runner"], formats, match["id"], chosen=True))
    return tuple(found)


def _marked(tactic: Tactic) -> Tactic:
    return Tactic(**{**vars(tactic), "chosen": True})
