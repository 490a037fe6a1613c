"""Milliseconds per layer, from the runtime's own profiler: what trtexec --dumpProfile prints, without trtexec."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from course.engine.base import Engine
from course.errors import CourseError, UnsupportedError
from course.profiling.trtexec import LayerTime

WARMUP = 2
"""Runs that are not counted."""


def measure(engine: Engine, feeds: Mapping[str, Any], runs: int = 20, *, profile: int = 0) -> tuple[LayerTime, ...]:
    """Time every layer of an engine, in the order in which they run. Two runs before are not counted.

    The profiler itself costs time and lets no two layers overlap: the sum is more than a run takes without it. Use it
    to see which layers are slow, and `course.bench` to see how fast the whole is.

    Raises:
        UnsupportedError: a build-only engine.
        CourseError: as `Engine.run`; fewer than 1 run.
    """
    if runs < 1:
        raise CourseError(f"{runs} runs were asked for.", "A mean needs at least one.", "Use runs=20.")
    engine.run(feeds, profile=profile)  # checks the feeds
    if engine.runtime == "onnxruntime":
        totals = _onnxruntime(engine, feeds, runs)
    elif engine.runtime == "tensorrt":
        totals = _tensorrt(engine, feeds, runs, profile)
    else:
        raise UnsupportedError(
            f"A {engine.runtime} engine does not run here.", "It only builds.", 'Build with runtime="auto".'
        )
    whole = sum(totals.values()) or 1.0
    return tuple(LayerTime(name, ms, ms / runs, ms / whole) for name, ms in totals.items())


def _onnxruntime(engine: Any, feeds: Mapping[str, Any], runs: int) -> dict[str, float]:
    """Layer -> ms of all runs together, from the trace that ONNX Runtime writes."""
    import onnxruntime

    arrays = {name: value if hasattr(value, "__array_interface__") else value.numpy() for name, value in feeds.items()}
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "trace")
        session = onnxruntime.InferenceSession(engine.plan, options, providers=["CPUExecutionProvider"])
        for _ in range(runs + WARMUP):
            session.run(None, arrays)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[float]] = {}
    for event in sorted(events, key=lambda event: event.get("ts", 0)):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["dur"] / 1000)
    return _counted(times, runs)


def _tensorrt(engine: Any, feeds: Mapping[str, Any], runs: int, profile: int) -> dict[str, float]:
    """Layer -> ms of all runs together, as TensorRT reports them to an IProfiler."""
    import tensorrt as trt

    class Recorder(trt.IProfiler):
        def __init__(self):
            trt.IProfiler.__init__(self)
            self.times: dict[str, list[float]] = {}

        def report_layer_time(self, layer_name, ms):
            self.times.setdefault(layer_name, []).append(ms)

    recorder = Recorder()
    engine.run_profiled(feeds, recorder, runs + WARMUP, profile=profile)
    return _counted(recorder.times, runs)


def _counted(times: Mapping[str, list[float]], runs: int) -> dict[str, float]:
    """Sum of the last `runs` of runs + WARMUP. Layers of one name count together."""
    return {name: sum(values[-(len(values) // (runs + WARMUP) * runs) :]) for name, values in times.items()}
