"""Fit the head of the inspection network, course/assets/inspector_head.safetensors: ten seconds on a CPU.

    python -m tools.assets.fit_inspector
    python -m tools.assets.make_assets manifest

Logistic regression on standardised features of 800 surfaces of all materials and classes, by L-BFGS from zero: a convex
problem, so that machines agree on its answer to a few digits.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from course.data import preprocess, surfaces
from course.files import atomic_write
from course.models.inspector import FIRST_SEED, SHIPPED, SIZE, Inspector
from course.paths import ASSETS

IMAGES = 800
DECAY = 0.01  # of the head's weights: 512 features would fit 800 images by heart
STEPS = 100


def main() -> None:
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
    # The standardisation goes into the head.
    head = {"weight": weight / spread, "bias": bias - (weight / spread) @ middle}
    atomic_write(ASSETS / SHIPPED, save({name: value.float().contiguous() for name, value in head.items()}))
    logits = features @ head["weight"].T + head["bias"]
    print(f"{SHIPPED}: right on {100 * (logits.argmax(1) == labels).double().mean():.1f} % of its own {IMAGES} images")


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


if __name__ == "__main__":
    main()
