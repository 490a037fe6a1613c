"""One engine interface, several runtimes. `from course.engine import build, load, BuildConfig, Profile`."""
from course.engine.api import (
    BuildConfig,
    BuildProgress,
    Captured,
    Engine,
    Layer,
    LogLine,
    Memory,
    Profile,
    TensorInfo,
    TensorSpec,
    available_runtimes,
    build,
    load,
    network_layers,
)

__all__ = [
    "BuildConfig", "BuildProgress", "Captured", "Engine", "Layer", "LogLine", "Memory", "Profile",
    "TensorInfo", "TensorSpec", "available_runtimes", "build", "load", "network_layers",
]
