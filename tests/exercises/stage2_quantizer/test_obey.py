"""The check of lesson 2.04 on precisions looks at what the learner set, not at what TensorRT set itself."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from course.exercises.stage2_quantizer import accuracy


def chain() -> onnx.ModelProto:
    """Six convolutions with a ReLU each, in the detector's place."""
    nodes, weights, last = [], [], "frames"
    for number in range(6):
        weights.append(numpy_helper.from_array(np.ones((3, 3, 3, 3), np.float32), f"w{number}"))
        nodes.append(
            helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], f"/layer{number}/Conv", pads=[1] * 4)
        )
        nodes.append(helper.make_node("Relu", [f"c{number}"], [last := f"r{number}"], f"/layer{number}/Relu"))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 16, 16]) for name in ("frames", last)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def parsed_as_on_8_6(monkeypatch, tmp_path):
    """TensorRT 8.6's parser gives some layers a precision of their own; the stand-in's parser does not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / accuracy.DETECTOR).parent.mkdir()
    onnx.save(chain(), accuracy.DETECTOR)
    made = accuracy._network

    def network(trt):
        found = made(trt)
        layer = next(
            one for one in (found[0].get_layer(i) for i in range(found[0].num_layers)) if "Conv" not in one.name
        )
        layer.precision = trt.int32
        return found

    monkeypatch.setattr(accuracy, "_network", network)


def test_a_precision_of_the_parser_is_not_the_learners(parsed_as_on_8_6):
    assert "layers" in accuracy.obey(accuracy.obeying)


def test_a_precision_too_many_is_still_found(parsed_as_on_8_6):
    def all_of_them(trt, network, config, nodes):
        accuracy.obeying(trt, network, config, [network.get_layer(i).name for i in range(network.num_layers)])

    with pytest.raises(accuracy.Wrong, match="more layers|another precision"):
        accuracy.obey(all_of_them)
