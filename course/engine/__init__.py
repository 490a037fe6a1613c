"""One engine interface, several runtimes. `from course.engine import build, load, BuildConfig, Profile`."""

from course.engine.api import available_runtimes, build, load, network_layers
from course.engine.base import Engine
from course.engine.config import BuildConfig
from course.engine.profiles import Profile
from course.engine.types import BuildProgress, Captured, Layer, LogLine, Memory, TensorInfo, TensorSpec

__all__ = [
    "BuildConfig",
    "BuildProgress",
    "Captured",
    "Engine",
    "Layer",
    "LogLine",
    "Memory",
    "Profile",
    "TensorInfo",
    "TensorSpec",
    "available_runtimes",
    "build",
    "load",
    "network_layers",
]
