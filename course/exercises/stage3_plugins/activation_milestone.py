"""Milestone 3a: the build script, tried before the grader does it. Nothing here gives points.

rehearse("m3a", "artifacts/mish_net.onnx")
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from course.engine import available_runtimes
from course.errors import CourseError
from course.models.mish import SIZE, onnx_function
from course.native import plugin
from course.quantize import recording

SHAPES = [f"{batch}x3x{SIZE}x{SIZE}" for batch in (1, 2, 8)]
SECONDS, UNWRITTEN = 600, "not written yet"


def rehearse(folder: str | Path, network: str | Path) -> None:
    """Run build_engine.py of a folder three times, each in a process of its own, and print what came of it: of the network in FP32
    and with FP16 allowed, and of half its file.

    With TensorRT the library is the folder's plugin. Elsewhere the course's stand-in for TensorRT 8.6 builds, and the library is
    one that knows the node in standard operators.
    """
    script, model = Path(folder, "build_engine.py").resolve(), Path(network).resolve()
    if not model.is_file():
        return print(f"{network} is not there yet.")
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        try:
            library, variables = _library(folder, work)
        except CourseError as error:
            return print(error)
        half = work / "half.onnx"
        half.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
        runs = ("FP32", model, []), ("FP16", model, ["fp16"]), ("half of the file, which must be an error", half, [])
        for number, (title, onnx, words) in enumerate(runs):
            plan = work / f"{number}.plan"
            command = [sys.executable, script, onnx, plan, library, *SHAPES, *words]
            came = _run(list(map(str, command)), variables, plan)
            print(f"{title}: {came}")
            if came.startswith(UNWRITTEN):
                return None


def _library(folder: str | Path, work: Path) -> tuple[Path, dict[str, str]]:
    """A library for the script, and the environment in which it is to run.

    Raises:
        CourseError: neither TensorRT nor the stand-in works here, or the plugin does not compile.
    """
    reasons = available_runtimes()
    if reasons["tensorrt"] is None:
        import tensorrt
        import torch

        print(f"TensorRT {tensorrt.__version__}, and your plugin")
        major, minor = torch.cuda.get_device_capability()
        return plugin.build(folder, architecture=f"sm_{major}{minor}"), dict(os.environ)
    if reasons["rtx"] is not None:
        raise CourseError("Open on this machine.", f"{reasons['tensorrt']} {reasons['rtx']}", "Run `course doctor`.")
    print("A stand-in for TensorRT 8.6, and for your plugin's library: a real parser and a real build; nothing is run.")
    before = os.environ.get("PYTHONPATH")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(recording.FOLDER), before)))}
    return plugin.stand_in_library(onnx_function(), work / "libactivation.so"), variables


def _run(command: list[str], variables: dict[str, str], plan: Path) -> str:
    """What came of it, in a line."""
    try:
        done = subprocess.run(
            command, env=variables, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"It did not end within {SECONDS} s."
    said = done.stderr.strip().splitlines()
    if done.returncode == 0:
        return f"a plan of {plan.stat().st_size / 1e6:.2f} MB" if plan.is_file() else "no error, and no plan"
    if said and said[-1].startswith("NotImplementedError"):
        place = re.findall(r'build_engine\.py", line (\d+), in build', done.stderr)
        return f"{UNWRITTEN} (build_engine.py, line {place[-1] if place else '?'})"
    return said[-1] if said else f"The process ended with status {done.returncode}."
