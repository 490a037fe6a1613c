"""s3.m3a's checks of the sources, at small sizes and short limits."""

from __future__ import annotations

import dataclasses

from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.checks.kernel_right import KernelRight
from autograder.checks.plugin_contract import PluginContract
from autograder.milestones import Milestone
from autograder.milestones.stage3 import ACTIVATION, PLUGIN

CHECKS = tuple(
    dataclasses.replace(
        check,
        lanes={
            lane: dataclasses.replace(kind, seconds=2.0, **({"largest": 600} if isinstance(kind, KernelRight) else {}))
            for lane, kind in check.lanes.items()
        },
    )
    for check in ACTIVATION.checks
    if isinstance(check.lanes["gpu"], (KernelRight, PluginContract))
)
MILESTONE: Milestone = dataclasses.replace(
    ACTIVATION,
    id="test.plugin",
    artifacts=(CudaPlugin(PLUGIN, stem="activation"),),
    checks=CHECKS,
    memory_gb=3.0,
    limits_s={"build": 120.0, "run": 60.0, "all": 300.0},
)
