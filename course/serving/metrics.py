"""What a Triton server counts: the page /metrics, and the statistics of a model, as differences over a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_MODEL = re.compile(r'(?:^|,)model="([^"]*)"')


def parse(page: str) -> dict[tuple[str, str], float]:
    """A page in Prometheus's text format: (metric, model or "") -> value, summed over all other labels."""
    values: dict[tuple[str, str], float] = {}
    for line in page.splitlines():
        if line.startswith("#") or not (match := _LINE.match(line)):
            continue
        name, labels, value = match.groups()
        model = _MODEL.search(labels or "")
        key = name, model[1] if model else ""
        values[key] = values.get(key, 0.0) + float(value)
    return values


@dataclass(frozen=True)
class Statistics:
    """Counts of one model, all versions together. `later - earlier` is what happened in between.

    Attributes:
        requests: answered with success (nv_inference_request_success).
        failures: refused or failed.
        inferences: items, that is batch sizes of requests summed up (nv_inference_count).
        executions: how often the model was called (nv_inference_exec_count); fewer than requests if batches formed.
        queue_s, input_s, infer_s, output_s, request_s: seconds, summed over requests: waiting in the queue, preparing
            inputs, in the model, preparing outputs, and all of it.
        batches: batch size -> executions of that size.
    """

    requests: int = 0
    failures: int = 0
    inferences: int = 0
    executions: int = 0
    queue_s: float = 0.0
    input_s: float = 0.0
    infer_s: float = 0.0
    output_s: float = 0.0
    request_s: float = 0.0
    batches: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: Mapping) -> Statistics:
        """From the JSON of /v2/models/NAME/stats."""
        total = cls()
        for version in answer["model_stats"]:
            times = version["inference_stats"]
            seconds = {
                f"{ours}_s": times[theirs]["ns"] / 1e9
                for ours, theirs in (
                    ("queue", "queue"),
                    ("input", "compute_input"),
                    ("infer", "compute_infer"),
                    ("output", "compute_output"),
                    ("request", "success"),
                )
            }
            batches = {entry["batch_size"]: entry["compute_infer"]["count"] for entry in version.get("batch_stats", [])}
            total += cls(
                times["success"]["count"],
                times["fail"]["count"],
                version["inference_count"],
                version["execution_count"],
                batches=batches,
                **seconds,
            )
        return total

    def _combined(self, other: Statistics, sign: int) -> Statistics:
        sizes = sorted({*self.batches, *other.batches})
        batches = {size: self.batches.get(size, 0) + sign * other.batches.get(size, 0) for size in sizes}
        names = [name for name in self.__dataclass_fields__ if name != "batches"]
        counts = {name: getattr(self, name) + sign * getattr(other, name) for name in names}
        return Statistics(**counts, batches={size: count for size, count in batches.items() if count})

    def __add__(self, other: Statistics) -> Statistics:
        return self._combined(other, 1)

    def __sub__(self, other: Statistics) -> Statistics:
        return self._combined(other, -1)

    @property
    def mean_batch(self) -> float:
        """Items in one execution; NaN if there was none."""
        return self.inferences / self.executions if self.executions else float("nan")

    def ms_per_request(self) -> dict[str, float]:
        """Milliseconds of a mean request: {"queue": …, "input": …, "infer": …, "output": …}; NaN if there was none."""
        return {
            name: 1e3 * getattr(self, f"{name}_s") / self.requests if self.requests else float("nan")
            for name in ("queue", "input", "infer", "output")
        }
