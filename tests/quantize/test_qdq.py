"""The written file: valid ONNX that computes what the pairs say, placed as asked, refused where it cannot be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from course.engine import BuildConfig, build
from course.errors import CourseError, UnsupportedError
from course.quantize import (
    PLACEMENTS,
    Network,
    calibrate,
    collect,
    fake_quantize,
    parameters,
    ptq,
    quantize,
    scales,
    sqnr_db,
    tensors_to_calibrate,
    without_pairs,
)
from course.quantize.arithmetic import Range
from course.quantize.network import attribute
from course.quantize.pairs import read_pairs, strip
from course.quantize.placement import plan
from course.quantize.qdq import weight_range
from tests.quantize import quantize_zoo as zoo

NETS = {"residual": zoo.residual_net(), "concat": zoo.concat_net()}


@pytest.fixture(scope="module")
def calibrations() -> dict:
    return {name: scales(collect(net, zoo.images(32)), "min-max") for name, net in NETS.items()}


@pytest.mark.parametrize("int8_weights", [False, True], ids=["float weights", "int8 weights"])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", NETS)
def test_every_placement_is_valid_runs_and_stays_close(calibrations, name, placement, int8_weights):
    net, x = NETS[name], zoo.images(8, seed=9)
    made = quantize(net, calibrations[name], placement, int8_weights=int8_weights)
    onnx.checker.check_model(made, full_check=True)
    assert [v.name for v in made.graph.output] == [v.name for v in net.graph.output]
    exact = zoo.answers(net, x)
    assert 15 < sqnr_db(exact, zoo.answers(made, x)) < 50, "close, and not the same"
    with build(made, BuildConfig(precision="int8", runtime="onnxruntime", profiles=(zoo.PROFILE,))) as engine:
        found = engine.run({"image": x})[net.graph.output[0].name]
    assert sqnr_db(exact, found) > 15
    floats = [t for t in made.graph.initializer if t.name.endswith(".weight")]
    assert bool(floats) != int8_weights


def test_int8_weights_are_the_same_numbers_in_a_quarter_of_the_bytes(calibrations):
    net, x = NETS["residual"], zoo.images(4)
    wide, small = (quantize(net, calibrations["residual"], int8_weights=stored) for stored in (False, True))
    np.testing.assert_allclose(zoo.answers(small, x), zoo.answers(wide, x), atol=1e-6)
    assert small.ByteSize() < 0.45 * wide.ByteSize()


def test_a_pair_computes_the_arithmetic_of_the_lesson(calibrations):
    """One convolution with its input, against NumPy's integers and torch's convolution."""
    import torch

    b = zoo.Builder(3)
    net = b.model(b.conv("conv", "image", 3, 16), ("batch", 16, 32, 32))
    x = zoo.images(2)
    made = quantize(net, {"image": 0.02})
    w, bias = (numpy_helper.to_array(t).copy() for t in net.graph.initializer)
    fake_x = fake_quantize(x, parameters(Range(np.float32([-2.54]), np.float32([2.54]))))
    fake_w = fake_quantize(w, parameters(Range(*weight_range(w, 0)), axis=0))
    wanted = torch.nn.functional.conv2d(*map(torch.from_numpy, (fake_x, fake_w, bias)), padding=1).numpy()
    inside = np.abs(x).max() < 127.5 * 0.02  # ONNX clips at -128, the course's arithmetic at -127
    np.testing.assert_allclose(zoo.answers(made, np.clip(x, -2.54, 2.54)), wanted, atol=1e-4)
    assert not inside


def test_weights_have_a_scale_for_each_output_channel(calibrations):
    for name, net in NETS.items():
        view = Network(quantize(net, calibrations[name]))
        by_tensor = {pair.tensor: pair for pair in read_pairs(view).values()}
        for tensor, weight in Network(net).weights.items():
            if not tensor.endswith(".weight"):
                continue
            values, pair = numpy_helper.to_array(weight), by_tensor[tensor]
            axis = 1 if tensor == "up.weight" else 0
            assert pair.axis == axis and pair.scale.shape == (values.shape[axis],)
            largest = np.abs(np.moveaxis(values, axis, 0)).reshape(values.shape[axis], -1).max(1)
            np.testing.assert_allclose(pair.scale, largest / 127, rtol=1e-6)
        for pair in by_tensor.values():
            assert pair.zero_point.dtype == np.int8 and not pair.zero_point.any()
            assert pair.zero_point.shape == pair.scale.shape


def test_matrix_products_by_their_layout():
    b = zoo.Builder()
    flat = b.op("Flatten", "flatten", "image")
    y = b.op("Gemm", "plain", flat, b.weight("plain.weight", 3072, 32))
    y = b.op("MatMul", "product", y, b.weight("product.weight", 32, 48))
    y = b.op("Gemm", "turned", y, b.weight("turned.weight", 64, 48), transB=1)
    net = b.model(y, ("batch", 64))
    made = quantize(net, dict.fromkeys(tensors_to_calibrate(net), 0.05))
    pairs = read_pairs(Network(made)).values()
    axes = {pair.tensor: (pair.axis, pair.scale.size) for pair in pairs if pair.per_channel}
    assert axes == {"plain.weight": (1, 32), "product.weight": (1, 48), "turned.weight": (0, 64)}
    onnx.checker.check_model(made, full_check=True)
    assert zoo.answers(made, zoo.images(2)).shape == (2, 64)


def test_biases_stay_float_and_unused_weights_go(calibrations):
    made = quantize(NETS["residual"], calibrations["residual"], int8_weights=True)
    view = Network(made)
    for node in view.nodes:
        if node.op_type in ("Conv", "Gemm"):
            assert view.dtypes[node.input[2]] == onnx.TensorProto.FLOAT and node.input[2] in view.weights
    used = {tensor for node in view.nodes for tensor in node.input}
    assert set(view.weights) <= used


def test_the_kernel_shape_is_said(calibrations):
    """TensorRT 8.6 cannot see it through a DQ."""
    view = Network(quantize(NETS["concat"], calibrations["concat"]))
    conv = next(node for node in view.nodes if node.name == "leave")
    assert attribute(conv, "kernel_shape", None) == [1, 1]
    assert all(attribute(node, "kernel_shape", None) for node in view.nodes if node.op_type == "Conv")


def pairs_on_edges(net: onnx.ModelProto, made: onnx.ModelProto) -> set[tuple[str, str]]:
    """(node, tensor) of the float model for every activation that goes through a pair."""
    stripped = strip(Network(made))
    return {
        (stripped.net.name(edge.index), stripped.net.tensor(edge))
        for edge in stripped.pairs
        if stripped.net.is_activation(stripped.net.tensor(edge))
    }


CONV_INPUTS = {
    ("conv", "image"),
    ("block0.conv1", "pool_out"),
    ("block0.down", "pool_out"),
    ("block0.conv2", "block0.relu1_out"),
    ("block0.conv3", "block0.relu2_out"),
    ("block1.conv1", "block0.relu3_out"),
    ("block1.conv2", "block1.relu1_out"),
    ("block1.conv3", "block1.relu2_out"),
    ("fc", "flatten_out"),
}
SKIPS = {("block0.add", "block0.down_out"), ("block1.add", "block0.relu3_out")}
MAIN = {("block0.add", "block0.conv3_out"), ("block1.add", "block1.conv3_out")}


def test_where_the_pairs_of_each_placement_stand(calibrations):
    net, found = NETS["residual"], {}
    for placement in PLACEMENTS:
        found[placement] = pairs_on_edges(net, quantize(net, calibrations["residual"], placement))
    assert found["tensorrt"] == CONV_INPUTS | SKIPS
    assert found["inputs"] == CONV_INPUTS
    assert found["both"] == CONV_INPUTS | SKIPS | MAIN
    assert found["weights"] == set()
    view = Network(net)
    assert found["outputs"] == {
        (view.name(edge.index), view.tensor(edge)) for edge in view.edges() if view.is_activation(view.tensor(edge))
    }


def test_outputs_is_what_onnxruntime_does_by_default(tmp_path, calibrations):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        left = [{"image": zoo.images(4)}]

        def get_next(self):
            return self.left.pop() if self.left else None

    net = NETS["residual"]
    (tmp_path / "net.onnx").write_bytes(net.SerializeToString())
    quantize_static(
        tmp_path / "net.onnx",
        tmp_path / "q.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "QuantizeBias": False},
    )
    theirs = pairs_on_edges(net, onnx.load(tmp_path / "q.onnx"))
    ours = pairs_on_edges(net, quantize(net, calibrations["residual"], "outputs"))
    assert theirs == ours


def test_the_scales_of_a_concat_become_one(calibrations):
    net = NETS["concat"]
    chosen = plan(Network(net))
    assert chosen.groups == (frozenset({"split_out0", "add_out", "second.mul_out", "concat_out"}),)
    given = calibrations["concat"].scales
    pairs = {pair.tensor: pair for pair in read_pairs(Network(quantize(net, calibrations["concat"]))).values()}
    largest = max(given[tensor] for tensor in chosen.groups[0])
    assert {float(pairs[tensor].scale) for tensor in ("add_out", "concat_out")} == {np.float32(largest)}
    assert given["split_out0"] != given["concat_out"], "they had scales of their own"
    assert float(pairs["split_out1"].scale) == np.float32(given["split_out1"]), "others keep theirs"


def test_the_skip_side_behind_a_silu(calibrations):
    pairs = pairs_on_edges(NETS["concat"], quantize(NETS["concat"], calibrations["concat"]))
    assert ("add", "split_out1") in pairs and ("add", "inner.mul_out") not in pairs


def test_excluded_nodes_and_too_small_ones_stay_float(calibrations):
    net = NETS["residual"]
    made = quantize(net, calibrations["residual"], exclude=["block1.conv*", "conv"])
    pairs = pairs_on_edges(net, made)
    assert not {node for node, _ in pairs} & {"conv", "block1.conv1", "block1.conv2", "block1.conv3", "block1.add"}
    assert ("block0.add", "block0.down_out") in pairs and ("fc", "flatten_out") in pairs
    weights = {pair.tensor for pair in read_pairs(Network(made)).values() if pair.per_channel}
    assert "conv.weight" not in weights and "block0.conv1.weight" in weights
    with pytest.raises(CourseError, match="no node 'block0.conv9'.*\n.*block0.conv"):
        quantize(net, calibrations["residual"], exclude="block0.conv9")
    small = plan(Network(zoo.residual_net(classes=10)))
    assert small.kept == {"fc": "K or N is below 16: weights [10, 64]"}


@pytest.mark.parametrize(
    "shape, group, quantised",
    [
        ((16, 16, 3), 1, True),
        ((8, 16, 3), 1, True),
        ((12, 12, 3), 1, False),
        ((12, 20, 3), 1, False),
        ((8, 8, 3), 1, False),
        ((32, 1, 3), 32, True),
        ((32, 1, 1), 32, False),
        ((20, 1, 3), 20, False),
    ],
)
def test_convolutions_with_few_channels(shape, group, quantised):
    b = zoo.Builder()
    outputs, inputs, kernel = shape
    x = b.conv("first", "image", 3, inputs * group)
    net = b.model(b.conv("conv", x, inputs * group, outputs, kernel, group=group), ("batch", outputs, 32, 32))
    assert ("conv" in plan(Network(net)).kept) != quantised


def test_two_readers_of_one_weight_and_taken_names():
    b = zoo.Builder()
    w = b.weight("w", 16, 16, 3, 3)
    x = b.conv("first", "image", 3, 16)
    y = b.op("Conv", "one", x, w, pads=[1] * 4, kernel_shape=[3, 3])
    z = b.op("Conv", "two", y, w, pads=[1] * 4, kernel_shape=[3, 3])
    b.constant("one_out_scale", np.zeros((1, 1, 1, 1), np.float32))
    net = b.model(b.op("Add", "end", z, "one_out_scale"), ("batch", 16, 32, 32))
    made = quantize(net, dict.fromkeys(tensors_to_calibrate(net), 0.1))
    onnx.checker.check_model(made, full_check=True)
    assert sum(node.op_type == "QuantizeLinear" and node.input[0] == "w" for node in made.graph.node) == 1
    assert sqnr_db(zoo.answers(net, zoo.images(1)), zoo.answers(made, zoo.images(1))) > 5


def test_what_cannot_be_quantised_says_why(calibrations):
    net, given = NETS["residual"], calibrations["residual"]
    made = quantize(net, given)
    with pytest.raises(CourseError, match="quantised already.*\n.*conv.weight_QuantizeLinear"):
        quantize(made, given)
    with pytest.raises(CourseError, match="no placement 'best'.*\n.*tensorrt, inputs, both, outputs, weights"):
        quantize(net, given, "best")
    with pytest.raises(CourseError, match=r"no scale for 'block0.relu2_out' \(1 of 9 are missing\)"):
        quantize(net, {name: s for name, s in given.scales.items() if name != "block0.relu2_out"})
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CourseError, match="The scale of 'image' is"):
            quantize(net, {**given.scales, "image": bad})
    with pytest.raises(CourseError, match="Nothing in the model can be quantised.*\n.*conv: excluded by name"):
        quantize(net, given, exclude="*")
    old = onnx.ModelProto.FromString(net.SerializeToString())
    old.opset_import[0].version = 12
    with pytest.raises(UnsupportedError, match="opset 12"):
        quantize(old, given)


def test_the_given_model_is_not_changed(calibrations):
    before = NETS["residual"].SerializeToString(deterministic=True)
    quantize(NETS["residual"], calibrations["residual"], "outputs", int8_weights=True)
    assert NETS["residual"].SerializeToString(deterministic=True) == before


def test_one_call_makes_the_same_file(tmp_path):
    net, x = NETS["concat"], zoo.images(16)
    made = ptq(net, x, "entropy", exclude="last", batch=4, checkpoint=tmp_path / "state.npz")
    given = calibrate(net, x, "entropy", tensors_to_calibrate(net, exclude=["last"]), batch=4)
    assert made.calibration.scales == given.scales and (tmp_path / "state.npz").exists()
    assert made.proto == quantize(net, given, exclude=["last"])
    path = made.save(tmp_path / "int8.onnx")
    assert onnx.load(path) == made.proto


def test_pairs_can_be_taken_out_again(calibrations):
    for name, net in NETS.items():
        for placement in PLACEMENTS:
            stripped = strip(Network(quantize(net, calibrations[name], placement, int8_weights=placement == "both")))
            got = [
                (n.name, n.op_type, [t.removesuffix("_quantized") for t in n.input], list(n.output))
                for n in stripped.proto.graph.node
            ]
            assert got == [(n.name, n.op_type, list(n.input), list(n.output)) for n in net.graph.node]
            x = zoo.images(2)
            assert sqnr_db(zoo.answers(net, x), zoo.answers(stripped.proto, x)) > (30 if placement == "both" else 200)


def test_pairs_are_taken_off_and_what_is_left_computes_the_same():
    model = zoo.residual_net()
    full = quantize(model, calibrate(model, zoo.images(8), "min-max"), "outputs")
    rounded = [node.input[0] for node in full.graph.node if node.op_type == "QuantizeLinear"]
    bare = without_pairs(full, rounded)
    onnx.checker.check_model(bare, full_check=True)
    assert not [node for node in bare.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert [value.name for value in bare.graph.output] == [value.name for value in model.graph.output]
    x = zoo.images(4)
    np.testing.assert_allclose(zoo.answers(bare, x), zoo.answers(model, x), atol=1e-5)
    one = without_pairs(full, rounded[:1])
    assert len(one.graph.node) == len(full.graph.node) - 2
    assert len(full.graph.node) > len(bare.graph.node), "the given model is left as it was"
