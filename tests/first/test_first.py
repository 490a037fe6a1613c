"""`course first` from end to end on the CPU: a small random network, really exported, built and timed."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from rich.console import Console
from torch import nn

from course import bench, first, paths, plot
from course.data import cifar10
from course.errors import CourseError, MissingFileError, ParityError, UnsupportedError
from course.files import atomic_write, sha256
from course.first import race, report, result
from course.first.progress import Event, Steps, on_console

FILES = {
    "index.html",
    "result.json",
    "times_batch_1.json",
    "times_batch_2.json",
    "latency.png",
    "throughput.png",
    "fusion.png",
}
STEPS = [
    "Load model and images",
    "Export to ONNX",
    "Check against PyTorch",
    "Build the engine",
    "Measure accuracy",
    "Measure speed",
    "Describe the machine",
]


class Page(HTMLParser):
    """What a test needs of a page: the tables as text, every tag with its attributes, all text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.text, self.in_cell = "", False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data


class Residual(nn.Module):
    """What ResNets are made of, small enough for a test: a stem, one residual block, pooling, ten classes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 4, 3), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(
            nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16)
        )
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(self.block(x) + x).mean((2, 3)))


def network() -> nn.Module:
    """Random, but the same every time."""
    torch.manual_seed(0)
    return Residual().eval()


@dataclasses.dataclass
class Run:
    folder: Path
    page: Page
    html: str
    result: dict
    terminal: str
    events: list[Event]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """One cache for this file, so that the export happens once and nobody's cache is touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def convert(folder: Path, progress=None, **more) -> tuple[Path, str]:
    console = Console(file=io.StringIO(), width=100)
    settings = {"model": network(), "batch_sizes": (1, 2), "quick": True, "runtime": "onnxruntime", **more}
    path = first.first(report_dir=folder, progress=progress, console=console, **settings)
    return path, console.file.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder, events = tmp_path_factory.mktemp("reports") / "first", []
    path, terminal = convert(folder, events.append)
    html = path.read_text()
    return Run(folder, Page(html), html, json.loads((folder / "result.json").read_text()), terminal, events)


def test_leaves_the_page_its_figures_and_the_samples(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == FILES
    assert all(path.stat().st_size > 0 for path in run.folder.iterdir())


def test_every_step_is_told_in_order_and_finishes(run: Run) -> None:
    titles = list(dict.fromkeys(event.title for event in run.events))
    assert titles == STEPS
    assert [event.title for event in run.events if event.fraction == 1.0] == STEPS
    assert {event.total for event in run.events} == {len(STEPS)}


def test_speed_table_says_what_the_raw_samples_say(run: Run) -> None:
    for batch in (1, 2):
        pairs = bench.load(run.folder / f"times_batch_{batch}.json").result
        ((label, pair),) = pairs.items()
        for samples, ratio in ((pair.a, report.ratio_text(pair)), (pair.b, "1")):
            p50, p90, p99 = (np.percentile(samples.milliseconds, q) for q in (50, 90, 99))
            expected = [
                str(batch),
                samples.label,
                str(len(samples.milliseconds)),
                *map(plot.number, (p50, p90, p99, 1000 * batch / p50)),
                ratio,
            ]
            assert expected in run.page.rows
            assert re.search(r"\s+".join(map(re.escape, expected[:2] + expected[3:])), run.terminal)
        assert label == "ONNX Runtime fp32"


def test_accuracy_table_says_what_the_predictions_say(run: Run) -> None:
    labels = np.array(run.result["labels"])
    engine, pytorch = (np.array(c["predictions"]) for c in run.result["contestants"])
    assert len(labels) == first.QUICK_IMAGES
    right, agree = int((engine == labels).sum()), int((engine == pytorch).sum())
    expected = [
        "ONNX Runtime fp32",
        f"{right} of {len(labels)}",
        f"{100 * right / len(labels):.1f} %",
        f"{agree} of {len(labels)}",
    ]
    assert expected in run.page.rows
    assert f"for {agree} of {len(labels)} images" in run.page.text


def test_predictions_are_those_of_the_network(run: Run) -> None:
    images = cifar10.images("public")
    x = torch.from_numpy(first.preprocess.classifier(images.pixels[: first.QUICK_IMAGES]))
    with torch.inference_mode():
        expected = network()(x).argmax(1).tolist()
    assert [c["predictions"] for c in run.result["contestants"]] == [expected, expected]


def test_the_page_needs_nothing_from_outside(run: Run) -> None:
    assert not re.search(r"https?:|ftp:|@import|\burl\((?!#)|\bfetch\(|XMLHttpRequest", run.html)
    for tag, attributes in run.page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, name)
    policy = [a["content"] for tag, a in run.page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy[0]


def test_a_cpu_is_called_a_cpu(run: Run) -> None:
    for text in (run.page.text, run.terminal):
        assert "the engine is ONNX Runtime on the CPU. Speeds are CPU speeds." in text.replace("\n", " ")
        assert "GPU speeds" not in text and "on this GPU" not in text
    assert "on this CPU" in run.page.text


def test_layers_before_and_after_fusion_stand_side_by_side(run: Run) -> None:
    nodes, layers = run.result["onnx"]["nodes"], run.result["contestants"][0]["layers"]
    assert 0 < layers < nodes
    assert f"{nodes} ONNX nodes → {layers} nodes" in run.page.text
    assert any("Conv" in row[1] and "Relu" in row[1] for row in run.page.rows if len(row) == 4)


def test_tensorrt_rtx_is_shown_or_its_absence_explained(run: Run) -> None:
    reason = first.engine.available_runtimes()["rtx"]
    if reason is None:
        assert 0 < run.result["rtx_layers"] < run.result["onnx"]["nodes"]
        assert f"become {run.result['rtx_layers']} kernels" in run.page.text
        assert "has no speed" in run.page.text
    else:
        assert run.result["rtx_layers"] is None and reason in run.page.text


def test_without_tensorrt_rtx_the_report_says_what_to_install(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(first.engine, "available_runtimes", lambda: {"rtx": "Run `pip install it`."})
    found, note = first._rtx(tmp_path / "unused.onnx", 1, print)
    assert found is None and note.endswith("what a GPU's builder makes of this graph. Run `pip install it`.")


def test_second_export_comes_from_the_cache(run: Run, tmp_path) -> None:
    example = first.preprocess.classifier(cifar10.images("public").pixels[:2])
    path, graph = first._export(network(), example, "onnxruntime", tmp_path)
    assert graph.cached and len(graph.nodes) == run.result["onnx"]["nodes"] and path.parent == tmp_path


def test_a_failed_parity_check_stops_before_the_build(run: Run, tmp_path, monkeypatch) -> None:
    shutil.copytree(paths.cache_dir(), tmp_path / "cache")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    (path,) = (tmp_path / "cache" / "onnx").glob("*.onnx")
    model = onnx.load(path)  # whole and valid, but with another bias in the last layer
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [10])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32), bias.name))
    onnx.save(model, path)
    note = path.with_suffix(".json")
    note.write_text(json.dumps({**json.loads(note.read_text()), "sha256": sha256(path)}))

    events: list[Event] = []
    with pytest.raises(ParityError, match="largest difference"):
        convert(tmp_path / "first", events.append)
    assert events[-1].title == "Check against PyTorch" and events[-1].fraction < 1
    assert not (tmp_path / "first").exists()


@pytest.mark.parametrize("step, fraction", [(0, 0.0), (3, 0.5), (5, 0.3), (6, 1.0)])
def test_ctrl_c_leaves_nothing_behind(tmp_path, step: int, fraction: float) -> None:
    def interrupt(event: Event) -> None:
        if event.title == STEPS[step] and event.fraction >= fraction:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "first", interrupt)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), CourseError("Disk full", "No space.", "Clear it.")])
def test_an_interrupted_write_keeps_the_old_page_and_nothing_new(tmp_path, monkeypatch, error) -> None:
    made = small_conversion()
    written = []

    def stops_at_the_fourth(path, data):
        if len(written) == 3:
            raise error
        written.append(atomic_write(path, data))

    monkeypatch.setattr(report, "atomic_write", stops_at_the_fourth)
    with pytest.raises(type(error)):
        report.write(made, tmp_path / "new")
    assert len(written) == 3 and not list(tmp_path.iterdir())

    old = tmp_path / "old"
    old.mkdir()
    (old / "index.html").write_text("old page")
    (old / "notes.txt").write_text("the learner's own")
    written.clear()
    with pytest.raises(type(error)):
        report.write(made, old)
    assert {path.name for path in old.iterdir()} == {"index.html", "notes.txt"}
    assert (old / "index.html").read_text() == "old page"


def small_conversion(slower: float = 2.0, device: str = "cpu", others: float = 0.0) -> result.Conversion:
    """A conversion made of invented numbers, to test how they are told."""
    rng = np.random.default_rng(0)
    a, b = (
        bench.Samples(label, "cpu", "CPU", t * (1 + 0.01 * rng.random(50)), 1, 8)
        for label, t in (("TensorRT fp16", 10.0), ("PyTorch eager fp32", 10.0 * slower))
    )
    ratio = bench.ratio_interval(a.milliseconds, b.milliseconds, resolution=0.01)
    images = cifar10.images("public")
    images = dataclasses.replace(images, pixels=images.pixels[:4], labels=images.labels[:4])
    layers = (first.engine.Layer("conv", "Conv", onnx_nodes=("conv",)),)
    engine = result.Contestant("TensorRT fp16", images.labels, "tensorrt", "10.16", device, layers=layers)
    wrong = images.labels.copy()
    wrong[2] = (wrong[2] + 1) % 10
    parity = SimpleNamespace(max_abs=1e-6, cosine=1.0, top1=1.0, samples=4)
    graph = result.Onnx(9, 17, "dynamo", 1.0, False, layers)
    return result.Conversion(
        "ResNet-50",
        10,
        40,
        2,
        graph,
        parity,
        images,
        "yours",
        "No GPU",
        [engine, result.Contestant("PyTorch eager fp32", wrong)],
        [result.Speed(8, {"TensorRT fp16": bench.Comparison(a, b, *ratio)}, others)],
        None,
        "",
        {},
        {},
    )


def test_the_headline_does_not_claim_what_was_not_measured() -> None:
    assert "it is 2.0" in report.headline(small_conversion(2.0))
    assert "3 of 4 images" in report.headline(small_conversion(2.0))
    assert "no clear difference" in report.headline(small_conversion(1.0))
    assert "it is 0.5" in report.headline(small_conversion(0.5))
    few = small_conversion()
    pair = dataclasses.replace(few.speeds[0].comparisons["TensorRT fp16"], low=0.0, high=float("inf"))
    few = dataclasses.replace(few, speeds=[result.Speed(8, {"TensorRT fp16": pair})])
    assert "too few runs" in report.headline(few) and "inf" not in report.page(few, report.figures(few))


def test_a_busy_machine_is_mentioned_next_to_its_times() -> None:
    assert report.disturbance(small_conversion(others=0.02)) == ""
    busy = small_conversion(others=0.45)
    assert "45 % of this machine's CPU time" in Page(report.page(busy, report.figures(busy))).text
    assert report.disturbance(small_conversion(others=0.45, device="cuda:0")) == ""


def test_other_programs_are_told_from_this_one() -> None:
    before = race._cpu_seconds()
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    busy, own = (now - then for now, then in zip(race._cpu_seconds(), before))
    assert 0.4 < own < 1.0 and busy > 0.9 * own - 0.1  # the machine's clock ticks in 10 ms


def test_a_difference_between_engine_and_pytorch_is_shown_first() -> None:
    cards = report._sample_cards(small_conversion())
    assert [card["same"] for card in cards] == [False, True, True, True]


def test_missing_weights_are_named_and_nothing_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules["course.models.resnet50"], "SHIPPED", "not_there.safetensors")
    with pytest.raises(MissingFileError, match="not_there.safetensors.*\n.*\n.*git checkout"):
        convert(tmp_path / "first", lambda event: None, model=None)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_have_a_way_out(tmp_path) -> None:
    with pytest.raises(UnsupportedError, match="has to run"):
        convert(tmp_path, runtime="rtx")
    with pytest.raises(CourseError, match="1 or more"):
        convert(tmp_path, batch_sizes=(0, 8))


def test_a_log_file_gets_plain_lines() -> None:
    console = Console(file=io.StringIO(), width=60)
    with on_console(console) as listener, Steps(listener, 1)("Export to ONNX") as tell:
        tell(0.5, "122 nodes [of] a long and winding description that a log must not break into two lines")
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "[1/1] Export to ONNX ..."
    assert re.fullmatch(r" +\d\.\d s  122 nodes \[of\] .* two lines", lines[1]) and len(lines) == 2


def test_a_terminal_gets_a_bar_with_the_detail() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with on_console(console) as listener, Steps(listener, 1)("Export to ONNX") as tell:
        tell(0.5, "122 nodes")
    assert "1/1 Export to ONNX" in console.file.getvalue() and "122 nodes" in console.file.getvalue()


@pytest.mark.gpu
def test_on_a_gpu_it_is_tensorrt(tmp_path) -> None:
    if reason := first.engine.available_runtimes()["tensorrt"]:
        pytest.skip(reason)
    path, terminal = convert(tmp_path / "first", runtime="tensorrt")
    result = json.loads((tmp_path / "first" / "result.json").read_text())
    assert [c["runtime"] for c in result["contestants"]] == ["tensorrt", "pytorch"]
    assert "Speeds are GPU speeds." in terminal.replace("\n", " ") and "CPU speeds" not in path.read_text()
