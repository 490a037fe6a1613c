"""One INT8 file for every TensorRT: the rules for 8.6, 10 and 11, and what the parser of TensorRT-RTX really says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from course.engine import BuildConfig, available_runtimes, build
from course.quantize import PLACEMENTS, collect, explain_placement, parses_on, quantize, scales
from course.quantize.portable import VERSIONS
from tests.quantize import quantize_zoo as zoo

RTX = available_runtimes()["rtx"] is None


def asked(refused: str) -> dict[str, bool]:
    """ "8.6 10" -> version: whether it parses the model."""
    return {version: version not in refused.split() for version in VERSIONS if RTX or version != "RTX"}


@pytest.mark.parametrize("int8_weights", [False, True])
@pytest.mark.parametrize("net", [zoo.residual_net(), zoo.concat_net()], ids=["residual", "concat"])
def test_what_we_write_parses_everywhere_and_runs_in_onnxruntime(net, int8_weights):
    given = scales(collect(net, zoo.images(8)), "min-max")
    for placement in PLACEMENTS:
        model = quantize(net, given, placement, int8_weights=int8_weights)
        assert parses_on(model) == {version: () for version in asked("")}, placement
        with build(model, BuildConfig(runtime="onnxruntime", profiles=(zoo.PROFILE,))) as engine:
            assert np.isfinite(next(iter(engine.run({"image": zoo.images(2)}).values()))).all()


def conv(
    scale=np.float32(0.05),
    zero=np.int8(0),
    weight_scale=np.full(16, 0.02, np.float32),
    weight_zero=np.zeros(16, np.int8),
    axis=0,
    bias="",
    kernel=True,
    opset=17,
) -> onnx.ModelProto:
    """A convolution between pairs, in one respect perhaps not as it should be."""
    node, constants = helper.make_node, {}
    weights = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    constants.update(xs=scale, ws=weight_scale, w=weights)
    constants.update({name: value for name, value in (("xz", zero), ("wz", weight_zero)) if value is not None})
    x = ["xs", *(["xz"] if zero is not None else [])]
    w = ["ws", *(["wz"] if weight_zero is not None else [])]
    nodes = [
        node("QuantizeLinear", ["x", *x], ["xq"], "q_x"),
        node("DequantizeLinear", ["xq", *x], ["xd"], "dq_x"),
        node("QuantizeLinear", ["w", *w], ["wq"], "q_w", axis=axis),
        node("DequantizeLinear", ["wq", *w], ["wd"], "dq_w", axis=axis),
    ]
    inputs = ["xd", "wd"]
    if bias:
        constants.update(bs=np.full(16, 0.001, np.float32), bz=np.zeros(16, bias), b=np.zeros(16, bias))
        nodes.append(node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], "dq_b", axis=0))
        inputs.append("bd")
    said = {"kernel_shape": [3, 3]} if kernel else {}
    nodes.append(node("Conv", inputs, ["y"], "conv", pads=[1] * 4, **said))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 10
    return made


CASES = [
    ("as it should be", {}, "", ""),
    ("opset 13", {"opset": 13}, "", ""),
    ("opset 19", {"opset": 19}, "8.6", "It has opset 19; this version reads 17 and older."),
    ("opset 21", {"opset": 21}, "8.6 10", "It has opset 21"),
    ("asymmetric", {"zero": np.int8(5)}, "8.6 10 11 RTX", "zero point is not 0"),
    ("unsigned and asymmetric", {"zero": np.uint8(128)}, "8.6 10 11 RTX", "zero point is not 0"),
    ("unsigned", {"zero": np.uint8(0)}, "8.6 10", "Its integers are uint8"),
    ("no zero point", {"zero": None}, "8.6", "needs three inputs"),
    ("zero scale", {"scale": np.float32(0)}, "8.6 10 11 RTX", "A scale is not above 0"),
    ("one scale of a channel", {"weight_scale": np.float32([0.02] * 15 + [-1])}, "8.6 10 11 RTX", "not above 0"),
    ("fewer zero points", {"weight_zero": np.int8(0)}, "8.6 10 11 RTX", "16 scales and 1 zero points"),
    ("scales for no axis", {"axis": 2}, "8.6 10 11 RTX", "16 scales for axis 2"),
    ("int32 bias", {"bias": np.int32}, "8.6 10 11 RTX", "It dequantises int32"),
    ("int8 bias", {"bias": np.int8}, "8.6", "this parser needs an initialiser"),
    ("kernel not said", {"kernel": False}, "8.6", "does not say kernel_shape"),
]


@pytest.mark.parametrize("settings, refused, words", [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_each_version_refuses(settings, refused, words):
    found = parses_on(conv(**settings))
    assert {version: not refusals for version, refusals in found.items()} == asked(refused)
    for version, refusals in found.items():
        for refusal in refusals:
            assert refusal.version == version and refusal.source and refusal.cause and refusal.next_step
            if version != "RTX":
                assert words in refusal.cause or any(words in other.cause for other in refusals)
                assert f"TensorRT {version}" in str(refusal)


@pytest.mark.parametrize("operator, outputs", [("DynamicQuantizeLinear", 3), ("QLinearConv", 1), ("ConvInteger", 1)])
def test_integer_operators_are_refused_everywhere(operator, outputs):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 8, 8])
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "first")]
    inputs = {"QLinearConv": ["q", "s", "z", "w", "s", "wz", "s", "z"], "ConvInteger": ["q", "w", "z", "wz"]}
    if operator in inputs:
        nodes.append(helper.make_node(operator, inputs[operator], ["y"], "op"))
    output = helper.make_tensor_value_info("q" if outputs == 3 else "y", TensorProto.UNDEFINED, None)
    output.ClearField("type")
    weights = [numpy_helper.from_array(np.ones((4, 16, 1, 1), np.int8), "w"), numpy_helper.from_array(np.int8(0), "wz")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [output], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    found = parses_on(model)
    assert all(found[version] for version in found)
    assert any(operator in refusal.cause for refusal in found["8.6"])


def test_onnxruntimes_default_file_is_refused_for_three_reasons(tmp_path):
    """What people meet first: asymmetric unsigned activations and an int32 bias."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        left = [{"image": zoo.images(4)}]

        def get_next(self):
            return self.left.pop() if self.left else None

    (tmp_path / "net.onnx").write_bytes(zoo.residual_net().SerializeToString())
    quantize_static(tmp_path / "net.onnx", tmp_path / "q.onnx", Reader())
    found = parses_on(tmp_path / "q.onnx")
    assert explain_placement(tmp_path / "q.onnx"), "it is read, too, though TensorRT would not take it"
    assert all(found[version] for version in found)
    causes = " ".join(refusal.cause for refusal in found["10"])
    assert "zero point is not 0" in causes and "dequantises int32" in causes


def test_quantising_needs_no_pytorch():
    """The grader's boxes import this room for every file: with PyTorch that takes four seconds more."""
    loaded = "import sys, course.quantize; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
