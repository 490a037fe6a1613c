"""The grader's reports in docs/results, read again with today's thresholds: what was measured must fit what is asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from autograder.checks.plugin_speed import PluginSpeed
from autograder.checks.speed import Speed
from autograder.milestones import get
from course.bench import RESOLUTION, ratio_interval
from course.paths import ROOT

H100 = ROOT / "docs" / "results" / "h100"
PLUGIN = ROOT / "docs" / "results" / "h200" / "m3a" / "report.json"
REPORTS = [H100 / "m1_measure.json", *(H100 / "m1b" / name for name in ("raw_1.json", "raw_2.json", "decoded.json"))]


def shares(report: dict, params: Speed, values: dict, slower: float = 1.0) -> dict[str, float]:
    """What each batch and size of a speed check earns, 0 to 1, if the engine took `slower` times as long."""
    found = {}
    for size in params.sizes or (None,):
        for batch in params.batches:
            label = f"batch {batch}" + (f" at {size} px" if size else "")
            ours, theirs = (np.array(values[label][key]) for key in ("engine_samples_ms", "reference_samples_ms"))
            ratio = ratio_interval(slower * ours, theirs, resolution=RESOLUTION["cuda"])
            found[label] = params.ramp(batch).share(*ratio)
    return found


@pytest.mark.parametrize("path", REPORTS, ids=lambda path: path.stem)
def test_our_solution_as_measured_on_a_gpu_earns_all_points_of_today(path):
    report = json.loads(path.read_text())
    recorded = {check["id"]: check for check in report["checks"]}
    milestone = get(report["milestone"])
    assert report["lane"] == "gpu" and recorded.keys() == {check.id for check in milestone.checks}
    for check in milestone.checks:
        params = check.lanes["gpu"]
        if isinstance(params, Speed):
            assert set(shares(report, params, recorded[check.id]["values"]).values()) == {1.0}, check.id
        else:
            assert recorded[check.id]["points"] == check.points, check.id


@pytest.mark.parametrize("path", REPORTS[1:], ids=lambda path: path.stem)
def test_an_engine_that_takes_twice_as_long_loses_most_of_the_speed_points(path):
    report = json.loads(path.read_text())
    for check in report["checks"]:
        params = next(c for c in get(report["milestone"]).checks if c.id == check["id"]).lanes["gpu"]
        if isinstance(params, Speed):
            assert min(shares(report, params, check["values"], slower=2.0).values()) < 0.2, check["id"]


def test_the_plugin_as_measured_on_a_gpu_earns_all_points_that_could_be_had():
    """The calls of the build script are tried with TensorRT-RTX, which was not on that machine: these points stayed open."""
    report = json.loads(PLUGIN.read_text())
    recorded, milestone = {check["id"]: check for check in report["checks"]}, get("s3.m3a")
    assert report["lane"] == "gpu" and recorded.keys() == {check.id for check in milestone.checks}
    assert [check.id for check in milestone.checks if recorded[check.id]["status"] == "open"] == ["build-script"]
    for check in milestone.checks:
        params, found = check.lanes["gpu"], recorded[check.id]
        if isinstance(params, PluginSpeed):
            ratio = found["values"][params.against]
            assert params.ratio.share(ratio["value"], ratio["low"], ratio["high"]) == 1, check.id
        elif found["status"] != "open":
            assert found["points"] == found["max_points"], check.id
