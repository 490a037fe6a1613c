"""Networks that run and are not what was asked: cheats, and honest mistakes that deserve a part of the
points."""

from __future__ import annotations

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from autograder.tasks.base import Seeds
from autograder.tasks.classifier import draw
from tests.measuring import tiny


class Constant(nn.Module):
    """Fast and wrong: always the same class."""

    def forward(self, x):
        return x.mean(dim=(1, 2, 3))[:, None] * 0 + torch.arange(10.0)


def fast_and_wrong() -> bytes:
    return tiny.export(Constant())


def other_network() -> bytes:
    """The same architecture, other weights."""
    return tiny.export(tiny.Net(seed=8))


def smaller_network() -> bytes:
    return tiny.export(tiny.Net(width=4))


def cut_network() -> bytes:
    """The last two convolutions left out: faster, and somewhat like the original."""
    net = tiny.Net()
    net.inner = net.inner[:1]
    return tiny.export(net)


def all_nan() -> bytes:
    net = tiny.Net()
    with torch.no_grad():
        net.last.bias[3] = float("nan")
    return tiny.export(net)


def two_outputs() -> bytes:
    model = onnx.load_model_from_string(tiny.export())
    model.graph.node.append(helper.make_node("Identity", ["logits"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", 10]))
    return model.SerializeToString()


def memoriser(milestone_id: str, purposes: dict[str, int]) -> bytes:
    """Knows the public inputs by heart: nearest of stored fingerprints, stored logits. No network at all."""
    x = np.concatenate([draw(Seeds("public", "", milestone_id), name, count).x for name, count in purposes.items()])
    with torch.inference_mode():
        answers = tiny.Net()(torch.from_numpy(x))

    class Memory(nn.Module):
        def __init__(self):
            super().__init__()
            prints = self.fingerprint(torch.from_numpy(x))
            self.register_buffer("prints", prints.T.contiguous())
            self.register_buffer("norms", (prints**2).sum(1))
            self.register_buffer("answers", answers.clone())

        def fingerprint(self, x):
            return x[:, :, 10::50, 10::50].flatten(1)

        def forward(self, x):
            distance = self.norms - 2 * self.fingerprint(x) @ self.prints
            return F.embedding(distance.argmin(1), self.answers)

    return tiny.export(Memory().eval())


def batch_detector(batch: int = 4) -> bytes:
    """At the batch size of the timing it computes nothing: the images are cut away before the network, and
    zeros put in place of the answers. No control flow is needed for it."""
    model = onnx.load_model_from_string(tiny.export())
    for node in model.graph.node:
        node.input[:] = ["some" if name == "image" else name for name in node.input]
    model.graph.node[-1].output[0] = "few"
    front = [
        helper.make_node("Shape", ["image"], ["sizes"], start=0, end=1),
        helper.make_node("Equal", ["sizes", "timed"], ["caught"]),
        helper.make_node("Not", ["caught"], ["honest"]),
        helper.make_node("Cast", ["honest"], ["factor"], to=TensorProto.INT64),
        helper.make_node("Mul", ["sizes", "factor"], ["count"]),
        helper.make_node("Max", ["count", "one"], ["kept"]),  # a network on no image fails, on one is cheap
        helper.make_node("Slice", ["image", "zero", "kept", "zero"], ["some"]),
    ]
    back = [
        helper.make_node("Sub", ["sizes", "kept"], ["missing"]),
        helper.make_node("Concat", ["zero", "zero", "missing", "zero"], ["pads"], axis=0),
        helper.make_node("Pad", ["few", "pads"], ["logits"]),
    ]
    nodes = [*front, *model.graph.node, *back]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array([value], "int64"), name)
        for name, value in (("timed", batch), ("one", 1), ("zero", 0))
    )
    return model.SerializeToString()


def right_up_to_16() -> bytes:
    """Zeros for all images of a batch behind the sixteenth."""
    model = onnx.load_model_from_string(tiny.export())
    for node in model.graph.node:
        node.input[:] = ["some" if name == "image" else name for name in node.input]
    model.graph.node[-1].output[0] = "few"
    front = [
        helper.make_node("Slice", ["image", "zero", "sixteen", "zero"], ["some"]),
        helper.make_node("Shape", ["image"], ["all_of_them"], start=0, end=1),
        helper.make_node("Shape", ["some"], ["kept"], start=0, end=1),
    ]
    back = [
        helper.make_node("Sub", ["all_of_them", "kept"], ["missing"]),
        helper.make_node("Concat", ["zero", "zero", "missing", "zero"], ["pads"], axis=0),
        helper.make_node("Pad", ["few", "pads"], ["logits"]),
    ]
    nodes = [*front, *model.graph.node, *back]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for value, name in ((16, "sixteen"), (0, "zero")):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value], "int64"), name))
    return model.SerializeToString()


class Several(nn.Module):
    """Honest and slow: the network computed several times, the mean taken."""

    def __init__(self, times: int):
        super().__init__()
        self.nets = nn.ModuleList(tiny.Net() for _ in range(times))
        with torch.no_grad():
            for index, net in enumerate(self.nets):  # not quite equal, else ONNX Runtime computes them once
                for value in net.parameters():
                    value *= 1 + 1e-5 * index

    def forward(self, x):
        return sum(net(x) for net in self.nets) / len(self.nets)


def honest_slow() -> bytes:
    """Four times the work."""
    return tiny.export(Several(4).eval())


def honest_static() -> bytes:
    """The export works, for one batch size."""
    return tiny.export(static=1)


def honest_coarse() -> bytes:
    """Weights rounded to 6 bits: right mostly, but not PyTorch's answers."""
    net = tiny.Net()
    with torch.no_grad():
        for value in net.parameters():
            step = value.abs().max() / 31
            value.copy_((value / step).round() * step)
    return tiny.export(net)


def honest_softmax() -> bytes:
    """Probabilities in place of logits: the class is right, the answers are not."""
    return tiny.export(nn.Sequential(tiny.Net(), nn.Softmax(1)).eval())


def reference() -> bytes:
    """What was asked for."""
    return tiny.export()
