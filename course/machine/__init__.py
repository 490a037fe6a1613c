"""What this machine has, in one value, and what that means for the course.

`look` collects raw facts, `judge` turns them into one `Component` each, `table` prints them.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
from collections.abc import Callable
from dataclasses import asdict

from course.machine import look
from course.machine.judge import judge
from course.machine.parts import Component, Hardware

__all__ = ["Component", "Hardware", "describe_machine", "probe"]

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt_rtx",
    "pycuda",
)
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd")
"""Those that decide how fast a CPU multiplies matrices, in INT8 above all."""


def probe(seen: Callable[[str], None] = lambda name: None) -> Hardware:
    """Look at this machine; takes some seconds. `seen` is called with the name of each part that has answered."""
    return judge(look.look(seen))


@functools.cache
def _still() -> dict:
    """What does not change while a program runs."""
    driver = look.ask_driver()
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    model, features = _cpu()
    return {
        "cpu": model,
        "cpu_features": features,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(look.memory_bytes() / 1e9, 1),
        "os": _operating_system(),
        "kernel": platform.release(),
        "gpus": [{**asdict(gpu), "memory_gb": round(gpu.memory_bytes / 1e9, 1)} for gpu in driver.gpus],
        "driver": driver.version,
        "cuda": driver.cuda,
        "python": platform.python_version(),
        "packages": versions,
    }


def describe_machine() -> dict:
    """The machine for the record of a measurement, ready for JSON.

    Keys: cpu, cpu_features, cores (that this process may use), memory_gb, os, kernel, gpus (name, capability, memory,
    SM clock now and at most in MHz), driver, cuda (newest that the driver takes), python, packages (name -> version),
    load (mean number of busy cores over the last minute).
    """
    return {**_still(), "load": round(os.getloadavg()[0], 2)}


def _cpu() -> tuple[str, list[str]]:
    try:
        with open("/proc/cpuinfo") as file:
            text = file.read()
    except OSError:
        return platform.processor() or platform.machine(), []
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    return model[1] if model else platform.machine(), [name for name in CPU_FEATURES if name in known]


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()
