"""Explains a placement tensor by tensor: where a pair of Q and DQ, or a missing one, keeps TensorRT from fusing.

The rules are those of the Developer Guide ("Q/DQ Layer-Placement Recommendations", "Q/DQ Interaction with Plugins and
Fusions"), checked against the layers that TensorRT 8.6.0 listed for a ResNet-50 with two placements, and against the
kernels that TensorRT-RTX 1.7 lists. Which kernels a GPU's builder chooses is seen in the engine only.
"""

from __future__ import annotations

from course.engine import graph
from course.quantize.fusion_rules import KINDS, RULES, Finding, View
from course.quantize.network import Network
from course.quantize.pairs import strip

__all__ = ["KINDS", "Finding", "explain_placement"]


def explain_placement(model) -> tuple[Finding, ...]:
    """Where the pairs of a quantised model break a fusion, and why; in the order of the nodes.

    Args:
        model: ONNX file, its bytes or a ModelProto, quantised by anybody with Q/DQ pairs.

    Returns: findings; none for a model without pairs.

    Raises:
        MissingFileError, ParseError: the model cannot be read.
    """
    stripped = strip(Network(graph.read(model).proto))
    if not stripped.pairs and not stripped.outputs:
        return ()
    view = View(stripped)
    found: list[tuple[int, Finding]] = []
    for rule in RULES:
        found += rule(view)
    return tuple(finding for _, finding in sorted(found, key=lambda entry: entry[0]))
