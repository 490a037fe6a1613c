"""The process that holds a build script for networks with a plugin, with a module `tensorrt` beside it.

    start: load the script, beside the course's recording stand-in for TensorRT 8.6, or beside TensorRT with a plugin on a GPU.
    build: the script's function build is called with a network, a library, shapes and FP16 or not.

The script shares this process with everything here, so nothing that is answered is proof: see `autograder.checks.plugin_build`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from autograder.artifacts import build_inside
from autograder.artifacts.build_inside import ONNX, PLAN
from autograder.artifacts.script_inside import load
from autograder.sandbox.serve import limit, serve


class PluginScript:
    """module: the script, loaded by `start`."""

    def __init__(self, path: Path):
        self.path, self.module, self.trt, self.library = path, None, None, None

    def start(self, *plugin: np.ndarray, stand_in: str):
        """stand_in: the folder that holds the stand-in; "" for TensorRT itself, with the `plugin` that networks will have.

        TensorRT's plugin is opened here, before the script opens the same file: what is judged on a GPU is the engine, and that
        the script opens a library by itself is judged with the stand-in. A class that registers itself needs TensorRT's
        functions, which a wheel hides; and load_library, which finds no entry points in its library, might close it again.
        """
        self.trt = build_inside.tensorrt(stand_in, real=not stand_in)
        for library in plugin:
            from course.native.plugins import building

            self.library = Path.cwd() / "plugin.so"
            self.library.write_bytes(library.tobytes())
            building.load(self.library, self.trt.__version__)
            _tell_layers(self.trt)
        self.module = load(self.path)
        return {"tensorrt": str(self.trt.__version__)}, []

    def build(self, onnx: np.ndarray, *library: np.ndarray, shapes: list, fp16: bool):
        """Call build(onnx, plan, library, shapes, fp16). library: if it is not the plugin of `start`.

        Answers: "events" of the stand-in, and what `build_inside.call` says; and the plan.
        """
        function = build_inside.found(self.module, self.path, "build")
        folder = build_inside.folder([ONNX, "plugin.so"], [onnx, *library])
        path = folder / "plugin.so" if library else self.library
        events = self.trt.recording.events if hasattr(self.trt, "recording") else []
        events.clear()
        words = str(folder / ONNX), str(folder / PLAN), str(path), tuple(map(tuple, shapes)), fp16
        answer, plans = build_inside.call(self.path, function, folder / PLAN, *words)
        return {"events": list(events), **answer}, plans


def _tell_layers(trt: ModuleType) -> None:
    """Engines of any script tell their layers' kinds, and need no cuBLAS, which is not on every machine."""
    original = trt.Builder.build_serialized_network

    def build(builder, network, config):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        config.set_tactic_sources(0)
        return original(builder, network, config)

    trt.Builder.build_serialized_network = build


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, path: str) -> None:
    limit(memory_bytes, cpu_seconds)
    script = PluginScript(Path(path))
    serve({"start": script.start, "build": script.build}, read_fd, write_fd, memory_bytes, "Build with less memory.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
    os._exit(0)  # destructors of a library could hang
