"""Pictures of ONNX: a part of a graph as boxes and arrows, its operators counted, and its place between tools.

names = part("resnet50.onnx", start="relu", stop="relu_3")   # tensor names
draw("resnet50.onnx", names)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib
import onnx
from matplotlib.patches import FancyBboxPatch

from course.engine import graph, onnx_layers
from course.engine.types import Layer, OnnxSource
from course.errors import CourseError
from course.plot import GREY, INK, MUTED, OPERATOR_COLOURS, PALETTE, STYLE, Figure

BOX, ROW = 2.6, 1.0  # width of a box, distance of two rows; one unit is INCH inches
INCH = 0.56
LANE = 0.7  # width of the lane of an arrow that passes by other boxes
MOST = 60  # nodes; more cannot be read


@dataclass
class _Spot:
    """A box (layer or input) or a point that a long arrow passes (neither); `x` is its centre."""

    row: int
    width: float
    title: str = ""
    below: str = ""
    colour: str = ""
    x: float = 0.0
    above: list[_Spot] = field(default_factory=list)
    under: list[_Spot] = field(default_factory=list)


def part(source: OnnxSource, start: str | Sequence[str], stop: str | Sequence[str]) -> tuple[str, ...]:
    """Names of the nodes between tensors: those that `stop` needs, down from `start`, in the order of the graph.

    Args:
        source: path, bytes or ModelProto. start, stop: names of tensors; one or several.

    Raises:
        CourseError: no such tensor, or nothing lies between them.
    """
    model = graph.read(source)
    start, stop = ([name] if isinstance(name, str) else list(name) for name in (start, stop))
    maker = {tensor: index for index, node in enumerate(model.proto.graph.node) for tensor in node.output}
    known = {*maker, *(value.name for value in model.proto.graph.input)}
    for name in (*start, *stop):
        if name not in known:
            raise CourseError(
                f"{model.name} has no tensor {name!r}.",
                f"It has {len(known)} tensors.",
                'Take a name from network_layers(path, "onnxruntime").',
            )
    found, ahead = set(), [name for name in stop if name not in start]
    while ahead:
        tensor = ahead.pop()
        if tensor in maker and maker[tensor] not in found:
            found.add(maker[tensor])
            ahead += [name for name in model.proto.graph.node[maker[tensor]].input if name not in start]
    if not found:
        raise CourseError(
            f"Nothing lies between {start} and {stop}.",
            "`stop` is an input or the same tensor.",
            "Name a tensor that is computed from `start`.",
        )
    return tuple(graph.node_name(model.proto.graph.node[index], index) for index in sorted(found))


def draw(source: OnnxSource, names: Sequence[str] | None = None, title: str = "") -> Figure:
    """A part of an ONNX graph, top down: a box for each node with the shape that it makes, arrows for tensors.

    Weights are not drawn. An arrow that skips rows runs beside the boxes. N stands for a size that is open.

    Args:
        source: path, bytes or ModelProto. names: nodes (see `part`); None draws all.

    Raises:
        CourseError: a name is unknown, or there are more than 60 nodes.
    """
    model = graph.read(source)
    layers = {layer.name: layer for layer in onnx_layers.layers(model)}
    chosen = list(layers) if names is None else [name for name in layers if name in set(names)]
    if not chosen or len(chosen) > MOST or (names is not None and set(names) - set(layers)):
        raise CourseError(
            f"{len(chosen)} nodes of {model.name} cannot be drawn.",
            f"Between 1 and {MOST} can be read, and each must be in the graph.",
            "Choose a part: draw(path, part(path, start, stop)).",
        )
    spots = _spots(model.proto, [layers[name] for name in chosen])
    rows = _arranged(spots)
    with matplotlib.rc_context(STYLE):
        left = min(s.x - s.width / 2 for s in spots)
        right = max(max(s.x + s.width / 2 for s in spots), left + 4.2, left + 0.115 * len(title) / INCH)
        figure = Figure(figsize=(INCH * (right - left) + 0.2, INCH * ROW * len(rows) + 0.45), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(left - 0.05, right + 0.05), ylim=(ROW * (len(rows) - 1) + 0.45, -0.45), title=title)
        axis.axis("off")
        for spot in spots:
            for below in spot.under:
                _arrow(axis, spot, below)
        for spot in spots:
            if spot.title:
                _node(axis, spot)
    return figure


def _spots(proto: onnx.ModelProto, layers: list[Layer]) -> list[_Spot]:
    """A spot for each node and for each tensor that comes from outside, with points for arrows over many rows."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    weights |= {out for node in proto.graph.node if node.op_type == "Constant" for out in node.output}
    nodes = {graph.node_name(node, index): node for index, node in enumerate(proto.graph.node)}
    made = {tensor.name for layer in layers for tensor in layer.outputs}
    spots: dict[str, _Spot] = {}
    boxes: list[_Spot] = []
    arrows: list[tuple[_Spot, _Spot]] = []
    for layer in layers:
        for tensor in layer.inputs:
            if tensor.name not in made and tensor.name not in weights and tensor.name not in spots:
                spots[tensor.name] = _Spot(0, BOX, "input", _shape(tensor.shape))
                boxes.append(spots[tensor.name])
        sources = list(dict.fromkeys(t.name for t in layer.inputs if t.name in spots))
        box = _Spot(
            1 + max((spots[name].row for name in sources), default=-1),
            BOX,
            _title(nodes[layer.name]),
            _shape(layer.outputs[0].shape),
            OPERATOR_COLOURS.get(layer.kind, GREY),
        )
        boxes.append(box)
        spots |= {tensor.name: box for tensor in layer.outputs}
        arrows += [(spots[name], box) for name in sources]
    for source, target in arrows:
        last = source
        for row in range(source.row + 1, target.row):
            point = _Spot(row, LANE)
            _join(last, point)
            boxes.append(point)
            last = point
        _join(last, target)
    return boxes


def _join(above: _Spot, below: _Spot) -> None:
    above.under.append(below)
    below.above.append(above)


def _arranged(spots: list[_Spot]) -> list[list[_Spot]]:
    """Give every spot its x: near what it is joined with, boxes of one row side by side."""
    rows = [[s for s in spots if s.row == row] for row in range(1 + max(s.row for s in spots))]
    for sweep in range(12):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            for spot in row:
                near = (spot.above if sweep % 2 == 0 else spot.under) or (spot.under + spot.above)
                if near and sweep:
                    spot.x = sum(s.x for s in near) / len(near)
                elif near and spot.above:  # first sweep: a branch beside its source keeps the order of the graph
                    spot.x = sum(s.x for s in near) / len(near) + (0.1 if not spot.title else 0)
            row.sort(key=lambda s: s.x)  # stable: equals keep the order of the graph
            _spread(row)
    return rows


def _spread(row: list[_Spot]) -> None:
    """Move the spots of a row apart until none overlap, about the middle that they had."""
    if len(row) < 2:
        return
    middle = sum(s.x for s in row) / len(row)
    for left, right in zip(row, row[1:]):
        right.x = max(right.x, left.x + (left.width + right.width) / 2 + 0.25)
    shift = middle - sum(s.x for s in row) / len(row)
    for spot in row:
        spot.x += shift


def _arrow(axis, spot: _Spot, below: _Spot) -> None:
    start = spot.row * ROW + (0.32 if spot.title else 0)
    end = below.row * ROW - (0.34 if below.title else 0)
    style = {"arrowstyle": "->" if below.title else "-", "color": MUTED, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    near = max(below.x - 0.42 * BOX, min(below.x + 0.42 * BOX, spot.x)) if below.title and not spot.title else below.x
    axis.annotate("", (near, end), (spot.x, start), arrowprops=style)


def _node(axis, spot: _Spot) -> None:
    y, inside = spot.row * ROW, "white" if spot.colour else INK
    axis.add_patch(
        FancyBboxPatch(
            (spot.x - BOX / 2, y - 0.32),
            BOX,
            0.64,
            facecolor=spot.colour or "white",
            edgecolor="none" if spot.colour else MUTED,
            linewidth=1,
            boxstyle="round,pad=0,rounding_size=0.1",
            zorder=2,
        )
    )
    axis.text(spot.x, y - 0.14, spot.title, color=inside, ha="center", va="center", fontsize=9, zorder=3)
    axis.text(spot.x, y + 0.15, spot.below, color=inside, ha="center", va="center", fontsize=7.5, zorder=3)


def _title(node: onnx.NodeProto) -> str:
    attributes = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    text = node.op_type
    if "kernel_shape" in attributes:
        text += " " + "×".join(str(side) for side in attributes["kernel_shape"])
        strides = attributes.get("strides", [1])
        text += f", stride {max(strides)}" if max(strides) > 1 else ""
    return text


def _shape(shape: tuple[int, ...] | None) -> str:
    return "" if shape is None else " × ".join("N" if size < 0 else str(size) for size in shape) or "a number"


def operators(counts: Mapping[str, Mapping[str, int]], title: str = "Nodes by operator") -> Figure:
    """How many nodes of each operator: one row for each operator, one bar for each graph.

    Args:
        counts: name of the graph -> {operator: nodes}; see `count`.
    """
    total = Counter()
    for each in counts.values():
        total.update(each)
    order = [name for name, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))]
    most, high = max(total.values(), default=1), 0.8 / len(counts)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 1.2 + len(order) * (0.1 + 0.12 * len(counts))), layout="constrained")
        axis = figure.subplots()
        for index, (name, each) in enumerate(counts.items()):
            label = f"{name}: {sum(each.values())} nodes"
            places = [row - 0.4 + high * (index + 0.5) for row in range(len(order))]
            values = [each.get(operator, 0) for operator in order]
            axis.barh(places, values, height=0.92 * high, color=PALETTE[index], label=label)
            for place, value in zip(places, values):
                axis.text(value + 0.01 * most, place, str(value), va="center", fontsize=7.5, color=INK)
        axis.set_yticks(range(len(order)), order, fontsize=9)
        axis.set(xlabel="nodes", ylim=(len(order) - 0.4, -0.6), title=title)
        axis.margins(x=0.08)
        axis.locator_params(axis="x", integer=True)
        axis.legend(loc="lower right", frameon=False)
    return figure


def count(source: OnnxSource) -> dict[str, int]:
    """Operator -> how many nodes of the graph are such, most first."""
    return dict(Counter(node.op_type for node in graph.read(source).proto.graph.node).most_common())


def pipeline() -> Figure:
    """Where ONNX stands: frameworks write it, runtimes read it."""
    left = [("PyTorch", "two exporters"), ("TensorFlow", "tf2onnx")]
    right = [("TensorRT", "NVIDIA GPUs"), ("TensorRT-RTX", "builds on a CPU, too"), ("ONNX Runtime", "CPUs and others")]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.5), layout="constrained")
        axis = figure.subplots()
        axis.set(xlim=(0, 9.6), ylim=(2.45, -0.75))
        axis.axis("off")
        for x, text in ((1.25, "trained in"), (4.8, "written to one file"), (8.3, "run by")):
            axis.text(x, -0.55, text, ha="center", color=MUTED, fontsize=10)
        for names, x in ((left, 1.25), (right, 8.3)):
            for row, (name, note) in enumerate(names):
                y = row + (0.5 if len(names) == 2 else 0)
                _plain(axis, x, y, 2.4, name, note, PALETTE[1] if x < 4 else PALETTE[2])
                start, end = ((2.5, y), (3.5, 1)) if x < 4 else ((6.1, 1), (7.05, y))
                axis.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": MUTED, "linewidth": 1.4})
        _plain(axis, 4.8, 1, 2.5, "ONNX file", "graph, weights, opset", PALETTE[3])
    return figure


def _plain(axis, x: float, y: float, width: float, name: str, note: str, colour: str) -> None:
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - 0.36),
            width,
            0.72,
            facecolor="white",
            edgecolor=colour,
            linewidth=1.8,
            boxstyle="round,pad=0,rounding_size=0.1",
        )
    )
    axis.text(x, y - 0.13, name, ha="center", va="center", fontsize=11)
    axis.text(x, y + 0.18, note, ha="center", va="center", fontsize=8.5, color=MUTED)
