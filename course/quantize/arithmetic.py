"""The arithmetic of INT8: scale and zero point from a range, values to integers and back, the noise that this adds.

    symmetric   scale = max(-low, high) / 127           zero point 0      integers -127 … 127
    asymmetric  scale = (high - low) / 255              zero point = round(-128 - low / scale), integers -128 … 127

TensorRT takes symmetric scales only. (Nagel et al. 2021, arXiv:2106.08295, section 2; the symmetric range leaves -128
out so that it is the same on both sides: "restricted range" there, and what TensorRT's amax / 127 means.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from course.errors import CourseError, ShapeError

LARGEST = 127


@dataclass(frozen=True, eq=False)
class Range:
    """What the integers should cover: float32 [C], C channels, 1 for a whole tensor. Values outside are clipped."""

    low: np.ndarray
    high: np.ndarray

    @property
    def amax(self) -> np.ndarray:
        """Largest magnitude, float32 [C]."""
        return np.maximum(-self.low, self.high)


@dataclass(frozen=True, eq=False)
class Parameters:
    """How floats become integers: q = clip(round(x / scale) + zero_point).

    scale: float32 [C], above 0. zero_point: int8 [C], zeros if symmetric.
    axis: of the channels in the tensor; None for one scale for all of it.
    """

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int | None = None

    @property
    def symmetric(self) -> bool:
        """Whether zero is 0 in every channel."""
        return not self.zero_point.any()


def parameters(range: Range, symmetric: bool = True, axis: int | None = None) -> Parameters:
    """Scale and zero point for a range. A range of nothing but zero gets scale 1, as every scale is right there.

    Raises:
        CourseError: a bound is not finite, or low lies above high.
        ShapeError: several channels without an axis.
    """
    low, high = (np.atleast_1d(np.asarray(bound, np.float64)) for bound in (range.low, range.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise CourseError(
            "There is no scale for this range.",
            f"It goes from {low} to {high}.",
            "Calibrate with data that gives finite values.",
        )
    if axis is None and len(low) != 1:
        raise ShapeError(
            f"The range has {len(low)} channels.",
            "No axis says which dimension they are.",
            "Give axis=0 for the weights of a convolution, or calibrate the whole tensor.",
        )
    if symmetric:
        scale = np.maximum(-low, high) / LARGEST
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)  # zero must be exact: padding and ReLU make many of them
        scale = (high - low) / 255
    scale = _positive(scale)
    zero_point = np.zeros(scale.shape) if symmetric else np.clip(np.rint(-128 - low / scale), -128, 127)
    return Parameters(scale, zero_point.astype(np.int8), axis)


def _positive(scale: np.ndarray) -> np.ndarray:
    """float32 scales, 1 where nothing of them is left in float32's normal numbers."""
    scale = scale.astype(np.float32)
    return np.where(scale < np.finfo(np.float32).tiny, np.float32(1), scale)


def quantize(values: np.ndarray, parameters: Parameters) -> np.ndarray:
    """float32 -> int8 of the same shape: round half to even, then clip, as QuantizeLinear does."""
    scale, zero_point = _spread(values, parameters)
    lowest = -LARGEST if parameters.symmetric else -128
    return np.clip(np.rint(values / scale) + zero_point, lowest, 127).astype(np.int8)


def dequantize(integers: np.ndarray, parameters: Parameters) -> np.ndarray:
    """int8 -> float32 of the same shape."""
    scale, zero_point = _spread(integers, parameters)
    return (integers.astype(np.float32) - zero_point) * scale


def fake_quantize(values: np.ndarray, parameters: Parameters) -> np.ndarray:
    """float32 -> the float32 values that are left after int8: what a pair of Q and DQ computes."""
    return dequantize(quantize(values, parameters), parameters)


@dataclass
class Noise:
    """Sums of squares over any number of batches. signal: of the exact values; noise: of the differences from them."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, exact: np.ndarray, found: np.ndarray) -> None:
        """Take in a batch.

        Raises:
            ShapeError: the arrays have different shapes.
        """
        if np.shape(exact) != np.shape(found):
            raise ShapeError(
                "There is no SQNR of these arrays.",
                f"Shapes {np.shape(exact)} and {np.shape(found)} differ.",
                "Compare the same tensor of the same input.",
            )
        exact = np.asarray(exact, np.float32).ravel()
        difference = np.asarray(found, np.float32).ravel() - exact
        self.signal += float(np.dot(exact, exact))
        self.noise += float(np.dot(difference, difference))

    @property
    def sqnr_db(self) -> float:
        """10 log10(signal / noise) in dB; infinite where nothing was lost, minus infinite without a signal."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def sqnr_db(exact: np.ndarray, found: np.ndarray) -> float:
    """Signal to quantisation noise, in dB: 10 log10(sum exact^2 / sum (found - exact)^2). 6.02 dB are one bit.

    Raises:
        ShapeError: the arrays have different shapes.
    """
    noise = Noise()
    noise.add(exact, found)
    return noise.sqnr_db


def _spread(values: np.ndarray, parameters: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point in a shape that broadcasts with the values."""
    if parameters.axis is None:
        return parameters.scale.reshape(()), parameters.zero_point.reshape(()).astype(np.float32)
    shape = [1] * values.ndim
    if values.ndim <= parameters.axis or values.shape[parameters.axis] != len(parameters.scale):
        raise ShapeError(
            f"An array of shape {values.shape} does not fit its scales.",
            f"There are {len(parameters.scale)} of them, for axis {parameters.axis}.",
            "Use the axis that the range was made for.",
        )
    shape[parameters.axis] = -1
    return parameters.scale.reshape(shape), parameters.zero_point.astype(np.float32).reshape(shape)
