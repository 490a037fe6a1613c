"""The raw API: which module, small networks read back as ONNX and run, errors in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course.by_hand import network_onnx, raw
from course.engine import BuildConfig, build, log
from course.errors import UnsupportedError


@pytest.fixture(scope="module")
def trt():
    try:
        return raw.module()
    except UnsupportedError as error:
        pytest.skip(str(error))


def run(trt, network, x: np.ndarray) -> np.ndarray:
    with build(network_onnx.to_onnx(trt, network), BuildConfig(runtime="onnxruntime")) as engine:
        return next(iter(engine.run({"x": x}).values()))


def test_the_layers_that_are_translated_compute_what_torch_computes(trt) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 9, 8)).astype(np.float32)
    kernel, bias = rng.normal(size=(6, 2, 3, 2)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    scale, shift = rng.normal(size=6).astype(np.float32), rng.normal(size=6).astype(np.float32)
    half = np.full((1, 1, 1, 1), 0.5, np.float32)
    _builder, network = raw.new_builder(trt)
    tensor = network.add_input("x", trt.float32, (2, 4, 9, 8))
    layer = network.add_convolution_nd(tensor, 6, (3, 2), trt.Weights(kernel), trt.Weights(bias))
    layer.num_groups, layer.stride_nd, layer.pre_padding, layer.post_padding = 2, (2, 1), (1, 0), (0, 1)
    layer = network.add_scale(
        layer.get_output(0), trt.ScaleMode.CHANNEL, trt.Weights(shift), trt.Weights(scale), trt.Weights()
    )
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.TANH)
    constant = network.add_constant((1, 1, 1, 1), trt.Weights(half))
    layer = network.add_elementwise(layer.get_output(0), constant.get_output(0), trt.ElementWiseOperation.SUM)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.AVERAGE, (2, 3))
    layer.padding_nd = (1, 1)
    network.mark_output(layer.get_output(0))

    padded = torch.nn.functional.pad(torch.from_numpy(x), (0, 1, 1, 0))
    inner = torch.nn.functional.conv2d(padded, torch.from_numpy(kernel), torch.from_numpy(bias), (2, 1), groups=2)
    inner = torch.tanh(inner * torch.from_numpy(scale)[:, None, None] + torch.from_numpy(shift)[:, None, None]) + 0.5
    wanted = torch.nn.functional.avg_pool2d(inner, (2, 3), stride=1, padding=1, count_include_pad=False).numpy()
    assert network.num_layers == 6
    np.testing.assert_allclose(run(trt, network, x), wanted, atol=1e-5)


def test_a_mistake_in_the_network_is_in_the_onnx_too(trt) -> None:
    _builder, network = raw.new_builder(trt)
    tensor = network.add_input("x", trt.float32, (1, 2, 4, 4))
    layer = network.add_pooling_nd(tensor, trt.PoolingType.MAX, (2, 2))  # no stride
    network.mark_output(layer.get_output(0))
    x = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    assert run(trt, network, x).shape == (1, 2, 3, 3)


def test_too_few_weights_and_unknown_layers_are_named(trt) -> None:
    _builder, network = raw.new_builder(trt)
    tensor = network.add_input("x", trt.float32, (1, 2, 4, 4))
    network.add_convolution_nd(tensor, 3, (3, 3), trt.Weights(np.ones((3, 1, 3, 3), np.float32)), trt.Weights())
    with pytest.raises(UnsupportedError, match="27 weights"):
        network_onnx.to_onnx(trt, network)
    _builder, network = raw.new_builder(trt)
    tensor = network.add_input("x", trt.float32, (1, 2, 4, 4))
    network.mark_output(network.add_softmax(tensor).get_output(0))
    with pytest.raises(UnsupportedError, match="SOFTMAX"):
        network_onnx.to_onnx(trt, network)


def test_tensors_of_a_network(trt) -> None:
    _builder, network = raw.new_builder(trt)
    tensor = network.add_input("x", trt.float16, (-1, 5))
    network.add_identity(tensor)
    inputs, outputs = raw.tensors(network)
    assert [(spec.name, spec.dtype, spec.shape) for spec in inputs] == [("x", "float16", (-1, 5))]
    assert outputs == ()


def test_an_error_is_told_without_source_lines(trt) -> None:
    builder, network = raw.new_builder(trt)
    network.add_input("x", trt.float32, (1, 5))
    with log.capture() as lines:
        assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    text = raw.first_error(lines)
    assert "at least one output" in text and ".cpp" not in text and "cudaError" not in text
    assert raw.first_error([]) == "Nothing was logged."


def test_plain_settings_turn_tf32_off(trt) -> None:
    builder, _network = raw.new_builder(trt)
    config = builder.create_builder_config()
    raw.plain_settings(trt, config)
    assert not config.get_flag(trt.BuilderFlag.TF32)


def test_without_both_the_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "available_runtimes", lambda: {"tensorrt": "no GPU.", "rtx": "not installed."})
    with pytest.raises(UnsupportedError, match="no GPU.*not installed"):
        raw.module()


def test_pycuda_that_does_not_load_names_the_way_out() -> None:
    try:
        raw.pycuda_driver()
    except UnsupportedError as error:
        assert "pip install pycuda" in str(error) and "LD_PRELOAD" in str(error)


def test_size_in_bytes() -> None:
    assert raw.size_in_bytes((2, 3, 224, 224), 4) == 1_204_224
    assert raw.size_in_bytes((), 2) == 2
