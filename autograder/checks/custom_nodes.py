"""A network in which nodes of a plugin stand for parts of it still computes what the network computes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from autograder.artifacts.base import Artifact
from autograder.artifacts.onnx import Onnx
from autograder.checks import plugin_boxes
from autograder.checks.base import Bench, Measure, Outcome
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.base import Task
from autograder.tasks.operator import Operator


@dataclass(frozen=True)
class CustomNodes(Measure):
    """The custom nodes are put back into standard operators, ONNX Runtime runs the file, and the task's model is run in PyTorch.

    nodes: how many there must be; with some, part of the points. largest_error: of the outputs, relative to their largest value.
    sample: shape of one input.
    """

    nodes: int
    sample: tuple[int, ...]
    largest_error: float = 1e-4
    batches: tuple[int, ...] = (1, 3)
    judges: ClassVar[type[Artifact]] = Onnx
    tasks: ClassVar[tuple[type[Task], ...]] = (Operator,)

    def wanted(self) -> str:
        return f"{self.nodes} nodes of the plugin, each with its own attributes, and the network's outputs for {self.batches} inputs"

    def open(self, at: Bench) -> None:
        opened(at)

    def measure(self, at: Bench) -> Outcome:
        box, task = opened(at), plugin_boxes.operator(at)
        with at.step("running the network, each custom node as standard operators"):
            found, _ = box.ask("custom", [np.frombuffer(task.function_of_onnx(), np.uint8)], name=at.path, seconds=60)
            count, left = len(found["attributes"]), found["left"]
            values = {"nodes": count, "attributes": found["attributes"], "left": left}
            measured = f"{count} of {self.nodes} nodes are {task.node}"
            if not count:
                return 0.0, measured, f"There is no node {task.node} of the domain {task.domain} in {at.path}.", values
            runs = {"key": "network", "seconds": at.limits_s["run"]}
            box.ask("build", precision="fp32", runtime="onnxruntime", largest=max(self.batches), alone=False, **runs)
            for batch in self.batches:
                x = inputs(at, (batch, *self.sample))
                _, outputs = box.ask("run", [x], **runs)
                if problem := off(outputs, model_of(task)(x), self.largest_error):
                    return 0.0, measured, f"Batch {batch}: {problem}", values
        share = 1.0 if count == self.nodes and not left else 0.5 * min(1.0, count / self.nodes)
        rest = ", ".join(f"{number} {kind}" for kind, number in left.items())
        message = f"Of the activations in standard operators there are left: {rest or 'none'}." if share < 1 else ""
        return share, f"{measured}; the outputs are right", message, values


def opened(at: Bench) -> Box:
    """The box with the file.

    Raises:
        Rejected: the file is refused.
    """

    def start() -> Box:
        box = at.box(sees=(at.task.package,), inside="autograder.artifacts.custom_onnx_inside")
        declared = at.artifact
        limits = {
            "max_nodes": declared.max_nodes,
            "max_elements": declared.max_elements,
            "allow_ops": list(declared.allow_ops),
        }
        box.ask("inspect", name=at.path, seconds=120, **limits)
        return box

    return at.once(("custom nodes", at.path), start)


def inputs(at: Bench, shape: tuple[int, ...]) -> np.ndarray:
    """float32, normal; others for each learner."""
    return at.draw(f"network {shape[0]}", 8).random().normal(0, 1, shape).astype(np.float32)


def model_of(task: Operator):
    """The task's network in PyTorch on this CPU: array -> array."""
    import torch

    module, name = task.model.split(":")
    model = getattr(importlib.import_module(module), name)()

    def answers(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    return answers


def off(outputs: list[np.ndarray], wanted: np.ndarray, most: float) -> str:
    """What is wrong with a network's outputs; "" if nothing is.

    Raises:
        Rejected: there is not one output.
    """
    if len(outputs) != 1:
        raise Rejected(
            "The network does not have one output.", f"It has {len(outputs)}.", "Leave its outputs as they are."
        )
    got = outputs[0].astype(np.float64)
    if got.shape != wanted.shape:
        return f"the output has the shape {list(got.shape)}, and it is {list(wanted.shape)}."
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    return (
        ""
        if error <= most
        else f"the outputs are off by {100 * error:.2g} % of the largest; is each node's attribute its own?"
    )
