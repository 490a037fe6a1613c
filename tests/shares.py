"""How the seconds of a run are shared among the stages, so that none outgrows its part of `./check --all`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest

OF_STAGE = {
    "stage 2": r"stage2_|tests/quantize/|int8",
    "stage 3": r"stage3_|tests/kernels/|tests/native/|hostile/cuda/|plugin|activation_milestone|examination_in_class",
    "stage 4": r"stage4_|tests/serving/|hostile/service/|service_|triton|launch_counts",
}
"""Stage -> what the id of its tests holds. All else belongs to stage 1 and what the stages share."""


def seconds(reports: Iterable[object]) -> dict[str, float]:
    """Seconds of a worker by stage, with the set-up and end of each test."""
    found: Counter[str] = Counter()
    for report in reports:
        if isinstance(report, pytest.TestReport):
            stage = next((name for name, of in OF_STAGE.items() if re.search(of, report.nodeid)), "stage 1 and common")
            found[stage] += report.duration
    return dict(sorted(found.items()))
