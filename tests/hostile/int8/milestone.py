"""s2.m2a on a small network: the same checks and points, in seconds."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from torch import nn

from autograder.artifacts.onnx import Onnx
from autograder.artifacts.script import Script
from autograder.checks.accuracy import Accuracy
from autograder.checks.engine_speed import EngineSpeed
from autograder.milestones import Milestone
from autograder.milestones.stage2 import BUILD, CALIBRATOR, INT8, MODEL
from autograder.tasks.classifier import Classifier
from course.data import cifar10, preprocess
from course.quantize import calibrate
from tests.measuring import tiny

SCRIPTS = ("calibrator", "build-script")


def reference() -> nn.Module:
    """What the milestone compares with: the network is run once."""
    return tiny.Net()


def images(count: int = 32) -> np.ndarray:
    return preprocess.classifier(cifar10.images("calibration").pixels[:count])


def plain() -> onnx.ModelProto:
    return onnx.load_model_from_string(tiny.export(reference()))


def scales(x: np.ndarray | None = None, method: str = "min-max") -> dict[str, float]:
    """Of all activations, from these images or the right ones."""
    return dict(calibrate(plain(), images() if x is None else x, method).scales)


def milestone(*ids: str, **changes) -> Milestone:
    """These of its checks; all without names. The artifacts are those that they judge."""
    checks = []
    for check in INT8.checks:
        if ids and check.id not in ids:
            continue
        lanes = {
            lane: dataclasses.replace(kind, images=64, hidden_images=64, runtime="onnxruntime")
            if isinstance(kind, Accuracy)
            else dataclasses.replace(kind, rounds=16, max_seconds=10.0)
            if isinstance(kind, EngineSpeed)
            else kind
            for lane, kind in check.lanes.items()
        }
        needs = tuple(need for need in check.needs if not ids or need in ids)
        checks.append(dataclasses.replace(check, lanes=lanes, needs=needs))
    paths = {check.artifact for check in checks}
    artifacts = (Onnx(MODEL, max_mb=8), Script(CALIBRATOR), Script(BUILD))
    return dataclasses.replace(
        INT8,
        **{
            "id": "test.int8",
            "task": Classifier(f"{__name__}:reference"),
            "artifacts": tuple(artifact for artifact in artifacts if artifact.path in paths),
            "checks": tuple(checks),
            "memory_gb": 4.0,
            "limits_s": {"build": 120.0, "run": 40.0, "all": 300.0},  # an endless script ends the test, not the day
            **changes,
        },
    )
