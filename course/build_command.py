"""What `course build` does: build an engine from an ONNX file, say what came out, time it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from course import bench
from course.engine import BuildConfig, Engine, Profile, TensorSpec, build, graph
from course.engine.feeds import PROBES
from course.engine.profiles import usual_shapes
from course.engine.types import BuildProgress, Shape
from course.errors import CourseError, ProfileError
from course.files import atomic_write
from course.profiling import layer_times
from course.profiling.trtexec import profile_json

MEASURE_SECONDS = 3.0
PROFILE_RUNS = 20


def build_and_report(
    model: Path,
    output: Path,
    *,
    precision: str = "fp32",
    batch: Sequence[int] | None = None,
    profiles: Sequence[str] = (),
    level: int | None = None,
    timing_cache: Path | None = None,
    runtime: str = "auto",
    plan: Path | None = None,
    measure: bool = True,
    times: Path | None = None,
    layer_profile: Path | None = None,
    console: Console | None = None,
) -> Path:
    """Build `model` into `output` and print build time, layers, memory and latency.

    Args:
        batch: smallest, usual and largest batch, in place of `profiles`.
        profiles: as `parse_profile` reads them.
        plan: where to write the bare plan as well.
        times: where to write every time of the first profile, for `course.bench.load`.
        layer_profile: where to write the time of each layer, in the format of trtexec --exportProfile.

    Returns: `output`.

    Raises:
        CourseError: as `course.engine.build`; a profile cannot be read; a file cannot be written.
    """
    console = console or Console()
    if batch is not None and (len(batch) != 3 or profiles):
        raise ProfileError(
            f"--batch {','.join(map(str, batch))} does not fit.",
            "It takes three numbers, and goes without --profile.",
            "Write it as in --batch 1,8,32.",
        )
    try:
        engine = _built(console, model, batch, profiles, precision, level, timing_cache, runtime)
    except ProfileError as error:
        raise _for_a_command_line(error, model) from error
    with engine:
        engine.save(output)
        if plan:
            engine.save_plan(plan)
        console.print(_facts(engine, output))
        if engine.device == "none":
            console.print(f"Not timed: {engine.runtime} builds without a GPU, but does not run there.")
        elif measure:
            for number in range(max(1, len(engine.profiles))):
                samples = _time(engine, number)
                console.print(str(samples), highlight=False, soft_wrap=True)
                if times and number == 0:
                    bench.save(samples, times)
            if layer_profile:
                rows = layer_times.measure(engine, _usual_feeds(engine, 0)[0], PROFILE_RUNS)
                atomic_write(layer_profile, profile_json(rows, PROFILE_RUNS).encode())
    return output


def _built(
    console: Console,
    model: Path,
    batch: Sequence[int] | None,
    profiles: Sequence[str],
    precision: str,
    level: int | None,
    timing_cache: Path | None,
    runtime: str,
) -> Engine:
    wanted = (Profile.batch(model, *batch),) if batch else tuple(parse_profile(text) for text in profiles)
    with console.status(f"Building {model}") as status:

        def progress(event: BuildProgress) -> bool:
            step = f" {event.step}/{event.steps}" if event.steps else ""
            status.update(f"Building {model}: {event.phase}{step}, {event.seconds:.0f} s")
            return True

        config = BuildConfig(
            precision=precision,
            profiles=wanted,
            optimization_level=level,
            timing_cache=timing_cache,
            runtime=runtime,
            progress=progress,
        )
        return build(model, config)


def _for_a_command_line(error: ProfileError, model: Path) -> ProfileError:
    """The same error with a next step that can be pasted behind the command, where the library's is Python."""
    cause = error.cause.replace("Profile.batch sets", "--batch sets")
    if "Profile(" not in error.next_step:
        return ProfileError(error.what, cause, error.next_step.replace("without a profile", "without --batch"))
    dynamic = {name: dims for name, dims in graph.inputs(graph.read(model).proto).items() if -1 in dims}
    words = ";".join(
        f"{name}:" + ",".join("x".join(map(str, shape)) for shape in shapes)
        for name, shapes in usual_shapes(dynamic).items()
    )
    quoted = shlex.quote(words)
    quoted = f"'{words}'" if quoted == words else quoted
    step = f"Say which sizes it must take, smallest, usual and largest, as in --profile {quoted}."
    return ProfileError(error.what, cause, step)


def parse_profile(text: str) -> Profile:
    """`"x:1x3x8x8,2x3x8x8,4x3x8x8;mask:1x8,2x8,4x8"` as a profile: smallest, usual and largest shape per input.

    Raises:
        ProfileError: it is not written like that.
    """
    try:
        shapes = {}
        for part in text.split(";"):
            name, colon, sizes = part.rpartition(":")  # from the right: a name may hold a colon
            smallest, usual, largest = (tuple(int(size) for size in shape.split("x")) for shape in sizes.split(","))
            if not name.strip() or not colon:
                raise ValueError("no name")
            shapes[name.strip()] = (smallest, usual, largest)
    except ValueError:
        raise ProfileError(
            f"The profile '{text}' cannot be read.",
            "It must be a name, a colon and three shapes.",
            "Write it as in --profile 'images:1x3x224x224,8x3x224x224,32x3x224x224'.",
        ) from None
    return Profile(shapes)


def _facts(engine: Engine, output: Path) -> Table:
    memory = engine.memory()

    def megabytes(size: int | None) -> str:
        return "unknown" if size is None else f"{size / 1e6:.1f} MB"

    table = Table(box=None, show_header=False, padding=(0, 1))
    table.add_column(style="bold")
    table.add_column()
    for row in (
        ("Engine", f"{output} ({megabytes(output.stat().st_size)})"),
        ("Runtime", f"{engine.runtime} {engine.runtime_version}, {engine.precision}, device {engine.device}"),
        ("Inputs", _tensors(engine.inputs)),
        ("Outputs", _tensors(engine.outputs)),
        ("Build", f"{engine.build_seconds:.1f} s"),
        ("Layers", f"{len(engine.layers())} after fusion"),
        ("Memory", f"weights {megabytes(memory.weights_bytes)}, activations {megabytes(memory.activation_bytes)}"),
    ):
        table.add_row(*row)
    return table


def _tensors(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(
        f"{spec.name} {spec.dtype} {'×'.join('?' if n < 0 else str(n) for n in spec.shape)}" for spec in specs
    )


def _time(engine: Engine, number: int) -> bench.Samples:
    """Time one profile at its usual shapes, on random input."""
    feeds, shapes = _usual_feeds(engine, number)
    device = "cuda" if engine.device.startswith("cuda") else "cpu"
    sizes = ", ".join("×".join(map(str, shapes[spec.name])) for spec in engine.inputs)
    batch = next((shapes[spec.name][0] for spec in engine.inputs if shapes[spec.name]), 1)
    return bench.measure(
        lambda: engine.run(feeds, profile=number),
        label=f"At {sizes}",
        device=device,
        items=batch,
        max_seconds=MEASURE_SECONDS,
    )


def _usual_feeds(engine: Engine, number: int) -> tuple[dict[str, object], dict[str, Shape]]:
    """Random input at a profile's usual shapes that the engine takes, and these shapes."""
    shapes = {spec.name: spec.shape for spec in engine.inputs}
    if engine.profiles:
        shapes |= {name: usual for name, (_, usual, _) in engine.profiles[number].shapes.items()}
    device = "cuda" if engine.device.startswith("cuda") else "cpu"

    def filled(whole: int) -> dict[str, object]:
        return {spec.name: _random(spec, shapes[spec.name], device, whole) for spec in engine.inputs}

    if not all(_is_float(spec) for spec in engine.inputs):
        for whole in PROBES:
            with contextlib.suppress(CourseError):  # such as a side of 0 pixels: the next value
                feeds = filled(whole)
                engine.run(feeds)
                return feeds, shapes
    return filled(PROBES[0]), shapes  # where none fits, the run that follows says what is wrong


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype == "bfloat16" or np.issubdtype(spec.dtype, np.floating)


def _random(spec: TensorSpec, shape: Shape, device: str, whole: int) -> object:
    """Normal numbers for a float input, `whole` for any other."""
    normal = np.random.default_rng(0).standard_normal
    values = normal(shape, np.float32) if _is_float(spec) else np.full(shape, whole, spec.dtype)
    if device == "cpu":
        return values if spec.dtype == "bfloat16" else values.astype(spec.dtype)
    import torch

    tensor = torch.from_numpy(values).cuda()
    return (
        tensor.to(torch.bfloat16) if spec.dtype == "bfloat16" else tensor.to(getattr(torch, np.dtype(spec.dtype).name))
    )
