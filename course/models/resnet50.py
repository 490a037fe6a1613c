"""ResNet-50: torchvision's architecture, with weights for CIFAR-10 (shipped) or ImageNet (downloaded)."""

from __future__ import annotations

from pathlib import Path

import torchvision
from torch import nn

from course.data.cifar10 import CLASSES as CIFAR10_CLASSES
from course.errors import CourseError
from course.files import require_asset
from course.models.weights import load_into, read_state

INPUT_SIZE = 224
SHIPPED = "resnet50_cifar10.safetensors"


def resnet50(weights: str | Path | None = "cifar10") -> nn.Module:
    """ResNet-50 (He et al. 2015, arXiv:1512.03385) as torchvision builds it: stride in the 3x3 ("v1.5").

    Input: float32 [N, 3, 224, 224], RGB, ImageNet mean and standard deviation: what
    `course.data.preprocess.classifier` returns.
    Output: float32 logits [N, number of classes].

    Args:
        weights: "cifar10", the shipped ten-class weights; "imagenet", torchvision's IMAGENET1K_V2 (needs a
            network once, 98 MB); None, random weights with ten outputs; or the path of a `.safetensors` or
            `.pth` state dict, whose last layer decides the number of classes.

    Returns:
        The module in eval mode, float32, on the CPU. It carries `.classes` (tuple of names) and
        `.input_size` (224, in px).

    Raises:
        MissingFileError, DamagedFileError: the weights file is not there or not readable.
        ShapeError: the file belongs to another architecture.
        CourseError: the download failed.
    """
    if weights == "imagenet":
        return _imagenet()
    if weights is None:
        return _finish(torchvision.models.resnet50(num_classes=len(CIFAR10_CLASSES)), CIFAR10_CLASSES)
    path = require_asset(SHIPPED) if weights == "cifar10" else Path(weights)
    state = read_state(path)
    outputs = state["fc.weight"].shape[0] if "fc.weight" in state else len(CIFAR10_CLASSES)
    model = load_into(torchvision.models.resnet50(num_classes=outputs), state, f"Weights file {path.name}")
    return _finish(model, _class_names(outputs))


def _imagenet() -> nn.Module:
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V2
    try:
        model = torchvision.models.resnet50(weights=weights)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash is a RuntimeError
        raise CourseError(
            "torchvision's ImageNet weights could not be fetched (98 MB).",
            str(error),
            'Connect to a network and try again, or use the shipped weights: resnet50("cifar10").',
        ) from error
    return _finish(model, tuple(weights.meta["categories"]))


def _class_names(outputs: int) -> tuple[str, ...]:
    if outputs == len(CIFAR10_CLASSES):
        return CIFAR10_CLASSES
    if outputs == 1000:
        return tuple(torchvision.models.ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
    return tuple(f"class {index}" for index in range(outputs))


def _finish(model: nn.Module, classes: tuple[str, ...]) -> nn.Module:
    model.classes, model.input_size = classes, INPUT_SIZE
    return model.eval()
