"""INT8 is really used: the heavy layers' kernels read INT8, and their weights have a scale for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autograder.checks.base import Bench, Outcome, Ramp
from autograder.checks.engines import Engines, OnnxMeasure
from autograder.tasks import answers
from autograder.tasks.base import Task
from autograder.tasks.classifier import Classifier

SHOWN = 3


@dataclass(frozen=True)
class Int8Layers(OnnxMeasure):
    """Which part of the reference's multiplications is done by kernels that read INT8, with a weight scale for each
    output channel.

    A builder decides which layers run in INT8, so it is read from its kernels, not from the file: TensorRT's inspector
    on a GPU, TensorRT-RTX's listing on a CPU. A convolution whose input or weights come in float computes in float.

    part: ramp for that part. largest_work: how many times the reference's multiplications the file may need; work that
        is not the network's would only hide what stays in float.
    largest: batch that the engine is built for.
    """

    part: Ramp
    largest_work: float = 1.1
    largest: int = 16
    precision: str = "int8"
    runtime: str = "auto"
    tasks: ClassVar[tuple[type[Task], ...]] = (Classifier,)

    def wanted(self) -> str:
        return (
            f"part of the multiplications in INT8 kernels, one weight scale for each channel: "
            f"{self.part.text(' %', 100)}"
        )

    def measure(self, at: Bench) -> Outcome:
        engines = Engines.of(at)
        runtime = {"cpu": "rtx", "gpu": "tensorrt"}[at.lane] if self.runtime == "auto" else self.runtime
        with at.step("reading which kernels work in INT8"):
            found, _ = engines.box.ask(
                "heavy_layers",
                runtime=runtime,
                largest=self.largest,
                level=engines.artifact.optimization_level,
                seconds=at.limits_s["build"],
            )
        if found["refusals"]:
            message = f"Not every TensorRT reads the file. {found['refusals'][0]}"
            return 0.0, "not built", message[:600], {"refusals": found["refusals"]}
        layers = found["layers"]
        needed = answers.multiplications(at.task.reference, at.draw("reference", 2).x)
        total = sum(layer["multiplications"] for layer in layers)
        good = [layer for layer in layers if layer["int8"] and layer["per_channel"]]
        # of the larger of both: work that is only added, in INT8, makes nobody's part larger
        part = sum(layer["multiplications"] for layer in good) / max(needed, total)
        builder = {"rtx": "TensorRT-RTX", "tensorrt": "TensorRT"}[runtime]
        measured = (
            f"{100 * part:.1f} % of the multiplications, {len(good)} of {len(layers)} convolutions and matrix products, "
            f"in INT8 kernels of {builder}"
        )
        values = {"part": part, "layers": len(layers), "int8": len(good), "work": total / needed}
        if total > self.largest_work * needed:
            message = f"The file multiplies {total / needed:.2f} times as much as the network."
            return 0.0, measured, message, values
        return self.part.share(min(part, 1.0)), measured, _why(layers, found["why"]), values


def _why(layers: list[dict], why: list[str]) -> str:
    """The heaviest layers that do not count, and what the rules of placement say."""
    missing = sorted(
        (layer for layer in layers if not (layer["int8"] and layer["per_channel"])),
        key=lambda layer: -layer["multiplications"],
    )
    words = [
        f"{layer['node'][:80]} " + ("has one scale for all its weights" if layer["int8"] else "computes in float")
        for layer in missing[:SHOWN]
    ]
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    first = f" {why[0][:400]}" if why else ""
    return f"{'; '.join(words)}{more}.{first}" if words else ""
