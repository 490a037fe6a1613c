"""The plugin on a real GPU: compiled, an engine built from ONNX by a script, saved, and run by the script in a new process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from course.engine import available_runtimes
from course.errors import CourseError
from course.native import plugin


def end_to_end(script: str | Path, sources: str | Path, model: str | Path, plan: str | Path) -> str | None:
    """Run `script build LIBRARY MODEL PLAN`, then `script run LIBRARY MODEL PLAN`, each in a process of its own.

    Args:
        script: the learner's. sources: the plugin's folder. model: ONNX. plan: where the script puts the engine.

    Returns: what the second process printed; None, after a line that says it is open, where there is no TensorRT, no GPU or
        none of TensorRT's headers.

    Raises:
        CourseError: one of the processes failed; holds the end of what it said.
    """
    if reason := available_runtimes()["tensorrt"]:
        print(f"Open on this machine: {reason}")
        return None
    import torch

    try:
        major, minor = torch.cuda.get_device_capability()
        library = plugin.build(sources, architecture=f"sm_{major}{minor}")
    except CourseError as error:
        print(f"Open on this machine: {error}")
        return None
    said = ""
    for step in ("build", "run"):
        command = [sys.executable, script, step, library, model, plan]
        done = subprocess.run(list(map(str, command)), capture_output=True, encoding="utf-8", errors="replace")
        if done.returncode:
            raise CourseError(
                f"The step {step!r} of {Path(script).name} failed.",
                (done.stdout + done.stderr)[-1500:].strip(),
                "Run the same command in a terminal.",
            )
        said = done.stdout
        print(said, end="")
    return said
