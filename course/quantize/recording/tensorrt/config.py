"""`IBuilderConfig` of 8.6: every setting is recorded; those that TensorRT-RTX has, too, reach its own config."""

from __future__ import annotations

from typing import Any

import tensorrt_rtx as rtx

from .calibrators import IInt8Calibrator, base_name
from .names import BuilderFlag, PreviewFeature, QuantizationFlag, TacticSource, member
from .recording import record

_TO_RTX = ("DEBUG", "TF32", "SPARSE_WEIGHTS", "DISABLE_TIMING_CACHE", "DIRECT_IO")
"""Flags that are passed on; TensorRT-RTX lacks the others, or cannot build with them."""
_DEFAULT_SOURCES = sum(1 << int(source) for source in TacticSource)


class TimingCache:
    """`ITimingCache`. The stand-in times no kernels, so it keeps what it was given and adds nothing."""

    def __init__(self, data: bytes):
        self._data = data

    def serialize(self) -> bytes:
        return self._data

    def combine(self, other: TimingCache, ignore_mismatch: bool) -> bool:
        return isinstance(other, TimingCache)

    def reset(self) -> bool:
        self._data = b""
        return True


class IBuilderConfig:
    """What `Builder.create_builder_config` gives. A name that 8.6 does not have is an AttributeError, as there."""

    __slots__ = (
        "_real",
        "_flags",
        "_calibrator",
        "_calibration_profile",
        "_profiles",
        "_pools",
        "_level",
        "_cache",
        "_previews",
        "_sources",
        "_quantization",
        "_plain",
        "__weakref__",
    )
    _PLAIN = {
        "avg_timing_iterations": 1,
        "min_timing_iterations": 1,
        "max_aux_streams": -1,
        "profile_stream": 0,
        "default_device_type": rtx.DeviceType.GPU,
        "DLA_core": -1,
        "engine_capability": rtx.EngineCapability.STANDARD,
        "hardware_compatibility_level": rtx.HardwareCompatibilityLevel.NONE,
        "profiling_verbosity": rtx.ProfilingVerbosity.LAYER_NAMES_ONLY,
        "algorithm_selector": None,
        "plugins_to_serialize": [],
    }

    def __init__(self, real: rtx.IBuilderConfig):
        self._real = real
        self._clear()

    def _clear(self) -> None:
        self._flags = {BuilderFlag.TF32}
        self._calibrator = self._calibration_profile = self._cache = None
        self._profiles: list[rtx.IOptimizationProfile] = []
        self._pools: dict[str, int] = {}
        self._level = 3
        self._previews: dict[PreviewFeature, bool] = {}
        self._sources, self._quantization = _DEFAULT_SOURCES, 0
        self._plain = dict(self._PLAIN)

    def reset(self) -> None:
        record("IBuilderConfig.reset")
        self._real.reset()
        self._clear()

    # flags

    def set_flag(self, flag: BuilderFlag) -> None:
        self._flag("set_flag", flag)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self._flag("clear_flag", flag)

    def _flag(self, call: str, flag: BuilderFlag) -> None:
        member(BuilderFlag, flag, call)
        record(f"IBuilderConfig.{call}", flag=flag.name)
        (self._flags.add if call == "set_flag" else self._flags.discard)(flag)
        if flag.name in _TO_RTX:
            getattr(self._real, call)(getattr(rtx.BuilderFlag, flag.name))

    def get_flag(self, flag: BuilderFlag) -> bool:
        return member(BuilderFlag, flag, "get_flag") in self._flags

    @property
    def flags(self) -> int:
        return sum(1 << int(flag) for flag in self._flags)

    @flags.setter
    def flags(self, mask: int) -> None:
        for flag in BuilderFlag:
            if (wanted := bool(mask >> int(flag) & 1)) != (flag in self._flags):
                self._flag("set_flag" if wanted else "clear_flag", flag)

    def set_quantization_flag(self, flag: QuantizationFlag) -> None:
        self._quantization |= 1 << int(member(QuantizationFlag, flag, "set_quantization_flag"))
        record("IBuilderConfig.set_quantization_flag", flag=flag.name)

    def clear_quantization_flag(self, flag: QuantizationFlag) -> None:
        self._quantization &= ~(1 << int(member(QuantizationFlag, flag, "clear_quantization_flag")))
        record("IBuilderConfig.clear_quantization_flag", flag=flag.name)

    def get_quantization_flag(self, flag: QuantizationFlag) -> bool:
        return bool(self._quantization >> int(member(QuantizationFlag, flag, "get_quantization_flag")) & 1)

    @property
    def quantization_flags(self) -> int:
        return self._quantization

    # calibration and profiles

    @property
    def int8_calibrator(self) -> IInt8Calibrator | None:
        return self._calibrator

    @int8_calibrator.setter
    def int8_calibrator(self, calibrator: IInt8Calibrator | None) -> None:
        if not isinstance(calibrator, (IInt8Calibrator, type(None))):
            raise TypeError(f"int8_calibrator takes a tensorrt.IInt8Calibrator, not {type(calibrator).__name__}.")
        self._calibrator = calibrator
        record("IBuilderConfig.int8_calibrator", **calibrator_words(calibrator))

    def set_calibration_profile(self, profile: rtx.IOptimizationProfile | None) -> bool:
        if not isinstance(profile, (rtx.IOptimizationProfile, type(None))):
            raise TypeError("set_calibration_profile takes a tensorrt.IOptimizationProfile.")
        record("IBuilderConfig.set_calibration_profile", given=profile is not None)
        self._calibration_profile = profile
        return True

    def get_calibration_profile(self) -> rtx.IOptimizationProfile | None:
        return self._calibration_profile

    def add_optimization_profile(self, profile: rtx.IOptimizationProfile) -> int:
        number = self._real.add_optimization_profile(profile)
        record("IBuilderConfig.add_optimization_profile", number=number)
        if number >= 0:
            self._profiles.append(profile)
        return number

    @property
    def num_optimization_profiles(self) -> int:
        return self._real.num_optimization_profiles

    # memory, time, kernels

    def set_memory_pool_limit(self, pool: rtx.MemoryPoolType, size: int) -> None:
        self._real.set_memory_pool_limit(pool, size)
        self._pools[pool.name] = int(size)
        record("IBuilderConfig.set_memory_pool_limit", pool=pool.name, bytes=int(size))

    def get_memory_pool_limit(self, pool: rtx.MemoryPoolType) -> int:
        return self._pools.get(pool.name, self._real.get_memory_pool_limit(pool))

    @property
    def max_workspace_size(self) -> int:
        return self.get_memory_pool_limit(rtx.MemoryPoolType.WORKSPACE)

    @max_workspace_size.setter
    def max_workspace_size(self, size: int) -> None:
        self.set_memory_pool_limit(rtx.MemoryPoolType.WORKSPACE, size)

    @property
    def builder_optimization_level(self) -> int:
        return self._level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        if not isinstance(level, int):
            raise TypeError(f"builder_optimization_level takes an int, not {level!r}.")
        self._level = level
        record("IBuilderConfig.builder_optimization_level", level=level)
        if level in range(6):  # others are an error at the build
            self._real.builder_optimization_level = level

    def create_timing_cache(self, serialized_timing_cache: Any) -> TimingCache:
        return TimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        record("IBuilderConfig.set_timing_cache", bytes=len(cache.serialize()))
        self._cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._cache

    def set_tactic_sources(self, tactic_sources: int) -> bool:
        self._sources = int(tactic_sources)
        names = [source.name for source in TacticSource if self._sources >> int(source) & 1]
        record("IBuilderConfig.set_tactic_sources", sources=names)
        return True

    def get_tactic_sources(self) -> int:
        return self._sources

    def set_preview_feature(self, feature: PreviewFeature, enable: bool) -> None:
        self._previews[member(PreviewFeature, feature, "set_preview_feature")] = bool(enable)
        record("IBuilderConfig.set_preview_feature", feature=feature.name, enable=bool(enable))

    def get_preview_feature(self, feature: PreviewFeature) -> bool:
        return self._previews.get(member(PreviewFeature, feature, "get_preview_feature"), False)


def _plain(name: str) -> property:
    def write(config: IBuilderConfig, value: Any) -> None:
        config._plain[name] = value
        shown = getattr(value, "name", value)
        record(f"IBuilderConfig.{name}", value=shown if isinstance(shown, (int, float, str, list)) else repr(shown))
        if name == "profiling_verbosity":
            config._real.profiling_verbosity = value

    return property(lambda config: config._plain[name], write)


for _name in IBuilderConfig._PLAIN:
    setattr(IBuilderConfig, _name, _plain(_name))


def calibrator_words(calibrator: IInt8Calibrator | None) -> dict[str, str]:
    """The class of the script and the class of TensorRT's behind it."""
    if calibrator is None:
        return {"class": "", "base": ""}
    return {"class": type(calibrator).__name__, "base": base_name(calibrator)}
