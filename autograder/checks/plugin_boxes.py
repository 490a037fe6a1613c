"""What the checks of a plugin share: its libraries, which a build box makes once, and the run box around each call."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.checks.base import Bench
from autograder.rejected import Rejected
from autograder.sandbox import bwrap, run_box
from autograder.sandbox.process import Box
from autograder.tasks.operator import Operator
from course.errors import MissingFileError
from course.kernels import compiler, toolkit
from course.kernels.process import LOADER as KERNEL_LOADER
from course.native.plugins import compiler as plugin_compiler
from course.native.plugins import headers
from course.native.plugins.session import LOADER as PLUGIN_LOADER
from course.native.plugins.sources import Sources

Wrap = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Built:
    """folder: kernels.so and plugin.so, in memory that no learner's code can write. sources: names, for messages. headers:
    what the class was compiled with. wrap: puts a process into a run box; None where there is no sandbox. no_class: why
    there is no plugin.so; None if there is one.
    """

    folder: Path
    sources: Sources
    headers: str
    wrap: Wrap | None
    no_class: Rejected | None = None


def for_cpu(at: Bench) -> Built:
    """Compiled for the simulated GPU: the kernels, and the class unless it does not compile (`Built.no_class`).

    Raises:
        Rejected: the sources are refused, or the kernels do not compile.
    """
    return at.once(("built for the CPU", at.path), lambda: _for_cpu(at))


def whole(at: Bench) -> Built:
    """Compiled for the simulated GPU, kernels and class.

    Raises:
        Rejected: the sources are refused, or one of them does not compile.
    """
    built = for_cpu(at)
    if built.no_class:
        raise built.no_class
    return built


def _for_cpu(at: Bench) -> Built:
    artifact, taken = at.artifact, at.taken[at.path]
    assert isinstance(artifact, CudaPlugin)
    chosen, gxx, cuda = best_headers(), toolkit.gxx(), toolkit.headers()
    prepared = [compiler.runtime(gxx, cuda)[0].parent, plugin_compiler.host(gxx, chosen, cuda.flags)]
    with at.step("compiling the plugin for the CPU"):
        box = build_box(at, *prepared, *([chosen.folder] if chosen.real else []))
        answer, libraries = box.ask(
            "for_cpu",
            include=str(chosen.folder) if chosen.real else "",
            cuda=str(cuda.folders[0].parent),
            prepared=list(map(str, prepared)),
            seconds=at.limits_s["build"],
        )
        box.close()
    folder = Path(at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-plugin-")))
    for name, data in zip(("kernels.so", "plugin.so"), libraries):
        (folder / name).write_bytes(data.tobytes())
    names = [taken.path / f"{artifact.stem}.cu", taken.path / f"{artifact.stem}_plugin.cpp"]
    own = tuple(sorted([*taken.path.glob("*.cuh"), *taken.path.glob("*.h")]))
    wrap = None
    if bwrap.available() is None:
        wrap = run_box.wrapper(folder, KERNEL_LOADER, PLUGIN_LOADER)
    elif at.mode == "hidden":
        bwrap.require()
    no_class = None
    if len(libraries) < 2:
        said = answer.get("class")
        said = said if isinstance(said, list) and len(said) == 3 else ["The class does not compile.", str(said), ""]
        no_class = Rejected(*(str(part)[:1000] for part in said))
    return Built(folder, Sources(*names, own), str(answer.get("headers"))[:80], wrap, no_class)


def build_box(at: Bench, *sees: Path) -> Box:
    """A build box with the sources; no GPU, no inputs."""
    return at.box("", at.artifact.stem, sees=sees, gpu=False, cpu_s=600)


def best_headers() -> headers.Headers:
    """TensorRT's own headers where they are, else the course's stand-in."""
    try:
        return headers.real()
    except MissingFileError:
        return headers.stand_in(10)


def operator(at: Bench) -> Operator:
    """The task, which is one."""
    assert isinstance(at.task, Operator)
    return at.task
