"""Build logs, times per layer, allocations and the steps of a fused graph, on engines that run or build here."""

from __future__ import annotations

import contextlib
import mmap
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from course.engine import BuildConfig, Profile, available_runtimes, build, network_layers
from course.engine.types import Layer, LogLine, TensorInfo
from course.errors import CourseError, UnsupportedError
from course.export import export
from course.profiling import allocations, layer_times, trtexec_sample, verbose, warmup
from course.profiling.steps import Step, Tensor, fused_steps, most_live, tensor_bytes

needs_rtx = pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason="TensorRT-RTX is not here")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.ReLU()
    ).eval()
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    export(
        net,
        (torch.rand(2, 3, 16, 16),),
        path,
        input_names=["image"],
        output_names=["features"],
        dynamic={"image": {0: "batch"}},
        exporter="torchscript",
    )
    return path


@pytest.fixture(scope="module")
def engine(model):
    return build(model, BuildConfig(profiles=Profile.batch(model, 1, 2, 4), runtime="onnxruntime"))


def test_a_log_with_tactics():
    log = verbose.read_build_log(trtexec_sample.build_log(1, layers=4, tactics=5))
    assert len(log.fusions) == 4 and log.fusions[0] == verbose.Fusion(
        "ConvReluFusion", "/block0/conv/Conv", "/block0/relu/Relu"
    )
    assert len(log.tactics) == 40 and sum(t.chosen for t in log.tactics) == 8
    for name in {t.layer for t in log.tactics}:
        for formats in {t.formats for t in log.tactics}:
            tried = [t for t in log.tactics if (t.layer, t.formats) == (name, formats)]
            assert min(tried, key=lambda t: t.ms).chosen
    assert log.memory == {"Total Host Persistent Memory": 331696, "Total Activation Memory": 8467456}
    assert log.seconds["Engine generation"] == 2.02 and log.stages == {"Original": 8, "After vertical fusions": 4}
    assert "4 fusions" in str(log)


def test_lines_of_other_versions():
    text = """\
[12/30/2022-14:15:46] [TRT] [W] Weights [name=conv1.weight] had the following issues when converted to FP16:
[12/30/2022-14:15:46] [TRT] [W]  - Subnormal FP16 values detected.
[V] [TRT] --------------- Timing Runner: fc (CaskConvolution)
[V] [TRT] fc Set Tactic Name: turing_h1688 Tactic: 0x01
[V] [TRT] Tactic: 0x01 Time: 0.0241811
[V] [TRT] Tactic: 0x02 Time: inf
[V] [TRT] Fastest Tactic: 0x01 Time: 0.0241811
[V] [TRT] >>>>>>>>>>>>>>> Chose Runner Type: CaskConvolution Tactic: 0x01
[E] Error Code 10: Could not find any implementation
&&&& FAILED TensorRT.trtexec [TensorRT v8601]
"""
    log = verbose.read_build_log(text)
    assert [(t.id, t.name, t.ms, t.chosen) for t in log.tactics] == [
        ("0x01", "turing_h1688", 0.0241811, True),
        ("0x02", "", None, False),
    ]
    assert log.warnings[1] == "- Subnormal FP16 values detected." and len(log.errors) == 1


@pytest.mark.parametrize("source", ["", "nothing of TensorRT\n", ()])
def test_an_empty_log_is_named(source):
    with pytest.raises(CourseError, match="empty"):
        verbose.read_build_log(source)


def test_a_log_that_is_cut_gives_what_it_has():
    whole = trtexec_sample.build_log(1)
    log = verbose.read_build_log(whole[: len(whole) // 2])
    assert log.tactics and "Engine generation" not in log.seconds


def test_log_lines_of_several_lines():
    log = verbose.read_build_log(
        [LogLine("VERBOSE", "Layers:\nTotal Activation Memory: 12 bytes\n"), LogLine("WARNING", "x")]
    )
    assert log.memory == {"Total Activation Memory": 12} and log.warnings == ("x",)


@needs_rtx
def test_a_real_log(model):
    built = build(model, BuildConfig(profiles=Profile.batch(model, 1, 2, 4), runtime="rtx"))
    log = verbose.read_build_log(built.build_log)
    assert log.memory["Total Activation Memory"] == built.memory().activation_bytes
    assert log.stages["Original"] == 4 and log.seconds["Engine generation"] > 0 and not log.errors
    with pytest.raises(UnsupportedError):
        layer_times.measure(built, {"image": np.zeros((2, 3, 16, 16), np.float32)})


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_times_per_layer(engine, kind):
    image = np.zeros((2, 3, 16, 16), np.float32)
    rows = layer_times.measure(engine, {"image": image if kind == "numpy" else torch.from_numpy(image)}, runs=3)
    names = [layer.name for layer in engine.layers()]  # but for numbers that ONNX Runtime draws for every session
    assert [row.name.partition("_token_")[0] for row in rows] == [name.partition("_token_")[0] for name in names]
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert all(row.total_ms == pytest.approx(3 * row.mean_ms) for row in rows)
    with pytest.raises(CourseError):
        layer_times.measure(engine, {"image": image}, runs=0)


def test_memory_of_a_run(engine):
    block = bytes(50_000_000)

    def write() -> None:
        with mmap.mmap(-1, len(block)) as fresh:  # not by malloc: after other tests it may have 50 MB left over
            fresh.write(block)

    assert 0 < allocations.fresh_megabytes(write, 3) < 100  # 50 where a page has 4 kB, fewer faults with huge pages
    image = np.zeros((2, 3, 16, 16), np.float32)
    assert allocations.fresh_megabytes(lambda: engine.run({"image": image}), 20) < 1
    with pytest.raises(UnsupportedError, match="onnxruntime"):
        allocations.trace(engine, {"image": image})
    with pytest.raises(CourseError):
        allocations.fresh_megabytes(lambda: None, 0)


def test_a_profiled_run_sets_the_profiler_first_and_waits_after_each_run(monkeypatch):
    from course.engine.runtimes.tensorrt import TensorRTEngine

    calls, stream = [], SimpleNamespace(synchronize=lambda: calls.append("wait"))
    state = SimpleNamespace(context=SimpleNamespace(profiler=None))
    cuda = SimpleNamespace(Stream=lambda: stream, stream=lambda chosen: contextlib.nullcontext())
    engine = object.__new__(TensorRTEngine)
    engine._torch, engine._engine = SimpleNamespace(cuda=cuda), object()
    monkeypatch.setattr(engine, "_new_context", lambda profile: calls.append(profile) or state)
    monkeypatch.setattr(engine, "_to_gpu", lambda name, value: (name, value))
    monkeypatch.setattr(engine, "_execute", lambda *given: calls.append((*given, state.context.profiler)))
    engine.run_profiled({"image": 7}, "recorder", 2, profile=1)
    once = (state, {"image": ("image", 7)}, stream, "recorder")
    assert calls == [1, once, "wait", once, "wait"]


@pytest.mark.gpu
def test_tensorrt_asks_for_no_memory_while_it_runs(model):
    built = build(model, BuildConfig("fp32", profiles=Profile.batch(model, 1, 2, 4), optimization_level=0))
    image = torch.rand(2, 3, 16, 16)
    traced = allocations.trace(built, {"image": image}, runs=20)
    assert traced.loading.requests + traced.context.requests > 0, "the allocator was never asked: it proves nothing"
    assert traced.runs == allocations.Phase(0, 0)
    rows = layer_times.measure(built, {"image": image.cuda()}, runs=3)
    assert rows and all(row.mean_ms >= 0 for row in rows)
    assert verbose.read_build_log(built.build_log).tactics


def test_every_run_is_timed():
    times = warmup.every_run(lambda: None, 4)
    assert times.shape == (4,) and (times >= 0).all()
    with pytest.raises(CourseError):
        warmup.every_run(lambda: None, 0)


def test_steps_of_a_fused_graph(model, engine):
    nodes = network_layers(model, "onnxruntime")
    hidden = [nodes[0].outputs[0].name, nodes[2].outputs[0].name]
    steps = fused_steps(nodes, engine.layers(), hidden)
    between = nodes[1].outputs[0].name
    assert [step.name for step in steps] == ["Conv + Relu", "Conv + Relu"]
    assert steps == (Step("Conv + Relu", (), (between,)), Step("Conv + Relu", (between,), ()))
    assert tensor_bytes(nodes, 4)[between] == 4 * 4 * 8 * 14 * 14


def test_a_node_in_no_layer_is_a_step_of_its_own():
    def node(name, source, target):
        return Layer(name, name.upper(), (TensorInfo(source),), (TensorInfo(target),), (name,))

    nodes = [node("a", "x", "t"), node("b", "t", "u"), node("c", "u", "y")]
    steps = fused_steps(nodes, [Layer("a", "", onnx_nodes=("a",)), Layer("c", "", onnx_nodes=("c",))], [])
    assert [step.name for step in steps] == ["A", "B", "C"] and steps[1] == Step("B", ("t",), ("u",))


def test_most_live():
    assert most_live([Tensor("a", 5, 0, 2), Tensor("b", 7, 2, 3), Tensor("c", 4, 3, 3)]) == 12
    assert most_live([]) == 0
