"""Floating-point formats: what they hold, values rounded to them, and what that does to a network layer by layer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: a sign, `exponent` bits, `mantissa` bits; with subnormals and infinities."""

    name: str
    exponent: int
    mantissa: int

    @property
    def bits(self) -> int:
        """Sign included. TF32 has 19, kept in the 32 bits of an FP32 number."""
        return 1 + self.exponent + self.mantissa

    @property
    def step(self) -> float:
        """Distance from 1 to the next number: the relative distance of neighbours is between half of it and it."""
        return 2.0**-self.mantissa

    @property
    def largest(self) -> float:
        """Largest finite number."""
        return (2 - self.step) * 2.0 ** (2 ** (self.exponent - 1) - 1)

    @property
    def smallest_normal(self) -> float:
        """Below it, digits get lost one by one."""
        return 2.0 ** (2 - 2 ** (self.exponent - 1))

    @property
    def smallest_subnormal(self) -> float:
        """Half of it and less becomes 0."""
        return self.smallest_normal * self.step


FORMATS = {
    format.name: format
    for format in (Format("FP32", 8, 23), Format("TF32", 8, 10), Format("FP16", 5, 10), Format("BF16", 8, 7))
}


def rounded(x: Tensor, name: str) -> Tensor:
    """float32 tensor -> the same values rounded to "FP32", "TF32", "FP16" or "BF16", again as float32.

    To the nearest, ties to even. FP16 makes infinity of what is too large.
    """
    if name == "TF32":
        bits = x.contiguous().view(torch.int32)
        half = 0xFFF + (bits >> 13 & 1)  # of the 13 bits that go; with the last bit that stays, a tie goes to even
        return torch.where(x.isfinite(), ((bits + half) & ~0x1FFF).view(torch.float32), x)
    dtype = {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}[name]
    return x.to(dtype).float()


def number_in(dtype: torch.dtype) -> Callable[[float], float]:
    """A function that rounds one number to a torch dtype."""
    return lambda value: float(torch.tensor(value, dtype=torch.float64).to(dtype))


def folded(model: nn.Module) -> nn.Module:
    """A copy in which each batch normalisation went into the convolution before it, as in an exported file."""
    model = copy.deepcopy(model).eval()
    for parent in model.modules():
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:]):
            fits = isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            if fits and conv.out_channels == norm.num_features:
                setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(parent, norm_name, nn.Identity())
    return model


def layer_errors(model: nn.Module, x: Tensor, name: str, alone: bool = False) -> dict[str, float]:
    """Relative error of the output of each convolution and linear layer, when values are rounded to a format.

    Weights and inputs of these layers are rounded, sums are not. FP16 and BF16 round what a layer writes, too; TF32
    does not, since it is stored as FP32.

    Args:
        model: float32, in eval mode. x: its input.
        alone: give each layer its exact input, so that the error is its own; else errors go through the network.

    Returns: name of the layer -> |rounded - exact| / |exact|, lengths over all values (0.001 is a thousandth).
    """
    exact: dict[str, Tensor] = {}
    errors: dict[str, float] = {}
    twin = copy.deepcopy(model)
    layers = {key: layer for key, layer in model.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))}
    twins = dict(twin.named_modules())
    stored = (lambda y: y) if name == "TF32" else (lambda y: rounded(y, name))
    with torch.inference_mode():
        for key in layers:
            for parameter in twins[key].parameters():
                parameter.copy_(rounded(parameter, name))

    def keep(key: str) -> Callable:
        def hook(_, inputs, output):
            if alone:
                errors[key] = relative(stored(twins[key](rounded(inputs[0], name))), output)
            else:
                exact[key] = output.clone()  # an activation may work in place on it

        return hook

    def compare(key: str) -> Callable:
        def hook(_, __, output):
            errors[key] = relative(stored(output), exact[key])

        return hook

    hooks = [layer.register_forward_hook(keep(key)) for key, layer in layers.items()]
    try:
        with torch.inference_mode():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if alone:
        return errors
    for key in layers:
        twins[key].register_forward_pre_hook(lambda _, inputs: (rounded(inputs[0], name),))
        twins[key].register_forward_hook(compare(key))
    for module in twin.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, output: stored(output))
    with torch.inference_mode():
        twin(x)
    return errors


def relative(found: Tensor, exact: Tensor) -> float:
    """Length of the difference / length of the exact tensor."""
    return float((found - exact).norm() / exact.norm())
