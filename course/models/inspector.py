"""An inspection network for the surfaces of `course.data.surfaces`: the first stage of the shipped ResNet-50, and a
small head that was fitted to surfaces.

A backbone that was trained on photographs, cut off where it knows edges and textures but no objects yet, with a small
head for one's own classes: that is how many inspection systems begin.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from course.data import surfaces
from course.files import require_asset
from course.models.resnet50 import resnet50
from course.models.weights import load_into, read_state

SIZE = 96
"""Side of an image in pixels."""
FIRST_SEED = 1_000_000
"""Seeds of the surfaces that the head was fitted to begin here: take smaller ones to calibrate and to test."""
SHIPPED = "inspector_head.safetensors"


class Inspector(nn.Module):
    """Image float32 [N, 3, S, S], as `preprocess.classifier` makes it -> logits float32 [N, 5], `surfaces.CLASSES`.

    The head sees the mean and the maximum of each channel: a scratch is a large value at few places.
    """

    def __init__(self) -> None:
        super().__init__()
        net = resnet50()
        self.backbone = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
        self.head = nn.Linear(2 * 256, len(surfaces.CLASSES))
        self.classes = surfaces.CLASSES

    def features(self, image: Tensor) -> Tensor:
        """float32 [N, 512]: the mean of each of the 256 channels, then the maximum of each."""
        found = self.backbone(image)
        return torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image))


@functools.lru_cache(maxsize=1)
def inspector() -> Inspector:
    """The network with the shipped head (`tools/assets/fit_inspector.py` has how it was fitted), in eval mode, on the CPU.

    The same object on each call.

    Raises:
        CourseError: the shipped weights are missing or damaged.
    """
    made = Inspector().eval()
    path = require_asset(SHIPPED)
    load_into(made.head, read_state(path), str(path))
    return made.requires_grad_(False)
