"""Pictures of ONNX graphs: the right nodes between two tensors, skips visible, nothing over anything else."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from course.engine import onnx_layers
from course.errors import CourseError
from course.plot import graph as plot_graph
from tests.plot.test_plot import texts


def residual(blocks: int = 1) -> onnx.ModelProto:
    """Per block: Conv, Relu, Conv, Add with the block's input; at the end two outputs side by side."""
    nodes, weights, x = [], [], "image"
    for block in range(blocks):
        for half in "ab":
            weights.append(helper.make_tensor(f"w{block}{half}", TensorProto.FLOAT, (4, 4, 3, 3), [0.0] * 144))
        a, b, c, d = (f"{kind}{block}" for kind in ("conv", "relu", "conv_again", "sum"))
        shape = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        nodes += [
            helper.make_node("Conv", [x, f"w{block}a"], [a], name=f"N{a}", **shape),
            helper.make_node("Relu", [a], [b], name=f"N{b}"),
            helper.make_node("Conv", [b, f"w{block}b"], [c], name=f"N{c}", strides=[1, 1], **shape),
            helper.make_node("Add", [c, x], [d], name=f"N{d}"),
        ]
        x = d
    nodes += [
        helper.make_node("Sigmoid", [x], ["scores"], name="Nscores"),
        helper.make_node("Exp", [x], ["boxes"], name="Nboxes"),
    ]
    size = ["batch", 4, 8, 8]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, size)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in ("scores", "boxes")],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


FIGURES = {
    "a whole graph": lambda: plot_graph.draw(residual(), title="A block"),
    "two blocks": lambda: plot_graph.draw(residual(2)),
    "a long title": lambda: plot_graph.draw(
        residual(), ["Nrelu0", "Nconv0"], title="A title that is longer than two boxes are wide"
    ),
    "one node": lambda: plot_graph.draw(residual(), ["Nrelu0"]),
    "operators of two graphs": lambda: plot_graph.operators(
        {"before": plot_graph.count(residual(3)), "after": {"Conv": 5, "Fused": 1}}
    ),
    "operators of one graph": lambda: plot_graph.operators({"net": plot_graph.count(residual())}),
    "the pipeline": plot_graph.pipeline,
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    boxes = list(texts(figure).items())
    for index, (one, a) in enumerate(boxes):
        assert a[0] >= -1 and a[1] >= -1 and a[2] <= figure.bbox.width + 1 and a[3] <= figure.bbox.height + 1, one
        for other, b in boxes[index + 1 :]:
            assert a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1, (one, other)


def test_a_part_is_what_lies_between_two_tensors() -> None:
    net = residual(2)
    assert plot_graph.part(net, "sum0", "sum1") == ("Nconv1", "Nrelu1", "Nconv_again1", "Nsum1")
    assert plot_graph.part(net, "sum1", ["scores", "boxes"]) == ("Nscores", "Nboxes")
    assert plot_graph.part(net, ["relu1", "sum0"], "sum1") == ("Nconv_again1", "Nsum1")


def test_shapes_kernels_and_the_outer_input_are_written() -> None:
    shown = " | ".join(texts(plot_graph.draw(residual(2), plot_graph.part(residual(2), "sum0", "sum1"))))
    assert shown.count("Conv 3×3") == 2 and shown.count("N × 4 × 8 × 8") == 5 and "input" in shown
    assert "Sigmoid" not in shown


def test_boxes_do_not_overlap_and_the_skip_has_a_lane_of_its_own() -> None:
    model = residual()
    spots = plot_graph._spots(model, list(onnx_layers.layers(plot_graph.graph.read(model))))
    rows = plot_graph._arranged(spots)
    assert [[bool(s.title) for s in sorted(row, key=lambda s: s.x)] for row in rows] == [
        [True],
        [True, False],
        [True, False],
        [True, False],
        [True],
        [True, True],
    ]
    for row in rows:
        for left, right in zip(row, row[1:]):
            assert right.x - left.x >= (left.width + right.width) / 2


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda net: plot_graph.part(net, "nothing", "sum0"), "no tensor 'nothing'"),
        (lambda net: plot_graph.part(net, "sum0", "sum0"), "Nothing lies between"),
        (lambda net: plot_graph.draw(net, ["Nrelu0", "Nelsewhere"]), "cannot be drawn"),
        (lambda net: plot_graph.draw(residual(20)), "Between 1 and 60"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_a_next_step(call, message: str) -> None:
    with pytest.raises(CourseError, match="Next step") as caught:
        call(residual())
    assert message in str(caught.value)


def test_operators_are_counted_most_first() -> None:
    assert list(plot_graph.count(residual(2)).items())[:2] == [("Conv", 4), ("Relu", 2)]
