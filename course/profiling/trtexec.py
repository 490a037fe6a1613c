"""trtexec: its command lines by generation, and readers of what it prints and exports.

The formats are those of NVIDIA/TensorRT's samples/common/sampleReporting.cpp, 8.x to 11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from course.errors import CourseError, DamagedFileError, MissingFileError

_STAMP = re.compile(r"^(?:\[\d\d/\d\d/\d{4}-\d\d:\d\d:\d\d\] )?(?:\[TRT\] )?\[(?P<level>[VIWEF])\] ?(?:\[TRT\] )?")
_NUMBER = r"(-?(?:\d+\.?\d*(?:e[+-]?\d+)?|inf|nan))"
_BANNER = re.compile(
    r"&&&& (RUNNING|PASSED|FAILED|WAIVED) TensorRT\.trtexec "
    r"(?:\[TensorRT v([\d.]+)\](?: \[\w+\])?)? ?(?:# (.*))?"  # 7 and older name no version
)
_OLD_SUMMARY = re.compile(r"^(?:min|max|mean|median): [\d.]+ ms(?: \(end to end [\d.]+ ms\))?$")
_SOURCE = re.compile(r"^(?:\w+\.cpp:\d+: )?(?:ERROR: )?(?:\w+\.cpp:\d+ )?")
_ENDS = re.compile(
    r"^(?:Failed to (?:parse onnx file|create engine from model)|Parsing model failed|Building engine failed|\w+ set ?up failed"
    r"|Network And Config setup failed|Inference set up failed|Got invalid engine!)"
)
"""What follows from an error, and says nothing about it."""
_TIMINGS = {
    "Latency": "latency",
    "Enqueue Time": "enqueue",
    "H2D Latency": "h2d",
    "GPU Compute Time": "compute",
    "D2H Latency": "d2h",
}
_ONE_NUMBER = {
    "Throughput": "throughput",
    "Total Host Walltime": "wall_seconds",
    "Total GPU Compute Time": "compute_seconds",
}


@dataclass(frozen=True)
class Timing:
    """One line of the summary, in milliseconds. percentiles: 90 -> ms; which ones there are is up to --percentile."""

    min: float
    max: float
    mean: float
    median: float
    percentiles: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrtexecResult:
    """What a run of trtexec said. None: it did not say (a build without inference has no times).

    throughput: queries (batches, not images) per second.
    latency: h2d + compute + d2h of one query. h2d, d2h: copies to and from the GPU; zero without data transfers.
    enqueue: time that the CPU needs to launch a query; it overlaps with `compute` of the query before.
    wall_seconds: first enqueue to last result. compute_seconds: sum of the GPU's times.
    """

    version: str
    command: str
    throughput: float | None = None
    latency: Timing | None = None
    enqueue: Timing | None = None
    h2d: Timing | None = None
    compute: Timing | None = None
    d2h: Timing | None = None
    wall_seconds: float | None = None
    compute_seconds: float | None = None
    build_seconds: float | None = None
    engine_mib: float | None = None
    queries: int | None = None
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[tuple]:
        """Name, median, mean, p99 and max in ms, for `text_table`."""
        timings = ((name, getattr(self, key)) for name, key in _TIMINGS.items())
        return [(name, t.median, t.mean, t.percentiles.get(99.0), t.max) for name, t in timings if t is not None]


def read_log(text: str) -> TrtexecResult:
    """What trtexec printed, of 8.x to 11, with or without --verbose.

    Raises:
        CourseError: it is empty, no trtexec log, cut short, or the run failed (then with trtexec's first errors).
    """
    banners = _BANNER.findall(text)
    lines = [
        (match["level"] if match else "", line[match.end() :] if match else line)
        for line in text.splitlines()
        for match in [_STAMP.match(line)]
    ]
    runs = [command for state, _, command in banners if state == "RUNNING"]
    count = max(len(runs), sum("Latency: min = " in line and line.startswith("Latency") for _, line in lines))
    if count > 1:
        raise CourseError(
            f"This text holds {count} runs of trtexec.",
            f"The first is {runs[0].strip()[:200]!r}, the second {runs[1].strip()[:200]!r}."
            if len(runs) > 1
            else "It has so many performance summaries.",
            'Read one at a time: a run goes from a line "&&&& RUNNING" up to the next one.',
        )
    summary = _summary(line for _, line in lines)
    old = any(_OLD_SUMMARY.match(line.strip()) for _, line in lines)
    if not banners and not summary and not old:
        raise CourseError(
            "This is no log of trtexec.",
            f"{len(text)} characters, and neither a line "
            '"&&&& RUNNING TensorRT.trtexec" nor a performance summary among them.',
            "Give all that trtexec printed: `trtexec ... > run.log 2>&1`.",
        )
    if any(state == "FAILED" for state, *_ in banners):
        raise CourseError(
            "This run of trtexec failed.",
            _reasons(lines) or "It gave no reason.",
            "Repair the first of these errors and run it again.",
        )
    if not summary and (old or (banners and not banners[0][1])):
        raise CourseError(
            "This log is of a trtexec older than 8.",
            "It names no version in its first line, and has other words in its summary, as TensorRT 7 and older do (JetPack 4).",
            "Run it with TensorRT 8 or newer. By hand: `median` below `GPU Compute` is what is called GPU Compute Time now.",
        )
    passed = any(state == "PASSED" for state, *_ in banners)
    if banners and not passed and "compute" not in summary:
        last = next((line.strip() for _, line in reversed(lines) if line.strip()), "")
        raise CourseError(
            "This log of trtexec is cut short.",
            f'It has no performance summary and no line "&&&& PASSED"; its last line is "{last[:80]}".',
            "Wait until trtexec ends, and keep all of its output.",
        )
    version, command = (_version(banners[0][1]), banners[0][2].strip()) if banners else ("", "")
    return TrtexecResult(
        version,
        command,
        **summary,
        **_facts(lines),
        warnings=tuple(line.strip() for level, line in lines if level == "W" and line.strip()),
    )


def _reasons(lines: Sequence[tuple[str, str]]) -> str:
    """The first three errors in words, with what stands below them; "" if there are none.

    A parser prints the node between an error's place and its reason; the node's name and number say enough.
    """
    errors: list[str] = []
    inside = dump = False
    for level, line in lines:
        text = line.removeprefix("[TRT] ").strip()
        if "--- Begin node ---" in text or "--- End node ---" in text:
            dump = "Begin" in text
        elif dump:
            if name := re.match(r'name: "(.+)"', text):
                errors[-1:] = [f"{errors[-1]} ({name[1]})"] if errors else []
        elif level in ("E", "F"):
            inside = True
            errors.append(_SOURCE.sub("", text))
        elif inside and not level and text and not text.startswith(("&&&&", "exit code")):
            errors[-1] += f" {text}"  # an error of several lines has one stamp
        else:
            inside = inside and not level
    telling = [error for error in errors if not _ENDS.match(error)]
    return " / ".join((telling or errors)[:3])


def _summary(lines) -> dict:
    """The lines under "=== Performance summary ===", or the same lines alone."""
    found: dict = {}
    for line in lines:
        name, colon, value = line.strip().partition(": ")
        if name in _TIMINGS and "median = " in value:
            ms = {key: float(v) for key, v in re.findall(rf"(min|max|mean|median) = {_NUMBER} ms", value)}
            percentiles = {
                float(p): float(v) for p, v in re.findall(rf"percentile\({_NUMBER}%\) = {_NUMBER} ms", value)
            }
            if len(ms) == 4:
                found[_TIMINGS[name]] = Timing(**ms, percentiles=percentiles)
        elif name in _ONE_NUMBER and (match := re.fullmatch(rf"{_NUMBER} (qps|s)", value)):
            found[_ONE_NUMBER[name]] = float(match[1])
    return found


def _facts(lines) -> dict:
    text = "\n".join(line for _, line in lines)
    patterns = {
        "build_seconds": r"Engine built in ([\d.e+-]+) sec",
        "queries": r"Timing trace has (\d+) queries",
        "engine_mib": r"Created engine with size: ([\d.]+) MiB",
    }
    found = {name: re.search(pattern, text) for name, pattern in patterns.items()}
    return {name: (int if name == "queries" else float)(match[1]) for name, match in found.items() if match}


def _version(code: str) -> str:
    """8601 -> 8.6.1, 100300 -> 10.3.0, 11.1.0.106 -> 11.1.0."""
    if not code:
        return ""
    if "." in code:
        return ".".join(code.split(".")[:3])
    number, step = int(code), 100 if int(code) < 10_000 else 1
    major = number // (1000 if step == 100 else 10_000)
    rest = number - major * (1000 if step == 100 else 10_000)
    return f"{major}.{rest // 100}.{rest % 100}"


@dataclass(frozen=True, eq=False)
class Trace:
    """Every query of --exportTimes. Each field: float64 [N], milliseconds since trtexec began to measure.

    own: durations that the file holds itself ("h2d", "compute", "d2h", "latency"; float64 [N], ms). They are finer than
    differences of its times, which have six digits: from the first second on that is 0.01 ms.
    """

    enqueue_start: np.ndarray
    enqueue_end: np.ndarray
    h2d_start: np.ndarray
    h2d_end: np.ndarray
    compute_start: np.ndarray
    compute_end: np.ndarray
    d2h_start: np.ndarray
    d2h_end: np.ndarray
    own: Mapping[str, np.ndarray] = field(default_factory=dict)

    h2d = property(lambda self: self._took("h2d"), doc="float64 [N], ms to copy a query's inputs.")
    compute = property(lambda self: self._took("compute"), doc="float64 [N], ms in kernels.")
    d2h = property(lambda self: self._took("d2h"), doc="float64 [N], ms to copy its outputs.")

    @property
    def latency(self) -> np.ndarray:
        """float64 [N], ms; trtexec's Latency."""
        return self.own["latency"] if "latency" in self.own else self.h2d + self.compute + self.d2h

    def _took(self, step: str) -> np.ndarray:
        return self.own[step] if step in self.own else getattr(self, f"{step}_end") - getattr(self, f"{step}_start")


_STEPS = {"enqueue": "Enq", "h2d": "H2d", "compute": "Compute", "d2h": "D2h"}


def read_times(source: str | Path) -> Trace:
    """The file (or text) of --exportTimes.

    Raises:
        MissingFileError, DamagedFileError: no such file, or another kind of file.
    """
    records = _json(source, "--exportTimes")
    try:
        columns = {
            f"{step}_{end}": np.array([record[f"{end}{key}Ms"] for record in records], np.float64)
            for step, key in _STEPS.items()
            for end in ("start", "end")
        }
        own = {
            step: np.array([record[f"{step}Ms"] for record in records], np.float64)
            for step in ("h2d", "compute", "d2h", "latency")
            if all(f"{step}Ms" in record for record in records)
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _other_kind("--exportTimes", f"A record has no {error}.") from None
    if not records:
        raise _other_kind("--exportTimes", "It holds no query.")
    return Trace(**columns, own=own)


@dataclass(frozen=True)
class LayerTime:
    """One layer of --exportProfile. total_ms: over all runs; mean_ms: of one run; share: of all layers, 0 to 1."""

    name: str
    total_ms: float
    mean_ms: float
    share: float


def read_profile(source: str | Path) -> tuple[LayerTime, ...]:
    """The layers in the file (or text) of --exportProfile, in the order in which they run.

    Raises:
        MissingFileError, DamagedFileError: no such file, or another kind of file.
    """
    try:
        rows = [
            (r["name"], float(r["timeMs"]), float(r["averageMs"]))
            for r in _json(source, "--exportProfile")
            if "name" in r
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise _other_kind("--exportProfile", f"A record has no {error}.") from None
    if not rows:
        raise _other_kind("--exportProfile", "It holds no layer.")
    total = sum(ms for _, ms, _ in rows) or 1.0
    return tuple(LayerTime(name, ms, mean, ms / total) for name, ms, mean in rows)


def profile_json(rows: Sequence[LayerTime], count: int) -> str:
    """The text of an --exportProfile file; `count` is the number of runs."""
    return json.dumps(
        [
            {"count": count},
            *(
                {"name": r.name, "timeMs": r.total_ms, "averageMs": r.mean_ms, "percentage": 100 * r.share}
                for r in rows
            ),
        ],
        indent=1,
    )


def _json(source: str | Path, flag: str) -> list:
    text = str(source)
    if (
        not text.lstrip().startswith(("[", "{")) and "\n" not in text and len(text) < 4096
    ):  # the length of a path in Linux
        path = Path(source)
        try:
            there = path.is_file()
        except OSError:  # a part of it is too long
            there = False
        if not there:
            raise MissingFileError(
                f"{text[:200]} is not there.",
                f"There is no such file of {flag}.",
                f"Run trtexec with {flag}={text[:200]}.",
            )
        text = path.read_text(errors="replace")
    if "&&&& " in text[:2000] or any(_STAMP.match(line) for line in text.splitlines()[:5]):
        raise _other_kind(
            flag, f"It is what trtexec prints. {flag} writes a file; a flag such as --dumpProfile only prints."
        )
    try:
        records = json.loads(text, strict=False)  # 8.6 writes layer names with raw control characters
    except ValueError as error:
        raise _other_kind(flag, f"It is not whole JSON: {error}.") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise _other_kind(flag, "It is no list of records.")
    return records


def _other_kind(flag: str, cause: str) -> DamagedFileError:
    return DamagedFileError(
        f"This is no file of trtexec {flag}.", cause, f"Run trtexec with {flag}=FILE once more, and let it end."
    )
