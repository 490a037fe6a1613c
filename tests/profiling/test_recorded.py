"""What is taught of trtexec's output holds on real runs, which lie beside the reader."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from course import exercises
from course.exercises.stage1_converter import trtexec as checks  # noqa: F401 - declares the exercises
from course.profiling import recorded, trtexec, verbose


@pytest.mark.parametrize("name", recorded.RUNS)
def test_trtexecs_warning_is_its_rule_on_medians(name):
    run = trtexec.read_log(recorded.text(f"{name}.log"))
    assert run.version == "8.6.0" and run.queries > 500
    warned = any("bound by Enqueue Time" in text for text in run.warnings)
    assert warned == (run.enqueue.median > 0.8 * run.compute.median)
    assert warned == (name == "mlp_b1_nodata")


def test_a_graph_takes_the_launches_away():
    before, after = (trtexec.read_log(recorded.text(f"{name}.log")) for name in ("fp16_b8_load", "fp16_b8_graph"))
    assert before.enqueue.median == 0.374603 and after.enqueue.median == 0.00402832
    assert before.compute.median == 0.539124 and after.compute.median == 0.466492
    assert (before.throughput, after.throughput) == (1841.74, 2117.34)


def test_enqueue_minus_compute_is_no_launch_time():
    """The formula that this lesson once taught: it says 0 for ResNet-50, where a graph saves 0.073 ms."""
    before, after = (trtexec.read_log(recorded.text(f"{name}.log")) for name in ("fp16_b8_load", "fp16_b8_graph"))
    assert max(0.0, before.enqueue.median - before.compute.median) == 0
    assert before.compute.median - after.compute.median == pytest.approx(0.0726, abs=1e-4)


def test_latency_is_copies_and_compute():
    run = trtexec.read_log(recorded.text("fp16_b8_load.log"))
    assert run.latency.mean == pytest.approx(run.h2d.mean + run.compute.mean + run.d2h.mean, rel=1e-3)
    assert run.throughput * run.latency.mean / 1000 == pytest.approx(1.19, abs=0.01)  # queries overlap


def test_the_next_input_is_copied_while_the_gpu_computes():
    trace = trtexec.read_times(recorded.text("fp16_b8.times.json"))
    assert len(trace.compute) == 60 and (trace.h2d_start[1:] < trace.compute_end[:-1]).mean() > 0.9


def test_the_tactics_of_a_real_build_are_read():
    log = verbose.read_build_log(recorded.text("fp16_b8_tactics.log"))
    timed = [tactic for tactic in log.tactics if tactic.ms is not None]
    assert len({tactic.layer for tactic in timed}) == 3 and len(timed) == 100
    for layer, formats in {(tactic.layer, tactic.formats) for tactic in log.tactics if tactic.chosen}:
        same = [tactic for tactic in timed if (tactic.layer, tactic.formats) == (layer, formats)]
        chosen = [tactic for tactic in same if tactic.chosen]
        if chosen:
            assert chosen[0].ms <= min(tactic.ms for tactic in same) * 1.05  # equal ones: chance decides


@pytest.mark.parametrize(
    "wrong",
    [
        lambda run: True,
        lambda run: False,
        lambda run: run.enqueue.median > run.compute.median,
        lambda run: run.enqueue.mean > 0.8 * run.compute.mean,
        lambda run: run.enqueue.median > 0.8 * run.latency.median,
        lambda run: run.enqueue.median > 0.7 * run.compute.median,
        lambda run: run.enqueue.max > 0.8 * run.compute.max,
        lambda run: run.enqueue.median - run.compute.median,
    ],
)
def test_another_rule_than_trtexecs_earns_nothing(wrong):
    share, said = exercises._judge(exercises.find("trtexec-launch-bound"), {"launch_bound": wrong})
    assert share == 0 and "Next step" in said


@pytest.mark.parametrize("id", ["trtexec-launch-bound", "slowest-layers", "tuning-gain"])
def test_what_solved_falls_back_to_is_right(id):
    found = exercises.find(id)
    share, said = exercises._judge(found, {found.names[0]: exercises._references[id]()})
    assert share == 1, said


def test_the_rule_is_strict():
    run = trtexec.read_log(recorded.text("fp16_b8_load.log"))
    at = dataclasses.replace(run, enqueue=dataclasses.replace(run.enqueue, median=0.8 * run.compute.median))
    assert not exercises._references["trtexec-launch-bound"]()(at)
    assert np.isclose(at.enqueue.median / at.compute.median, 0.8)
