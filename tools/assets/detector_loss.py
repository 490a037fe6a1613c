"""What the detector learns from: assignment of anchor points to objects, and the loss.

Written from the papers: task-aligned assignment (Feng et al. 2021, TOOD, arXiv:2108.07755, section 3.2),
distribution focal loss (Li et al. 2020, Generalized Focal Loss, arXiv:2006.04388, equation 6), complete IoU
(Zheng et al. 2020, Distance-IoU Loss, arXiv:1911.08287; torchvision's code). Everything is a batched tensor
operation with padded targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import complete_box_iou_loss

from course.models.yolo import BINS, CLASS_COUNT, STRIDES, anchor_points, decode

TOP_K, ALPHA, BETA = 10, 0.5, 6.0  # of the assigner
BOX_WEIGHT, CLASS_WEIGHT, DISTRIBUTION_WEIGHT = 7.5, 0.5, 1.5


@dataclass(frozen=True)
class Losses:
    """Scalar tensors, already weighted; their sum is the loss."""

    box: Tensor
    classes: Tensor
    distribution: Tensor


def detection_loss(raw: Tensor, size: tuple[int, int], boxes: Tensor, labels: Tensor, valid: Tensor) -> Losses:
    """Loss of raw network output against padded objects.

    Args:
        raw: [N, 84, A], any float type; size: (height, width) of the input in pixels.
        boxes: [N, M, 4] x1 y1 x2 y2 in pixels; labels: int64 [N, M]; valid: bool [N, M], False for padding.
    """
    raw = raw.float()
    points, strides = anchor_points([(size[0] // s, size[1] // s) for s in STRIDES], raw)
    predicted, _ = decode(raw, points, strides)
    logits = raw[:, 4 * BINS :].transpose(1, 2)
    scores = logits.detach().sigmoid()
    targets, owners, positive = assign(scores, predicted.detach(), points, boxes, labels, valid)
    normalizer = targets.sum().clamp(min=1.0)
    class_loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / normalizer

    image, anchor = positive.nonzero(as_tuple=True)
    weight = targets[image, anchor].sum(1)
    goal = boxes[image, owners[image, anchor]]
    box_loss = (complete_box_iou_loss(predicted[image, anchor], goal) * weight).sum() / normalizer

    centre, unit = points[anchor], strides[anchor]
    distances = (torch.cat([centre - goal[:, :2], goal[:, 2:] - centre], 1) / unit).clamp(0, BINS - 1 - 0.01)
    low = distances.floor()
    log_p = raw[image, : 4 * BINS, anchor].reshape(-1, 4, BINS).log_softmax(2)
    at_low = log_p.gather(2, low.long()[..., None])[..., 0]
    at_high = log_p.gather(2, low.long()[..., None] + 1)[..., 0]
    focal = -(at_low * (low + 1 - distances) + at_high * (distances - low)).mean(1)
    distribution_loss = (focal * weight).sum() / normalizer
    return Losses(BOX_WEIGHT * box_loss, CLASS_WEIGHT * class_loss, DISTRIBUTION_WEIGHT * distribution_loss)


@torch.no_grad()
def assign(
    scores: Tensor, predicted: Tensor, points: Tensor, boxes: Tensor, labels: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Task-aligned assignment: an object takes the ten anchor points inside it that already serve it best.

    Args:
        scores: [N, A, C], 0 to 1; predicted: [N, A, 4]; points: [A, 2].
        boxes, labels, valid: as in `detection_loss`.

    Returns:
        class targets [N, A, C] (0 to 1), index of the object of each anchor point [N, A], which points are
        positive [N, A].
    """
    near, far = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    inside = torch.minimum(points - near, far - points).amin(3) > 1e-6  # [N, M, A]
    inside &= valid[:, :, None]
    iou = pairwise_iou(boxes, predicted) * inside
    of_label = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, scores.shape[1]))
    alignment = of_label.pow(ALPHA) * iou.pow(BETA) * inside

    best = alignment.topk(TOP_K, dim=2).indices
    chosen = torch.zeros_like(inside).scatter_(2, best, True) & inside
    # A point that several objects chose goes to the one that it overlaps most.
    owners = torch.where(chosen, iou, -1.0).argmax(1)  # [N, A]
    positive = chosen.any(1)
    mine = (torch.arange(boxes.shape[1], device=boxes.device)[None, :, None] == owners[:, None]) & chosen

    alignment, overlap = alignment * mine, iou * mine
    strength = alignment / alignment.amax(2, keepdim=True).clamp(min=1e-9) * overlap.amax(2, keepdim=True)
    targets = F.one_hot(labels.gather(1, owners), CLASS_COUNT).to(scores.dtype)
    return targets * (strength.amax(1) * positive)[..., None], owners, positive


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box in a [N, M, 4] with every box in b [N, A, 4]: [N, M, A]."""
    a, b = a[:, :, None], b[:, None]
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    areas = [(x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1]) for x in (a, b)]
    return shared / (areas[0] + areas[1] - shared + 1e-9)


def progress_map(detections: list, scenes: list) -> tuple[float, float]:
    """(mAP at IoU 0.5:0.95, mAP at 0.5) without pycocotools, to watch training; `--score` is official.

    Args:
        detections: per image an object with boxes [D, 4], scores [D], labels [D], best score first.
        scenes: per image an object with boxes [K, 4], labels [K].
    """
    thresholds = np.arange(0.5, 1.0, 0.05)
    precision = []
    for label in range(CLASS_COUNT):
        scores, hits, objects = [], [], 0
        for found, truth in zip(detections, scenes):
            goal, mine = truth.boxes[truth.labels == label], found.labels == label
            objects += len(goal)
            hit = np.zeros((len(thresholds), int(mine.sum())), bool)
            if len(goal) and mine.any():
                iou = pairwise_iou(
                    torch.from_numpy(goal)[None].float(), torch.from_numpy(found.boxes[mine])[None].float()
                )[0].numpy()
                for t, threshold in enumerate(thresholds):
                    free = iou.copy()
                    for d in range(hit.shape[1]):
                        best = int(free[:, d].argmax())
                        if free[best, d] >= threshold:
                            hit[t, d], free[best] = True, -1.0
            scores.append(found.scores[mine])
            hits.append(hit)
        if not objects:
            continue
        order = np.argsort(-np.concatenate(scores), kind="stable")
        true = np.concatenate(hits, 1)[:, order].cumsum(1)
        recall, exact = true / objects, true / np.arange(1, len(order) + 1)
        exact = np.maximum.accumulate(exact[:, ::-1], 1)[:, ::-1]
        marks = np.linspace(0, 1, 101)
        precision.append([np.append(p, 0.0)[np.searchsorted(r, marks)].mean() for r, p in zip(recall, exact)])
    if not precision:
        return 0.0, 0.0
    return float(np.mean(precision)), float(np.mean(precision, 0)[0])
