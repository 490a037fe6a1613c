"""What is right: inputs, the reference's answers, and why an answer is wrong. Never how fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from autograder.tasks import answers, inputs


@dataclass(frozen=True)
class Seeds:
    """Where the numbers of a measurement come from: in mode "hidden" other ones for each student, which nobody knows
    without the instructor's secret.
    """

    mode: str
    who: str
    milestone: str
    key: bytes | None = None

    def __call__(self, purpose: str) -> int:
        """256-bit seed for one purpose ("fp16", "speed batch 8")."""
        return inputs.seed(self.mode, self.who, self.milestone, purpose, self.key)


@dataclass(frozen=True)
class Task(ABC):
    """What a network is for.

    reference: "module:function"; called without arguments it gives the PyTorch module in eval mode.

    name: in words. drawn: what `draw` draws. sized: whether its inputs come in any size.
    """

    reference: str
    name: ClassVar[str]
    drawn: ClassVar[str]
    sized: ClassVar[bool]

    @abstractmethod
    def draw(self, seeds: Seeds, purpose: str, count: int, size: int | tuple[int, int] | None = None) -> Any:
        """Labelled inputs, `x` among them; the same arguments give the same ones. `source` says where from."""

    @abstractmethod
    def answers(self, x: np.ndarray) -> Any:
        """The reference's answers."""

    @abstractmethod
    def form(self, facts: Mapping) -> str:
        """In which form a file answers (`facts` of `onnx_guard`); "" where there is one form only.

        Raises:
            Rejected: it is none of this task's.
        """

    @abstractmethod
    def options(self, form: str) -> dict[str, object]:
        """Keywords for the reference, so that it answers in the same form."""

    @abstractmethod
    def why_wrong(
        self,
        runs: Sequence[tuple[slice, Sequence[np.ndarray]]],
        wanted: Any,
        x: np.ndarray,
        limits: Any,
        facts: Mapping,
    ) -> str:
        """Why the answers of timed runs are not believed; "" if they are.

        Args:
            runs: for each, the part of `x` that it ran on, and the outputs.
            wanted: the reference's answers to x.
            limits: `max_error` and `min_agreement`, as in `Speed`.
        """

    def weights(self) -> int:
        """How many numbers the reference has learned."""
        return answers.weights(self.reference)

    @property
    def package(self) -> str:
        """Top-level package of the reference: the box that times it must see it."""
        return self.reference.split(".")[0].split(":")[0]
