"""Non-maximum suppression of the detector's boxes: outside the graph, and inside an exported one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from course.errors import CourseError, ShapeError, UnsupportedError


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best score first.

    boxes: float32 [D, 4], x1 y1 x2 y2 in pixels of the network's input (`Letterbox.to_image` turns them into
    pixels of the image); scores: float32 [D]; labels: int64 [D].
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


def nms(
    boxes: np.ndarray | Tensor,
    scores: np.ndarray | Tensor,
    iou: float = 0.6,
    score: float = 0.001,
    max_detections: int = 100,
    candidates: int = 1000,
) -> list[Detections]:
    """Non-maximum suppression per class, outside the graph (torchvision).

    Args:
        boxes: [N, A, 4]; scores: [N, A, C], NumPy or torch on any device.
        iou: a box that overlaps a better one of its class by more than this is dropped.
        score: lowest score that counts. max_detections: kept per image.
        candidates: best (box, class) pairs per image that are looked at, for speed.
    """
    boxes, scores = (torch.as_tensor(x).float() for x in (boxes, scores))
    if boxes.ndim != 3 or scores.ndim != 3 or boxes.shape[2] != 4 or boxes.shape[:2] != scores.shape[:2]:
        raise ShapeError(
            "These boxes and scores do not fit.",
            f"Boxes are {tuple(boxes.shape)}, scores {tuple(scores.shape)}; expected (N, A, 4) and (N, A, C).",
            "Pass both outputs of the detector, decoded.",
        )
    found = []
    for box, pairs in zip(boxes, scores):
        best, index = pairs.flatten().topk(min(candidates, pairs.numel()))
        best, index = best[best > score], index[best > score]
        anchor, label = torch.div(index, pairs.shape[1], rounding_mode="floor"), index % pairs.shape[1]
        keep = torchvision.ops.batched_nms(box[anchor], best, label, iou)[:max_detections]
        found.append(Detections(*(x[keep].cpu().numpy() for x in (box[anchor], best, label))))
    return found


class WithNMS(nn.Module):
    """The detector with non-maximum suppression inside the graph: one ONNX NonMaxSuppression node.

    Image [N, 3, H, W] -> boxes float32 [N, D, 4], scores float32 [N, D], labels int64 [N, D], best first.
    D is `max_detections`, always: where fewer were found, the rest is 0. The answer is that of `nms`. `score`
    is higher by default: among very low scores, nearly equal ones change places from one runtime to the next
    (0.01 instead of 0.001 costs 0.2 points of mAP on our scenes).

    Export it with the TorchScript exporter; the dynamo exporter has no translation for this node.

    Raises:
        CourseError: the detector gives raw output. UnsupportedError: when the dynamo exporter traces it.
    """

    def __init__(self, model: nn.Module, iou: float = 0.6, score: float = 0.01, max_detections: int = 100):
        super().__init__()
        if not model.decode:
            raise CourseError(
                "NMS cannot be added to this detector.",
                "It gives raw output, and NMS needs boxes.",
                "Make it with yolo(decode=True).",
            )
        self.model, self.iou, self.score, self.max_detections = model, iou, score, max_detections

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if torch.compiler.is_dynamo_compiling() or getattr(torch.compiler, "is_exporting", lambda: False)():
            raise UnsupportedError(
                "NMS inside the graph cannot go through this exporter.",
                "torch.export cannot follow a number of boxes that depends on the image.",
                'Use exporter="torchscript", or keep NMS outside: course.models.nms.',
            )
        boxes, scores = self.model(x)
        survivors = _Suppress.apply(boxes, scores.transpose(1, 2), self.iou, self.score, self.max_detections)
        best, index = survivors.flatten(1).topk(self.max_detections, 1)
        label = torch.div(index, scores.shape[1], rounding_mode="trunc")
        anchor = index - label * scores.shape[1]
        there = (best > 0).to(boxes.dtype).unsqueeze(2)  # an empty place is all 0, whatever topk found
        return boxes.gather(1, anchor.unsqueeze(2).expand(-1, -1, 4)) * there, best, label * (best > 0)


class _Suppress(torch.autograd.Function):
    """boxes [N, A, 4], scores [N, C, A] -> the scores, 0 for every box that NMS drops.

    So the shape is the same for every image, though the number of survivors differs.
    """

    @staticmethod
    def forward(ctx, boxes: Tensor, scores: Tensor, iou: float, score: float, per_class: int) -> Tensor:
        survivors = torch.zeros_like(scores)
        for image in range(scores.shape[0]):
            for label in range(scores.shape[1]):
                anchor = (scores[image, label] > score).nonzero()[:, 0]
                kept = torchvision.ops.nms(boxes[image, anchor], scores[image, label, anchor], iou)
                keep = anchor[kept[:per_class]]
                survivors[image, label, keep] = scores[image, label, keep]
        return survivors

    @staticmethod
    def symbolic(g, boxes, scores, iou: float, score: float, per_class: int):
        def constant(value: float | int):
            return g.op("Constant", value_t=torch.tensor([value]))

        kept = g.op("NonMaxSuppression", boxes, scores, constant(per_class), constant(iou), constant(score))
        nothing = g.op("Mul", scores, constant(0.0))
        return g.op("ScatterND", nothing, kept, g.op("GatherND", scores, kept)).setType(scores.type())
