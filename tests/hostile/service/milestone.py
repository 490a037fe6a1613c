"""s4.m4a on a small network: the same checks and points, with seconds of traffic."""

from __future__ import annotations

import dataclasses

from autograder.checks.service_answers import ServiceAnswers
from autograder.checks.service_batches import ServiceBatches
from autograder.checks.service_faults import ServiceFaults
from autograder.checks.service_goodput import ServiceGoodput
from autograder.milestones import Milestone
from autograder.milestones.stage4 import SERVICE
from autograder.tasks.image_files import ImageFiles

SHORT = {
    ServiceAnswers: {"alone": 6, "seconds": 1.0, "under_load": 120, "looked_at": 16},
    # Who sleeps waits many times as long: one turn shows it.
    ServiceBatches: {"seconds": 1.0, "turns": 1, "images": 120},
    ServiceGoodput: {"seconds": 1.0, "ladder": (0.5, 1.0, 2.0, 4.0)},
    ServiceFaults: {"seconds": 2.0, "patience": 1.2},
}


def milestone(*ids: str) -> Milestone:
    """These of its checks, each of which then needs no other."""
    checks = []
    for check in SERVICE.checks:
        if check.id in ids:
            lanes = {lane: dataclasses.replace(kind, **SHORT.get(type(kind), {})) for lane, kind in check.lanes.items()}
            needs = tuple(need for need in check.needs if need in ids)
            checks.append(dataclasses.replace(check, lanes=lanes, needs=needs))
    return dataclasses.replace(
        SERVICE,
        id="test.service",
        task=ImageFiles("tests.measuring.tiny:reference"),
        checks=tuple(checks),
        memory_gb=4.0,
        limits_s={"build": 60.0, "run": 60.0, "all": 240.0},
    )
