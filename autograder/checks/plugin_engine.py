"""A plugin in an engine, end to end: built from the handed-in ONNX by the handed-in script, saved, read again in a new process,
right in FP32 and FP16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.cuda_plugin import CudaPlugin
from autograder.checks import custom_nodes, plugin_boxes, plugin_gpu
from autograder.checks.base import Bench, Measure, Outcome
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.base import Task
from autograder.tasks.operator import Operator, wrong

COUNTS = (1, 31, 4099)


@dataclass(frozen=True)
class PluginEngine(Measure):
    """The build script makes the engines of the network (FP32, and with FP16 allowed), the grader those of one node in either type.
    Each is saved, and run in another process.

    model, script: the artifacts of the network and of the build script. nodes: of the plugin, in its engine. sample: shape of one input. largest_error: of the
    network's outputs in FP32 and FP16, relative to their largest value.
    """

    model: str
    script: str
    nodes: int
    sample: tuple[int, ...]
    largest_error: tuple[float, float] = (5e-3, 2e-2)  # FP32 convolutions run in TF32 on a GPU
    judges: ClassVar[type[Artifact]] = CudaPlugin
    tasks: ClassVar[tuple[type[Task], ...]] = (Operator,)

    def wanted(self) -> str:
        return "the engine that your script builds of your network, read again in a new process, is right in FP32 and FP16, with your plugin in it"

    def measure(self, at: Bench) -> Outcome:
        task, taken = plugin_boxes.operator(at), at.taken.get(self.model)
        if taken is None:
            raise Rejected(f"{self.model} is missing.", "The engine is built from it.", "Run the cell that writes it.")
        plugin = plugin_gpu.library(at)
        with at.step("building engines with the plugin"):
            script = plugin_gpu.script(at, self.script, plugin)
            maker, reader = plugin_gpu.box(at, plugin), plugin_gpu.box(at, plugin)
            right, faults, values = [], [], {}
            for half, name, most in zip((False, True), ("FP32", "FP16"), self.largest_error):
                boxes = script, maker, reader
                fault, layers = self._fault(at, task, *boxes, taken.path.read_bytes(), half, name, most)
                values[name] = {"plugin_layers": layers, "fault": fault}
                faults += [f"{name}: {fault}"] if fault else []
                right += [] if fault else [name]
            for box in (script, maker, reader):
                box.close()
        measured = f"{' and '.join(right) or 'neither type'} right, read from a saved engine in a new process"
        return len(right) / 2, measured, " ".join(faults), values

    def _fault(
        self,
        at: Bench,
        task: Operator,
        script: Box,
        maker: Box,
        reader: Box,
        data: bytes,
        half: bool,
        name: str,
        most: float,
    ) -> tuple[str, int]:
        """What is wrong in this type, and how many layers are the plugin's."""
        batch = 2
        shapes = [[1, *self.sample], [batch, *self.sample], [batch, *self.sample]]
        try:
            layers = plugin_gpu.scripted(at, script, f"network {name}", data, shapes, half, reader)
        except Rejected as error:
            return f"{error.what} {error.cause}", 0
        own = sum("plugin" in str(one.get("kind", "")).lower() for one in layers if isinstance(one, dict))
        if own < self.nodes:
            return f"{own} of {self.nodes} nodes are the plugin's in the engine.", own
        x = custom_nodes.inputs(at, (batch, *self.sample))
        _, outputs = reader.ask("run", [x], key=f"network {name}", seconds=at.limits_s["run"])
        if problem := custom_nodes.off(outputs, custom_nodes.model_of(task)(x), most):
            return f"the network: {problem}", own
        drawn = at.draw(f"engine {name}", max(COUNTS))
        single = plugin_gpu.network(task, dict(drawn.attributes), half, "plugin")
        shapes = [[1], [max(COUNTS)], [max(COUNTS)]]
        plugin_gpu.engine(at, maker, f"node {name}", single, shapes, half, reader)
        for count in COUNTS:
            with np.errstate(all="ignore"):
                given = drawn.x[:count].astype(np.float16 if half else np.float32)
            _, outputs = reader.ask("run", [given], key=f"node {name}", seconds=at.limits_s["run"])
            if problem := wrong(outputs[0], task.answers(given, **drawn.attributes), given):
                return f"one node, {count} elements: {problem}", own
        return "", own
