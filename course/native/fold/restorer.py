"""A small network that ends in a fold, and the same fold said in other ways: for lesson 3.01 and `benchmarks.ways`.

The network predicts an 8 x 8 patch of RGB around every fourth pixel of an image and adds the overlapping patches up. Its
weights are random: its speed is what is looked at, and whether two forms of it agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

KERNEL, STRIDE, PADDING, COLOURS = 8, 4, 2, 3
PATCHES = "patches"
"""The tensor at which the network is cut: [n, 192, h / 4, w / 4]."""


def body() -> nn.Sequential:
    """Image [n, 3, h, w] -> patches [n, 192, h / 4, w / 4], every pixel between -1 and 1."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(COLOURS, 64, KERNEL, STRIDE, PADDING),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, COLOURS * KERNEL**2, 1),
        nn.Tanh(),
    ).eval()


def folded(patches: Tensor) -> Tensor:
    """Patches [n, 192, h, w] -> image [n, 3, 4 h, 4 w], as PyTorch has it. In ONNX: Col2Im, from opset 18 on."""
    size = (STRIDE * patches.shape[2], STRIDE * patches.shape[3])
    return functional.fold(patches.flatten(2), size, KERNEL, padding=PADDING, stride=STRIDE)


def rewritten(patches: Tensor) -> Tensor:
    """The same as a transposed convolution whose weights are ones and zeros."""
    weights = torch.eye(COLOURS * KERNEL**2, dtype=patches.dtype, device=patches.device)
    return functional.conv_transpose2d(patches, weights.view(-1, COLOURS, KERNEL, KERNEL), None, STRIDE, PADDING)


def decomposed(patches: Tensor) -> Tensor:
    """The same as four images of parts of the patches that do not overlap, shifted and added."""
    parts = patches.unflatten(1, (COLOURS, 2, STRIDE, 2, STRIDE))
    total = 0
    for i in range(2):
        for j in range(2):
            image = functional.pixel_shuffle(parts[:, :, i, :, j].flatten(1, 3), STRIDE)
            place = (STRIDE * j, STRIDE * (1 - j), STRIDE * i, STRIDE * (1 - i))
            total = total + functional.pad(image, place)
    return total[:, :, PADDING:-PADDING, PADDING:-PADDING]


class Restorer(nn.Module):
    """The body and one way to fold."""

    def __init__(self, fold=folded):
        super().__init__()
        self.body, self.fold = body(), fold
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.fold(self.body(image))


def with_plugin(
    cut: str | Path | onnx.ModelProto, op_type: str = "CourseFold", **attributes: object
) -> onnx.ModelProto:
    """The body's ONNX model with one node of the plugin behind it.

    Args:
        cut: a model with the output `patches` [n, 192, h, w].
        op_type: of the node. attributes: beside kernel, stride and padding, such as plugin_version="1".
    """
    model = _restored(cut)
    words = {"kernel": KERNEL, "stride": STRIDE, "padding": PADDING, **attributes}
    model.graph.node.append(helper.make_node(op_type, [PATCHES], ["restored"], name="fold", domain="course", **words))
    model.opset_import.append(helper.make_opsetid("course", 1))
    return model


def with_col2im(cut: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """The body's ONNX model with ONNX's own operator behind it, as PyTorch's exporters write it: Reshape, Col2Im."""
    model = _restored(cut)
    next(one for one in model.opset_import if one.domain == "").version = 18
    sides = [one.dim_value for one in model.graph.output[0].type.tensor_type.shape.dim[2:]]
    for name, value in (("flat", [0, COLOURS * KERNEL**2, -1]), ("size", sides), ("block", [KERNEL, KERNEL])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
    pads, strides = 4 * [PADDING], 2 * [STRIDE]
    model.graph.node.append(helper.make_node("Reshape", [PATCHES, "flat"], ["columns"], name="flatten"))
    model.graph.node.append(
        helper.make_node("Col2Im", ["columns", "size", "block"], ["restored"], name="fold", pads=pads, strides=strides)
    )
    return model


def _restored(cut: str | Path | onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the body's model with the image as its output, and no node yet that makes it."""
    model = onnx.ModelProto.FromString(
        (cut if isinstance(cut, onnx.ModelProto) else onnx.load(cut)).SerializeToString()
    )
    (patches,) = model.graph.output
    shape = [one.dim_param or one.dim_value for one in patches.type.tensor_type.shape.dim]
    sides = [STRIDE * side if isinstance(side, int) else f"{STRIDE}*{side}" for side in shape[2:]]
    kind = patches.type.tensor_type.elem_type
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("restored", kind, [shape[0], COLOURS, *sides]))
    return model
