"""An INT8 calibrator for TensorRT 8.6 and 10. (TensorRT 11 has none: there the scales stand in the model, as Q/DQ pairs.)

You hand this file in. The grader makes a Calibrator over images of its own, lets TensorRT build a network with it, and
does that once more in a new process. Keep the class's name and the arguments of __init__; all else is yours.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import tensorrt as trt
import torch

DEVICE = "cpu" if hasattr(trt, "recording") else "cuda"  # a stand-in for TensorRT reads the CPU's memory


class Calibrator(trt.IInt8EntropyCalibrator2):
    """Hands images to TensorRT batch by batch, and keeps the scales that come of them.

    images: float32 [N, channels, height, width], preprocessed as in use. N need not be a multiple of the batch size, and
    TensorRT reads whole batches. batch_size: images in a batch. cache: path of a file for the scales.
    A cache that was made of other images must not be used.
    """

    def __init__(self, images: np.ndarray, batch_size: int, cache: str):
        super().__init__()  # TensorRT's own part; without it there is a TypeError
        # YOUR CODE HERE
        raise NotImplementedError()

    def get_batch_size(self) -> int:
        """Images in a batch."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def get_batch(self, names: list[str]) -> list[int] | None:
        """The address of the next batch for each input, in the order of names; None when there is none."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def read_calibration_cache(self) -> bytes | None:
        """The bytes of a cache that was made of these images, None if there is none: then TensorRT calibrates."""
        # YOUR CODE HERE
        raise NotImplementedError()

    def write_calibration_cache(self, cache: memoryview) -> None:
        """Keep the scales. The memory is TensorRT's, and gone when this returns."""
        # YOUR CODE HERE
        raise NotImplementedError()
