"""A compact YOLO-family detector: CSP backbone, PAN neck, anchor-free head with distributed boxes.

Our own code, after the papers: CSPNet (Wang et al. 2020, arXiv:1911.11929), spatial pyramid pooling (He et al. 2014,
arXiv:1406.4729), PANet (Liu et al. 2018, arXiv:1803.01534), the decoupled anchor-free head (Ge et al. 2021, YOLOX,
arXiv:2107.08430) and boxes as distributions (Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388).

Every anchor point is the centre of one cell of a feature map with stride 8, 16 or 32. The network gives it four
distances to the sides of a box, each a distribution over 16 bins (unit: strides), and 20 class scores. A = number of
anchor points of all three maps, stride 8 first, row by row: for H = W = 320, A = 1600 + 400 + 100 = 2100.
"""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from course.data.scenes import CLASSES
from course.errors import CourseError, ShapeError, UnsupportedError
from course.files import require_asset
from course.models.weights import load_into, read_state

STRIDES = (8, 16, 32)
BINS = 16
CLASS_COUNT = len(CLASSES)
INPUT_SIZE = 320  # pixels; any multiple of 32 works
SHIPPED = "yolo_scenes.safetensors"
WIDTHS = (24, 48, 96, 144, 208)  # channels at stride 2, 4, 8, 16, 32


class ConvUnit(nn.Sequential):
    """Convolution without bias, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03), nn.SiLU(inplace=True))


class Residual(nn.Module):
    """Two 3x3 convolutions; `shortcut` adds the input."""

    def __init__(self, width: int, shortcut: bool):
        super().__init__()
        self.body = nn.Sequential(ConvUnit(width, width, 3), ConvUnit(width, width, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class SplitStage(nn.Module):
    """Cross-stage partial block: half of the channels pass by, half go through a chain; all steps are kept."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool):
        super().__init__()
        self.half = outputs // 2
        self.enter = ConvUnit(inputs, outputs)
        self.chain = nn.ModuleList(Residual(self.half, shortcut) for _ in range(depth))
        self.leave = ConvUnit(self.half * (2 + depth), outputs)

    def forward(self, x: Tensor) -> Tensor:
        kept = list(self.enter(x).split([self.half, self.half], 1))
        for block in self.chain:
            kept.append(block(kept[-1]))
        return self.leave(torch.cat(kept, 1))


class PyramidPooling(nn.Module):
    """Three 5x5 max poolings in a row see as far as 5, 9 and 13 cells."""

    def __init__(self, width: int):
        super().__init__()
        self.enter, self.leave = ConvUnit(width, width // 2), ConvUnit(width * 2, width)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        views = [self.enter(x)]
        for _ in range(3):
            views.append(self.pool(views[-1]))
        return self.leave(torch.cat(views, 1))


class YOLO(nn.Module):
    """Image float32 [N, 3, H, W], RGB 0 to 1, H and W multiples of 32 -> detections before NMS.

    decode=True: boxes [N, A, 4] (x1 y1 x2 y2, pixels of the input) and class scores [N, A, 20] (0 to 1).
    decode=False: raw [N, 64 + 20, A]: the logits of four distances of 16 bins (left, top, right, bottom), then of the
    classes; `decode_numpy` finishes them outside the graph.
    """

    def __init__(self, decode: bool = True, widths: tuple[int, int, int, int, int] = WIDTHS):
        super().__init__()
        self.decode = decode
        self.classes, self.input_size = CLASSES, INPUT_SIZE
        w0, w1, w2, w3, w4 = widths
        self.stem = nn.Sequential(ConvUnit(3, w0, 3, 2), ConvUnit(w0, w1, 3, 2), SplitStage(w1, w1, 1, True))
        self.stage8 = nn.Sequential(ConvUnit(w1, w2, 3, 2), SplitStage(w2, w2, 2, True))
        self.stage16 = nn.Sequential(ConvUnit(w2, w3, 3, 2), SplitStage(w3, w3, 2, True))
        self.stage32 = nn.Sequential(ConvUnit(w3, w4, 3, 2), SplitStage(w4, w4, 1, True), PyramidPooling(w4))
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.down_to_16 = SplitStage(w4 + w3, w3, 1, False)
        self.down_to_8 = SplitStage(w3 + w2, w2, 1, False)
        self.shrink_to_16 = ConvUnit(w2, w2, 3, 2)
        self.up_to_16 = SplitStage(w2 + w3, w3, 1, False)
        self.shrink_to_32 = ConvUnit(w3, w3, 3, 2)
        self.up_to_32 = SplitStage(w3 + w4, w4, 1, False)
        self.box_heads = nn.ModuleList(self._head(w, 64, 4 * BINS) for w in (w2, w3, w4))
        self.class_heads = nn.ModuleList(self._head(w, w2, CLASS_COUNT) for w in (w2, w3, w4))
        for boxes, classes in zip(self.box_heads, self.class_heads):
            nn.init.constant_(boxes[-1].bias, 1.0)
            nn.init.constant_(classes[-1].bias, -4.6)  # score 0.01: nearly every anchor point is background

    @staticmethod
    def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(ConvUnit(inputs, hidden, 3), ConvUnit(hidden, hidden, 3), nn.Conv2d(hidden, outputs, 1))

    def features(self, x: Tensor) -> list[Tensor]:
        """The three feature maps that the head reads, stride 8, 16, 32."""
        c8 = self.stage8(self.stem(x))
        c16 = self.stage16(c8)
        c32 = self.stage32(c16)
        n16 = self.down_to_16(torch.cat([self.up(c32), c16], 1))
        p8 = self.down_to_8(torch.cat([self.up(n16), c8], 1))
        p16 = self.up_to_16(torch.cat([self.shrink_to_16(p8), n16], 1))
        p32 = self.up_to_32(torch.cat([self.shrink_to_32(p16), c32], 1))
        return [p8, p16, p32]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.features(x)
        raw = torch.cat([torch.cat([boxes(m), classes(m)], 1).flatten(2)
                         for m, boxes, classes in zip(maps, self.box_heads, self.class_heads)], 2)
        if not self.decode:
            return raw
        points, strides = anchor_points([(m.shape[2], m.shape[3]) for m in maps], raw)
        return decode(raw, points, strides)


def anchor_points(sizes: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    """Cell centres [A, 2] (x, y) and strides [A, 1], both in pixels, for feature maps of these (height, width).

    The integer ranges follow the shapes inside an exported graph (TensorRT's Range takes integers only).
    """
    points, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES):
        xs = (torch.arange(width, device=like.device).to(like.dtype) + 0.5) * stride
        ys = (torch.arange(height, device=like.device).to(like.dtype) + 0.5) * stride
        # Adding zeros spreads a row over the grid in two plain nodes; expand() becomes six in an exported graph.
        across, down = xs.reshape(1, -1), ys.reshape(-1, 1)
        points.append(torch.stack([across + down * 0, across * 0 + down], 2).reshape(-1, 2))
        strides.append(points[-1][:, :1] * 0 + stride)
    return torch.cat(points), torch.cat(strides)


def decode(raw: Tensor, points: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """raw [N, 84, A] -> boxes [N, A, 4] in pixels, scores [N, A, 20]. A distance is its distribution's mean."""
    logits, classes = raw.split([4 * BINS, CLASS_COUNT], 1)
    bins = torch.arange(BINS, device=raw.device).to(raw.dtype).reshape(1, 1, BINS, 1)
    distances = (logits.reshape(raw.shape[0], 4, BINS, -1).softmax(2) * bins).sum(2).transpose(1, 2) * strides
    near, far = distances.split([2, 2], 2)
    return torch.cat([points - near, points + far], 2), classes.transpose(1, 2).sigmoid()


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best score first: boxes float32 [D, 4] (x1 y1 x2 y2, pixels), scores float32 [D],
    labels int64 [D]."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def decode_numpy(raw: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Decode outside the graph: what `YOLO(decode=True)` does, in NumPy float32.

    Args:
        raw: [N, 84, A] from `YOLO(decode=False)`; size: (height, width) of the network's input in pixels.
    Returns:
        boxes [N, A, 4] in pixels, scores [N, A, 20].
    Raises:
        ShapeError: `raw` does not belong to this size.
    """
    raw = np.asarray(raw, np.float32)
    grids = [(size[0] // s, size[1] // s, s) for s in STRIDES]
    expected = (4 * BINS + CLASS_COUNT, sum(h * w for h, w, _ in grids))
    if raw.ndim != 3 or raw.shape[1:] != expected:
        raise ShapeError("The detector's raw output cannot be decoded.",
                         f"Its shape is {raw.shape}; an input of {size[0]}x{size[1]} pixels gives (N, {expected[0]}, {expected[1]}).",
                         "Pass the (height, width) of the image that the network saw.")
    points = np.concatenate([np.stack(np.meshgrid((np.arange(w) + 0.5) * s, (np.arange(h) + 0.5) * s), 2).reshape(-1, 2)
                             for h, w, s in grids]).astype(np.float32)
    strides = np.concatenate([np.full((h * w, 1), s, np.float32) for h, w, s in grids])
    logits = raw[:, :4 * BINS].reshape(len(raw), 4, BINS, -1)
    weights = np.exp(logits - logits.max(2, keepdims=True))
    bins = np.arange(BINS, dtype=np.float32).reshape(1, 1, BINS, 1)
    distances = ((weights * bins).sum(2) / weights.sum(2)).transpose(0, 2, 1) * strides
    boxes = np.concatenate([points - distances[..., :2], points + distances[..., 2:]], 2)
    with np.errstate(over="ignore"):
        return boxes, (1 / (1 + np.exp(-raw[:, 4 * BINS:]))).transpose(0, 2, 1)


def nms(boxes: np.ndarray | Tensor, scores: np.ndarray | Tensor, iou: float = 0.6, score: float = 0.001,
        max_detections: int = 100, candidates: int = 1000) -> list[Detections]:
    """Non-maximum suppression per class, outside the graph (torchvision).

    Args:
        boxes: [N, A, 4]; scores: [N, A, C], NumPy or torch on any device.
        iou: a box that overlaps a better one of its class by more than this is dropped.
        score: lowest score that counts. max_detections: kept per image.
        candidates: best (box, class) pairs per image that are looked at, for speed.
    """
    boxes, scores = (torch.as_tensor(x).float() for x in (boxes, scores))
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[2] != 4 or boxes.shape[:2] != scores.shape[:2]:
        raise ShapeError("These boxes and scores do not fit.",
                         f"Boxes are {tuple(boxes.shape)}, scores {tuple(scores.shape)}; expected (N, A, 4) and (N, A, C).",
                         "Pass both outputs of the detector, decoded.")
    found = []
    for box, pairs in zip(boxes, scores):
        best, index = pairs.flatten().topk(min(candidates, pairs.numel()))
        best, index = best[best > score], index[best > score]
        anchor, label = torch.div(index, pairs.shape[1], rounding_mode="floor"), index % pairs.shape[1]
        keep = torchvision.ops.batched_nms(box[anchor], best, label, iou)[:max_detections]
        found.append(Detections(box[anchor[keep]].cpu().numpy(), best[keep].cpu().numpy(), label[keep].cpu().numpy()))
    return found


class WithNMS(nn.Module):
    """The detector with non-maximum suppression inside the graph: one ONNX NonMaxSuppression node.

    Image [N, 3, H, W] -> boxes float32 [N, D, 4], scores float32 [N, D], labels int64 [N, D], best first; D is
    `max_detections`, always: where fewer were found, the rest has score 0. The answer is that of `nms`.
    Export it with the TorchScript exporter; the dynamo exporter has no translation for this node.
    """

    def __init__(self, model: YOLO, iou: float = 0.6, score: float = 0.001, max_detections: int = 100):
        super().__init__()
        if not model.decode:
            raise CourseError("NMS cannot be added to this detector.", "It gives raw output, and NMS needs boxes.",
                              "Make it with yolo(decode=True).")
        self.model, self.iou, self.score, self.max_detections = model, iou, score, max_detections

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.compiler.is_dynamo_compiling() or getattr(torch.compiler, "is_exporting", lambda: False)():
            raise UnsupportedError("NMS inside the graph cannot go through this exporter.",
                                   "The number of boxes it keeps depends on the image, which torch.export cannot follow.",
                                   'Use exporter="torchscript", or keep NMS outside: course.models.yolo.nms.')
        boxes, scores = self.model(x)
        survivors = _Suppress.apply(boxes, scores.transpose(1, 2), self.iou, self.score, self.max_detections)
        best, index = survivors.flatten(1).topk(self.max_detections, 1)
        label = torch.div(index, scores.shape[1], rounding_mode="trunc")
        anchor = index - label * scores.shape[1]
        return boxes.gather(1, anchor.unsqueeze(2).expand(-1, -1, 4)), best, label


class _Suppress(torch.autograd.Function):
    """boxes [N, A, 4], scores [N, C, A] -> the scores with 0 for every box that NMS drops: the same shape for every
    image, though the number of survivors differs."""

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, iou: float, score: float, per_class: int) -> Tensor:
        survivors = torch.zeros_like(scores)
        for image in range(scores.shape[0]):
            for label in range(scores.shape[1]):
                anchor = (scores[image, label] > score).nonzero()[:, 0]
                keep = anchor[torchvision.ops.nms(boxes[image, anchor], scores[image, label, anchor], iou)[:per_class]]
                survivors[image, label, keep] = scores[image, label, keep]
        return survivors

    @staticmethod
    def symbolic(g, boxes, scores, iou: float, score: float, per_class: int):
        def constant(value: float | int):
            return g.op("Constant", value_t=torch.tensor([value]))
        kept = g.op("NonMaxSuppression", boxes, scores, constant(per_class), constant(iou), constant(score))
        nothing = g.op("Mul", scores, constant(0.0))
        return g.op("ScatterND", nothing, kept, g.op("GatherND", scores, kept)).setType(scores.type())


def yolo(weights: str | Path | None = "scenes", decode: bool = True) -> YOLO:
    """The course's detector, in eval mode, float32, on the CPU; 3.3 million parameters.

    Args:
        weights: "scenes", the shipped weights (20 classes, trained on `course.data.scenes`); None, random weights; or
            the path of a `.safetensors` or `.pth` state dict.
        decode: see `YOLO`.

    Returns:
        The module, with `.classes` (tuple of 20 names) and `.input_size` (320 px; any multiple of 32 works).

    Raises:
        MissingFileError, DamagedFileError: the weights file is not there or not readable.
        ShapeError: the file belongs to another architecture.
    """
    model = YOLO(decode)
    if weights is not None:
        path = require_asset(SHIPPED) if weights == "scenes" else Path(weights)
        load_into(model, read_state(path), f"Weights file {path.name}")
    return model.eval()
