"""What an export wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Exported:
    """A written ONNX file.

    seconds: the whole export, checks included. notes: what did not go as planned. cached: it is a copy of the file that an
    earlier export of the same network wrote (`export(..., once=True)`).
    """

    path: Path
    opset: int
    exporter: str
    nodes_before: int
    nodes_after: int
    sha256: str
    seconds: float
    notes: tuple[str, ...] = ()
    cached: bool = False

    def __str__(self) -> str:
        nodes = f"{self.nodes_before} node{'s' if self.nodes_before != 1 else ''}"
        if self.nodes_after != self.nodes_before:
            nodes += f", {self.nodes_after} after simplification"
        how = "exported before" if self.cached else f"{self.seconds:.1f} s"
        return f"{self.path}: opset {self.opset}, {self.exporter} exporter, {nodes}, {how}"
