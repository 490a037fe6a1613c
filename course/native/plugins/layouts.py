"""Types and formats of tensors as TensorRT numbers them, and arrays in those layouts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TYPES = {"float32": 0, "float16": 1, "int8": 2, "int32": 3}
"""NumPy's name -> DataType."""
NAMES = {number: name for name, number in TYPES.items()}
FORMATS = {0: "kLINEAR", 1: "kCHW2", 2: "kHWC8", 3: "kCHW4", 4: "kCHW16", 5: "kCHW32"}
"""TensorFormat -> its name."""
_VECTORS = {1: 2, 2: 8, 3: 4, 4: 16, 5: 32}  # channels that lie together
_TYPES_OF = {0: (0, 1, 2, 3), 1: (1,), 2: (1,), 3: (1, 2), 4: (1,), 5: (0, 1, 2)}  # NvInferRuntimeBase.h, TensorFormat
SCALE = 0.05
"""Of INT8 tensors."""


def asked(rank: int) -> list[tuple[int, int]]:
    """(type, format) that TensorRT may offer for a tensor of this rank: vectors of channels need at least C, H, W."""
    return [(kind, layout) for layout in FORMATS for kind in _TYPES_OF[layout] if layout == 0 or rank >= 3]


def words(combination: Sequence[Sequence[int]]) -> str:
    """As "float16 kLINEAR, float16 kLINEAR"."""
    return ", ".join(f"{NAMES[kind]} {FORMATS[layout]}" for kind, layout in combination)


def quantised(array: np.ndarray, kind: int) -> np.ndarray:
    """The values as a tensor of this type holds them."""
    if kind == TYPES["int8"]:
        return np.clip(np.rint(array / SCALE), -128, 127).astype(np.int8)
    return array.astype(NAMES[kind])


def dequantised(array: np.ndarray) -> np.ndarray:
    """The numbers that they stand for."""
    return array.astype(np.float32) * SCALE if array.dtype == np.int8 else array


def pack(array: np.ndarray, layout: int) -> np.ndarray:
    """(..., C, H, W) as it lies in memory; channels are filled up with zeros."""
    if layout == 0:
        return array
    vector = _VECTORS[layout]
    fill = -array.shape[-3] % vector
    full = np.concatenate([array, np.zeros((*array.shape[:-3], fill, *array.shape[-2:]), array.dtype)], axis=-3)
    if layout == 2:
        return np.ascontiguousarray(np.moveaxis(full, -3, -1))
    parts = full.reshape(*full.shape[:-3], full.shape[-3] // vector, vector, *full.shape[-2:])
    return np.ascontiguousarray(np.moveaxis(parts, -3, -1))


def packed_shape(shape: Sequence[int], layout: int) -> tuple[int, ...]:
    """The shape of what `pack` returns."""
    return pack(np.empty(shape, np.int8), layout).shape


def unpack(array: np.ndarray, layout: int, shape: Sequence[int]) -> np.ndarray:
    """What `pack` was given, of this shape, without the filling."""
    if layout == 0:
        return array.reshape(shape)
    if layout == 2:
        full = np.moveaxis(array, -1, -3)
    else:
        parts = np.moveaxis(array, -1, -3)
        full = parts.reshape(*parts.shape[:-4], parts.shape[-4] * parts.shape[-3], *parts.shape[-2:])
    return full[..., : shape[-3], :, :].reshape(shape)
