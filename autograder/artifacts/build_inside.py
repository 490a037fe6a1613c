"""What the processes share that hold a build script: a `tensorrt` that it can import, folders for its files, and the call of
its `build`.
"""

from __future__ import annotations

import ast
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from autograder.artifacts.script_inside import guarded
from autograder.sandbox.serve import Refused

MOST_PLAN_BYTES = 64 << 20
ONNX, PLAN = "model.onnx", "model.plan"


def tensorrt(stand_in: str, real: bool, needs: str = "") -> ModuleType:
    """TensorRT if it is wanted and has the name `needs`; else the stand-in in the folder `stand_in`, beside which no CUDA is
    seen: it reads the CPU's memory, so scripts must put their batches there, and builds as on a machine without a GPU.

    Raises:
        Refused: the stand-in is needed and does not work here.
    """
    without = ""
    if real:
        trt = importlib.import_module("tensorrt")
        if not needs or hasattr(trt, needs):
            return trt
        without = f"TensorRT {trt.__version__} has no {needs}. "
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


def found(module: ModuleType, path: Path, name: str) -> Callable:
    """A class or a function of the script.

    Raises:
        Refused: it has none of this name.
    """
    one = getattr(module, name, None)
    if not callable(one):
        raise Refused(f"{path.name} has no {name}.", "It is asked for by this name.", f"Write {name}.")
    return one


def folder(names: Sequence[str], files: Sequence[np.ndarray]) -> Path:
    """A new folder with these files."""
    number = 0
    while (made := Path.cwd() / f"work{number}").exists():
        number += 1
    made.mkdir()
    for name, data in zip(names, files):
        (made / Path(name).name).write_bytes(data.tobytes())
    return made


def call(path: Path, function: Callable, plan: Path, *arguments: object, **words: object):
    """Call a script's `build`, which is to write a plan. An error of it is an answer, too.

    Answers: "plan" (bytes of the file that was written, -1 if none), "raised" (words, or ""), "meant" (whether a raise or an
    assert of the script's folder raised it); and the plan itself, if it is not too large.
    """
    raised, on_purpose = "", False

    def build() -> None:
        nonlocal on_purpose
        try:
            function(*arguments, **words)
        except (Exception, SystemExit) as error:
            on_purpose = meant(error, path.parent)
            raise

    try:
        guarded(path, f"build of {path.name} raised an error.", build)
    except Refused as error:
        raised = f"{error.what} {error.cause}"
    size = plan.stat().st_size if plan.is_file() else -1
    return {"plan": size, "raised": raised, "meant": on_purpose}, _read(plan)


def _read(plan: Path) -> list[np.ndarray]:
    if not plan.is_file() or plan.is_symlink() or not 0 < plan.stat().st_size <= MOST_PLAN_BYTES:
        return []
    return [np.frombuffer(plan.read_bytes(), np.uint8)]


def meant(error: BaseException, folder: Path) -> bool:
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
