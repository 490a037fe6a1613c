"""CUDA graphs on the stand-in: the pool's answers are the network's, and what CUDA refuses is refused and named."""

from __future__ import annotations

import inspect
import re

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from course.serving import metrics
from course.serving.graphs import Graph, GraphPool, capturing
from course.serving.here import cuda_here, is_real, raw_engine
from course.serving.run import CaptureError, Run
from course.serving.stand_in import Engine, Runtime, words
from course.serving.words import ServingError
from tests.serving.networks import mlp

WIDTH = 16
STRICT = words.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal
RELAXED = words.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
E = words.cudaError_t


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return mlp(tmp_path_factory.mktemp("net") / "mlp.onnx", WIDTH, 32)


@pytest.fixture
def cudart() -> Runtime:
    return Runtime()


@pytest.fixture
def engine(cudart, model) -> Engine:
    return Engine(cudart, model, [(1, 4, 8)])


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def right(model):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def test_the_stand_in_has_the_names_and_numbers_of_the_real_bindings():
    real = pytest.importorskip("cuda.bindings.runtime")
    for kind in (words.cudaError_t, words.cudaMemcpyKind, words.cudaStreamCaptureMode, words.cudaStreamCaptureStatus):
        theirs = {member.name: int(member) for member in getattr(real, kind.__name__)}
        assert {member.name: int(member) for member in kind}.items() <= theirs.items()
    assert real.cudaStreamNonBlocking == Runtime.cudaStreamNonBlocking
    for error, text in words.STRINGS.items():
        assert real.cudaGetErrorString(real.cudaError_t(int(error)))[1].decode() == text
    calls = {name: call for name, call in inspect.getmembers(Runtime, inspect.isfunction) if name.startswith("cuda")}
    assert len(calls) > 15
    for name, call in calls.items():
        listed = re.search(r"\((.*)\)", getattr(real, name).__doc__.splitlines()[0])[1]
        taken = list(inspect.signature(call).parameters)[1:]
        assert len([one for one in listed.split(",") if one.strip()]) == len(taken), (name, listed, taken)


def test_a_pool_answers_as_the_network_does_and_counts(cudart, engine, right):
    pool = GraphPool(cudart, engine, sizes=(4, 1))
    for seed, count in enumerate((1, 3, 4, 2, 6, 8, 1)):
        x = rows(count, seed)
        np.testing.assert_allclose(pool.run({"x": x})["y"], right(x), rtol=1e-5, atol=1e-5)
    assert dict(pool.counts.replays) == {1: 2, 4: 3}
    assert (pool.counts.rows, pool.counts.padded, pool.counts.misses) == (25, 3, 2)
    page = metrics.parse(pool.metrics())
    assert page["course_graph_misses_total", ""] == 2 and page["course_graph_replays_total", ""] == 5
    before = cudart.count("execute_async_v3")
    pool.run({"x": rows(3)})
    assert cudart.count("execute_async_v3") == before, "a replay does not go through TensorRT"
    pool.close()
    assert cudart.memory.held == 0


def test_what_a_caller_keeps_does_not_change_with_the_next_run(cudart, engine):
    pool = GraphPool(cudart, engine, sizes=(4,))
    first = pool.run({"x": rows(4, 1)})["y"]
    kept = first.copy()
    pool.run({"x": rows(4, 2)})
    np.testing.assert_array_equal(first, kept)


def test_rows_that_pad_a_batch_are_zeros_not_what_the_last_batch_left(cudart, engine):
    pool = GraphPool(cudart, engine, sizes=(4,))
    pool.run({"x": rows(4)})
    pool.run({"x": rows(2)})
    assert not pool.graphs[4].inputs["x"][2:].any()


@pytest.mark.parametrize(
    "feeds, words_of_it",
    [
        ({"x": np.zeros((9, WIDTH), np.float32)}, "takes 1 to 8"),
        ({"x": np.zeros((0, WIDTH), np.float32)}, "takes 1 to 8"),
        ({"x": np.zeros((2, WIDTH))}, "float64"),
        ({"x": np.zeros((2, 3), np.float32)}, "was expected"),
        ({"image": np.zeros((2, WIDTH), np.float32)}, "The inputs are x"),
    ],
)
def test_wrong_inputs_are_named(cudart, engine, feeds, words_of_it):
    with pytest.raises(ServingError, match=words_of_it):
        GraphPool(cudart, engine, sizes=(1,)).run(feeds)


def test_a_size_outside_the_profile_is_refused_and_leaves_nothing(cudart, engine):
    with pytest.raises(ServingError, match="batch size 16"):
        GraphPool(cudart, engine, sizes=(1, 16))
    assert cudart.memory.held == 0


def test_an_output_that_depends_on_the_data_cannot_be_recorded(cudart):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    picked = helper.make_tensor_value_info("picked", TensorProto.FLOAT, ["count", 4])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], axes=[1], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["keep"]),
        helper.make_node("Compress", ["x", "keep"], ["picked"], axis=0),
    ]
    zero = onnx.numpy_helper.from_array(np.array(0, np.float32), "zero")
    graph = helper.make_graph(nodes, "data", [x], [picked], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    with pytest.raises(CaptureError, match="known only after the run"):
        Graph(cudart, Engine(cudart, model.SerializeToString(), [(1, 2, 4)]), 2)
    assert cudart.memory.held == 0


# ---------------------------------------------------------------- the four traps, call by call


def prepared(cudart, engine, size=2):
    run = Run(cudart, engine, size)
    run.hosts(True)["x"][:] = rows(size)
    return run


def test_without_a_run_before_it_the_capture_fails_and_the_stream_can_be_used_again(cudart, engine, right):
    run = prepared(cudart, engine)
    with pytest.raises(CaptureError, match="not permitted when stream is capturing"):
        with capturing(cudart, run.stream):
            run.enqueue()
    run.enqueue()
    run.wait()
    np.testing.assert_allclose(run.hosts(False)["y"], right(rows(2)), rtol=1e-5, atol=1e-5)


def test_allocating_in_a_capture_spoils_it(cudart):
    _, stream = cudart.cudaStreamCreate()
    cudart.cudaStreamBeginCapture(stream, STRICT)
    assert cudart.cudaMalloc(8) == (E.cudaErrorStreamCaptureUnsupported, None)
    assert cudart.cudaStreamEndCapture(stream) == (E.cudaErrorStreamCaptureInvalidated, None)
    cudart.cudaStreamBeginCapture(stream, RELAXED)
    assert cudart.cudaMalloc(8)[0] == E.cudaSuccess
    assert cudart.cudaStreamEndCapture(stream)[0] == E.cudaSuccess


def test_the_default_stream_cannot_record_and_disturbs_a_blocking_stream_that_does(cudart, engine):
    assert cudart.cudaStreamBeginCapture(0, STRICT) == (E.cudaErrorStreamCaptureUnsupported,)
    with pytest.raises(CaptureError, match="default stream"):
        with capturing(cudart, 0):
            pass
    (_, there), (_, here) = cudart.cudaMalloc(8), cudart.cudaMallocHost(8)
    kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
    for flags, wanted in ((0, E.cudaErrorStreamCaptureImplicit), (cudart.cudaStreamNonBlocking, E.cudaSuccess)):
        _, stream = cudart.cudaStreamCreateWithFlags(flags)
        cudart.cudaStreamBeginCapture(stream, STRICT)
        assert cudart.cudaMemcpyAsync(there, here, 8, kind, 0) == (wanted,)
        assert (cudart.cudaStreamEndCapture(stream)[0] == E.cudaSuccess) == (wanted == E.cudaSuccess)


def test_a_graph_goes_on_with_the_addresses_and_the_shape_that_it_was_recorded_with(cudart, engine, right):
    graph = Graph(cudart, engine, 2)
    graph.inputs["x"][:] = rows(2, 1)
    context = graph.raw.context
    context.set_input_shape("x", (4, WIDTH))
    context.set_tensor_address("x", int(cudart.cudaMalloc(4 * WIDTH * 4)[1]))
    graph.launch()
    graph.wait()
    np.testing.assert_allclose(graph.outputs["y"], right(rows(2, 1)), rtol=1e-5, atol=1e-5)


def test_a_replay_into_freed_memory_is_an_illegal_access_and_stays_one(cudart, engine):
    graph = Graph(cudart, engine, 2)
    cudart.cudaFree(graph.raw.buffers["x"].device)
    graph.launch()
    with pytest.raises(ServingError, match="illegal memory access"):
        graph.wait()
    assert cudart.cudaMalloc(8)[0] == E.cudaErrorIllegalAddress


def test_work_on_a_stream_is_done_only_when_somebody_waits(cudart, engine):
    graph = Graph(cudart, engine, 2)
    graph.outputs["y"][:] = -1
    graph.launch()
    assert (graph.outputs["y"] == -1).all() and cudart.waiting > 0
    graph.inputs["x"][:] = rows(2, 5)  # too early: the copy reads what lies there when it is done
    graph.wait()
    assert not (graph.outputs["y"] == -1).any()


def test_a_copy_from_memory_that_is_not_page_locked_is_refused(cudart):
    _, there = cudart.cudaMalloc(64)
    kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
    assert cudart.cudaMemcpyAsync(there, np.zeros(16, np.float32).ctypes.data, 64, kind, 0) == (
        E.cudaErrorInvalidValue,
    )


def test_here_gives_the_stand_in_where_there_is_no_gpu(model):
    cudart = cuda_here(tell=False)
    if is_real(cudart):
        pytest.skip("there is a GPU")
    pool = GraphPool(cudart, raw_engine(cudart, model, [(1, 2, 4)]), (2,))
    assert pool.run({"x": rows(2)})["y"].shape == (2, 10)


@pytest.mark.gpu
def test_a_pool_on_the_gpu_answers_as_the_network_does(model, right):
    cudart = cuda_here(tell=False)
    if not is_real(cudart):
        pytest.skip("no GPU")
    pool = GraphPool(cudart, raw_engine(cudart, model, [(1, 4, 8)], level=0), sizes=(1, 4))
    for seed, count in enumerate((1, 3, 4, 6)):
        x = rows(count, seed)
        np.testing.assert_allclose(pool.run({"x": x})["y"], right(x), rtol=1e-3, atol=1e-3)
    assert pool.counts.misses == 1
    pool.close()
