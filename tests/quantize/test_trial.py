"""trial(): TensorRT-RTX's kernels tell placements apart by what they round and pass on; recorded numbers are quoted for the
very same pairs only."""

from __future__ import annotations

import json
import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from course.engine import available_runtimes
from course.errors import MissingFileError
from course.quantize import PLACEMENTS, collect, quantize, scales, trial
from tests.quantize import quantize_zoo as zoo

NET = zoo.residual_net()
needs_rtx = pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason=str(available_runtimes()["rtx"]))


@pytest.fixture(scope="module")
def made() -> dict[str, onnx.ModelProto]:
    given = scales(collect(NET, zoo.images(16)), "min-max")
    return {name: quantize(NET, given, name) for name in PLACEMENTS}


def test_a_placement_is_known_by_where_its_pairs_stand(made):
    assert {name: trial.placement_of(model) for name, model in made.items()} == {
        name: name if name != "weights" else "" for name in PLACEMENTS
    }
    other = onnx.ModelProto.FromString(made["tensorrt"].SerializeToString())
    for constant in other.graph.initializer:  # scales do not matter
        if constant.name == "block0.relu1_out_scale":
            constant.CopyFrom(numpy_helper.from_array(np.float32(0.7), constant.name))
    assert trial.placement_of(other) == "tensorrt"
    for node in other.graph.node:  # one pair less does
        node.input[:] = ["relu_out" if name == "relu_out_DequantizeLinear_Output" else name for name in node.input]
        node.input[:] = ["image" if name == "image_DequantizeLinear_Output" else name for name in node.input]
    assert trial.placement_of(other) == ""


@needs_rtx
def test_rtx_kernels_tell_placements_apart_though_their_number_does_not(made):
    found = {name: trial.trial(name, made[name], NET, batch=4) for name in ("outputs", "both", "inputs", "tensorrt")}
    assert found["outputs"].roundings > found["both"].roundings > found["tensorrt"].roundings
    assert found["inputs"].float_gb > 1.2 * found["tensorrt"].float_gb
    assert found["both"].kernels == found["tensorrt"].kernels
    assert {one.source for one in found.values()} == {""}, "nothing was recorded at batch 4"
    assert found["both"].pairs == found["tensorrt"].pairs + 2, "two additions"


def test_recorded_numbers_are_those_of_the_results(made):
    """The whole way from the recorded names of layers to the number of additions outside."""
    results = json.loads((trial.RECORDED / "summary.json").read_text())["results"]["b64"]
    assert trial.recorded() == results
    for placement, variant in trial.VARIANTS.items():
        layers = trial.recorded_layers(variant)
        assert len(layers) == results[variant]["layers"]
        alone = {
            name
            for layer in layers
            if layer["kind"] == "PointWiseV2"
            for name in re.findall(r"/layer[^ ,()]*/Add", layer["name"])
        }
        assert len(alone) == (16 if placement in ("outputs", "both") else 0), placement
    with pytest.raises(MissingFileError, match="layers_FP64_b64.json is not there"):
        trial.recorded_layers("FP64")


@pytest.mark.slow
def test_resnet50_with_recorded_pairs_quotes_their_times(resnet50_onnx):
    plain = onnx.load(resnet50_onnx)
    from course.quantize import Network

    given = dict.fromkeys(Network(plain).activations(), 0.05)
    found = {name: trial.trial(name, quantize(plain, given, name), plain) for name in trial.VARIANTS}
    assert {name: one.outside for name, one in found.items()} == {"outputs": 16, "both": 16, "inputs": 0, "tensorrt": 0}
    for name, one in found.items():
        row = trial.recorded()[trial.VARIANTS[name]]
        assert (one.source, one.ms, one.layers) == ("recorded", row["p50_ms"], row["layers"])
    assert {name for name, one in found.items() if one.beats_fp16} == {"both", "tensorrt"}
    assert "recorded" in trial.table(list(found.values()))


def test_a_table_leaves_out_what_nobody_has():
    text = trial.table([trial.Trial("a", 3, kernels=5, roundings=2, float_gb=0.25), trial.Trial("b", 4)])
    assert "TensorRT: layers" not in text and "FP16" not in text and "kernels" in text
    assert trial.Trial("a", 1).beats_fp16 is None
    assert trial.Trial("a", 1, ratio=(1.01, 0.99, 1.03)).beats_fp16 is False


def test_additions_of_the_engine_are_counted_once():
    """A layer that only carries data to another one names it, and computes nothing."""
    from course.quantize.network import Network
    from course.quantize.pairs import strip

    stripped = strip(Network(NET))
    layers = [{"block0.add", "block0.relu3"}, {"block1.conv3", "block1.add"}, {"block0.add"}]
    assert trial._outside(layers, stripped) == 1
