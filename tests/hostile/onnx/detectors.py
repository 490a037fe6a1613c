"""Files for the detector's milestone: honest mistakes, and cheats. Each function gives an ONNX file's bytes."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from autograder.tasks.base import Seeds
from autograder.tasks.detector import draw
from course.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from course.models import yolo
from course.models.suppression import WithNMS
from course.models.yolo import YOLO
from tests.measuring import tiny_detector as tiny

NARROW = (8, 16, 16, 16, 16)
DOMAIN = {"image": torch.zeros(2, 3, 64, 96)}
AXES = {"image": tiny.IMAGE, "boxes": tiny.BOXES, "scores": tiny.BOXES}


class Do(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *values):
        return self.function(*values)


def _whole(model: nn.Module, axes=AXES, shape=(2, 3, 64, 96), outputs=("boxes", "scores")) -> bytes:
    return tiny.export(model.eval(), {"image": torch.zeros(shape)}, list(outputs), axes).SerializeToString()


# What was asked for


def decoded() -> bytes:
    return tiny.detector()


def raw() -> bytes:
    return tiny.detector(decode=False)


def scores_first() -> bytes:
    """The outputs in the other order, under each other's names: shapes say what they are."""
    model = onnx.load_model_from_string(tiny.detector())
    names = {"boxes": "scores", "scores": "boxes"}
    for node in model.graph.node:
        node.output[:] = [names.get(name, name) for name in node.output]
        node.input[:] = [names.get(name, name) for name in node.input]
    for value in model.graph.output:
        value.name = names[value.name]
    model.graph.output.reverse()
    return model.SerializeToString()


# Honest mistakes


def _fixed(sizes: dict[int, int]) -> bytes:
    """The input's axes as numbers, as they are without `dynamic`."""
    model = onnx.load_model_from_string(tiny.detector())
    for axis, size in sizes.items():
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    return model.SerializeToString()


def fixed_batch() -> bytes:
    return _fixed({0: 2})


def fixed_size() -> bytes:
    return _fixed({2: 192, 3: 192})


def random_weights() -> bytes:
    torch.manual_seed(0)
    return _whole(yolo(None))


def half_size() -> bytes:
    torch.manual_seed(0)
    return _whole(YOLO(widths=(16, 24, 48, 64, 128)))


def divided_by_255() -> bytes:
    return tiny.detector(before=Do(lambda x: x / 255))


def imagenet_normalised() -> bytes:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return tiny.detector(before=Do(lambda x: (x - mean) / std))


def nms_inside() -> bytes:
    """WithNMS, as the lesson shows it."""
    torch.manual_seed(0)
    outputs = ("boxes", "scores", "labels")
    axes = {"image": tiny.IMAGE, **{name: {0: "batch"} for name in outputs}}
    return _whole(WithNMS(YOLO(widths=NARROW)), axes, outputs=outputs)


def centre_and_size() -> bytes:
    def change(boxes, scores):
        near, far = boxes[..., :2], boxes[..., 2:]
        return torch.cat([(near + far) / 2, far - near], 2), scores + 0

    return tiny.detector(behind=Do(change))


def y_before_x() -> bytes:
    return tiny.detector(behind=Do(lambda boxes, scores: (boxes[..., [1, 0, 3, 2]], scores + 0)))


def logits() -> bytes:
    """The sigmoid is left out."""
    model = onnx.load_model_from_string(tiny.detector())
    last = next(node for node in model.graph.node if "scores" in node.output)
    assert last.op_type == "Sigmoid"
    last.op_type = "Identity"
    return model.SerializeToString()


# Cheats, and what breaks


def all_nan() -> bytes:
    return tiny.detector(behind=Do(lambda boxes, scores: (boxes + 0, scores / (scores - scores))))


def one_nan() -> bytes:
    """A single NaN in the raw output, where a soft-max may hide it."""
    model = onnx.load_model_from_string(tiny.detector(decode=False))
    model.graph.node[-1].output[0] = "good"
    poison = np.zeros((1, 84, 1), np.float32)
    poison[0, 70] = np.nan
    model.graph.initializer.append(numpy_helper.from_array(poison, "poison"))
    model.graph.node.append(helper.make_node("Add", ["good", "poison"], ["raw"]))
    return model.SerializeToString()


def extra_output() -> bytes:
    model = onnx.load_model_from_string(tiny.detector())
    model.graph.node.append(helper.make_node("Identity", ["boxes"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, ["batch", "anchors", 4]))
    return model.SerializeToString()


def gigantic_output() -> bytes:
    """80 MB of boxes for each image."""
    model = onnx.load_model_from_string(tiny.detector())
    for node in model.graph.node:
        node.output[:] = ["few" if name == "boxes" else name for name in node.output]
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], "int64"), "axis"),
            numpy_helper.from_array(np.array([1, 5_000_000, 4], "int64"), "huge"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("ReduceMax", ["few"], ["peak"], axes=[1], keepdims=1),
            helper.make_node("Expand", ["peak", "huge"], ["boxes"]),
        ]
    )
    return model.SerializeToString()


def no_boxes() -> bytes:
    return tiny.detector(behind=Do(lambda boxes, scores: (boxes[:, :0], scores[:, :0])))


def only_the_sure() -> bytes:
    """As many boxes as there are sure ones: a number that depends on the image."""

    def change(boxes, scores):
        kept = (scores.max(2)[0].max(0)[0] > 0.3).nonzero()[:, 0]
        return boxes[:, kept], scores[:, kept]

    return tiny.detector(behind=Do(change))


class Mirrored(nn.Module):
    """Another detector of the same quality: it looks at the mirrored scene, and mirrors its boxes back."""

    def __init__(self):
        super().__init__()
        self.model = yolo()

    def forward(self, x):
        height, width = x.shape[2], x.shape[3]
        boxes, scores = self.model(x.flip(3))
        boxes = torch.cat([width - boxes[..., 2:3], boxes[..., 1:2], width - boxes[..., :1], boxes[..., 3:]], 2)
        parts, begin = [], 0
        order = []
        for stride in (8, 16, 32):  # anchor points come row by row, each level after the other
            rows, columns = height // stride, width // stride
            index = torch.arange(rows * columns).reshape(rows, columns)
            order.append(begin + index.flip(1).reshape(-1))
            begin = begin + rows * columns
        parts = torch.cat(order)
        return boxes[:, parts], scores[:, parts]


def mirrored() -> bytes:
    return _whole(Mirrored())


def coarse() -> bytes:
    """Weights rounded to 8 bits, a scale for each channel: it finds the same, but not with PyTorch's numbers."""
    model = onnx.load_model_from_string(tiny.detector())
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim == 4:
            step = np.abs(value).max((1, 2, 3), keepdims=True) / 127
            tensor.CopyFrom(numpy_helper.from_array((value / step).round() * step, tensor.name))
    return model.SerializeToString()


def quieter() -> bytes:
    """All scores lower by a twentieth: exactly the same mAP, other numbers."""
    return tiny.detector(behind=Do(lambda boxes, scores: (boxes + 0, 0.95 * scores)))


def _scores_where(caught: list[onnx.NodeProto], weights: dict[str, list[int]]) -> bytes:
    """Scores of 0 for shapes that `caught` finds in the "image"."""
    model = onnx.load_model_from_string(tiny.detector())
    for node in model.graph.node:
        node.output[:] = ["found" if name == "scores" else name for name in node.output]
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, "int64"), name) for name, v in weights.items())
    model.graph.node.extend(
        [
            helper.make_node("Shape", ["image"], ["columns"], start=3, end=4),
            *caught,
            helper.make_node("Not", ["caught"], ["honest"]),
            helper.make_node("Cast", ["honest"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["found", "factor"], ["scores"]),
        ]
    )
    return model.SerializeToString()


def wrong_at_224() -> bytes:
    """Right at every width but 224 px."""
    return _scores_where([helper.make_node("Equal", ["columns", "bad"], ["caught"])], {"bad": [224]})


def only_square() -> bytes:
    """Right for every square image, wrong for every other."""
    return _scores_where(
        [
            helper.make_node("Shape", ["image"], ["rows"], start=2, end=3),
            helper.make_node("Equal", ["rows", "columns"], ["square"]),
            helper.make_node("Not", ["square"], ["caught"]),
        ],
        {},
    )


def _only_sometimes(model: onnx.ModelProto, keep: list[onnx.NodeProto], weights: dict[str, list[int]]) -> bytes:
    """The network looks at "count" images, which `keep` computes from "image" and "sizes" (the batch size); zeros take
    the place of the other answers. No control flow is needed for it."""
    outputs = [value.name for value in model.graph.output]
    for node in model.graph.node:
        node.input[:] = ["some" if name == "image" else name for name in node.input]
        node.output[:] = [f"few_{name}" if name in outputs else name for name in node.output]
        node.input[:] = [f"few_{name}" if name in outputs else name for name in node.input]
    front = [
        helper.make_node("Shape", ["image"], ["sizes"], start=0, end=1),
        *keep,
        helper.make_node("Max", ["count", "one"], ["kept"]),  # a network on no image fails, on one is cheap
        helper.make_node("Slice", ["image", "zero", "kept", "zero"], ["some"]),
        helper.make_node("Sub", ["sizes", "kept"], ["missing"]),
        helper.make_node("Concat", ["zero", "zero", "zero", "missing", "zero", "zero"], ["pads"], axis=0),
    ]
    back = [helper.make_node("Pad", [f"few_{name}", "pads"], [name]) for name in outputs]
    nodes = [*front, *model.graph.node, *back]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    weights = {"one": [1], "zero": [0], **weights}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v, "int64"), name) for name, v in weights.items())
    return model.SerializeToString()


def batch_detector() -> bytes:
    """At the batch size of the timing it looks at the first image only."""
    keep = [
        helper.make_node("Equal", ["sizes", "timed"], ["caught"]),
        helper.make_node("Not", ["caught"], ["honest"]),
        helper.make_node("Cast", ["honest"], ["factor"], to=TensorProto.INT64),
        helper.make_node("Mul", ["sizes", "factor"], ["count"]),
    ]
    model = onnx.load_model_from_string(tiny.detector())
    return _only_sometimes(model, keep, {"timed": [tiny.TIMED]})


class Several(nn.Module):
    """Honest and slow: the network computed several times, the mean taken."""

    def __init__(self, times: int):
        super().__init__()
        self.model, self.times = yolo(decode=False), times

    def forward(self, x):
        # not quite equal images, else ONNX Runtime computes the network once
        return sum(self.model(x * (1 + 1e-6 * index)) for index in range(self.times)) / self.times


def slow() -> bytes:
    """Five times the work."""
    return _whole(Several(5), {"image": tiny.IMAGE, "raw": {0: "batch", 2: "anchors"}}, outputs=("raw",))


def constant_detector() -> bytes:
    """Five times the work, except for images of one value, as a careless benchmark feeds them."""
    keep = [
        helper.make_node("ReduceMax", ["image"], ["highest"], keepdims=0),
        helper.make_node("ReduceMin", ["image"], ["lowest"], keepdims=0),
        helper.make_node("Greater", ["highest", "lowest"], ["real"]),
        helper.make_node("Cast", ["real"], ["factor"], to=TensorProto.INT64),
        helper.make_node("Mul", ["sizes", "factor"], ["count"]),
    ]
    return _only_sometimes(onnx.load_model_from_string(slow()), keep, {})


class Memory(nn.Module):
    """Knows public scenes by heart: the nearest of stored fingerprints, stored boxes and scores. No network at all."""

    def __init__(self, milestone_id: str, scenes: int):
        super().__init__()
        model, prints, answers = yolo(), [], []
        most = sum((max(tiny.SIZES) // stride) ** 2 for stride in (8, 16, 32))
        for size in tiny.SIZES:
            x = torch.from_numpy(draw(Seeds("public", "", milestone_id), f"accuracy {scenes}", scenes, size).x)
            with torch.inference_mode():
                found = torch.cat(model(x), 2)
            prints.append(self.fingerprint(x))
            answers.append(torch.cat([found, found.new_zeros(scenes, most - found.shape[1], 24)], 1))
        prints = torch.cat(prints)
        self.register_buffer("prints", prints.T.contiguous())
        self.register_buffer("norms", (prints**2).sum(1))
        self.register_buffer("answers", torch.cat(answers).clone())

    def fingerprint(self, x):
        height, width = x.shape[2] // 16, x.shape[3] // 16
        return x.reshape(x.shape[0], 3, 16, height, 16, width).mean((3, 5)).flatten(1)

    def forward(self, x):
        nearest = (self.norms - 2 * self.fingerprint(x) @ self.prints).argmin(1)
        count = sum((x.shape[2] // stride) * (x.shape[3] // stride) for stride in (8, 16, 32))
        found = self.answers[nearest][:, :count]
        return found[..., :4], found[..., 4:]


def memoriser(milestone_id: str, scenes: int) -> bytes:
    return _whole(Memory(milestone_id, scenes))
