"""From the detector's raw output to boxes, outside of the graph. Nothing here needs PyTorch."""

from __future__ import annotations

import numpy as np

from course.data.scenes import CLASSES
from course.errors import ShapeError

STRIDES = (8, 16, 32)
"""Of the three feature maps, in pixels: an anchor point is the centre of one of their cells."""
BINS = 16
"""Of the distribution of each distance from an anchor point to a side of the box; unit: strides."""
CLASS_COUNT = len(CLASSES)


def decode_numpy(raw: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode outside the graph: what `YOLO(decode=True)` does, in NumPy float32.

    Args:
        raw: [N, 84, A] from `YOLO(decode=False)`; size: (height, width) of the network's input in pixels.
    Returns:
        boxes [N, A, 4] in pixels, scores [N, A, 20].
    Raises:
        ShapeError: `raw` does not belong to this size.
    """
    raw = np.asarray(raw, np.float32)
    grids = [(size[0] // s, size[1] // s, s) for s in STRIDES]
    expected = (4 * BINS + CLASS_COUNT, sum(h * w for h, w, _ in grids))
    if raw.ndim != 3 or raw.shape[1:] != expected:
        raise ShapeError(
            "The detector's raw output cannot be decoded.",
            f"Its shape is {raw.shape}; an input of {size[0]}x{size[1]} pixels gives "
            f"(N, {expected[0]}, {expected[1]}).",
            "Pass the (height, width) of the image that the network saw.",
        )
    centres = [np.meshgrid((np.arange(w) + 0.5) * s, (np.arange(h) + 0.5) * s) for h, w, s in grids]
    points = np.concatenate([np.stack(grid, 2).reshape(-1, 2) for grid in centres]).astype(np.float32)
    strides = np.concatenate([np.full((h * w, 1), s, np.float32) for h, w, s in grids])
    logits = raw[:, : 4 * BINS].reshape(len(raw), 4, BINS, -1)
    weights = np.exp(logits - logits.max(2, keepdims=True))
    bins = np.arange(BINS, dtype=np.float32).reshape(1, 1, BINS, 1)
    distances = ((weights * bins).sum(2) / weights.sum(2)).transpose(0, 2, 1) * strides
    boxes = np.concatenate([points - distances[..., :2], points + distances[..., 2:]], 2)
    with np.errstate(over="ignore"):
        return boxes, (1 / (1 + np.exp(-raw[:, 4 * BINS :]))).transpose(0, 2, 1)
