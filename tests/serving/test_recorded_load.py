"""The recorded run beside MLPerf LoadGen: what its summary says follows from the raw latencies in the same file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from course.paths import ROOT

RECORD = json.loads((ROOT / "docs" / "results" / "cpu" / "serving" / "loadgen.json").read_text())


def test_our_p99_lies_within_15_percent_of_loadgens():
    ours = np.concatenate([load["latency_ms"] for load in RECORD["loads"] if load["model"]]).astype(float)
    theirs = np.concatenate([run["latency_ms"] for run in RECORD["mlperf_loadgen"]])
    assert not np.isnan(ours).any() and len(theirs) == sum(run["queries"] for run in RECORD["mlperf_loadgen"])
    for name, values in (("ours", ours), ("mlperf_loadgen", theirs)):
        assert RECORD["pooled"][name]["p99_ms"] == pytest.approx(np.percentile(values, 99), rel=0.01)
    assert RECORD["p99_ratio"] == pytest.approx(np.percentile(ours, 99) / np.percentile(theirs, 99), rel=0.01)
    assert abs(RECORD["p99_ratio"] - 1) < 0.15


def test_what_we_read_from_loadgens_trace_is_what_it_sums_up():
    for run in RECORD["mlperf_loadgen"]:
        assert np.percentile(run["latency_ms"], 99) == pytest.approx(run["p99_ms"], rel=0.05)
        assert np.percentile(run["latency_ms"], 50) == pytest.approx(run["p50_ms"], rel=0.01)
