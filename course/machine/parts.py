"""The parts of a machine, as the course sees them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Component:
    """One part of the machine.

    Args:
        found: it is there and answers.
        unlocks: what it is for in the course.
        problem: what is wrong with it, None if nothing is.
        next_step: what to do where it is missing or has a problem: a command if there is one, then, on a second
            line, what else to know.
    """

    name: str
    found: bool
    version: str | None = None
    where: str | None = None
    unlocks: str = ""
    problem: str | None = None
    next_step: str | None = None

    @property
    def state(self) -> str:
        """ "ok", "problem" or "missing"."""
        return "problem" if self.problem else "ok" if self.found else "missing"


@dataclass(frozen=True)
class Hardware:
    """The machine, part by part: `probe()["GPU"]`."""

    components: tuple[Component, ...]

    def __getitem__(self, name: str) -> Component:
        return next(component for component in self.components if component.name == name)

    @property
    def lane(self) -> str:
        """ "gpu" where TensorRT can build and run engines, else "cpu"."""
        return "gpu" if all(self[name].state == "ok" for name in ("GPU", "Driver", "TensorRT", "PyTorch")) else "cpu"

    @property
    def ready(self) -> bool:
        """Whether the lessons run, on a CPU at least."""
        return all(self[name].found for name in ("Python", "PyTorch", "ONNX", "ONNX Runtime"))

    def to_json(self) -> str:
        """`lane`, `ready` and `components`, each with its `state`."""
        components = [{**asdict(component), "state": component.state} for component in self.components]
        return json.dumps(
            {"lane": self.lane, "ready": self.ready, "components": components}, indent=1, ensure_ascii=False
        )
