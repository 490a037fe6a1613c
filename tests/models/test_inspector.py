"""The inspection network names defects that it has not seen, and is the same each time."""

from __future__ import annotations

import numpy as np
import torch

from course.data import preprocess, surfaces
from course.models.inspector import SIZE, inspector


def test_it_tells_the_classes_of_new_surfaces_apart():
    seen = [surfaces.surface(seed, SIZE) for seed in range(700_000, 700_100)]
    images = torch.from_numpy(preprocess.classifier(np.stack([one.image for one in seen]), SIZE))
    logits = inspector()(images)
    assert logits.shape == (100, len(surfaces.CLASSES)) and not logits.requires_grad
    right = (logits.argmax(1).numpy() == [one.label for one in seen]).mean()
    assert right > 0.9  # by chance 0.2
    assert inspector() is inspector() and not inspector().training
