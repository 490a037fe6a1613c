"""The grader's reports in docs/results, read again with today's thresholds: what was measured must fit what is asked."""

from __future__ import annotations

import json

import numpy as np
import pytest

from autograder.checks.plugin_speed import PluginSpeed
from autograder.checks.service_goodput import ServiceGoodput
from autograder.checks.service_graphs import ServiceGraphs, median_of
from autograder.checks.speed import Speed
from autograder.milestones import get
from course.bench import RESOLUTION, ratio_interval
from course.paths import ROOT

H100 = ROOT / "docs" / "results" / "h100"
H200 = H100.with_name("h200")
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


def test_the_plugin_as_measured_on_a_gpu_earns_all_points():
    report = json.loads((H200 / "m3a" / "report.json").read_text())
    recorded, milestone = {check["id"]: check for check in report["checks"]}, get("s3.m3a")
    assert report["lane"] == "gpu" and recorded.keys() == {check.id for check in milestone.checks}
    for check in milestone.checks:
        params, found = check.lanes["gpu"], recorded[check.id]
        if isinstance(params, PluginSpeed):
            ratio = found["values"][params.against]
            assert params.ratio.share(ratio["value"], ratio["low"], ratio["high"]) == 1, check.id
        else:
            assert found["points"] == found["max_points"] == check.points, check.id


def test_the_service_as_measured_on_a_gpu_earns_all_points():
    report = json.loads((H200 / "m4a" / "report.json").read_text())
    recorded, milestone = {check["id"]: check for check in report["checks"]}, get("s4.m4a")
    assert report["lane"] == "gpu" and recorded.keys() == {check.id for check in milestone.checks}
    for check in milestone.checks:
        params, found = check.lanes["gpu"], recorded[check.id]
        if isinstance(params, ServiceGraphs):
            pairs = found["values"]["p50_ms"]
            ratios = np.divide(pairs["without"], pairs["service"])
            assert params.ratio.share(*median_of(ratios)) == 1
            assert params.ratio.share(*median_of(ratios[::-1] / ratios)) < 0.5  # as of a graph that gains nothing
        elif isinstance(params, ServiceGoodput):
            assert params.ratio.share(found["values"]["service"] / found["values"]["naive"]) == 1
        else:
            assert found["points"] == found["max_points"] == check.points, check.id


def test_an_engine_that_takes_requests_one_by_one_earns_a_part_of_the_traffic_points():
    """Its rate in a closed loop is the most that it could bear in time."""
    (goodput,) = (one for one in get("s4.m4a").checks if one.id == "goodput")
    naive = next(
        check["values"]["naive"]
        for check in json.loads((H200 / "m4a" / "report.json").read_text())["checks"]
        if check["id"] == "goodput"
    )
    loads = json.loads((H200 / "serving" / "loads.json").read_text())["loads"]
    alone = max(load["rate"] for load in loads if load["model"] == "resnet50_graph" and "1 in" in load["label"])
    assert 0 < goodput.lanes["gpu"].ratio.share(alone / naive) < 1


@pytest.mark.parametrize(
    ("case", "graphs"),
    [("no graph", 0), ("captured, not replayed", 0), ("preprocessing outside", 32), ("stale input", 0)],
)
def test_a_service_without_all_in_a_graph_got_no_points_for_it_on_a_gpu(case, graphs):
    report = json.loads((H200 / "m4a_cases" / "cases.json").read_text())["cases"][case]
    recorded = {check["id"]: check for check in report["checks"]}
    assert report["lane"] == "gpu" and recorded["graphs"]["points"] == 0
    assert recorded["graphs"]["values"].get("graphs", 0) == graphs
    assert recorded["answers"]["points"] == (0 if case == "stale input" else 5)
