"""The process that holds a learner's calibrator or build script, with a module `tensorrt` beside it.

On a GPU that is TensorRT, watched by `int8_watch`; elsewhere, and beside TensorRT 11, which has no calibrators, the
course's recording stand-in, which asks the judge for scales while it builds. The script shares this process with everything here, so nothing that is answered is proof.

    calibrate: a network of the judge's is built by our code with the script's class Calibrator.
    build: the script's function build is called with networks of the judge's, and a calibrator of ours.

Files that a script leaves in its folder are sent back, and may be put there again in another process.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from autograder.artifacts.script_inside import guarded, load
from autograder.sandbox.serve import Refused, ask_outside, limit, serve

MOST_FILES, MOST_FILE_BYTES, MOST_PLAN_BYTES = 16, 1 << 20, 64 << 20
CACHE, ONNX, PLAN = "int8.cache", "model.onnx", "model.plan"


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
        self.trt = _tensorrt(stand_in, real)
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
        kind = self._found("Calibrator")
        if not (isinstance(kind, type) and issubclass(kind, self.trt.IInt8Calibrator)):
            raise Refused(
                f"Calibrator of {self.path.name} is no calibrator.",
                "TensorRT takes classes that derive from its own only.",
                "Derive it from tensorrt.IInt8EntropyCalibrator2 or tensorrt.IInt8MinMaxCalibrator.",
            )
        folder = _folder(names, files)
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

        Answers: "events", "plan" (bytes of the file that was written, -1 if none), "raised" (words, or ""), "meant"
        (whether a raise or an assert of the scripts raised it); and the plan itself, if it is not too large.
        """
        function = self._found("build")
        folder = _folder([ONNX], [onnx])
        self.events.clear()
        self._expect(len(images), max(1, batch))
        given = _given(self.trt, images, batch) if batch else None
        raised, meant = "", False

        def call() -> None:
            nonlocal meant
            try:
                function(str(folder / ONNX), str(folder / PLAN), tuple(batches), given)
            except Exception as error:
                meant = _meant(error, self.path.parent)
                raise

        try:
            guarded(self.path, f"build of {self.path.name} raised an error.", call)
        except Refused as error:
            raised = f"{error.what} {error.cause}"
        plan = folder / PLAN
        size = plan.stat().st_size if plan.is_file() else -1
        return {"events": list(self.events), "plan": size, "raised": raised, "meant": meant}, _read(plan)

    def _expect(self, images: int, batch: int) -> None:
        """The stand-in ends a calibrator that gives far more than there is."""
        if hasattr(self.trt, "recording"):
            self.trt.recording.most_batches = 2 * images // batch + 8

    def _found(self, name: str):
        found = getattr(self.module, name, None)
        if not callable(found):
            raise Refused(f"{self.path.name} has no {name}.", "It is asked for by this name.", f"Write {name}.")
        return found


def _tensorrt(stand_in: str, real: bool) -> ModuleType:
    """TensorRT if it is wanted and has calibrators; else the stand-in, beside which no CUDA is seen: it reads the CPU's
    memory, so scripts must put their batches there.

    Raises:
        Refused: the stand-in is needed and does not work here.
    """
    without = ""
    if real:
        trt = importlib.import_module("tensorrt")
        if hasattr(trt, "IInt8EntropyCalibrator2"):
            return trt
        without = f"TensorRT {trt.__version__} has no calibrators. "
        for name in [name for name in sys.modules if name == "tensorrt" or name.startswith("tensorrt.")]:
            del sys.modules[name]
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path[:0] = [stand_in]
    try:
        return importlib.import_module("tensorrt")
    except ImportError as error:
        raise Refused(
            "There is nothing to try the script with on the grader's machine.",
            f"{without}The stand-in for TensorRT 8.6 needs TensorRT-RTX: {error}",
            "This is no fault of the script. Grade where TensorRT 8.6 or 10 works, or `pip install tensorrt_rtx`.",
        ) from None


def _read(plan: Path) -> list[np.ndarray]:
    if not plan.is_file() or plan.is_symlink() or not 0 < plan.stat().st_size <= MOST_PLAN_BYTES:
        return []
    return [np.frombuffer(plan.read_bytes(), np.uint8)]


def _meant(error: Exception, folder: Path) -> bool:
    """Whether a statement of the scripts raised it: `raise` or `assert`, not a call that went wrong by itself."""
    if isinstance(error, NotImplementedError):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    if Path(last.filename).parent != folder:
        return False
    tree = ast.parse(Path(last.filename).read_text(encoding="utf-8"))
    return any(
        isinstance(node, (ast.Raise, ast.Assert)) and node.lineno <= last.lineno <= node.end_lineno
        for node in ast.walk(tree)
    )


def _ask_for_scales(onnx: bytes, batches: list[dict[str, np.ndarray]], algorithm: str) -> bytes:
    """The judge has the batches, and says which scales come of them."""
    arrays = [array for batch in batches for array in batch.values()]
    _, (cache,) = ask_outside("scales", arrays, algorithm=algorithm)
    return cache.tobytes()


def _folder(names: Sequence[str], files: Sequence[np.ndarray]) -> Path:
    """A new folder with these files."""
    number = 0
    while (folder := Path.cwd() / f"work{number}").exists():
        number += 1
    folder.mkdir()
    for name, data in zip(names, files):
        (folder / Path(name).name).write_bytes(data.tobytes())
    return folder


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
