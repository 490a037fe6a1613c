"""An inspection network for the surfaces of `course.data.surfaces`: the first stage of the shipped ResNet-50, and a
head that is fitted here, on a CPU, in seconds.

A backbone that was trained on photographs, cut off where it knows edges and textures but no objects yet, with a small
head for one's own classes: that is how many inspection systems begin.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn

from course.data import preprocess, surfaces
from course.models.resnet50 import resnet50

SIZE = 96
"""Side of an image in pixels."""
FIRST_SEED = 1_000_000
"""Seeds of the surfaces that the head is fitted to begin here: take smaller ones to calibrate and to test."""
IMAGES = 800
DECAY = 0.01  # of the head's weights: 512 features would fit 800 images by heart
STEPS = 100


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
    """The network with its head fitted to 800 surfaces of all materials and classes, in eval mode, on the CPU.

    Logistic regression on standardised features, by L-BFGS from zero: a convex problem, so that machines agree on its
    answer to a few digits. Takes about five seconds; the same object on each call.
    """
    made = Inspector().eval()
    seen = [surfaces.surface(seed, SIZE) for seed in range(FIRST_SEED, FIRST_SEED + IMAGES)]
    labels = torch.tensor([one.label for one in seen])
    with torch.no_grad():
        parts = [
            made.features(torch.from_numpy(_input(seen[at : at + 8]))) for at in range(0, IMAGES, 8)
        ]  # quicker than 32
    features = torch.cat(parts).double()
    middle, spread = features.mean(0), features.std(0) + 1e-3
    weight, bias = _logistic((features - middle) / spread, labels)
    with torch.no_grad():  # the standardisation goes into the head
        made.head.weight.copy_(weight / spread)
        made.head.bias.copy_(bias - (weight / spread) @ middle)
    return made.requires_grad_(False)


def _input(seen: list[surfaces.Surface]) -> np.ndarray:
    return preprocess.classifier(np.stack([one.image for one in seen]), SIZE)


def _logistic(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [K, C] and biases [K] of the smallest cross-entropy plus DECAY / 2 times the squared weights."""
    weight = torch.zeros(int(labels.max()) + 1, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(weight), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(features @ weight.T + bias, labels) + DECAY / 2 * (weight**2).sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach(), bias.detach()
