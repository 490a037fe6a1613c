"""`Builder`, `OnnxParser` and `Runtime`: TensorRT-RTX builds, 8.6's INT8 rules come before it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt_rtx as rtx

from . import calibration, plugins, recording
from .config import IBuilderConfig, calibrator_words
from .names import BuilderFlag, NetworkDefinitionCreationFlag
from .network import Network, real
from .recording import record

_NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool", "UINT8": "uint8"}
_IMPLICIT_BATCH = (
    'Assertion failed: !mImporterCtx.network()->hasImplicitBatchDimension() && "This version of the ONNX parser only '
    "supports TensorRT INetworkDefinitions with an explicit batch dimension. Please ensure the network was created "
    'using the EXPLICIT_BATCH NetworkDefinitionCreationFlag."'
)
_told = False


class Builder:
    """Builds with TensorRT-RTX. What 8.6 would have asked or refused about INT8 happens before that."""

    platform_has_fast_fp16 = platform_has_fast_int8 = platform_has_tf32 = True
    num_DLA_cores = 0

    def __init__(self, logger: Any):
        global _told
        plugins.loggers.append(logger)
        self._real, self.logger = rtx.Builder(logger), logger
        record("Builder", stands_in_for="8.6", builds_with=f"TensorRT-RTX {rtx.__version__}")
        if not _told:
            self._say("WARNING", recording.NOTICE)
            _told = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._real, name)

    def create_network(self, flags: int = 0) -> Network:
        flags = int(flags)
        names = [flag.name for flag in NetworkDefinitionCreationFlag if flags >> int(flag) & 1]
        record("Builder.create_network", flags=names)
        return Network(self._real.create_network(0), "EXPLICIT_BATCH" in names)

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._real.create_builder_config())

    def create_optimization_profile(self) -> rtx.IOptimizationProfile:
        return self._real.create_optimization_profile()

    def is_network_supported(self, network: Network, config: IBuilderConfig) -> bool:
        return self._real.is_network_supported(real(network), config._real)

    def build_serialized_network(self, network: Network, config: IBuilderConfig) -> Any:
        """The plan, of TensorRT-RTX; None if the build failed, with the reason in the log."""
        if not isinstance(network, Network) or not isinstance(config, IBuilderConfig):
            raise TypeError("build_serialized_network takes an INetworkDefinition and an IBuilderConfig.")
        asked = record("Builder.build_serialized_network", **_asked(network, config))
        try:
            self._prepare_int8(network, config, asked)
        except calibration.Failed as error:
            self._say("ERROR", str(error))
            record("built", bytes=0, words=str(error))
            return None
        plan = self._real.build_serialized_network(real(network), config._real)
        int8 = "with the pairs' INT8 kernels" if asked["quantised"] else "in the precisions of the network itself"
        record("built", bytes=0 if plan is None else plan.nbytes, words=f"by TensorRT-RTX, {int8}")
        return plan

    def _prepare_int8(self, network: Network, config: IBuilderConfig, asked: dict) -> None:
        """8.6's rules, in its words."""
        if config.builder_optimization_level not in range(6):
            raise calibration.Failed(
                f"The builder optimization level {config.builder_optimization_level} is not 0 to 5."
            )
        if BuilderFlag.INT8 not in config._flags:
            if asked["quantised"]:
                raise calibration.Failed(
                    "INT8 mode needs to be enabled for networks with INT8 QuantizeLayer/DequantizeLayer layers."
                )
            if config.int8_calibrator is not None:
                record("problem", where="int8_calibrator", words="It is not used: the flag INT8 is not set.")
            return
        if asked["quantised"]:
            if config.int8_calibrator is not None:
                self._say(
                    "WARNING",
                    "Calibrator won't be used in explicit precision mode. Use quantization aware training to generate "
                    "network with Quantize/Dequantize nodes.",
                )
                record("problem", where="int8_calibrator", words="It is not used: the network has Q/DQ pairs.")
            return
        if config.int8_calibrator is None:
            self._say(
                "WARNING",
                "Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32 or "
                "Bool.",
            )
            ranged = network._ranged()
            missing = [tensor for tensor in network._tensors() if tensor not in ranged]
            if not ranged:
                raise calibration.Failed(
                    "Calibration failure occurred with no scaling factors detected. This could be due to no int8 "
                    "calibrator or insufficient custom scales for network layers. Please see int8 sample to setup "
                    "calibration correctly."
                )
            self._missing(missing)
            record("calibrated", algorithm="", batches=0, cache="", missing=missing)
            return
        inputs = self._calibration_inputs(network, config)
        done = calibration.run(config.int8_calibrator, network._onnx, inputs, network._tensors(), self._say)
        self._missing(done["missing"])
        record("calibrated", **done)

    def _missing(self, tensors: list[str]) -> None:
        for tensor in tensors:
            self._say(
                "WARNING",
                f"Missing scale and zero-point for tensor {tensor}, expect fall back to non-int8 implementation for any "
                "layer consuming or producing given tensor",
            )

    def _calibration_inputs(self, network: Network, config: IBuilderConfig) -> calibration.Inputs:
        """Shape and dtype of each input's batch: the optimal shape of the calibration profile, else of profile 0."""
        profile = config.get_calibration_profile()
        found = {}
        for tensor in (network._real.get_input(index) for index in range(network.num_inputs)):
            shape = tuple(tensor.shape)
            if -1 in shape:
                if profile is None:
                    self._say("WARNING", "Calibration Profile is not defined. Calibrating with Profile 0")
                    profile = next(iter(config._profiles), None)
                shapes = [] if profile is None else profile.get_shape(tensor.name)
                if not shapes:
                    raise calibration.Failed(
                        "Network has dynamic or shape inputs, but no optimization profile has been defined."
                    )
                shape = tuple(shapes[1])
            found[tensor.name] = shape, np.dtype(_NUMPY[tensor.dtype.name])
        return found

    def _say(self, severity: str, text: str) -> None:
        self.logger.log(getattr(rtx.ILogger, severity), text)


def _asked(network: Network, config: IBuilderConfig) -> dict[str, object]:
    """What a build was asked for."""
    names = [network._real.get_input(index).name for index in range(network.num_inputs)]

    def shapes(profile: rtx.IOptimizationProfile) -> dict[str, list[list[int]]]:
        return {name: [list(shape) for shape in profile.get_shape(name)] for name in names}

    calibrated = config.get_calibration_profile()
    return {
        "network": "" if network._onnx is None else hashlib.sha256(network._onnx).hexdigest(),
        "explicit_batch": network._explicit_batch,
        "quantised": network._quantised(),
        "flags": sorted(flag.name for flag in config._flags),
        "profiles": [shapes(profile) for profile in config._profiles],
        "calibration_profile": None if calibrated is None else shapes(calibrated),
        "calibrator": calibrator_words(config.int8_calibrator),
        "level": config.builder_optimization_level,
        "pools": dict(config._pools),
        "precisions": {name: asked["precision"].name for name, asked in network._asked.items() if "precision" in asked},
    }


class OnnxParser(rtx.OnnxParser):
    """TensorRT-RTX's parser. Without EXPLICIT_BATCH it refuses, as 8.6's does."""

    def __init__(self, network: Network, logger: Any):
        plugins.loggers.append(logger)
        super().__init__(real(network), logger)
        self._network, self._logger, self._refused = network, logger, []

    def parse(self, model: Any, path: str | None = None) -> bool:
        data = bytes(model)
        self._refused = []
        if not self._network._explicit_batch:
            self._refused = [_Refusal(_IMPLICIT_BATCH)]
            self._logger.log(rtx.ILogger.ERROR, _IMPLICIT_BATCH)
            good = False
        else:
            good = super().parse(plugins.in_standard_operators(data), path)
        record("OnnxParser.parse", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), good=good)
        if good:
            self._network._onnx = data
        return good

    def parse_from_file(self, model: str) -> bool:
        try:
            data = Path(model).read_bytes()
        except OSError:
            record("OnnxParser.parse", bytes=0, sha256="", good=False)
            return super().parse_from_file(str(model))  # its own error
        return self.parse(data, str(model))

    @property
    def num_errors(self) -> int:
        return len(self._refused) or super().num_errors

    def get_error(self, index: int) -> Any:
        return self._refused[index] if self._refused else super().get_error(index)

    def clear_errors(self) -> None:
        self._refused = []
        super().clear_errors()


class _Refusal:
    """A `ParserError` of ours."""

    def __init__(self, words: str):
        self._words = words

    def desc(self) -> str:
        return self._words

    def node(self) -> int:
        return -1

    def __str__(self) -> str:
        return f"In node -1 (importModel): INVALID_VALUE: {self._words}"


class Runtime:
    """Engines run on a GPU, with TensorRT itself."""

    def __init__(self, logger: Any):
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: Any) -> None:
        """None, as for every failure, with the reason in the log."""
        record("Runtime.deserialize_cuda_engine", bytes=len(bytes(serialized_engine)))
        self.logger.log(rtx.ILogger.ERROR, f"No engine can be run here. {recording.NOTICE}")
