"""The calibrator classes that a script derives its own from, with the bindings' habits."""

from __future__ import annotations

from .names import CalibrationAlgoType


class _Bound(type):
    """As pybind11 does: a class whose __init__ does not call its base's cannot be made."""

    def __call__(cls, *arguments, **words):
        made = super().__call__(*arguments, **words)
        if not getattr(made, "_base_is_ready", False):
            base = next(one for one in cls.__mro__ if one.__module__ == __name__)
            raise TypeError(f"tensorrt.tensorrt.{base.__name__}.__init__() must be called when overriding __init__")
        return made


class IInt8Calibrator(metaclass=_Bound):
    """What TensorRT asks for batches. Derive from IInt8EntropyCalibrator2 or IInt8MinMaxCalibrator."""

    _algorithm = None

    def __init__(self):
        self._base_is_ready = True

    def get_algorithm(self):
        """Which of `CalibrationAlgoType` it is."""
        if self._algorithm is None:
            raise RuntimeError('Tried to call pure virtual function "IInt8Calibrator::get_algorithm"')
        return self._algorithm

    def get_batch_size(self):
        """Images in a batch."""
        raise RuntimeError('Tried to call pure virtual function "IInt8Calibrator::get_batch_size"')

    def get_batch(self, names):
        """Addresses of the next batch in device memory, an int for each name; None or [] at the end."""
        raise RuntimeError("Method: get_batch was not overriden. Please provide an implementation for this method.")

    def read_calibration_cache(self):
        """The bytes of a cache that is there already, else None."""
        raise RuntimeError(
            "Method: read_calibration_cache was not overriden. Please provide an implementation for this method."
        )

    def write_calibration_cache(self, cache):
        """Keep the cache; its memory is TensorRT's, and gone when this returns."""
        raise RuntimeError(
            "Method: write_calibration_cache was not overriden. Please provide an implementation for this method."
        )


class IInt8EntropyCalibrator2(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.ENTROPY_CALIBRATION_2


class IInt8EntropyCalibrator(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.ENTROPY_CALIBRATION


class IInt8MinMaxCalibrator(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.MINMAX_CALIBRATION


class IInt8LegacyCalibrator(IInt8Calibrator):
    _algorithm = CalibrationAlgoType.LEGACY_CALIBRATION


ALL = (
    IInt8Calibrator,
    IInt8EntropyCalibrator2,
    IInt8EntropyCalibrator,
    IInt8MinMaxCalibrator,
    IInt8LegacyCalibrator,
)
IN_CACHES = {
    CalibrationAlgoType.LEGACY_CALIBRATION: "LegacyCalibration",
    CalibrationAlgoType.ENTROPY_CALIBRATION: "EntropyCalibration",
    CalibrationAlgoType.ENTROPY_CALIBRATION_2: "EntropyCalibration2",
    CalibrationAlgoType.MINMAX_CALIBRATION: "MinMaxCalibration",
}
"""What the first line of a cache calls them."""


def base_name(calibrator: IInt8Calibrator) -> str:
    """The class of TensorRT's that a calibrator derives from."""
    return next(one.__name__ for one in type(calibrator).__mro__ if one in ALL)
