"""A compact YOLO-family detector: CSP backbone, PAN neck, anchor-free head with distributed boxes.

Our own code, after the papers: CSPNet (Wang et al. 2020, arXiv:1911.11929), spatial pyramid pooling (He et
al. 2014, arXiv:1406.4729), PANet (Liu et al. 2018, arXiv:1803.01534), the decoupled anchor-free head (Ge et
al. 2021, YOLOX, arXiv:2107.08430) and boxes as distributions (Li et al. 2020, Generalized Focal Loss,
arXiv:2006.04388).

Every anchor point is the centre of one cell of a feature map with stride 8, 16 or 32. The network gives it
four distances to the sides of a box, each a distribution over 16 bins (unit: strides), and 20 class scores.
A is the number of anchor points of all three maps, stride 8 first, row by row: for H = W = 320,
1600 + 400 + 100 = 2100.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from course.data.postprocess import BINS, CLASS_COUNT, STRIDES, decode_numpy
from course.data.scenes import CLASSES
from course.files import require_asset
from course.models.suppression import Detections, WithNMS, nms
from course.models.weights import load_into, read_state

__all__ = ["YOLO", "Detections", "WithNMS", "decode_numpy", "nms", "yolo"]

INPUT_SIZE = 320  # pixels; any multiple of 32 works
SHIPPED = "yolo_scenes.safetensors"
WIDTHS = (24, 48, 96, 144, 208)  # channels at stride 2, 4, 8, 16, 32


class ConvUnit(nn.Sequential):
    """Convolution without bias, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 convolutions; `shortcut` adds the input."""

    def __init__(self, width: int, shortcut: bool):
        super().__init__()
        self.body = nn.Sequential(ConvUnit(width, width, 3), ConvUnit(width, width, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.shortcut else self.body(x)


class SplitStage(nn.Module):
    """Cross-stage partial block: half of the channels pass by, half go through a chain; its steps stay."""

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
    decode=False: raw [N, 64 + 20, A]: the logits of four distances of 16 bins (left, top, right, bottom),
    then of the classes; `decode_numpy` finishes them outside the graph.
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
        raw = torch.cat(
            [
                torch.cat([boxes(m), classes(m)], 1).flatten(2)
                for m, boxes, classes in zip(maps, self.box_heads, self.class_heads)
            ],
            2,
        )
        if not self.decode:
            return raw
        points, strides = anchor_points([(m.shape[2], m.shape[3]) for m in maps], raw)
        return decode(raw, points, strides)


def anchor_points(sizes: list[tuple[int, int]], like: Tensor) -> tuple[Tensor, Tensor]:
    """Cell centres [A, 2] (x, y) and strides [A, 1], in pixels, for feature maps of these (height, width).

    The integer ranges follow the shapes inside an exported graph (TensorRT's Range takes integers only).
    """
    points, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES):
        xs = (torch.arange(width, device=like.device).to(like.dtype) + 0.5) * stride
        ys = (torch.arange(height, device=like.device).to(like.dtype) + 0.5) * stride
        # Adding zeros spreads a row over the grid in two plain nodes; expand() exports as six.
        across, down = xs.reshape(1, -1), ys.reshape(-1, 1)
        points.append(torch.stack([across + down * 0, across * 0 + down], 2).reshape(-1, 2))
        strides.append(points[-1][:, :1] * 0 + stride)
    return torch.cat(points), torch.cat(strides)


def decode(raw: Tensor, points: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """raw [N, 84, A] -> boxes [N, A, 4] in pixels, scores [N, A, 20]. A distance is the mean of its bins."""
    logits, classes = raw.split([4 * BINS, CLASS_COUNT], 1)
    bins = torch.arange(BINS, device=raw.device).to(raw.dtype).reshape(1, 1, BINS, 1)
    distances = (logits.reshape(raw.shape[0], 4, BINS, -1).softmax(2) * bins).sum(2).transpose(1, 2) * strides
    near, far = distances.split([2, 2], 2)
    return torch.cat([points - near, points + far], 2), classes.transpose(1, 2).sigmoid()


def yolo(weights: str | Path | None = "scenes", decode: bool = True) -> YOLO:
    """The course's detector, in eval mode, float32, on the CPU; 3.3 million parameters.

    Args:
        weights: "scenes", the shipped weights (20 classes, trained on `course.data.scenes`); None, random
            weights; or the path of a `.safetensors` or `.pth` state dict.
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
