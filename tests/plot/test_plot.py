"""The figures: readable (no text over text or off the edge), with units, fit for a page in light and dark."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from course import plot
from course.bench import Samples
from course.engine import Layer
from course.text import number


def samples(label: str, milliseconds: float, count: int = 200, slowest: float = 3.0) -> Samples:
    """Gamma-distributed times with one slow run, seeded by the label."""
    rng = np.random.default_rng(len(label))
    times = milliseconds * (1 + 0.03 * rng.gamma(2, 1, count))
    times[0] = milliseconds * slowest
    return Samples(label, "cpu", "CPU", times)


def groups(contestants: int, count: int = 200) -> dict[str, list[Samples]]:
    labels = ["TensorRT fp16", "TensorRT tf32", "PyTorch eager fp16", "PyTorch eager fp32"][-contestants:]
    return {
        "batch 1": [samples(label, 0.6 * 3**i, count) for i, label in enumerate(labels)],
        "batch 8": [samples(label, 410.0 * 3**i, count) for i, label in enumerate(labels)],
    }


def network() -> tuple[list[Layer], list[Layer]]:
    nodes = [Layer(f"node_{kind}_{i}", kind) for i in range(12) for kind in ("Conv", "Add", "Relu", "Mul")]
    names = [node.name for node in nodes]
    fused = [Layer("reformat", "Reformat"), Layer("big", "Convolution", onnx_nodes=tuple(names[:4]))]
    fused += [Layer(f"a name that goes on and on {name}", "", onnx_nodes=(name,)) for name in names[4:]]
    return nodes, fused


def texts(figure: plot.Figure) -> dict[str, tuple[float, float, float, float]]:
    """Every visible text with its box in pixels: left, bottom, right, top."""
    FigureCanvasAgg(figure).draw()
    hidden = set()  # matplotlib keeps labels of ticks outside the axis, and of axes that are switched off
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden |= {
                id(label)
                for tick in axis.get_major_ticks()
                for label in (tick.label1, tick.label2)
                if not (low <= tick.get_loc() <= high and axes.axison)
            }
    found = {}
    for item in figure.findobj(Text):
        if id(item) not in hidden and item.get_visible() and item.get_text().strip():
            found[f"{item.get_text()} #{len(found)}"] = item.get_window_extent().extents
    return found


ITEMS = {"batch 1": 1, "batch 8": 8}
FIGURES = {f"latency of {n}": lambda n=n: plot.latency(groups(n), "Time on this CPU") for n in (2, 3, 4)}
FIGURES |= {f"throughput of {n}": lambda n=n: plot.throughput(groups(n), ITEMS) for n in (2, 4)}
FIGURES["latency of many runs"] = lambda: plot.latency(groups(2, count=1000))
FIGURES["fusion"] = lambda: plot.fusion(*network())


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    boxes = texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for text, (left, bottom, right, top) in boxes.items():
        inside = left >= -1 and bottom >= -1 and right <= width + 1 and top <= height + 1
        assert inside, f"{text} leaves the figure"
    items = list(boxes.items())
    for index, (one, a) in enumerate(items):
        for other, b in items[index + 1 :]:
            apart = a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1
            assert apart, f"{one!r} and {other!r} overlap"


@pytest.mark.parametrize("name", FIGURES)
def test_svg_needs_no_other_file_and_follows_the_page(name: str) -> None:
    svg = plot.svg(FIGURES[name](), "figure")
    assert svg.startswith("<svg") and "viewBox" in svg
    assert "http" not in svg and svg.count("href=") == svg.count('href="#') + svg.count('href="data:')
    assert "currentColor" in svg and plot.INK not in svg
    assert svg == plot.svg(FIGURES[name](), "figure"), "the same data must give the same bytes"


def test_times_and_rates_carry_units_and_the_right_numbers() -> None:
    data = {
        "batch 8": [
            Samples("engine", "cpu", "CPU", np.full(100, 40.0)),
            Samples("PyTorch", "cpu", "CPU", np.full(100, 80.0)),
        ]
    }
    latency = " ".join(texts(plot.latency(data)))
    throughput = " ".join(texts(plot.throughput(data, {"batch 8": 8})))
    assert "p50 40.0 ms" in latency and "p99 80.0 ms" in latency and "ms per run" in latency
    assert "200 images/s" in throughput and "100 images/s" in throughput


def test_runs_beyond_the_axis_are_counted() -> None:
    data = {"batch 1": [samples("engine", 10.0, count=1000, slowest=90.0)]}
    assert "1 beyond the axis" in " ".join(texts(plot.latency(data)))


def test_fusion_names_what_it_leaves_out() -> None:
    shown = " ".join(texts(plot.fusion(*network(), rows=5)))
    assert "and 41 more layers" in shown  # 46 layers, 5 drawn
    assert "none: added by the engine" in shown  # the reformat
    assert "+2" in shown  # four nodes in one layer: two drawn, two counted


@pytest.mark.parametrize(
    "value, text",
    [
        (0.6123, "0.612"),
        (21.34, "21.3"),
        (105.2, "105"),
        (0, "0"),
        (1972.4, "1 972"),
        (9.999, "10.0"),
        (999.7, "1 000"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_nodes_of_a_layer_come_in_the_order_of_the_graph() -> None:
    nodes, _ = network()
    layer = Layer("fused", "", onnx_nodes=("node_Relu_0", "not in the graph", "node_Conv_0", "node_Add_0"))
    assert [kind for kind, _ in plot.nodes_of(layer, nodes)] == ["Conv", "Add", "Relu", "?"]


def test_a_figure_shows_itself_in_a_notebook() -> None:
    figure = plot.latency(groups(2))
    data, size = figure._repr_png_()
    assert data.startswith(b"\x89PNG")
    assert size["width"] == 100 * figure.get_size_inches()[0]
