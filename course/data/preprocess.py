"""From pixels to a network's input: one function for each network, in the learner's own arrays.

PyTorch is imported when a function is called: the grader's processes that only read milestones come here, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from course.errors import DtypeError, ShapeError

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def classifier(pixels: np.ndarray | torch.Tensor, size: int = 224) -> np.ndarray | torch.Tensor:
    """Input of the ResNet-50: resize, scale to 0…1, subtract ImageNet's mean, divide by its deviation.

    Bilinear with pixel centres at half positions (`align_corners=False`), no antialiasing: for enlarging
    small images, as CIFAR-10's 32 px to 224 px. For photographs use `imagenet`, which shrinks and crops.

    Args:
        pixels: uint8 [N, H, W, 3], RGB; NumPy array or torch tensor on any device.
        size: side of the output in pixels.

    Returns:
        float32 [N, 3, size, size]; a NumPy array for a NumPy array, a tensor on the same device for a tensor.

    Raises:
        ShapeError, DtypeError: `pixels` is something else.
    """
    import torch

    tensor = torch.tensor(pixels) if isinstance(pixels, np.ndarray) else pixels
    if tensor.ndim != 4 or tensor.shape[-1] != 3 or 0 in tensor.shape:
        raise ShapeError(
            f"Pixels have shape {tuple(tensor.shape)}.",
            "[N, H, W, 3] was expected, nothing empty.",
            "Add the batch dimension with pixels[None], or move the channels last.",
        )
    if tensor.dtype != torch.uint8:
        raise DtypeError(
            f"Pixels have dtype {tensor.dtype}.",
            "uint8 from 0 to 255 was expected.",
            "Pass the image as it was read; this function does the scaling.",
        )
    mean = torch.tensor(IMAGENET_MEAN, device=tensor.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=tensor.device).view(1, 3, 1, 1)
    small = tensor.permute(0, 3, 1, 2).float().contiguous()
    resized = torch.nn.functional.interpolate(
        small, size=(size, size), mode="bilinear", align_corners=False, antialias=False
    )
    result = ((resized / 255 - mean) / std).contiguous()
    return result.numpy() if isinstance(pixels, np.ndarray) else result


def imagenet(image: np.ndarray) -> np.ndarray:
    """Input of a network trained on ImageNet: shorter side to 232 px, centre 224 px, normalise.

    For one photograph. The sizes are those of torchvision's IMAGENET1K_V2 weights, and shrinking is
    antialiased, as there.

    Args:
        image: uint8 [H, W, 3], RGB.

    Returns:
        float32 [1, 3, 224, 224].
    """
    from torch.nn import functional as F

    tensor = _image(image)
    height, width = image.shape[:2]
    # torchvision's rule: the longer side is cut down to a whole number of pixels
    shape = (232, 232 * width // height) if height <= width else (232 * height // width, 232)
    resized = F.interpolate(tensor, size=shape, mode="bilinear", align_corners=False, antialias=True)
    top, left = round((shape[0] - 224) / 2), round((shape[1] - 224) / 2)
    crop = resized[..., top : top + 224, left : left + 224].permute(0, 2, 3, 1)
    return classifier(crop.numpy())


@dataclass(frozen=True)
class Letterbox:
    """How `detector` placed an image: scaled by `scale`, then moved by `left` and `top` pixels."""

    scale: float
    left: int
    top: int
    width: int
    """Width of the original image in pixels."""
    height: int

    def to_image(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [..., 4] (x1 y1 x2 y2) from the network's input, px, to the image, px, cut at its edges."""
        moved = np.asarray(boxes, np.float32) - np.float32([self.left, self.top] * 2)
        return np.clip(moved / np.float32(self.scale), 0, np.float32([self.width, self.height] * 2))

    def to_input(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [..., 4] (x1 y1 x2 y2) from the image, px, to the network's input, px."""
        return np.asarray(boxes, np.float32) * np.float32(self.scale) + np.float32([self.left, self.top] * 2)


def detector(image: np.ndarray, size: int | tuple[int, int] = 320) -> tuple[np.ndarray, Letterbox]:
    """Input of the YOLO detector: scale without distortion until it fits, pad with grey (114), divide by 255.

    Args:
        image: uint8 [H, W, 3], RGB, any size.
        size: side, or (height, width), of the network's input in pixels; multiples of 32.

    Returns:
        float32 [1, 3, height, width], 0 to 1, and the `Letterbox` that turns boxes back.

    Raises:
        ShapeError, DtypeError: `image` or `size` is something else.
    """
    import torch
    from torch.nn import functional as F

    tensor = _image(image)
    height, width = (size, size) if isinstance(size, int) else size
    if height < 32 or width < 32 or height % 32 or width % 32:
        raise ShapeError(
            f"The detector cannot take {height}x{width} px.",
            "Its coarsest grid has cells of 32 px.",
            f"Use multiples of 32, for example {max(1, round(height / 32)) * 32}x{max(1, round(width / 32)) * 32}.",
        )
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    padded = torch.full((1, 3, height, width), 114.0)
    resized = (
        tensor
        if inner == image.shape[:2]
        else F.interpolate(tensor, size=inner, mode="bilinear", align_corners=False, antialias=True)
    )
    padded[..., top : top + inner[0], left : left + inner[1]] = resized
    return (padded / 255).numpy(), Letterbox(scale, left, top, image.shape[1], image.shape[0])


def _image(image: np.ndarray) -> torch.Tensor:
    """uint8 [1, 3, H, W] of one image [H, W, 3]. PyTorch resizes uint8 as Pillow does, to whole levels."""
    import torch

    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ShapeError(
            f"The image has shape {image.shape}.",
            "[H, W, 3] was expected, nothing empty.",
            "Pass one colour image, for example np.asarray(PIL.Image.open(path).convert('RGB')).",
        )
    if image.dtype != np.uint8:
        raise DtypeError(
            f"The image has dtype {image.dtype}.",
            "uint8 from 0 to 255 was expected.",
            "Pass the image as it was read; this function does the scaling.",
        )
    return torch.tensor(image).permute(2, 0, 1).unsqueeze(0)
