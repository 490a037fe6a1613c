"""The report of `course first`: what one run found, as a page that needs only a browser, and as tables."""

from __future__ import annotations

import base64
import contextlib
import datetime
import io
import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image
from rich import box
from rich.table import Table

from course import bench, plot
from course.files import atomic_write
from course.first.result import Conversion

if TYPE_CHECKING:
    from course.bench import Comparison
    from course.engine import Layer


def place(run: Conversion) -> str:
    """What the speeds are speeds of: "CPU" or "GPU"."""
    return "CPU" if run.engine.device == "cpu" else "GPU"


def device_sentence(run: Conversion) -> str:
    """On what the engine ran, in plain words."""
    if run.engine.device == "cpu":
        return f"{run.why_cpu}: the engine is ONNX Runtime on the CPU. Speeds are CPU speeds."
    gpu = run.speeds[0].samples[0].device_name.removeprefix("GPU ")
    return f"The engine is TensorRT {run.engine.version} on {gpu}. Speeds are GPU speeds."


def headline(run: Conversion) -> str:
    """What happened, in one or two sentences."""
    total, agree, where = len(run.images), run.agreeing(run.engine), place(run)
    timed = [speed for speed in run.speeds if math.isfinite(speed.comparisons[run.engine.label].high)]
    speed = (timed or run.speeds)[-1]
    pair = speed.comparisons[run.engine.label]
    if not math.isfinite(pair.high):
        pace = f"too few runs were timed on this {where} to say which is faster"
    elif pair.equal:
        pace = (
            f"no clear difference in speed to {run.pytorch.label} on this {where} "
            f"(ratio {pair.ratio:.2f}, 95 % interval {pair.low:.2f} to {pair.high:.2f})"
        )
    else:
        pace = (
            f"it is {pair.ratio:.2f} times as fast as {run.pytorch.label} on this {where} "
            f"(95 % interval {pair.low:.2f} to {pair.high:.2f})"
        )
    return (
        f"{run.model} went from PyTorch to ONNX to {run.engine.label}. The engine gives the same answer "
        f"as PyTorch for {agree} of {total} images. At batch {speed.batch} {pace}."
    )


def disturbance(run: Conversion) -> str:
    """A warning if other programs were busy while CPU times were taken, else ""."""
    most = max(speed.others for speed in run.speeds)
    if run.engine.device != "cpu" or most < 0.1:
        return ""
    return (
        f"Other programs used up to {100 * most:.0f} % of this machine's CPU time during the timing. "
        "The times and the ratios hold for a machine as busy as that; repeat them when it is quiet."
    )


def accuracy_rows(run: Conversion) -> list[dict]:
    """One row per contestant: images right, images with PyTorch's answer, of how many."""
    total = len(run.images)
    return [
        {
            "label": c.label,
            "correct": run.correct(c),
            "agree": run.agreeing(c),
            "images": total,
            "percent": 100 * run.correct(c) / total,
        }
        for c in run.contestants
    ]


def speed_rows(run: Conversion) -> list[dict]:
    """One row per contestant and batch size. Times in milliseconds, throughput in images per second."""
    return [
        {
            "label": s.label,
            "batch": speed.batch,
            "runs": len(s.milliseconds),
            "p50_ms": s.p50,
            "p90_ms": s.p90,
            "p99_ms": s.p99,
            "images_per_s": s.items_per_second,
            "pair": speed.comparisons.get(s.label),
        }
        for speed in run.speeds
        for s in speed.samples
    ]


def ratio_text(pair: Comparison | None) -> str:
    """How many times as fast as PyTorch eager, with the 95 % interval; "≈" if the interval holds 1."""
    if pair is None:
        return "1"
    value, low, high = (f"{x:.2f}" if x < 10 else f"{x:.1f}" for x in (pair.ratio, pair.low, pair.high))
    if not math.isfinite(pair.high):
        return f"{value} (few runs)"
    return f"{'≈' if pair.equal else ''}{value} ({low}–{high})"


def fusion_rows(nodes: Sequence[Layer], layers: Sequence[Layer]) -> list[dict]:
    """Each layer of an engine with the ONNX nodes whose work it does; then the nodes that need no layer."""
    rows = [
        {"layer": layer.name, "kind": layer.kind, "tactic": layer.tactic, "nodes": plot.nodes_of(layer, nodes)}
        for layer in layers
    ]
    used = {name for layer in layers for name in layer.onnx_nodes}
    gone = [(node.kind, node.name) for node in nodes if node.name not in used]
    return rows + ([{"layer": "", "kind": "no layer", "tactic": "", "nodes": gone}] if gone else [])


def fusion_patterns(nodes: Sequence[Layer], layers: Sequence[Layer]) -> list[tuple[str, int]]:
    """Which operators ended up together in one layer, and how often; the most frequent first."""
    patterns = Counter(
        " + ".join(kind for kind, _ in plot.nodes_of(layer, nodes)) or f"added by the engine: {layer.kind}"
        for layer in layers
    )
    return patterns.most_common()


def terminal_tables(run: Conversion) -> list[Table]:
    """Accuracy and speed as tables for the terminal."""
    where = place(run)
    style = {"title_justify": "left", "box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0)}  # fits 80 columns
    accuracy = Table(title=f"Accuracy on {len(run.images)} labelled images", **style)
    for column in ("", "right", "top-1", "same answer as PyTorch"):
        accuracy.add_column(column, justify="right" if column else "left")
    for row in accuracy_rows(run):
        accuracy.add_row(
            row["label"], f"{row['correct']}", f"{row['percent']:.1f} %", f"{row['agree']} of {row['images']}"
        )
    speed = Table(title=f"Time per run on this {where}", **style)
    for column in ("batch", "", "p50 ms", "p90 ms", "p99 ms", "images/s", "x PyTorch (95 %)"):
        speed.add_column(column, justify="right" if column else "left", no_wrap=True)
    for row in speed_rows(run):
        times = (plot.number(row[key]) for key in ("p50_ms", "p90_ms", "p99_ms", "images_per_s"))
        speed.add_row(str(row["batch"]), row["label"], *times, ratio_text(row["pair"]), end_section=row["pair"] is None)
    return [accuracy, speed]


def figures(run: Conversion) -> dict[str, plot.Figure]:
    groups = {f"batch {speed.batch}": speed.samples for speed in run.speeds}
    where = place(run)
    kernels = run.rtx or run.engine
    return {
        "latency": plot.latency(groups, f"Time per run on this {where}"),
        "throughput": plot.throughput(
            groups, {f"batch {s.batch}": s.batch for s in run.speeds}, f"Throughput on this {where}"
        ),
        "fusion": plot.fusion(run.onnx.nodes, kernels.layers, title=f"What {kernels.label} does with the first nodes"),
    }


def write(run: Conversion, folder: Path) -> Path:
    """Write index.html, its figures as PNG and every number as JSON: all or nothing. Returns the page's path.

    Raises:
        CourseError: a file could not be written; what this call had made is removed again.
    """
    drawn = figures(run)
    files = {f"{name}.png": plot.png(figure) for name, figure in drawn.items()}
    files["result.json"] = json.dumps(_json(run), indent=1, default=str).encode()
    with tempfile.TemporaryDirectory() as scratch:
        for speed in run.speeds:
            saved = bench.save(speed.comparisons, Path(scratch) / "times.json")
            files[f"times_batch_{speed.batch}.json"] = saved.read_bytes()
    files["index.html"] = page(run, drawn).encode()
    made = [folder / name for name in files if not (folder / name).exists()]
    had_folder = folder.exists()
    try:
        for name, content in files.items():
            atomic_write(folder / name, content)
    except BaseException:  # Ctrl-C too
        for path in made:
            path.unlink(missing_ok=True)
        if not had_folder:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return folder / "index.html"


def page(run: Conversion, drawn: dict[str, plot.Figure]) -> str:
    """The report as one HTML text without any reference to another file or host."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        number=plot.number, ratio=ratio_text, words=_words, megabytes=lambda count: f"{count / 1e6:.1f} MB"
    )
    listings = [
        (c, fusion_rows(run.onnx.nodes, c.layers), fusion_patterns(run.onnx.nodes, c.layers))
        for c in (*run.contestants, run.rtx)
        if c is not None and c.layers
    ]
    return environment.get_template("report.html.jinja").render(
        run=run,
        device_name=run.speeds[0].samples[0].device_name,
        on_cpu=run.engine.device == "cpu",
        headline=headline(run),
        device=device_sentence(run),
        busy=disturbance(run),
        accuracy=accuracy_rows(run),
        speeds=speed_rows(run),
        listings=listings,
        samples=_sample_cards(run),
        figures={name: Markup(plot.svg(figure, name)) for name, figure in drawn.items()},
        now=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )


def _sample_cards(run: Conversion, count: int = 12) -> list[dict]:
    """The first images, after all those on which engine and PyTorch differ: a difference must not hide."""
    differ = np.flatnonzero(run.engine.predictions != run.pytorch.predictions)
    order = list(dict.fromkeys([*differ[: count // 2].tolist(), *range(len(run.images))]))[:count]
    names = run.images.classes
    return [
        {
            "picture": _data_uri(run.images.pixels[i]),
            "truth": names[run.images.labels[i]],
            "pytorch": names[run.pytorch.predictions[i]],
            "engine": names[run.engine.predictions[i]],
            "right": run.engine.predictions[i] == run.images.labels[i],
            "same": run.engine.predictions[i] == run.pytorch.predictions[i],
        }
        for i in order
    ]


def _words(value: object) -> str:
    """A value of the machine's description as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(map(_words, value)) or "none"
    return str(value)


def _data_uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _json(run: Conversion) -> dict:
    """What the report says, but for the times, which are in files of their own with all samples."""
    return {
        "made_by": "course first",
        "machine": run.machine,
        "model": run.model,
        "seconds_by_step": run.seconds,
        "onnx": {
            "bytes": run.onnx.bytes,
            "opset": run.onnx.opset,
            "exporter": run.onnx.exporter,
            "nodes": len(run.onnx.nodes),
        },
        "parity": {"max_abs": run.parity.max_abs, "cosine": run.parity.cosine, "top1": run.parity.top1},
        "contestants": [
            {
                "label": c.label,
                "runtime": c.runtime,
                "version": c.version,
                "device": c.device,
                "build_seconds": c.build_seconds,
                "timing_cache": c.timing_cache,
                "plan_bytes": c.plan_bytes,
                "weights_bytes": c.weights_bytes,
                "activation_bytes": c.activation_bytes,
                "layers": len(c.layers),
                "correct": run.correct(c),
                "agree": run.agreeing(c),
                "predictions": c.predictions.tolist(),
            }
            for c in run.contestants
        ],
        "labels": run.images.labels.tolist(),
        "other_programs": {f"batch {speed.batch}": speed.others for speed in run.speeds},
        "rtx_layers": len(run.rtx.layers) if run.rtx else None,
    }
