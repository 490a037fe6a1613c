"""A kernel is right, at sizes and values that nobody told, and the checker finds nothing in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.checks import plugin_boxes
from autograder.checks.base import Bench, Measure, Outcome
from autograder.rejected import Rejected
from autograder.tasks.base import Task
from autograder.tasks.operator import Operator, wrong
from course import kernels
from course.kernels import KernelError

TYPES = {"FP32": np.float32, "FP16": np.float16}


@dataclass(frozen=True)
class KernelRight(Measure):
    """The launcher (x, y, count, attributes in their order, whether the elements are FP16, stream) is run on the simulated GPU
    in four thread orders, each in a box of its own; the outputs are compared out here.

    largest: of the sizes that are drawn; the others are 0, 1, and a few elements. Half of the points are for FP32 and half
    for FP16; a type with one wrong element, or one finding, gets none.
    """

    largest: int = 5000
    seconds: float = 20.0
    judges: ClassVar[type[Artifact]] = CudaPlugin
    tasks: ClassVar[tuple[type[Task], ...]] = (Operator,)

    def wanted(self) -> str:
        return (
            "every element right in FP32 (half of the points) and in FP16 (half), at drawn sizes with tails, with zeros, subnormals, "
            "infinity and NaN, and no finding of the kernel checker"
        )

    def measure(self, at: Bench) -> Outcome:
        built, task = plugin_boxes.for_cpu(at), plugin_boxes.operator(at)
        module = kernels.Module(built.folder / "kernels.so", wrap=built.wrap)
        if task.launcher not in module.launchers:
            raise Rejected(
                f"{module.notes.source} has no launcher {task.launcher}.",
                f'Its extern "C" functions with a body are: {", ".join(module.launchers) or "none"}.',
                "Write it as the .cuh declares it.",
            )
        rng = at.draw("kernel sizes", 8).random()
        sizes = [0, 1, int(rng.integers(2, 32)), int(rng.integers(self.largest // 4, self.largest)) | 1]
        good, faults, sound = 0.0, [], []
        for name, dtype in TYPES.items():
            with at.step(f"running the kernel in {name}"):
                fault = next((said for size in sizes if (said := self._fault(at, module, size, name, dtype))), "")
            good += 0.5 * (not fault)
            faults += [f"{name}: {fault}"] if fault else []
            sound += [] if fault else [name]
        measured = f"{' and '.join(sound) or 'neither type'} right, at {', '.join(map(str, sizes))} elements"
        return good, measured, " ".join(faults), {"sizes": sizes, "right": sound}

    def _fault(self, at: Bench, module: kernels.Module, size: int, name: str, dtype: type) -> str:
        """What is wrong at this size; "" if nothing is."""
        task = plugin_boxes.operator(at)
        drawn = at.draw(f"kernel {name} {size}", size)
        with np.errstate(all="ignore"):
            x = drawn.x.astype(dtype)
        arguments = (x, kernels.out(x.shape, dtype), size, *drawn.attributes.values(), dtype is np.float16, None)
        try:
            report = module.check(
                task.launcher, *arguments, orders=kernels.ORDERS if size > 64 else (0,), seconds=self.seconds
            )
        except KernelError as error:
            return f"{error.what} {error.cause}"
        for finding in report.findings:
            place = f"{finding.file}:{finding.line}: " if finding.line else ""
            return f"{size} elements: {place}{finding.message} [{finding.kind}] {finding.advice}"
        if report.result:
            return f"{size} elements: {task.launcher} returned CUDA error {report.result}."
        problem = wrong(report.outputs[0], task.answers(x, **drawn.attributes), x)
        settings = ", ".join(f"{key} = {value:.4g}" for key, value in drawn.attributes.items())
        return f"{problem} ({settings})" if problem else ""
