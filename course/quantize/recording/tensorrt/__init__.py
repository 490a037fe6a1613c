"""A recording stand-in for TensorRT 8.6, for build scripts on a machine without a GPU.

Builder, network, ONNX parser, profiles and the build are TensorRT-RTX's: real parser errors, real checks of profiles,
a real plan (of TensorRT-RTX; nothing here runs it). What TensorRT-RTX does not have is here: the flags INT8, FP16 and
their like, EXPLICIT_BATCH, calibrators, precisions of layers, ranges of tensors. A build with the flag INT8, a
calibrator and a network without Q/DQ pairs drives the calibrator as 8.6 does; `recording.calibrate` computes the
scales. A node of a plugin is parsed while a library that knows it is open (`plugins`), and built of standard operators. Everything that was called is in `recording.events`.

What TensorRT does and this does not: choose and run kernels, so no INT8 for a calibrated network, no timing, no
`deserialize_cuda_engine`. This module imports nothing of the course.
"""

from __future__ import annotations

import tensorrt_rtx as _rtx

from . import names as _names
from . import recording
from .builder import Builder, OnnxParser, Runtime
from .calibrators import (
    IInt8Calibrator,
    IInt8EntropyCalibrator,
    IInt8EntropyCalibrator2,
    IInt8LegacyCalibrator,
    IInt8MinMaxCalibrator,
)
from .config import IBuilderConfig
from .config import TimingCache as ITimingCache
from .names import (
    BuilderFlag,
    CalibrationAlgoType,
    NetworkDefinitionCreationFlag,
    PreviewFeature,
    QuantizationFlag,
    TacticSource,
)
from .network import Network as INetworkDefinition
from .plugins import IPluginRegistry, get_plugin_registry

__version__ = "8.6.0"
RECORDING = True
"""Tells the stand-in from TensorRT."""

globals().update({name: getattr(_rtx, name) for name in _names.SHARED})
__all__ = [
    *_names.SHARED,
    "BuilderFlag",
    "Builder",
    "CalibrationAlgoType",
    "IBuilderConfig",
    "IInt8Calibrator",
    "IInt8EntropyCalibrator",
    "IInt8EntropyCalibrator2",
    "IInt8LegacyCalibrator",
    "IInt8MinMaxCalibrator",
    "INetworkDefinition",
    "IPluginRegistry",
    "ITimingCache",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "PreviewFeature",
    "QuantizationFlag",
    "Runtime",
    "TacticSource",
    "get_plugin_registry",
    "recording",
]
