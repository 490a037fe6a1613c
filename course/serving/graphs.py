"""CUDA graphs of a TensorRT engine by the raw API: one captured run for each batch size, and a pool that picks one.

    pool = GraphPool(cudart, engine, sizes=(1, 4, 8))
    logits = pool.run({"image": images})["logits"]      # images: 3 rows go into the graph for 4
    print(pool.counts)                                  # replays, padded rows, misses

`cudart` is `cuda.bindings.runtime` or the stand-in of `course.serving.here`. A graph holds addresses: those of the buffers
that it was recorded with, and those of its context's scratch memory. So each graph has buffers and a context of its own,
and new inputs are written into the old places.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from course.serving.run import CaptureError, Run, batch_range, checked, specs, text
from course.serving.words import ServingError


@contextlib.contextmanager
def capturing(cudart: Any, stream: Any) -> Iterator[list]:
    """Record what is put on `stream` in the block; the list then holds the graph. The capture ends whatever happens, so
    the stream can be used again.

    Raises:
        CaptureError: it cannot begin, or something in the block is not allowed in a capture.
    """
    mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may go on allocating
    (error,) = cudart.cudaStreamBeginCapture(stream, mode)
    if int(error):
        raise CaptureError(
            "The stream cannot record.",
            f"CUDA error {int(error)}: {text(cudart.cudaGetErrorString(error))}."
            + (" It is the default stream." if int(stream) == 0 else ""),
            "Make a stream of its own with cudaStreamCreateWithFlags(cudaStreamNonBlocking).",
        )
    recorded: list = []
    try:
        yield recorded
    except BaseException:
        cudart.cudaStreamEndCapture(stream)
        raise
    error, graph = cudart.cudaStreamEndCapture(stream)
    if int(error):
        raise CaptureError(
            "The run cannot be recorded as a CUDA graph.",
            f"CUDA error {int(error)}: {text(cudart.cudaGetErrorString(error))}. Something in it allocates, waits for the "
            "GPU or uses the default stream: a shape that depends on the data, a loop, a plugin, or the first run after "
            "a change of shapes.",
            "Run once before the capture. If it still fails, go on without a graph, or end the model before that layer.",
        )
    recorded.append(graph)


class Graph:
    """One batch size of an engine, recorded: `inputs` and `outputs` are NumPy arrays at fixed addresses.

    A replay copies the inputs to the GPU, runs the engine, and copies the outputs back, all with one launch.

    raw: the run that was recorded, with its context, stream and buffers; executable: a `cudaGraphExec_t`; nodes: how many
    kernels and copies it holds.
    """

    def __init__(self, cudart: Any, engine: Any, size: int, profile: int = 0, copies: bool = True):
        """Args:
            copies: record them, too; without them the graph holds the engine alone.

        Raises:
        CaptureError: it cannot be recorded; says why, and leaves nothing behind.
        ServingError: the size lies outside the profile, or there is no memory.
        """
        self._cudart, self.size, self.executable, self.nodes = cudart, size, None, 0
        self.raw = Run(cudart, engine, size, profile)
        try:
            self.raw.enqueue()  # TensorRT's first run after a change of shapes does what a capture forbids
            self.raw.wait()
            with capturing(cudart, self.raw.stream) as recorded:
                self.raw.enqueue(copies)
            self.executable = checked(
                cudart, cudart.cudaGraphInstantiate(recorded[0], 0), "Making the graph executable"
            )
            self.nodes = int(cudart.cudaGraphGetNodes(recorded[0])[-1])
            cudart.cudaGraphDestroy(recorded[0])
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> dict[str, np.ndarray]:
        return self.raw.hosts(True)

    @property
    def outputs(self) -> dict[str, np.ndarray]:
        return self.raw.hosts(False)

    def launch(self) -> None:
        """Queue a replay. The inputs' arrays must stay as they are until `wait`."""
        checked(self._cudart, self._cudart.cudaGraphLaunch(self.executable, self.raw.stream), "Launching a graph")

    def wait(self) -> None:
        """Until everything that was launched is done, and `outputs` hold its results."""
        self.raw.wait()

    @property
    def stream(self) -> Any:
        return self.raw.stream

    def close(self) -> None:
        if self.executable is not None:
            self._cudart.cudaGraphExecDestroy(self.executable)
            self.executable = None
        self.raw.close()


@dataclass
class Counts:
    """What a pool did. replays: graph size -> runs with it; rows: that were asked for; padded: rows that were computed and
    thrown away; misses: runs without a graph, because none is large enough."""

    replays: collections.Counter = field(default_factory=collections.Counter)
    rows: int = 0
    padded: int = 0
    misses: int = 0


class GraphPool:
    """Graphs for several batch sizes. A batch goes into the smallest graph that holds it, padded with zeros; one that is
    larger than all of them runs without a graph, and counts as a miss."""

    def __init__(self, cudart: Any, engine: Any, sizes: Sequence[int], profile: int = 0):
        """Args:
            sizes: batch sizes to record, inside the profile.

        Raises: as `Graph`.
        """
        self._specs = specs(engine)
        (self.smallest, self.largest) = batch_range(engine, self._specs, profile)
        self.counts, self.graphs, self._plain = Counts(), {}, None
        try:
            for size in sorted(set(map(int, sizes))):
                self.graphs[size] = Graph(cudart, engine, size, profile)
            if not self.graphs or max(self.graphs) < self.largest:
                self._plain = Run(cudart, engine, self.largest, profile)
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Args:
            feeds: for each input an array [rows, ...] of its type.

        Returns: for each output an array [rows, ...], which is the caller's own.

        Raises:
            ServingError: a wrong name, shape or type, or more rows than the engine takes.
        """
        rows = self._rows(feeds)
        size = next((size for size in self.graphs if size >= rows), None)
        if size is None:
            return self._without_graph(feeds, rows)
        graph = self.graphs[size]
        for name, array in graph.inputs.items():
            array[:rows] = feeds[name]
            array[rows:] = 0  # not what the last batch left there
        graph.launch()
        graph.wait()
        self.counts.rows += rows
        self.counts.padded += size - rows
        self.counts.replays[size] += 1
        return {name: array[:rows].copy() for name, array in graph.outputs.items()}

    def _without_graph(self, feeds: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
        self._plain.set_size(rows)
        for name, array in self._plain.hosts(True).items():
            array[:rows] = feeds[name]
        self._plain.enqueue()
        self._plain.wait()
        self.counts.rows += rows
        self.counts.misses += 1
        return {name: array[:rows].copy() for name, array in self._plain.hosts(False).items()}

    def _rows(self, feeds: Mapping[str, np.ndarray]) -> int:
        inputs = {spec.name: spec for spec in self._specs if spec.is_input}
        if set(feeds) != set(inputs):
            raise ServingError(
                f"The inputs are {', '.join(inputs)}.", f"Given were {', '.join(feeds) or 'none'}.", "Use these names."
            )
        rows = len(next(iter(feeds.values())))
        for name, spec in inputs.items():
            given = np.asarray(feeds[name])
            if given.shape != (rows, *spec.shape[1:]) or given.dtype != spec.dtype:
                raise ServingError(
                    f"{name!r} is {given.dtype} {list(given.shape)}.",
                    f"{spec.dtype} {[rows, *spec.shape[1:]]} was expected.",
                    "Convert it before; all inputs have the same number of rows.",
                )
        if not self.smallest <= rows <= self.largest:
            raise ServingError(
                f"A batch of {rows} was given.",
                f"The engine takes {self.smallest} to {self.largest}.",
                "Split it, or build with a wider profile.",
            )
        return rows

    def metrics(self) -> str:
        """The counts in Prometheus's text format."""
        lines = ["# TYPE course_graph_replays_total counter"]
        lines += [f'course_graph_replays_total{{size="{n}"}} {self.counts.replays[n]}' for n in self.graphs]
        for name in ("rows", "padded", "misses"):
            lines += [
                f"# TYPE course_graph_{name}_total counter",
                f"course_graph_{name}_total {getattr(self.counts, name)}",
            ]
        return "\n".join(lines) + "\n"

    def close(self) -> None:
        for each in (*self.graphs.values(), *([self._plain] if self._plain else [])):
            each.close()
        self.graphs.clear()
