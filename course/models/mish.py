"""Mish with a parameter, and a small network that uses it: what milestone 3a makes a plugin for."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn

BETAS = (0.75, 1.0, 1.25, 1.75)
SIZE = 64
"""Height and width of the network's images."""


def mish(x: np.ndarray, beta: float = 1.0) -> np.ndarray:
    """x tanh(softplus(beta x)), softplus(z) = log(1 + exp(z)); with beta = 1 it is Mish (Misra 2019, arXiv 1908.08681).

    Computed in x's type; logaddexp does not overflow. Of -infinity it is NaN, as the formula's product of infinity and 0 is.
    """
    return x * np.tanh(np.logaddexp(0, beta * x))


class Mish(nn.Module):
    """The same for tensors; beta is a number of the layer."""

    def __init__(self, beta: float):
        super().__init__()
        self.beta = beta

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.tanh(torch.nn.functional.softplus(self.beta * x))


class MishNet(nn.Module):
    """float32 [batch, 3, 64, 64] -> [batch, 10]: four convolutions, each with a Mish of its own beta."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 32, 64)
        self.layers = nn.Sequential()
        for number, (beta, before, after) in enumerate(zip(BETAS, widths, widths[1:])):
            self.layers.add_module(f"conv{number}", nn.Conv2d(before, after, 3, stride=2, padding=1))
            self.layers.add_module(f"mish{number}", Mish(beta))
        self.head = nn.Linear(widths[-1], 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(image).mean((2, 3)))


def mish_net() -> MishNet:
    """The network in eval mode, with weights from a fixed seed: it classifies nothing, it is there to be computed right."""
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(20)
        return MishNet().eval()
    finally:
        torch.random.set_rng_state(state)


def onnx_function() -> bytes:
    """CourseMish as a function of ONNX's own operators (a FunctionProto): what runs where there is no plugin."""
    beta = helper.make_node("Constant", [], ["number"])
    beta.attribute.add(name="value_float", ref_attr_name="beta", type=onnx.AttributeProto.FLOAT)
    nodes = [
        beta,
        helper.make_node("CastLike", ["number", "x"], ["beta_x"]),
        helper.make_node("Mul", ["beta_x", "x"], ["scaled"]),
        helper.make_node("Softplus", ["scaled"], ["soft"]),
        helper.make_node("Tanh", ["soft"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["y"]),
    ]
    made = helper.make_function(
        "course",
        "CourseMish",
        ["x"],
        ["y"],
        nodes,
        [helper.make_opsetid("", 17)],
        ["plugin_version", "plugin_namespace"],
    )
    made.attribute_proto.append(helper.make_attribute("beta", 1.0))
    return made.SerializeToString()
