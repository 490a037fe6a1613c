"""Which layers count as INT8, by kernels that TensorRT 8.6 listed on an H200 (docs/results/h200/int8)."""

from __future__ import annotations

import contextlib
import json
import re

import onnx
import pytest
import torch

from autograder.artifacts.int8_layers_inside import heavy_layers
from course.engine.trt import inspector
from course.engine.types import Layer, TensorInfo
from course.export import export
from course.models import resnet50
from course.paths import ROOT
from course.quantize import quantize, tensors_to_calibrate

RECORDS = ROOT / "docs" / "results" / "h200" / "int8"
NAMES = {"input_names": ["image"], "output_names": ["logits"], "dynamic": {"image": {0: "batch"}}}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """As benchmarks/resnet50_int8.py exports it."""
    path = tmp_path_factory.mktemp("m2a") / "resnet50.onnx"
    export(resnet50(), (torch.zeros(2, 3, 224, 224),), path, **NAMES, simplify=True, target="8.6", once=True)
    return path


def recorded(name: str, model: onnx.ModelProto):
    """Stands for a build: the kernels of a recording, under the names that the file has by now."""
    old = [node.name for node in model.graph.node], [tensor.name for tensor in model.graph.initializer]

    @contextlib.contextmanager
    def build(data: bytes):
        graph = onnx.load_model_from_string(data).graph
        new = [node.name for node in graph.node], [tensor.name for tensor in graph.initializer]
        names = dict(zip([*old[0], *old[1]], [*new[0], *new[1]]))
        rows = json.loads((RECORDS / f"layers_{name}.json").read_text())
        yield Kernels([kernel(row, names) for row in rows])

    return build


class Kernels:
    def __init__(self, layers: list[Layer]):
        self._layers = tuple(layers)

    def layers(self) -> tuple[Layer, ...]:
        return self._layers


def kernel(row: dict, names: dict[str, str]) -> Layer:
    words = "".join(names.get(part, part) for part in re.split(r"( \+ |PWN\(|\)$|, )", row["name"]))
    inputs, outputs = (
        tuple(TensorInfo(n, dtype, None, f) for n, dtype, f in row[side]) for side in ("inputs", "outputs")
    )
    return Layer(words, row["kind"], inputs, outputs, inspector._nodes_in_name(words), row["tactic"], row["precision"])


@pytest.mark.parametrize(
    "record, placement, int8",
    [("QDQ_good_b64", "tensorrt", 53), ("QDQ_default_b64", "outputs", 54), ("FP16_b64", "tensorrt", 0)],
)
def test_what_tensorrt_8_6_listed(plain, record, placement, int8):
    scales = dict.fromkeys(tensors_to_calibrate(plain, placement), 0.05)
    model = quantize(plain, scales, placement)
    found = heavy_layers(model.SerializeToString(), recorded(record, model))
    layers = found["layers"]
    assert len(layers) == 54 and not found["refusals"]
    assert sum(layer["int8"] for layer in layers) == int8
    assert all(layer["per_channel"] for layer in layers if layer["int8"])


def test_names_in_the_file_stand_for_nothing(plain):
    """Weights that are called as nodes are, since TensorRT 8.6 writes the names of weights into those of kernels."""
    model = quantize(plain, dict.fromkeys(tensors_to_calibrate(plain), 0.05))
    renamed = onnx.ModelProto.FromString(model.SerializeToString())
    for number, tensor in enumerate(renamed.graph.initializer):
        for node in renamed.graph.node:
            node.input[:] = [f"node{number}" if name == tensor.name else name for name in node.input]
        tensor.name = f"node{number}"
    seen = []

    @contextlib.contextmanager
    def build(data: bytes):
        seen.extend(tensor.name for tensor in onnx.load_model_from_string(data).graph.initializer)
        yield Kernels([])

    heavy_layers(renamed.SerializeToString(), build)
    assert len(seen) == len(set(seen)) and not [name for name in seen if name.startswith("node")]
