"""A small classifier with the inputs and outputs of milestone s1.m1, and a milestone on it: checks take
seconds.

The PyTorch side runs the network twice, so that an honest engine is always clearly faster: the tests of speed
then hold on a busy machine. `export` writes the network once.
"""

from __future__ import annotations

import dataclasses
import io
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from autograder.checks.base import Ramp
from autograder.checks.speed import Speed
from autograder.milestones import Milestone
from autograder.milestones.stage1 import RESNET50_FP16
from autograder.tasks.classifier import Classifier


class Net(nn.Module):
    def __init__(self, repeat: int = 1, seed: int = 7, width: int = 32):
        super().__init__()
        self.repeat = repeat
        self.first = nn.Conv2d(3, width, 7, stride=6, padding=3)
        self.inner = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.last = nn.Linear(width * 4, 10)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for value in self.parameters():
                fan = value[0].numel() if value.ndim > 1 else 8
                value.copy_(torch.randn(value.shape, generator=generator) * (2 / fan) ** 0.5)
        self.eval()

    def once(self, x):
        x = F.relu(self.first(x))
        for layer in self.inner:
            x = x + F.relu(layer(x))
        return 3 * self.last(F.adaptive_avg_pool2d(x, 2).flatten(1))

    def forward(self, x):
        for _ in range(self.repeat - 1):
            self.once(x)
        return self.once(x)


def reference() -> nn.Module:
    """What the tests' milestone compares with."""
    return Net(repeat=2)


def export(model: nn.Module | None = None, static: int | None = None) -> bytes:
    """ONNX of a module float32 [batch, 3, 224, 224] -> [batch, 10]; `static` fixes the batch size."""
    target = io.BytesIO()
    axes = None if static else {"image": {0: "batch"}, "logits": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model or Net(),
            (torch.zeros(static or 2, 3, 224, 224),),
            target,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return target.getvalue()


def milestone(**changes) -> Milestone:
    """s1.m1 with the small network: the same checks and points; only the speed's ramp belongs to this
    network.
    """
    ratio = Ramp(zero=1.1, full=1.6, dead_band=0.2)
    checks = []
    for check in RESNET50_FP16.checks:
        lanes = {
            lane: dataclasses.replace(params, batches=(4,), ratio=ratio, rounds=16, max_seconds=15.0, warmup_s=0.1)
            if isinstance(params, Speed) and lane == "cpu"
            else params
            for lane, params in check.lanes.items()
        }
        checks.append(dataclasses.replace(check, lanes=lanes))
    return dataclasses.replace(
        RESNET50_FP16,
        **{
            "id": "test.tiny",
            "task": Classifier("tests.measuring.tiny:reference"),
            "checks": tuple(checks),
            "memory_gb": 4.0,
            **changes,
        },
    )
