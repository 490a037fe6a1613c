"""explain_placement against what builders did: TensorRT-RTX on this CPU, and recorded layers of TensorRT 8.6.0."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from course.engine import BuildConfig, Layer, available_runtimes, build
from course.quantize import KINDS, PLACEMENTS, Network, collect, explain_placement, quantize, scales
from course.quantize import placement as placement_module
from course.quantize.network import WEIGHTED
from tests.quantize import quantize_zoo as zoo

RECORDED = Path(__file__).with_name("recorded")
needs_rtx = pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason=str(available_runtimes()["rtx"]))
NET = zoo.residual_net()


@pytest.fixture(scope="module")
def made() -> dict[str, onnx.ModelProto]:
    given = scales(collect(NET, zoo.images(32)), "min-max")
    return {name: quantize(NET, given, name) for name in PLACEMENTS}


def kernels(model: onnx.ModelProto) -> tuple[Layer, ...]:
    with build(model, BuildConfig(runtime="rtx", profiles=(zoo.PROFILE,))) as engine:
        return engine.layers()


def kernel_of(layers: tuple[Layer, ...], node: str) -> Layer:
    """The kernel that multiplies by a node's weights (others do what follows it)."""
    return next(layer for layer in layers if node in layer.onnx_nodes and layer.kind != "kgen")


def kinds(findings, *wanted: str) -> set[tuple[str, str]]:
    """(node, tensor) of the findings of these kinds."""
    return {(finding.node, finding.tensor) for finding in findings if finding.kind in wanted}


def without_pair(model: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """A copy in which one tensor has no pair."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for node in copy.graph.node:
        node.input[:] = [tensor if name == f"{tensor}_DequantizeLinear_Output" else name for name in node.input]
    kept = [node for node in copy.graph.node if not node.name.startswith(f"{tensor}_")]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    return copy


def with_scales(model: onnx.ModelProto, tensor: str, values: np.ndarray, axis: int) -> onnx.ModelProto:
    """A copy in which one tensor's pair has these scales."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    for constant in copy.graph.initializer:
        if constant.name == f"{tensor}_scale":
            constant.CopyFrom(numpy_helper.from_array(values.astype(np.float32), constant.name))
        elif constant.name == f"{tensor}_zero_point":
            constant.CopyFrom(numpy_helper.from_array(np.zeros(values.shape, np.int8), constant.name))
    for node in copy.graph.node:
        if node.name in (f"{tensor}_QuantizeLinear", f"{tensor}_DequantizeLinear"):
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("axis", axis))
    return copy


# ---------------------------------------------------------------- TensorRT-RTX


@needs_rtx
@pytest.mark.parametrize("name", [*PLACEMENTS, "weights in float", "channels of an activation", "weights, wrong axis"])
def test_which_convolutions_run_in_int8(made, name):
    changed = {
        "weights in float": lambda: without_pair(made["tensorrt"], "block0.conv2.weight"),
        "channels of an activation": lambda: with_scales(made["tensorrt"], "block0.relu1_out", np.full(32, 0.02), 1),
        "weights, wrong axis": lambda: with_scales(made["tensorrt"], "block1.conv2.weight", np.full(32, 0.02), 1),
    }
    model = changed[name]() if name in changed else made[name]
    in_float = {
        node for node, _ in kinds(explain_placement(model), "input in float", "weights in float", "scales per channel")
    }
    layers = kernels(model)
    for node in NET.graph.node:
        if node.op_type in WEIGHTED:
            first = kernel_of(layers, node.name).inputs[0].dtype
            assert first == ("float32" if node.name in in_float else "int8"), node.name
    wanted = {"weights": 9, "weights in float": 1, "channels of an activation": 1, "weights, wrong axis": 1}
    assert len(in_float) == wanted.get(name, 0)


def add_kernels(layers: tuple[Layer, ...]) -> dict[str, Layer]:
    return {name: next(layer for layer in layers if name in layer.onnx_nodes) for name in ("block0.add", "block1.add")}


@needs_rtx
@pytest.mark.parametrize("name", ["tensorrt", "inputs", "both", "outputs"])
def test_what_enters_each_add(made, name):
    """Pair before the Add: its kernel rounds the convolution's own result. Skip in float: it reads no INT8."""
    findings, layers = explain_placement(made[name]), kernels(made[name])
    adds = add_kernels(layers)
    rounded = {
        (f"{block}.add", f"{block}.conv3_out")
        for block in ("block0", "block1")
        if f"{block}.conv3_out_QuantizeLinear" in adds[f"{block}.add"].onnx_nodes
    }
    assert kinds(findings, "pair before Add") == rounded
    floats = kinds(findings, "skip in float")
    skips = {("block0.add", "block0.down_out"), ("block1.add", "block0.relu3_out")}
    assert floats == (skips if name == "inputs" else set())
    reads = {tensor.dtype for tensor in adds["block1.add"].inputs}
    assert ("int8" in reads) == (("block1.add", "block0.relu3_out") not in floats)
    writes = sorted(tensor.dtype for tensor in adds["block0.add"].outputs)
    assert writes == (["float32", "int8"] if floats else ["int8"]), "the skip in float is a second copy of the result"


@needs_rtx
def test_a_second_reader_in_float_costs_a_second_copy(made):
    """Even the pooling runs twice: once in INT8, once in float."""
    given = scales(collect(NET, zoo.images(8)), "min-max")

    def pools(model: onnx.ModelProto) -> list[str]:
        return sorted(layer.outputs[0].dtype for layer in kernels(model) if layer.kind == "maxpool")

    both, one, neither = (
        quantize(NET, given, exclude=names) for names in ((), ["block0.down"], ["block0.down", "block0.conv1"])
    )
    assert [kinds(explain_placement(model), "two copies") for model in (both, one, neither)] == [
        set(),
        {("pool", "pool_out")},
        set(),
    ]
    assert [pools(model) for model in (both, one, neither)] == [["int8"], ["float32", "int8"], ["float32"]]
    rounded_by_the_add = quantize(NET, given, exclude=["block1.conv1"])  # its other reader is in float
    assert not kinds(explain_placement(rounded_by_the_add), "two copies")
    assert [t.dtype for t in add_kernels(kernels(rounded_by_the_add))["block0.add"].outputs] == ["float32"]


@needs_rtx
def test_two_scales_on_one_tensor_are_two_tensors(made):
    model = onnx.ModelProto.FromString(made["tensorrt"].SerializeToString())
    pair = [node for node in model.graph.node if node.name.startswith("block0.relu3_out_")]
    assert len(pair) == 2
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.7), "other_scale"))
    for node in pair:
        twin = model.graph.node.add()
        twin.CopyFrom(node)
        twin.name = f"other_{node.op_type}"
        twin.input[1] = "other_scale"
        twin.input[0] = twin.input[0].replace("_QuantizeLinear_Output", "_other")
        output = node.output[0].replace("_QuantizeLinear_Output", "_other")
        twin.output[0] = output.replace("_DequantizeLinear", "_otherdq")
    conv = next(node for node in model.graph.node if node.name == "block1.conv1")
    conv.input[0] = "block0.relu3_out_otherdq_Output"
    ordered = sorted(model.graph.node, key=lambda node: _depth(model, node))
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.checker.check_model(model, full_check=True)
    assert kinds(explain_placement(model), "two scales") == {("block0.relu3", "block0.relu3_out")}
    assert [t.dtype for t in add_kernels(kernels(model))["block0.add"].outputs] == ["int8", "float32"]
    assert [t.dtype for t in add_kernels(kernels(made["tensorrt"]))["block0.add"].outputs] == ["int8"]


def _depth(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    maker = {tensor: other for other in model.graph.node for tensor in other.output}
    return 1 + max((_depth(model, maker[tensor]) for tensor in node.input if tensor in maker), default=0)


@needs_rtx
def test_a_concat_of_other_scales_quantises_once_more():
    net = zoo.concat_net()
    given = dict(scales(collect(net, zoo.images(16)), "min-max").scales)
    one = quantize(net, given)
    assert not kinds(explain_placement(one), "Concat scales")
    pairs = {"add_out": given["add_out"], "concat_out": given["concat_out"] * 2}
    other = onnx.ModelProto.FromString(one.SerializeToString())
    for constant in other.graph.initializer:
        if (tensor := constant.name.removesuffix("_scale")) in pairs:
            constant.CopyFrom(numpy_helper.from_array(np.float32(pairs[tensor]), constant.name))
    assert kinds(explain_placement(other), "Concat scales") == {("concat", "add_out")}

    def written(model: onnx.ModelProto) -> int:
        return len(next(layer for layer in kernels(model) if "add" in layer.onnx_nodes).outputs)

    assert (written(one), written(other)) == (1, 2), "add_out is there once, and twice"


@needs_rtx
def test_a_pair_for_nothing_costs_its_kernels(made):
    """Only a sigmoid reads it, which has no INT8 kernel."""
    b = zoo.Builder()
    net = b.model(b.op("Sigmoid", "end", b.conv("conv", "image", 3, 16)), ("batch", 16, 32, 32))
    model = quantize(net, {"image": 0.02, "conv_out": 0.05, "end_out": 0.01}, "outputs")
    assert kinds(explain_placement(model), "pair for nothing") == {("end", "conv_out"), ("end", "end_out")}
    nodes = {node for layer in kernels(model) for node in layer.onnx_nodes}
    assert "conv_out_QuantizeLinear" in nodes and "end_out_DequantizeLinear" in nodes
    assert not kinds(explain_placement(quantize(net, {"image": 0.02})), "pair for nothing")


# ---------------------------------------------------------------- TensorRT 8.6.0, recorded


def recorded(name: str) -> list[tuple[str, str]]:
    """(kind, name) of the layers in a recorded list."""
    text = lzma.decompress((RECORDED / f"{name}.layers.txt.xz").read_bytes()).decode()
    matches = (re.match(r"Layer\((\w+)\): (.*?), Tactic", line) for line in text.splitlines())
    return [(match[1], match[2]) for match in matches if match]


@pytest.fixture(scope="module")
def resnet(resnet50_onnx) -> onnx.ModelProto:
    return onnx.load(resnet50_onnx)


@pytest.mark.slow
def test_the_recorded_good_placement(resnet, monkeypatch):
    """61 layers: 53 convolutions with all Adds, activations and the pooling inside, and what the findings name."""
    monkeypatch.setattr(placement_module, "FEWEST_CHANNELS", 1)  # the recorded file had a quantised Gemm with N = 10
    net, layers = Network(resnet), recorded("qdq_good_b64")
    findings = explain_placement(quantize(resnet, dict.fromkeys(net.activations(), 0.05)))
    assert len(layers) == 61
    assert not [name for kind, name in layers if kind == "PointWiseV2"]
    inside = {node for kind, name in layers if kind.startswith("CaskConv") for node in name.split(" + ")}
    assert {net.name(i) for i, node in enumerate(net.nodes) if node.op_type in ("Add", "Relu", "MaxPool")} <= inside
    quantisers = {name.removesuffix("_QuantizeLinear") for _, name in layers if name.endswith("_QuantizeLinear")}
    assert {tensor for _, tensor in kinds(findings, "quantised alone")} == quantisers == {"image", "/Flatten_output_0"}
    clones = {name.split("_Dequantize")[0] for kind, name in layers if kind == "Reformat" and "_Dequantize" in name}
    assert clones == {"/layer4/layer4.1/relu_2/Relu_output_0"}
    assert {tensor for _, tensor in kinds(findings, "skip dequantised")} == clones
    assert {finding.kind for finding in findings} == {"quantised alone", "skip dequantised"}


@pytest.mark.slow
def test_the_recorded_naive_placement(resnet):
    """76 layers: 16 Adds outside their convolutions, the pooling outside its own, a DQ at the end."""
    net, layers = Network(resnet), recorded("qdq_naive_b64")
    findings = explain_placement(quantize(resnet, dict.fromkeys(net.activations(), 0.05), "outputs"))
    assert len(layers) == 76
    outside = {re.match(r"PWN\((.*?), ", name)[1] for kind, name in layers if kind == "PointWiseV2"}
    assert {node for node, _ in kinds(findings, "pair before Add")} == outside and len(outside) == 16
    pools = {name for kind, name in layers if kind == "CaskPooling" and "maxpool" in name}
    assert pools == {"/maxpool/MaxPool"}
    assert kinds(findings, "pair before pool") == {("/relu/Relu", "/conv1/Conv_output_0")}
    endings = {name for kind, name in layers if kind == "Reformat" and name.endswith("_DequantizeLinear")}
    assert endings == {"logits_DequantizeLinear"} and {t for _, t in kinds(findings, "pair for nothing")} == {"logits"}
    assert {t for _, t in kinds(findings, "quantised alone")} == {"image"}, "the average pooling reads INT8 here"
    costly = [finding for finding in findings if finding.kernel]
    explained = 53 + 1 + 1 + 1 + 1  # convolutions, Gemm, average pooling, a NoOp and a Shuffle around the Gemm
    assert len(layers) == explained + len(costly), "every other layer is a finding"


# ---------------------------------------------------------------- the findings themselves


def test_a_convolution_in_float_has_no_add_to_lose(made):
    model = with_scales(made["inputs"], "block1.conv3.weight", np.full(32, 0.02), 1)
    found = explain_placement(model)
    assert kinds(found, "scales per channel") == {("block1.conv3", "block1.conv3.weight")}
    assert {node for node, _ in kinds(found, "skip in float")} == {"block0.add"}


def test_findings_say_where_why_and_what_to_do(made):
    for model in made.values():
        for finding in explain_placement(model):
            assert finding.kind in KINDS
            assert finding.node and finding.tensor and finding.cause.endswith(".") and finding.next_step.endswith(".")
            assert "Next step" in str(finding)
    order = [finding.node for finding in explain_placement(made["both"]) if finding.kind == "pair before Add"]
    assert order == ["block0.add", "block1.add"], "in the order of the nodes"


def test_a_float_model_and_the_good_placement_have_nothing_to_mend(made):
    assert explain_placement(NET) == ()
    rest = {finding.kind for finding in explain_placement(made["tensorrt"])}
    assert rest == {"quantised alone", "skip dequantised"}, "the float input, and the last block before a float pooling"


def test_a_pair_before_operators_that_it_can_move_over_counts():
    """DQ → MaxPool → Conv is INT8: TensorRT moves the DQ behind the pooling."""
    b = zoo.Builder()
    x = b.conv("first", "image", 3, 16)
    net = b.model(b.conv("second", b.op("MaxPool", "pool", x, kernel_shape=[1, 1]), 16, 16), ("batch", 16, 32, 32))
    model = quantize(net, {"image": 0.02, "pool_out": 0.05})
    scale, zero = "pool_out_scale", "pool_out_zero_point"
    nodes = [node for node in model.graph.node if not node.name.startswith("pool_out_")]
    at = next(index for index, node in enumerate(nodes) if node.name == "pool")
    nodes[at].input[0] = "moved"
    next(node for node in nodes if node.name == "second").input[0] = "pool_out"
    nodes[at:at] = [
        helper.make_node("QuantizeLinear", ["first_out", scale, zero], ["moved_q"], "moved_q"),
        helper.make_node("DequantizeLinear", ["moved_q", scale, zero], ["moved"], "moved_dq"),
    ]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    onnx.checker.check_model(model, full_check=True)
    assert {finding.kind for finding in explain_placement(model)} == {"quantised alone"}
