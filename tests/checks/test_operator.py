"""The operator's judge, its inputs, and the networks of one node that a GPU times."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from autograder.checks import plugin_gpu
from autograder.milestones.stage3 import MISH
from autograder.tasks.base import Seeds
from autograder.tasks.operator import wrong
from course.models.mish import Mish, mish

SEEDS = Seeds("public", "", "test")


def test_inputs_hold_what_kernels_get_wrong():
    drawn = MISH.draw(SEEDS, "a", 500)
    x = drawn.x
    assert np.isnan(x).sum() == 1 and np.isposinf(x).sum() == 1 and not np.isneginf(x).any()
    assert (x == 0).sum() == 2 and np.signbit(x[x == 0]).sum() == 1
    with np.errstate(all="ignore"):
        tiny = np.abs(x) < np.finfo(np.float32).tiny
    assert (tiny & (x != 0)).sum() == 1
    assert 0.5 <= drawn.attributes["beta"] <= 2
    assert not np.array_equal(x, MISH.draw(SEEDS, "b", 500).x, equal_nan=True)
    assert np.array_equal(drawn.random().random(3), drawn.random().random(3))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_references_own_answer_is_right_and_near_ones_are_not(dtype):
    drawn = MISH.draw(SEEDS, "near", 1000)
    with np.errstate(all="ignore"):
        x = drawn.x.astype(dtype)
        wanted = MISH.answers(x, **drawn.attributes)
        good = wanted.astype(dtype)
    assert wrong(good, wanted, x) == ""
    for change in (np.nan, np.inf, -np.inf, 1.0):
        bad = good.copy()
        place = int(np.flatnonzero(np.abs(x - 2) < 0.5)[0])
        bad[place] = change
        assert f"Element {place}" in wrong(bad, wanted, x), change
    bad = good.copy()
    bad[np.isnan(wanted)] = 0
    assert "nan" in wrong(bad, wanted, x)
    assert wrong(good * dtype(1.01), wanted, x)
    assert "shape" in wrong(good[:-1], wanted, x)
    assert "nothing was written" in wrong(
        np.full(len(x), -1, np.int32 if dtype is np.float32 else np.int16).view(dtype), wanted, x
    )


def test_the_reference_is_pytorchs():
    import torch

    x = np.linspace(-30, 30, 500)
    ours = mish(x, 1.0)
    assert np.allclose(ours, torch.nn.functional.mish(torch.from_numpy(x)).numpy(), atol=1e-12)
    assert np.allclose(mish(x, 1.5), Mish(1.5)(torch.from_numpy(x)).numpy(), atol=1e-12)
    assert mish(np.array([np.inf, 1e300]), 2.0).tolist() == [np.inf, 1e300]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("how", ["standard", "unfused"])
def test_a_network_of_standard_operators_is_the_operator(how, half):
    data = plugin_gpu.network(MISH, {"beta": 1.25}, half, how)
    model = onnx.load_model_from_string(data)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Softplus", "Tanh", "Mul"]
    assert len(model.graph.output) == (4 if how == "unfused" else 1)
    x = np.linspace(-5, 5, 33).astype(np.float16 if half else np.float32)
    (y,) = onnxruntime.InferenceSession(data).run(["y"], {"x": x})
    assert np.allclose(y, mish(x.astype(np.float64), 1.25), atol=4e-3 if half else 1e-6)


def test_a_network_of_one_node_names_the_plugin():
    (node,) = onnx.load_model_from_string(plugin_gpu.network(MISH, {"beta": 1.25}, True, "plugin")).graph.node
    found = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    assert (node.op_type, node.domain) == ("CourseMish", "course")
    assert found == {"beta": 1.25, "plugin_version": b"1"}
