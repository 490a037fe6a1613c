"""From pixels to a network's input: one function for each network, in the learner's own arrays."""
from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from course.errors import DtypeError, ShapeError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def classifier(pixels: np.ndarray | torch.Tensor, size: int = 224) -> np.ndarray | torch.Tensor:
    """Input of the ResNet-50: resize, scale to 0…1, subtract the ImageNet mean, divide by its standard deviation.

    Bilinear with pixel centres at half positions (`align_corners=False`), no antialiasing: for enlarging small
    images, as CIFAR-10's 32 px to 224 px. For photographs use `imagenet`, which shrinks and crops.

    Args:
        pixels: uint8 [N, H, W, 3], RGB; NumPy array or torch tensor on any device.
        size: side of the output in pixels.

    Returns:
        float32 [N, 3, size, size]; a NumPy array for a NumPy array, a tensor on the same device for a tensor.

    Raises:
        ShapeError, DtypeError: `pixels` is something else.
    """
    tensor = torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels
    if tensor.ndim != 4 or tensor.shape[-1] != 3 or 0 in tensor.shape:
        raise ShapeError(f"Pixels have shape {tuple(tensor.shape)}.", "[N, H, W, 3] was expected, nothing empty.",
                         "Add the batch dimension with pixels[None], or move the channels last.")
    if tensor.dtype != torch.uint8:
        raise DtypeError(f"Pixels have dtype {tensor.dtype}.", "uint8 from 0 to 255 was expected.",
                         "Pass the image as it was read; this function does the scaling.")
    mean = torch.tensor(IMAGENET_MEAN, device=tensor.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=tensor.device).view(1, 3, 1, 1)
    small = tensor.permute(0, 3, 1, 2).float().contiguous()
    resized = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False, antialias=False)
    result = ((resized / 255 - mean) / std).contiguous()
    return result.numpy() if isinstance(pixels, np.ndarray) else result
