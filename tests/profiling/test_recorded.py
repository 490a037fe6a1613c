"""What is taught of trtexec's output holds on real runs, which lie beside the reader."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from course import exercises
from course.errors import CourseError, DamagedFileError
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
    assert len({tactic.layer for tactic in timed}) == 3 and len(timed) == 273
    assert sum("numSplitK" in tactic.name for tactic in timed) == 273 - 100  # of GEMM, whose names hold spaces
    for layer, formats in {(tactic.layer, tactic.formats) for tactic in log.tactics if tactic.chosen}:
        same = [tactic for tactic in timed if (tactic.layer, tactic.formats) == (layer, formats)]
        chosen = [tactic for tactic in same if tactic.chosen]
        if chosen:
            assert chosen[0].ms <= min(tactic.ms for tactic in same) * 1.05  # equal ones: chance decides


GEMM = """\
[11/28/2026-09:37:58] [V] [TRT] *************** Autotuning format combination: Float(200704,1,3584,64) -> Float(200704,1,3584,64) ***************
[11/28/2026-09:37:58] [V] [TRT] --------------- Timing Runner: /layer1/layer1.0/conv1/Conv + /layer1/layer1.0/relu/Relu (CaskGemmConvolution[0x8000002e])
[11/28/2026-09:37:58] [V] [TRT] Tactic Name: sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x64x32_cgasize1x1x1_warpgroupsize1x1x1_aligna4_alignc4 numSplitK: -1 numBuffers: 0 numKernels: 1 Tactic: 0x0000000001fe0404 Time: 0.0170961
[11/28/2026-09:37:58] [V] [TRT] Tactic Name: sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x64x32_cgasize1x1x1_warpgroupsize1x1x1_aligna4_alignc4_beta0 numSplitK: -1 numBuffers: 0 numKernels: 1 Tactic: 0x0000000001fe0d07 Time: 0.0136328
[11/28/2026-09:37:58] [V] [TRT] Tactic Name: sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize64x256x32_cgasize1x1x1_warpgroupsize1x1x1_aligna4_alignc4 numSplitK: -1 numBuffers: 0 numKernels: 1 Tactic: 0x0000000001fe0ab9 Time: 0.0104829
[11/28/2026-09:37:58] [V] [TRT] /layer1/layer1.0/conv1/Conv + /layer1/layer1.0/relu/Relu (CaskGemmConvolution[0x8000002e]) profiling completed in 0.0335457 seconds. Fastest Tactic: 0x0000000001fe0ab9 Time: 0.0104829
[11/28/2026-09:37:58] [V] [TRT] >>>>>>>>>>>>>>> Chose Runner Type: CaskGemmConvolution Tactic: 0x0000000001fe0ab9
"""
"""Of the same build: the names of GEMM tactics hold spaces."""
FAILED = """\
&&&& RUNNING TensorRT.trtexec [TensorRT v8600] # trtexec --onnx=custom_op.onnx
[11/28/2026-09:52:51] [E] [TRT] 3: getPluginCreator could not find plugin: MySwish version: 1
[11/28/2026-09:52:51] [E] [TRT] ModelImporter.cpp:768: While parsing node number 1 [MySwish -> "s"]:
[11/28/2026-09:52:51] [E] [TRT] ModelImporter.cpp:769: --- Begin node ---
[11/28/2026-09:52:51] [E] [TRT] ModelImporter.cpp:770: input: "c"
output: "s"
name: "stem.act"
op_type: "MySwish"
domain: "course"

[11/28/2026-09:52:51] [E] [TRT] ModelImporter.cpp:771: --- End node ---
[11/28/2026-09:52:51] [E] [TRT] ModelImporter.cpp:774: ERROR: builtin_op_importers.cpp:5400 In function importFallbackPluginImporter:
[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"
[11/28/2026-09:52:51] [E] Failed to parse onnx file
[11/28/2026-09:52:51] [I] Finished parsing network model. Parse time: 0.0152052
[11/28/2026-09:52:51] [E] Parsing model failed
[11/28/2026-09:52:51] [E] Failed to create engine from model or file.
[11/28/2026-09:52:51] [E] Engine set up failed
&&&& FAILED TensorRT.trtexec [TensorRT v8600] # trtexec --onnx=custom_op.onnx
exit code: 1
"""
"""A run on a model with an unknown operator: the reason stands behind the node's dump, in a line without a stamp."""


def test_names_of_tactics_may_hold_spaces():
    log = verbose.read_build_log(GEMM)
    timed = [tactic for tactic in log.tactics if tactic.ms is not None]
    assert [tactic.ms for tactic in timed] == [0.0170961, 0.0136328, 0.0104829]
    (chosen,) = [tactic for tactic in log.tactics if tactic.chosen]
    assert chosen.ms == 0.0104829 and chosen.name.endswith("numSplitK: -1 numBuffers: 0 numKernels: 1")
    assert chosen.layer == "/layer1/layer1.0/conv1/Conv + /layer1/layer1.0/relu/Relu"


def test_durations_are_the_files_own():
    records = json.loads(recorded.text("fp16_b8.times.json"))
    trace = trtexec.read_times(recorded.text("fp16_b8.times.json"))
    for step in ("h2d", "compute", "d2h", "latency"):
        assert (getattr(trace, step) == [record[f"{step}Ms"] for record in records]).all()
    late = [
        {key: round(value + 1000, 2) if key.startswith(("start", "end")) else value for key, value in record.items()}
        for record in records
    ]
    assert (trtexec.read_times(json.dumps(late)).compute == trace.compute).all(), "later times have fewer digits"
    bare = [{key: value for key, value in record.items() if key.startswith(("start", "end"))} for record in records]
    assert np.allclose(trtexec.read_times(json.dumps(bare)).latency, trace.latency, atol=0.005)


def test_two_runs_in_one_text_are_not_mixed():
    plain, graph = recorded.text("fp16_b8_load.log"), recorded.text("fp16_b8_graph.log")
    with pytest.raises(CourseError, match="holds 2 runs") as caught:
        trtexec.read_log(plain + graph)
    assert "--useCudaGraph" in caught.value.cause
    with pytest.raises(CourseError, match="holds 2 runs"):
        verbose.read_build_log(plain + graph)
    without = "\n".join(line for line in (plain + graph).splitlines() if not line.startswith("&&&&"))
    with pytest.raises(CourseError, match="holds 2 runs"):
        trtexec.read_log(without)


def test_why_a_model_was_refused_is_said_with_its_node():
    with pytest.raises(CourseError, match="failed") as caught:
        trtexec.read_log(FAILED)
    cause = caught.value.cause
    assert "node number 1" in cause and "stem.act" in cause and "Plugin not found" in cause
    assert "op_type" not in cause and "Engine set up failed" not in cause and "exit code" not in cause


@pytest.mark.parametrize(
    "read, flag", [(trtexec.read_times, "--exportTimes"), (trtexec.read_profile, "--exportProfile")]
)
@pytest.mark.parametrize("name", ["fp16_b8_load.log", "fp16_b8_tactics.log"])
def test_a_log_is_no_file_of_an_export(read, flag, name, tmp_path):
    (tmp_path / name).write_text(recorded.text(name))
    for source in (recorded.text(name), tmp_path / name):
        with pytest.raises(DamagedFileError, match="what trtexec prints") as caught:
            read(source)
        assert flag in caught.value.next_step and len(str(caught.value)) < 400


def test_the_generation_before_8_is_named():
    """Its words, as in trtexec of TensorRT 7 (samples/common/sampleReporting.cpp); no recording of it is there."""
    text = (
        "&&&& RUNNING TensorRT.trtexec # trtexec --onnx=net.onnx\n[I] Host Latency\n[I] min: 2.5 ms (end to end 4.75 ms)\n"
        "[I] GPU Compute\n[I] median: 2.25 ms\n&&&& PASSED TensorRT.trtexec # trtexec --onnx=net.onnx\n"
    )
    for log in (text, text.split("\n", 1)[1].rsplit("&&&&", 1)[0]):  # and its summary alone
        with pytest.raises(CourseError, match="older than 8"):
            trtexec.read_log(log)


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
