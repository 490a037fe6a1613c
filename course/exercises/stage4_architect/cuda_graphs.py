"""Lesson 4.02, CUDA graphs: the learner's capture, replay and pool run on the stand-in for CUDA, and on a GPU if one is here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from course.exercises import Wrong, exercise, reference
from course.serving import stand_in
from course.serving.graphs import Graph
from course.serving.here import cuda_here, is_real, raw_engine
from course.serving.run import Buffer, Run

WIDTH, CLASSES, LARGEST = 16, 10, 8
CLOSE = 1e-2
"""Of the answers, which are about 1: a GPU may sum in TF32 and in another order."""


@functools.cache
def _network(counts: bool = False) -> bytes:
    """x [n, 16] -> y [n, 10]; with counts -> y [k, 16], the k rows whose largest value is above 0."""
    random = np.random.default_rng(4)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])
    if counts:
        zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
        nodes = [
            helper.make_node("ReduceMax", ["x"], ["top"], axes=[1], keepdims=0),
            helper.make_node("Greater", ["top", "zero"], ["keep"]),
            helper.make_node("Compress", ["x", "keep"], ["y"], axis=0),
        ]
        y, weights = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["k", WIDTH]), [zero]
    else:
        shape = (WIDTH, CLASSES)
        weights = [numpy_helper.from_array((random.standard_normal(shape) / 4).astype(np.float32), "w")]
        nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Relu", ["m"], ["y"])]
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "small", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def _right(x: np.ndarray) -> np.ndarray:
    weights = numpy_helper.to_array(onnx.load_from_string(_network()).graph.initializer[0])
    return np.maximum(x @ weights, 0)


def _rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


@dataclass(frozen=True)
class Place:
    """Where an answer is tried: in words, with CUDA's module or the stand-in, and an engine on it."""

    where: str
    cudart: Any
    engine: Any


@functools.cache
def _on_gpu() -> Place | None:
    """This machine's GPU, or None."""
    from course.engine import available_runtimes

    if available_runtimes()["tensorrt"] is not None:
        return None
    import tempfile
    from pathlib import Path

    cudart = cuda_here(tell=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.onnx"
        path.write_bytes(_network())
        return Place("on the GPU", cudart, raw_engine(cudart, path, [(1, 4, LARGEST)], level=0))


def _places() -> list[Place]:
    """The stand-in first, which survives what would end a GPU's process."""
    cudart = stand_in.Runtime()
    places = [Place("on the stand-in", cudart, stand_in.Engine(cudart, _network(), [(1, 4, LARGEST)]))]
    if found := _on_gpu():
        places.append(found)
    return places


# ---------------------------------------------------------------- capture


@exercise(
    "graph-capture",
    points=4,
    hints=(
        "Four calls of cudart make a graph. What must TensorRT have done before the first of them, and who looks at the "
        "errors?",
        "Run and wait once. Then cudaStreamBeginCapture, the same run, cudaStreamEndCapture, cudaGraphInstantiate. Each gives "
        "(error, ...); the end also comes if the run fails.",
        "execute_async_v3(int(stream)); cudaStreamSynchronize(stream); begin; execute_async_v3(int(stream)); error, graph = "
        "cudaStreamEndCapture(stream); if int(error): raise RuntimeError(...); return cudaGraphInstantiate(graph, 0)[1]",
    ),
)
def graph_capture(capture: Callable):
    for place in _places():
        where, cudart, engine = place.where, place.cudart, place.engine
        run = Run(cudart, engine, 3)
        try:
            executable = capture(cudart, run.context, run.stream)
        except NotImplementedError:
            raise
        except Exception as error:
            raise Wrong(f"capture stopped {where}: {error}", _why_not_recorded(cudart), _NEXT_CAPTURE) from None
        if is_real(cudart):
            _require_fresh_answers(cudart, executable, run, where)
            continue
        if run.stream in cudart.recording:
            raise Wrong("The stream still records.", "Nobody ended the capture.", "Call cudaStreamEndCapture(stream).")
        if isinstance(executable, cudart.cudaGraph_t):
            raise Wrong(
                "capture gave back the recorded graph, which cannot be launched.",
                "cudaStreamEndCapture gives the list of work. CUDA makes a program of it once, in cudaGraphInstantiate.",
                "Return cudaGraphInstantiate(graph, 0)[1].",
            )
        if not isinstance(executable, cudart.cudaGraphExec_t):
            raise Wrong(f"capture gave back {executable!r}.", _why_not_recorded(cudart), _NEXT_CAPTURE)
        kinds = cudart.kinds_of(executable)
        if kinds != ["the network"]:
            raise Wrong(
                f"The graph holds {len(kinds)} runs of the network.",
                "Only what is put on the stream between begin and end is recorded, and all of that.",
                "One run before the capture, one inside, nothing else.",
            )
        _require_fresh_answers(cudart, executable, run, where)
    _require_told(capture)
    return "One run is recorded, it replays with new inputs, and a run that cannot be recorded is told" + _also()


_NEXT_CAPTURE = "Run once and wait, begin, run, end, instantiate."


def _why_not_recorded(cudart: Any) -> str:
    """What the stand-in saw that spoiled a capture."""
    spoiled = [] if is_real(cudart) else [detail for call, detail in cudart.events if call == "spoiled"]
    if "cudaStreamSynchronize" in spoiled:
        return "A wait inside the capture: nothing runs while the stream records, so there is nothing to wait for."
    if spoiled:
        return (
            f"In the capture came {spoiled[0]}. In its first run after a change of shapes TensorRT sets itself up, which is "
            "not allowed while the stream records."
        )
    return "Each call gives (error, value); what is launched later is the value of the last one."


def _require_fresh_answers(cudart: Any, executable: Any, run: Run, where: str) -> None:
    x, y = run.buffers["x"], run.buffers["y"]
    for seed in (1, 2):
        x.host[:] = _rows(3, seed)
        x.copy(run.stream, 3)
        cudart.cudaGraphLaunch(executable, run.stream)
        y.copy(run.stream, 3)
        run.wait()
        if not np.allclose(y.host, _right(x.host), atol=CLOSE):
            raise Wrong(
                f"A replay gives wrong answers {where}.",
                "The graph does something else than one run of this context.",
                "Record context.execute_async_v3 on the stream that you were given.",
            )


def _require_told(capture: Callable) -> None:
    """A network that needs the CPU in every run cannot be recorded; the caller must learn that, and have the stream back."""
    cudart = stand_in.Runtime()
    context = stand_in.Engine(cudart, _network(True), [(1, 4, LARGEST)]).create_execution_context()
    _, stream = cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking)
    context.set_input_shape("x", (2, WIDTH))
    for name in ("x", "y"):
        context.set_tensor_address(name, cudart.cudaMalloc(2 * WIDTH * 4)[1])
    try:
        got = capture(cudart, context, stream)
    except Exception:
        got = "told"
    if got != "told":
        raise Wrong(
            f"A network that cannot be recorded gave {got!r}, and no error.",
            "One of its shapes depends on the data. cudaStreamEndCapture said so in its first value, and nobody looked.",
            "if int(error): raise RuntimeError(cudart.cudaGetErrorString(error)[1].decode())",
            share=0.5,
        )
    if stream in cudart.recording:
        raise Wrong(
            "After a capture that failed the stream still records.",
            "The error was raised before cudaStreamEndCapture, so this stream can never be used again.",
            "End the capture first, then raise.",
            share=0.5,
        )


def _also() -> str:
    return ", also on the GPU." if _on_gpu() else ". On a GPU this check runs it there, too."


def capture(cudart, context, stream):
    """The course's answer: one run of the context as an executable graph."""
    context.execute_async_v3(int(stream))
    cudart.cudaStreamSynchronize(stream)
    cudart.cudaStreamBeginCapture(stream, cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
    context.execute_async_v3(int(stream))
    error, graph = cudart.cudaStreamEndCapture(stream)
    if int(error):
        raise RuntimeError(cudart.cudaGetErrorString(error)[1].decode())
    error, executable = cudart.cudaGraphInstantiate(graph, 0)
    if int(error):
        raise RuntimeError(cudart.cudaGetErrorString(error)[1].decode())
    return executable


@reference("graph-capture")
def _capture():
    return capture


# ---------------------------------------------------------------- replay


@exercise(
    "graph-replay",
    points=3,
    hints=(
        "The graph reads from one address and writes to another, always the same. What brings your rows to the one, and the "
        "answer from the other?",
        "Write into x.host, copy to x.device, launch, copy from y.device to y.host, all on the same stream. When may Python "
        "look at y.host?",
        "x.host[:] = rows; cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kinds.cudaMemcpyHostToDevice, stream); "
        "cudaGraphLaunch(executable, stream); the copy back; cudaStreamSynchronize(stream); return y.host.copy()",
    ),
)
def graph_replay(replay: Callable):
    for place in _places():
        where, cudart, engine = place.where, place.cudart, place.engine
        graph = Graph(cudart, engine, 4, copies=False)
        x, y = graph.raw.buffers["x"], graph.raw.buffers["y"]
        kept: list[tuple[np.ndarray, np.ndarray]] = []
        for seed in range(3):
            y.host[:] = -1
            rows = _rows(4, seed)
            answer = replay(cudart, graph.executable, graph.stream, x, y, rows.copy())
            if not isinstance(answer, np.ndarray) or answer.shape != (4, CLASSES):
                raise Wrong(
                    f"replay gave {type(answer).__name__} {list(getattr(answer, 'shape', []))}.",
                    "The answer to 4 rows is an array [4, 10].",
                    "Return a copy of y.host.",
                )
            if not np.allclose(answer, _right(rows), atol=CLOSE):
                raise _wrong_replay(answer, kept, cudart, where)
            kept.append((answer, answer.copy()))
        if any(not np.array_equal(answer, before) for answer, before in kept):
            raise Wrong(
                "An answer changed when the next batch came.",
                "y.host is one place in memory, and the next replay writes there.",
                "Return y.host.copy().",
                share=0.5,
            )
    return "Three batches in a row are answered right, with one launch each" + _also()


def _wrong_replay(answer: np.ndarray, kept: list, cudart: Any, where: str) -> Wrong:
    waiting = 0 if is_real(cudart) else cudart.waiting
    if (answer == -1).all() and waiting:
        cause = "Copies and launch only wait in the stream's queue: Python read y.host before any of them was done."
        return Wrong(f"The answer was read too early {where}.", cause, "cudaStreamSynchronize(stream) before you read.")
    if (answer == -1).all():
        cause = "The graph writes to y.device. Nobody copied that to y.host."
        return Wrong(f"y.host was not written {where}.", cause, "Copy y.bytes from y.device after the launch.")
    if kept and np.allclose(answer, kept[-1][1], atol=CLOSE):
        cause = "The graph reads what lies at x.device, and that is still the last batch (or the copy came after the launch)."
    else:
        cause = (
            "The graph reads at x.device when it runs: the copy to it must stand before the launch, on the same stream."
        )
    return Wrong(
        f"The answer is not that of these rows {where}.", cause, "x.host, copy to x.device, launch, copy back."
    )


def replay(cudart, executable, stream, x: Buffer, y: Buffer, rows: np.ndarray):
    """The course's answer: float32 rows in, what the graph makes of them out, an array of the caller's own."""
    kinds = cudart.cudaMemcpyKind
    x.host[:] = rows
    cudart.cudaMemcpyAsync(x.device, x.host.ctypes.data, x.bytes, kinds.cudaMemcpyHostToDevice, stream)
    cudart.cudaGraphLaunch(executable, stream)
    cudart.cudaMemcpyAsync(y.host.ctypes.data, y.device, y.bytes, kinds.cudaMemcpyDeviceToHost, stream)
    cudart.cudaStreamSynchronize(stream)
    return y.host.copy()


@reference("graph-replay")
def _replay():
    return replay


# ---------------------------------------------------------------- pool


@exercise(
    "graph-pool",
    points=3,
    hints=(
        "Three rows, and graphs for 1, 4 and 6: which one, and what stands in the rows that are too many?",
        "The smallest size that is not below the rows; fill up with zeros; give back only the rows that were asked for. "
        "Larger than every graph is a miss.",
        "size = min((s for s in self.graphs if s >= len(rows)), default=None); if None: self.misses += 1; return "
        "self.plain(rows); else pad with np.zeros and return self.graphs[size](padded)[:len(rows)]",
    ),
)
def graph_pool(Pool: type):
    for place in _places():
        where, cudart, engine = place.where, place.cudart, place.engine
        used: list[int] = []
        graphs = {size: _callable(Graph(cudart, engine, size), size, used) for size in (6, 1, 4)}
        plain = _plain(Run(cudart, engine, LARGEST), used)
        pool = Pool(dict(graphs), plain)
        misses = padded = 0
        for seed, count in enumerate((1, 3, 4, 2, 8, 5, 6, 7, 1)):
            rows, used[:] = _rows(count, seed), []
            answer = np.asarray(pool.run(rows.copy()))
            size = min((size for size in graphs if size >= count), default=0)
            misses, padded = misses + (size == 0), padded + max(size - count, 0)
            if used != [size]:
                raise _wrong_choice(count, size, used)
            if answer.shape != (count, CLASSES):
                raise Wrong(
                    f"{count} rows were asked for, {len(answer)} came back.",
                    "The rows that fill up the batch are nobody's answer.",
                    "Cut them off: [:len(rows)].",
                )
            if not np.allclose(answer, _right(rows), atol=CLOSE):
                raise Wrong(
                    f"The answers to {count} rows are wrong {where}.",
                    "The rows must stand in front, in their order.",
                    "padded[:len(rows)] = rows",
                )
        counted = getattr(pool, "misses", None), getattr(pool, "padded", None)
        if counted != (misses, padded):
            raise Wrong(
                f"pool.misses and pool.padded are {counted[0]} and {counted[1]}; {misses} and {padded} is right.",
                "A miss is a batch that no graph holds; padded counts the rows that were computed for nobody. What is not "
                "counted is found only when somebody complains.",
                "Start both at 0 and add in run.",
                share=0.5,
            )
    return f"Nine batches took the right graphs; {misses} misses and {padded} padded rows were counted" + _also()


def _wrong_choice(count: int, size: int, used: list[int]) -> Wrong:
    names = [f"the graph for {one}" if one else "a run without a graph" for one in used] or ["nothing at all"]
    if size == 0 and len(used) > 1:
        cause = "Two launches in place of one. It can be right, but it was not asked for: larger than every graph is a miss."
    elif used == [0]:
        cause = f"A graph for {size} could have been used: the rows that are missing are filled up."
    else:
        cause = "Every row too many is computed, too: the smallest graph that holds the batch is the cheapest."
    wanted = f"the graph for {size}" if size else "a run without a graph"
    return Wrong(f"{count} rows went through {' and '.join(names)}, not {wanted}.", cause, "The smallest size >= rows.")


def _callable(graph: Graph, size: int, used: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    def call(rows: np.ndarray) -> np.ndarray:
        if np.shape(rows) != (size, WIDTH):
            raise Wrong(
                f"The graph for {size} rows was given {len(rows)}.",
                "Its shape was recorded with it: it always reads that many rows.",
                f"Fill up to {size} rows with zeros.",
            )
        used.append(size)
        graph.inputs["x"][:] = rows
        graph.launch()
        graph.wait()
        return graph.outputs["y"].copy()

    return call


def _plain(run: Run, used: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    def call(rows: np.ndarray) -> np.ndarray:
        used.append(0)
        run.set_size(len(rows))
        run.hosts(True)["x"][: len(rows)] = rows
        run.enqueue()
        run.wait()
        return run.hosts(False)["y"][: len(rows)].copy()

    return call


class Pool:
    """The course's answer: the smallest graph that holds a batch, and counts of misses and padded rows."""

    def __init__(self, graphs, plain):
        self.graphs, self.plain, self.misses, self.padded = graphs, plain, 0, 0

    def run(self, rows: np.ndarray):
        size = min((size for size in self.graphs if size >= len(rows)), default=None)
        if size is None:
            self.misses += 1
            return self.plain(rows)
        padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        self.padded += size - len(rows)
        return self.graphs[size](padded)[: len(rows)]


@reference("graph-pool")
def _pool():
    return Pool
