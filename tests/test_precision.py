"""Formats and rounding against PyTorch's own types; errors of layers; the figures of the lesson."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from course.plot import precision as plot_precision
from course.precision import FORMATS, folded, layer_errors, number_in, relative, rounded
from tests.plot.test_plot import texts

DTYPES = {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}


@pytest.mark.parametrize("name", DTYPES)
def test_a_format_says_what_the_dtype_holds(name: str) -> None:
    format, info = FORMATS[name], torch.finfo(DTYPES[name])
    assert (format.largest, format.smallest_normal, format.step) == (info.max, info.smallest_normal, info.eps)
    to = number_in(DTYPES[name])
    assert to(format.smallest_subnormal) == format.smallest_subnormal and to(format.smallest_subnormal / 2) == 0
    assert format.bits == info.bits


def test_tf32_has_the_digits_of_fp16_and_the_range_of_fp32() -> None:
    x = torch.randn(10000, generator=torch.Generator().manual_seed(0))
    x = x[x.abs() > 2**-13]  # where FP16 has all its digits
    assert torch.equal(rounded(x, "TF32"), rounded(x, "FP16"))
    assert torch.equal(rounded(x * 2.0**100, "TF32"), rounded(x, "TF32") * 2.0**100)
    ties = torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11, 1.99999, 0.0, float("inf"), -float("inf")])
    assert torch.equal(rounded(ties, "TF32"), torch.tensor([1, 1 + 2**-9, -1, 2, 0, float("inf"), -float("inf")]))
    assert rounded(torch.tensor(float("nan")), "TF32").isnan()
    assert FORMATS["TF32"].bits == 19


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.again, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return self.head(self.again(self.relu(self.norm(self.conv(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(3)
    return Net().eval(), torch.randn(2, 3, 8, 8)


def test_folding_keeps_the_answers_and_the_original(net) -> None:
    model, x = net
    with torch.inference_mode():
        assert torch.allclose(folded(model)(x), model(x), atol=1e-5)
    assert isinstance(model.norm, nn.BatchNorm2d) and isinstance(folded(model).norm, nn.Identity)


@pytest.mark.parametrize("alone", [False, True])
def test_errors_of_layers_are_ordered_by_format_and_leave_the_model_alone(net, alone: bool) -> None:
    model, x = net
    before = {key: value.clone() for key, value in model.state_dict().items()}
    errors = {name: layer_errors(model, x, name, alone) for name in FORMATS}
    for found in errors.values():
        assert list(found) == ["conv", "again", "head"]
    assert set(errors["FP32"].values()) == {0.0}
    for layer in errors["FP16"]:
        assert 1e-4 < errors["FP16"][layer] < 3e-3
        assert 3 < errors["BF16"][layer] / errors["FP16"][layer] < 20
        assert errors["TF32"][layer] <= 1.5 * errors["FP16"][layer]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_first_layers_own_error_is_that_of_a_direct_calculation(net) -> None:
    model, x = net
    with torch.inference_mode():
        found = nn.functional.conv2d(x.half().float(), model.conv.weight.half().float(), model.conv.bias.half().float())
        wanted = relative(found.half().float(), model.conv(x))
    assert layer_errors(model, x, "FP16", alone=True)["conv"] == pytest.approx(wanted, rel=1e-5)


ERRORS = {
    name: {f"layer{i}": first / (1 + i) for i in range(54)}
    for name, first in (("TF32", 1e-3), ("FP16", 1.01e-3), ("BF16", 8e-3))
}
FIGURES = {
    "bits": plot_precision.bits,
    "ranges": plot_precision.ranges,
    "errors of layers": lambda: plot_precision.layer_errors(ERRORS),
    "errors of one format": lambda: plot_precision.layer_errors({"FP16": ERRORS["FP16"]}),
    "running sum": lambda: plot_precision.running_sum(
        np.full(5000, 0.5), {"FP16": np.minimum(np.arange(1, 5001) * 0.5, 2048), "FP32": np.arange(1, 5001) * 0.5}
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    boxes = list(texts(figure).items())
    assert boxes
    for index, (one, a) in enumerate(boxes):
        assert a[0] >= -1 and a[1] >= -1 and a[2] <= figure.bbox.width + 1 and a[3] <= figure.bbox.height + 1, one
        for other, b in boxes[index + 1 :]:
            assert a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1, (one, other)


def test_figures_say_bits_and_units() -> None:
    bits = " ".join(texts(plot_precision.bits()))
    assert all(text in bits for text in ("23 bits", "10 bits", "5 bits", "7 bits", "sign"))
    assert all(text in " ".join(texts(plot_precision.ranges())) for text in ("1/1024", "1/128", "relative step"))
