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
        ### BEGIN SOLUTION
        self.images, self.batch_size, self.place = images, batch_size, 0
        self.held = None  # the batch that TensorRT reads after get_batch has returned
        self.cache, self.origin = Path(cache), Path(f"{cache}.images")
        self.mark = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
        ### END SOLUTION

    def get_batch_size(self) -> int:
        """Images in a batch."""
        ### BEGIN SOLUTION
        return self.batch_size
        ### END SOLUTION

    def get_batch(self, names: list[str]) -> list[int] | None:
        """The address of the next batch for each input, in the order of names; None when there is none."""
        ### BEGIN SOLUTION
        batch = self.images[self.place : self.place + self.batch_size]
        if len(batch) < self.batch_size:
            return None
        self.place += self.batch_size
        self.held = torch.tensor(batch, device=DEVICE)
        return [self.held.data_ptr()]
        ### END SOLUTION

    def read_calibration_cache(self) -> bytes | None:
        """The bytes of a cache that was made of these images, None if there is none: then TensorRT calibrates."""
        ### BEGIN SOLUTION
        if self.cache.is_file() and self.origin.is_file() and self.origin.read_text() == self.mark:
            return self.cache.read_bytes()
        return None
        ### END SOLUTION

    def write_calibration_cache(self, cache: memoryview) -> None:
        """Keep the scales. The memory is TensorRT's, and gone when this returns."""
        ### BEGIN SOLUTION
        for path, data in ((self.cache, bytes(cache)), (self.origin, self.mark.encode())):
            part = path.with_name(path.name + ".part")
            part.write_bytes(data)
            os.replace(part, path)  # a build that is ended leaves no half file
        ### END SOLUTION
