"""The first conversion: a real network from PyTorch to ONNX to an engine, checked, measured and drawn."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from course import bench, engine, paths
from course.data import cifar10, preprocess
from course.data.cifar10 import Images
from course.engine import BuildConfig, Profile
from course.errors import CourseError, UnsupportedError
from course.export import check_parity, export
from course.first import race, report
from course.first.progress import Listener, Steps, on_console
from course.first.race import INPUT, OUTPUT, Runner
from course.first.result import Contestant, Conversion, Onnx
from course.models import resnet50

PARITY_IMAGES = 8
CPU_IMAGES, QUICK_IMAGES = 256, 16  # on a CPU all 1 000 images would take minutes
SECONDS, QUICK_SECONDS = 8.0, 2.0  # of timing per batch size
# On an H200 TensorRT 8.6 built level 2 in half the time of its default, level 3, and the engine ran as fast.
OPTIMIZATION_LEVEL = 2


def first(
    batch_sizes: Sequence[int] = (1, 8),
    report_dir: str | Path | None = None,
    quick: bool = False,
    runtime: str = "auto",
    *,
    model: nn.Module | None = None,
    images: Images | None = None,
    progress: Listener | None = None,
    console: Console | None = None,
) -> Path:
    """Convert a network, check it, measure it, and write `index.html` with everything that was found.

    Args:
        batch_sizes: at which time is measured.
        report_dir: folder of the report; default reports/first_conversion. It is written when all is done.
        quick: few images and short timings, to try things out.
        runtime: "auto" (TensorRT where it works, else ONNX Runtime), "tensorrt" or "onnxruntime".
        model: another classifier, for input float32 [N, 3, 224, 224]; default the shipped ResNet-50.
        images: other labelled images (uint8 [N, H, W, 3]); default the public CIFAR-10 images.
        progress: called with every `course.first.progress.Event`, in place of drawing on the console.

    Returns:
        Path of the page.

    Raises:
        MissingFileError, DamagedFileError: weights or images are not as they should be.
        ParityError: the ONNX file does not give PyTorch's answers; no engine is built.
        CourseError: any other step failed; no report is written.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        raise CourseError(
            f"The batch sizes are {tuple(batch_sizes)}.", "Each must be 1 or more.", "Use for example (1, 8)."
        )
    runtime = _choose_runtime(runtime)
    console = console or Console()
    folder = Path(report_dir) if report_dir is not None else paths.reports_dir() / "first_conversion"
    with contextlib.ExitStack() as stack:
        listener = progress or stack.enter_context(on_console(console))
        steps = Steps(listener, total=7)
        run = _convert(sorted(set(batch_sizes)), quick, runtime, model, images, steps, stack)
        page = report.write(run, folder)
    for table in report.terminal_tables(run):
        console.print(table)
    said = report.headline(run), report.device_sentence(run), report.disturbance(run)
    for line in (*said, f"The report: {page}"):
        if line:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return page


def _convert(
    batch_sizes: Sequence[int],
    quick: bool,
    runtime: str,
    model: nn.Module | None,
    images: Images | None,
    steps: Steps,
    stack: contextlib.ExitStack,
) -> Conversion:
    """All measurements. Engines are closed with `stack`."""
    device = "cuda" if runtime == "tensorrt" else "cpu"
    with steps("Load model and images") as tell:
        name = "ResNet-50" if model is None else type(model).__name__
        source = _source(model, images)
        model = resnet50() if model is None else copy.deepcopy(model).cpu().float().eval()
        images = _some(cifar10.images("public") if images is None else images, device, quick)
        tell(0.9, f"{name}, {_parameters(model) / 1e6:.1f} million parameters; {len(images)} images")

    with steps("Export to ONNX") as tell:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="first-")))
        target = "onnxruntime" if device == "cpu" else None  # None: the TensorRT that is installed
        path, onnx = _export(model, preprocess.classifier(images.pixels[:2]), target, folder)
        cached = "from the cache" if onnx.cached else f"by the {onnx.exporter} exporter"
        tell(0.9, f"{len(onnx.nodes)} nodes, {onnx.bytes / 1e6:.1f} MB, {cached}")

    with steps("Check against PyTorch") as tell:
        parity = check_parity(model, path, {INPUT: preprocess.classifier(images.pixels[:PARITY_IMAGES])})
        tell(0.9, f"{parity.samples} images, largest difference {parity.max_abs:.1e}")

    with steps("Build the engine") as tell:
        engines = _build(path, runtime, max(batch_sizes), quick, tell, stack)
        rtx, rtx_note = _rtx(path, max(batch_sizes), tell) if device == "cpu" else (None, "")
        kernels = f"; TensorRT-RTX: {len(rtx.layers)} kernels" if rtx else ""
        layers = len(engines[0].engine.layers())
        tell(0.99, f"{len(onnx.nodes)} nodes became {layers} layers{kernels}")

    runners = [*engines, *race.pytorch_runners(model, device, half=not quick)]
    with steps("Measure accuracy") as tell:
        predictions = race.predict(runners, images, max(batch_sizes), device, tell)
        count = len(predictions[runners[0].label])
        images = dataclasses.replace(images, pixels=images.pixels[:count], labels=images.labels[:count])
        agree = int((predictions[runners[0].label] == predictions[runners[-1].label]).sum())
        tell(0.99, f"same answer for {agree} of {len(images)} images")

    with steps("Measure speed") as tell:
        speeds, seconds = [], QUICK_SECONDS if quick else SECONDS
        for index, batch in enumerate(batch_sizes):

            def news(part: float) -> None:
                tell((index + part) / len(batch_sizes), f"batch {batch}, all in turns")

            speeds.append(race.race(runners, images, batch, device, seconds, news))
        main = speeds[-1].comparisons[runners[0].label]
        tell(0.99, f"batch {speeds[-1].batch}: {report.ratio_text(main)} x PyTorch")

    with steps("Describe the machine"):
        machine = bench.machine()

    contestants = [_contestant(runner, predictions[runner.label], device) for runner in runners]
    return Conversion(
        model=name,
        parameters=_parameters(model),
        parameter_bytes=4 * _parameters(model),  # float32
        modules=sum(not list(module.children()) for module in model.modules()),
        onnx=onnx,
        parity=parity,
        images=images,
        images_source=source,
        why_cpu=_why_cpu(runtime),
        contestants=contestants,
        speeds=speeds,
        rtx=rtx,
        rtx_note=rtx_note,
        machine=machine,
        seconds=dict(steps.seconds),
    )


def _choose_runtime(runtime: str) -> str:
    if runtime not in ("auto", "tensorrt", "onnxruntime"):
        raise UnsupportedError(
            f"The first conversion does not run on {runtime!r}.",
            "Its engine has to run.",
            'Use "auto", "tensorrt" or "onnxruntime".',
        )
    if runtime == "auto":
        return "tensorrt" if engine.available_runtimes()["tensorrt"] is None else "onnxruntime"
    return runtime


def _why_cpu(runtime: str) -> str:
    if runtime == "tensorrt":
        return ""
    if not torch.cuda.is_available():
        return "No GPU here"
    return "TensorRT does not work here" if engine.available_runtimes()["tensorrt"] else "As you asked"


def _source(model: nn.Module | None, images: Images | None) -> str:
    """Where the images come from, in words. Of a learner's model nobody knows what it was trained on."""
    public = "the public CIFAR-10 test images" if images is None else "your images"
    return public + (", which the network was not trained on" if model is None and images is None else "")


def _some(images: Images, device: str, quick: bool) -> Images:
    count = QUICK_IMAGES if quick else CPU_IMAGES if device == "cpu" else len(images)
    return dataclasses.replace(images, pixels=images.pixels[:count], labels=images.labels[:count])


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _export(model: nn.Module, example: np.ndarray, target: str | None, folder: Path) -> tuple[Path, Onnx]:
    """ONNX file with a dynamic batch: the file of before, if it is whole and nothing has changed since."""
    path = folder / "model.onnx"
    done = export(
        model,
        (torch.from_numpy(example),),
        path,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        target=target,
        once=True,
    )
    return path, _onnx(path, done.opset, done.exporter, done.seconds, cached=done.cached)


def _onnx(path: Path, opset: int, exporter: str, seconds: float, cached: bool) -> Onnx:
    nodes = engine.network_layers(path, "onnxruntime")
    return Onnx(path.stat().st_size, opset, exporter, seconds, cached, nodes)


def _build(
    path: Path, runtime: str, batch: int, quick: bool, tell: Callable, stack: contextlib.ExitStack
) -> list[Runner]:
    """The engine, and on TensorRT a second one in TF32 as its reference."""
    precisions = ["fp32"] if runtime == "onnxruntime" else ["fp16"] if quick else ["fp16", "tf32"]
    runners = []
    for index, precision in enumerate(precisions):

        def news(now: engine.BuildProgress) -> bool:
            part = now.step / now.steps if now.steps else 0.0
            tell((index + part) / len(precisions), f"{precision}: {now.phase}")
            return True

        tell(index / len(precisions), f"{precision} engine")
        profile = Profile.batch(path, 1, batch, batch)
        config = BuildConfig(precision, (profile,), runtime=runtime, progress=news)
        label, known = f"ONNX Runtime {precision}", False
        if runtime == "tensorrt":
            timings = _timing_cache(precision)
            config = dataclasses.replace(config, optimization_level=OPTIMIZATION_LEVEL, timing_cache=timings)
            label, known = f"TensorRT {precision}", timings.exists()
        built = stack.enter_context(engine.build(path, config))
        runners.append(race.engine_runner(label, built, known))
    return runners


def _timing_cache(precision: str) -> Path:
    version = bench.machine()["packages"].get("tensorrt", "")
    return paths.cache_dir() / f"first-{precision}-{version}.timing"


def _rtx(path: Path, batch: int, tell: Callable) -> tuple[Contestant | None, str]:
    """What TensorRT-RTX makes of the graph. It builds without a GPU, but cannot run there."""
    if reason := engine.available_runtimes()["rtx"]:
        return None, f"TensorRT-RTX would show here what a GPU's builder makes of this graph. {reason}"
    tell(0.6, "TensorRT-RTX, to see the kernels that a GPU would run")
    config = BuildConfig(profiles=(Profile.batch(path, 1, batch, batch),), runtime="rtx")
    with engine.build(path, config) as built:
        runner = Runner(f"TensorRT-RTX {built.runtime_version}", engine=built)
        return _contestant(runner, np.empty(0, np.int64), "none"), ""


def _contestant(runner: Runner, predictions: np.ndarray, device: str) -> Contestant:
    built = runner.engine
    if built is None:
        return Contestant(runner.label, predictions, "pytorch", torch.__version__, device)
    memory = built.memory()
    return Contestant(
        runner.label,
        predictions,
        built.runtime,
        built.runtime_version,
        built.device,
        built.build_seconds,
        runner.timing_cache,
        memory.plan_bytes,
        memory.weights_bytes,
        memory.activation_bytes,
        built.layers(),
    )
