"""The process that holds a learner's calibrator or build script, with a module `tensorrt` beside it.

On a GPU that is TensorRT, watched by `int8_watch`; elsewhere, and beside TensorRT 11, which has no calibrators, the
course's recording stand-in, which asks the judge for scales while it builds. The script shares this process with everything here, so nothing that is answered is proof.

    calibrate: a network of the judge's is built by our code with the script's class Calibrator.
    build: the script's function build is called with networks of the judge's, and a calibrator of ours.

Files that a script leaves in its folder are sent back, and may be put there again in another process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from autograder.artifacts import build_inside
from autograder.artifacts.build_inside import ONNX, PLAN
from autograder.artifacts.script_inside import guarded, load
from autograder.sandbox.serve import Refused, ask_outside, limit, serve

MOST_FILES, MOST_FILE_BYTES = 16, 1 << 20
CACHE = "int8.cache"


class Int8Scripts:
    """module: the script, loaded at the first request."""

    def __init__(self, path: Path):
        self.path, self.module, self.trt = path, None, None
        self.events: list[dict] = []

    def start(self, *, stand_in: str, others: Sequence[str], real: bool):
        """Make `tensorrt` importable and load the script. Answers: "tensorrt", its version, and "stand_in".

        stand_in: the folder that holds the stand-in. others: folders of the other scripts. real: TensorRT itself is wanted.
        """
        sys.path[:0] = others
        self.trt = build_inside.tensorrt(stand_in, real, needs="IInt8EntropyCalibrator2")
        if hasattr(self.trt, "recording"):
            self.events = self.trt.recording.events
            self.trt.recording.calibrate = _ask_for_scales
        else:
            from autograder.artifacts import int8_watch

            int8_watch.watch(self.trt, self.events)
        self.module = load(self.path)
        return {"tensorrt": str(self.trt.__version__), "stand_in": hasattr(self.trt, "recording")}, []

    def calibrate(self, onnx: np.ndarray, images: np.ndarray, *files: np.ndarray, batch: int, names: Sequence[str]):
        """Build with the script's calibrator. Answers: "events", and "names" with the files in its folder."""
        kind = build_inside.found(self.module, self.path, "Calibrator")
        if not (isinstance(kind, type) and issubclass(kind, self.trt.IInt8Calibrator)):
            raise Refused(
                f"Calibrator of {self.path.name} is no calibrator.",
                "TensorRT takes classes that derive from its own only.",
                "Derive it from tensorrt.IInt8EntropyCalibrator2 or tensorrt.IInt8MinMaxCalibrator.",
            )
        folder = build_inside.folder(names, files)
        self.events.clear()
        self._expect(len(images), batch)
        made = guarded(self.path, "Calibrator cannot be made.", kind, images, batch, str(folder / CACHE))
        built = _build(self.trt, onnx.tobytes(), made, batch)
        found = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())[:MOST_FILES]
        found = [path for path in found if path.stat().st_size <= MOST_FILE_BYTES]
        return (
            {"built": built, "events": list(self.events), "names": [path.name for path in found]},
            [np.frombuffer(path.read_bytes(), np.uint8) for path in found],
        )

    def build(self, onnx: np.ndarray, images: np.ndarray, *, batches: Sequence[int], batch: int):
        """Call build(onnx, plan, batches, calibrator). batch: of our calibrator over `images`; 0 gives none.

        Answers: "events", and what `build_inside.call` says; and the plan.
        """
        function = build_inside.found(self.module, self.path, "build")
        folder = build_inside.folder([ONNX], [onnx])
        self.events.clear()
        self._expect(len(images), max(1, batch))
        given = _given(self.trt, images, batch) if batch else None
        plan = folder / PLAN
        answer, plans = build_inside.call(
            self.path, function, plan, str(folder / ONNX), str(plan), tuple(batches), given
        )
        return {"events": list(self.events), **answer}, plans

    def _expect(self, images: int, batch: int) -> None:
        """The stand-in ends a calibrator that gives far more than there is."""
        if hasattr(self.trt, "recording"):
            self.trt.recording.most_batches = 2 * images // batch + 8


def _ask_for_scales(onnx: bytes, batches: list[dict[str, np.ndarray]], algorithm: str) -> bytes:
    """The judge has the batches, and says which scales come of them."""
    arrays = [array for batch in batches for array in batch.values()]
    _, (cache,) = ask_outside("scales", arrays, algorithm=algorithm)
    return cache.tobytes()


def _build(trt: ModuleType, onnx: bytes, calibrator, batch: int) -> bool:
    """Implicit INT8 by the book; whether a plan came out."""
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise RuntimeError(str(parser.get_error(0)))
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    config.int8_calibrator = calibrator
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shapes = [(size, *tuple(tensor.shape)[1:]) for size in (1, batch, batch)]
        profile.set_shape(tensor.name, *shapes)
    config.add_optimization_profile(profile)
    config.set_calibration_profile(profile)
    return builder.build_serialized_network(network, config) is not None


def _given(trt: ModuleType, images: np.ndarray, batch: int):
    """A calibrator of ours, for a build script whose own calibrator is judged elsewhere."""

    class Given(trt.IInt8MinMaxCalibrator):
        def __init__(self):
            super().__init__()
            self.place, self.held = 0, None

        def get_batch_size(self):
            return batch

        def get_batch(self, names):
            part = images[self.place : self.place + batch]
            if len(part) < batch:
                return None
            self.place += batch
            if hasattr(trt, "recording"):  # the stand-in reads the CPU's memory
                self.held = np.array(part)
                return [self.held.ctypes.data]
            import torch

            self.held = torch.tensor(part, device="cuda")
            return [self.held.data_ptr()]

        def read_calibration_cache(self):
            return None

        def write_calibration_cache(self, cache):
            return None

    return Given()


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, path: str) -> None:
    limit(memory_bytes, cpu_seconds)
    scripts = Int8Scripts(Path(path))
    commands = {"start": scripts.start, "calibrate": scripts.calibrate, "build": scripts.build}
    serve(commands, read_fd, write_fd, memory_bytes, "Look for an array that grows with every batch.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
    os._exit(0)  # a thread that the script left running must not keep this process
