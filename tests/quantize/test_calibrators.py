"""Calibrators against ONNX Runtime's on the same values, against the definition, and by what they promise."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
import torch
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    CalibrationMethod,
    HistogramCollector,
    create_calibrator,
)

from course.errors import CourseError, ShapeError
from course.quantize import (
    METHODS,
    Range,
    collect,
    dequantize,
    entropy,
    entropy_onnxruntime,
    fake_quantize,
    histogram,
    method,
    min_max,
    mse,
    parameters,
    percentile,
    quantize,
    sqnr_db,
)
from course.quantize.activations import inner_tensors
from course.quantize.arithmetic import quantize as to_int8
from course.quantize.network import Network
from tests.quantize import quantize_zoo as zoo

WITHIN = 0.02


@pytest.fixture(scope="module")
def activations() -> dict[str, np.ndarray]:
    """Tensors of a network and of textbook distributions: signed ones, ReLU outputs, heavy tails."""
    names = ["conv_out", "relu_out", "block0.add_out", "block1.relu2_out"]
    found = inner_tensors(zoo.residual_net(), names)({"image": zoo.images(64)})
    rng = np.random.default_rng(0)  # not 100 000 values: a percentile should not fall just between two of them
    found["laplace"] = rng.laplace(0, 2, 99_991).astype(np.float32)
    found["student"] = rng.standard_t(3, 99_991).astype(np.float32)
    found["relu of gauss"] = np.maximum(rng.standard_normal(99_991), 0).astype(np.float32)
    return found


def collector(name: str, symmetric: bool, bins: int, levels: int = 128, percent: float = 99.99) -> HistogramCollector:
    return HistogramCollector(name, symmetric, bins, levels, percent, "same")


def onnxruntime_range(tool: HistogramCollector, values: np.ndarray) -> tuple[float, float]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        tool.collect({"x": [values]})
        low, high = tool.compute_collection_result()["x"][:2]
    return float(low), float(high)


@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_percentile_agrees_with_onnxruntime(activations, percent):
    for name, values in activations.items():
        one = histogram(values)
        low, high = onnxruntime_range(collector("percentile", True, 4096, percent=percent), values)
        assert percentile(one, percent).amax[0] == pytest.approx(max(-low, high), rel=WITHIN), name
        low, high = onnxruntime_range(collector("percentile", False, 8192, percent=percent), values)
        found = percentile(one, percent, symmetric=False)
        scale = parameters(found, symmetric=False).scale[0]
        assert scale == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=WITHIN), name


@pytest.mark.parametrize("levels", [128, 256])
def test_entropy_onnxruntime_agrees_with_onnxruntime(activations, levels):
    """With as many bins, ending at the same value: of several minima of the divergence, it decides which is the lowest.

    tests/quantize/test_resnet50.py compares without that help, with 4 096 bins.
    """
    for name in ("conv_out", "block1.relu2_out", "student", "relu of gauss"):
        values = activations[name] / np.abs(activations[name]).max() * np.float32(0.99999)
        one = histogram(values, bins=1024)
        used = int(np.ceil(float(one.largest[0]) / one.widths[0]))
        low, high = onnxruntime_range(collector("entropy", False, 2 * used, levels), values)
        found = entropy_onnxruntime(one, levels, symmetric=False)
        assert found.amax[0] == pytest.approx(max(-low, high), rel=WITHIN), name


class Reader(CalibrationDataReader):
    def __init__(self, batches):
        self.batches = iter(batches)

    def get_next(self):
        return next(self.batches, None)


def test_min_max_agrees_with_onnxruntime_on_a_whole_network(tmp_path):
    net, x = zoo.residual_net(), zoo.images(24)
    path = tmp_path / "net.onnx"
    path.write_bytes(net.SerializeToString())
    tool = create_calibrator(
        path, augmented_model_path=str(tmp_path / "more.onnx"), calibrate_method=CalibrationMethod.MinMax
    )
    tool.collect_data(Reader({"image": x[i : i + 8]} for i in range(0, 24, 8)))
    theirs = {name: data.range_value for name, data in tool.compute_data().data.items()}
    ours = collect(path, x)
    assert set(theirs) == set(ours.tensors) and len(ours.tensors) == len(Network(net).activations())
    for name, (low, high) in theirs.items():
        found = min_max(ours[name], symmetric=False)
        np.testing.assert_allclose(
            [found.low[0], found.high[0]], [np.ravel(low)[0], np.ravel(high)[0]], rtol=1e-5, err_msg=name
        )


def test_onnxruntimes_default_entropy_is_min_max(activations):
    """128 bins for 128 levels leave one candidate, the whole range: a fact that the lesson tells."""
    values = activations["student"]
    low, high = onnxruntime_range(collector("entropy", False, 128, 128), values)
    assert max(-low, high) == np.abs(values).max()
    assert entropy(histogram(values)).amax[0] < 0.6 * np.abs(values).max()


def test_zeros_of_a_relu_collapse_onnxruntimes_entropy_and_not_ours():
    rng = np.random.default_rng(5)
    values = (np.maximum(rng.laplace(-1, 1, 200_000), 0)).astype(np.float32)
    assert (values == 0).mean() > 0.8
    positive, all_of = histogram(values[values > 0]), histogram(values)
    assert entropy_onnxruntime(all_of).amax[0] < 0.5 * entropy_onnxruntime(positive).amax[0]
    assert entropy(all_of).amax[0] == entropy(positive).amax[0], "zeros are exact in every scale: they must not count"


def slow_entropy(magnitudes: np.ndarray, levels: int, stride: int) -> int:
    """The talk's loop, bin by bin."""
    counts = magnitudes.astype(float)
    counts[0] = counts[1]
    used = int(np.flatnonzero(counts)[-1]) + 1
    best, found = np.inf, used
    for end in [*range(levels, used, stride), used]:
        reference = counts[:end].copy()
        reference[end - 1] += counts[end:].sum()
        candidate = np.zeros(end)
        for group in range(levels):
            here = range(group * end // levels, (group + 1) * end // levels)
            filled = [k for k in here if counts[k] > 0]
            for k in filled:
                candidate[k] = counts[list(here)].sum() / len(filled)
        p, q = reference / reference.sum(), candidate / candidate.sum()
        if any(q[k] == 0 < p[k] for k in range(end)):
            continue
        divergence = sum(p[k] * np.log(p[k] / q[k]) for k in range(end) if p[k] > 0)
        if divergence < best:
            best, found = divergence, end
    return found


@pytest.mark.parametrize("seed", range(4))
def test_entropy_is_the_talks_loop(seed):
    values = (np.random.default_rng(seed).standard_t(4, 4000)).astype(np.float32)
    one = histogram(values, bins=256)
    wanted = slow_entropy(one.magnitudes()[0], 16, 4) * one.widths[0]
    assert entropy(one, levels=16).amax[0] == pytest.approx(min(wanted, np.abs(values).max()), rel=1e-6)
    assert entropy(one, levels=16).amax[0] < np.abs(values).max(), "a case in which it clips"


@pytest.mark.parametrize("name", ["conv_out", "relu_out", "laplace", "student"])
def test_mse_finds_the_smallest_error_of_the_values_themselves(activations, name):
    """Against torch's fake quantisation of the raw values over a fine grid of limits."""
    values = np.ascontiguousarray(activations[name].ravel()[::5])
    x = torch.from_numpy(values)
    largest = float(x.abs().max())
    limits = largest * np.arange(50, 401, 2) / 400

    def error(limit: float) -> float:
        fake = torch.fake_quantize_per_tensor_affine(x, float(limit) / 127, 0, -127, 127)
        return float(((fake - x) ** 2).double().sum())

    best = limits[int(np.argmin([error(limit) for limit in limits]))]
    found = float(mse(histogram(values)).amax[0])
    assert error(found) <= 1.01 * error(best)
    assert found == pytest.approx(best, rel=WITHIN)


def test_asymmetric_mse_beats_the_symmetric_one_on_one_sided_values(activations):
    values = activations["relu of gauss"]
    one = histogram(values)

    def noise(symmetric: bool) -> float:
        return sqnr_db(values, fake_quantize(values, parameters(mse(one, symmetric=symmetric), symmetric)))

    assert noise(False) > noise(True) + 5.5, "a bit more: nothing is spent on negative numbers"
    best, shares = mse(one, symmetric=False), np.arange(1, 41) / 40
    for low, high in ((best.low[0], share * one.high[0]) for share in shares):
        other = Range(np.float32([low]), np.float32([high]))
        error = sqnr_db(values, fake_quantize(values, parameters(other, symmetric=False)))
        assert error <= noise(False) + 0.05


def test_every_method_for_each_channel():
    rng = np.random.default_rng(3)
    x = (rng.standard_t(3, (64, 4, 50)) * np.array([1, 10, 0.1, 0])[:, None]).astype(np.float32)
    whole = histogram(x, axis=1)
    for name in METHODS:
        found = method(name)(whole)
        for channel in range(3):
            assert found.amax[channel] == method(name)(histogram(x[:, channel])).amax[0], name
        assert found.amax[3] == 0
        made = parameters(found, axis=1)
        assert made.scale[3] == 1 and to_int8(x, made).shape == x.shape
        assert 10 < sqnr_db(x, fake_quantize(x, made)) < 60, name


def test_symmetric_and_asymmetric_arithmetic_by_hand():
    x = np.float32([-1, 0, 0.25, 3])
    symmetric = parameters(Range(np.float32([-1]), np.float32([3])))
    assert symmetric.scale[0] == pytest.approx(3 / 127) and symmetric.symmetric
    np.testing.assert_array_equal(to_int8(x, symmetric), [-42, 0, 11, 127])
    uneven = parameters(Range(np.float32([-1]), np.float32([3])), symmetric=False)
    assert uneven.scale[0] == pytest.approx(4 / 255) and uneven.zero_point[0] == -64 and not uneven.symmetric
    np.testing.assert_array_equal(to_int8(x, uneven), [-128, -64, -48, 127])
    assert dequantize(to_int8(np.float32([0]), uneven), uneven)[0] == 0, "zero is exact"
    above_zero = parameters(Range(np.float32([2]), np.float32([3])), symmetric=False)
    assert above_zero.zero_point[0] == -128 and above_zero.scale[0] == pytest.approx(3 / 255)


def test_quantised_values_are_those_of_onnxruntime():
    """The same as a file with these pairs computes, ties and clipping included."""
    import onnx
    from onnx import TensorProto, helper

    made = parameters(Range(np.float32([-1.27]), np.float32([1.27])))
    x = np.concatenate([np.arange(-3, 3, 0.005), [2.0, -2.0]]).astype(np.float32)
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])]
    constants = [onnx.numpy_helper.from_array(made.scale[0], "s"), onnx.numpy_helper.from_array(np.int8(0), "z")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [None])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    import onnxruntime

    theirs = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(to_int8(x, made), np.maximum(theirs, -127))


def test_sqnr_of_a_known_noise():
    exact = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    assert sqnr_db(exact, exact * 1.01) == pytest.approx(40, abs=1e-3)
    assert sqnr_db(exact, exact) == np.inf and sqnr_db(np.zeros(3), np.ones(3)) == -np.inf
    with pytest.raises(ShapeError, match="no SQNR"):
        sqnr_db(exact, exact[1:])


def test_wrong_requests_are_named():
    one = histogram(np.float32([1, 2]))
    with pytest.raises(CourseError, match="no calibration method 'kl'.*\n.*min-max, percentile, entropy"):
        method("kl")
    with pytest.raises(CourseError, match="has no setting percent"):
        method("entropy", percent=99)
    with pytest.raises(CourseError, match="no percentile 0"):
        percentile(one, 0)
    with pytest.raises(CourseError, match="has seen no value"):
        min_max(histogram(np.empty(0, np.float32)))
    with pytest.raises(ShapeError, match="No axis says"):
        parameters(Range(np.float32([-1, -1]), np.float32([1, 1])))
    with pytest.raises(CourseError, match="no scale for this range"):
        parameters(Range(np.float32([np.nan]), np.float32([1])))
    assert method("percentile", percent=99.9).name == "percentile percent=99.9"
    assert quantize is not to_int8
