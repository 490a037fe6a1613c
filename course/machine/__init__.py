"""What this machine has, in one value, and what that means for the course.

`probes.look` collects raw facts, `verdicts.judge` turns them into one `Component` each, `doctor` prints them.
"""
from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

from course.machine import look

PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "tensorrt",
            "tensorrt_rtx", "pycuda")
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd")
"""Those that decide how fast a CPU multiplies matrices, in INT8 above all."""


@dataclass(frozen=True)
class Component:
    """One part of the machine.

    Args:
        found: it is there and answers.
        unlocks: what it is for in the course.
        problem: what is wrong with it, None if nothing is.
        next_step: what to do where it is missing or has a problem: a command if there is one, then, on a second
            line, what else to know.
    """
    name: str
    found: bool
    version: str | None = None
    where: str | None = None
    unlocks: str = ""
    problem: str | None = None
    next_step: str | None = None

    @property
    def state(self) -> str:
        """"ok", "problem" or "missing"."""
        return "problem" if self.problem else "ok" if self.found else "missing"


@dataclass(frozen=True)
class Hardware:
    """The machine, part by part: `probe()["GPU"]`."""
    components: tuple[Component, ...]

    def __getitem__(self, name: str) -> Component:
        return next(component for component in self.components if component.name == name)

    @property
    def lane(self) -> str:
        """"gpu" where TensorRT can build and run engines, else "cpu"."""
        return "gpu" if all(self[name].state == "ok" for name in ("GPU", "Driver", "TensorRT", "PyTorch")) else "cpu"

    @property
    def ready(self) -> bool:
        """Whether the lessons run, on a CPU at least."""
        return all(self[name].found for name in ("Python", "PyTorch", "ONNX", "ONNX Runtime"))

    def to_json(self) -> str:
        """`lane`, `ready` and `components`, each with its `state`."""
        components = [{**asdict(component), "state": component.state} for component in self.components]
        return json.dumps({"lane": self.lane, "ready": self.ready, "components": components}, indent=1, ensure_ascii=False)


def probe(seen: Callable[[str], None] = lambda name: None) -> Hardware:
    """Look at this machine; takes some seconds. `seen` is called with the name of each part that has answered."""
    from course.machine.judge import judge

    return judge(look.look(seen))


@functools.lru_cache(maxsize=None)
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
        "cpu": model, "cpu_features": features, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(look.memory_bytes() / 1e9, 1), "os": _operating_system(), "kernel": platform.release(),
        "gpus": [{**asdict(gpu), "memory_gb": round(gpu.memory_bytes / 1e9, 1)} for gpu in driver.gpus],
        "driver": driver.version, "cuda": driver.cuda, "python": platform.python_version(), "packages": versions,
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
