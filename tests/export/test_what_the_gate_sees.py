"""The gate of course.export looks everywhere: each model here was once written wrongly, or refused, without a word."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course.errors import CourseError, DtypeError, ParityError
from course.export import check_parity, export
from course.export.compare import difference
from course.export.exporters import Job
from course.export.parity import OnnxRunner, run_torch, telling_line
from course.export.probes import variations
from course.export.verify import Trial, _stable, verify

torch.set_num_threads(2)


def write(forward, args, path, *, exporter="torchscript", outputs=("y",), target="10", dynamic=None, module=None):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = module

        def forward(self, *inputs):
            return forward(*inputs) if module is None else forward(self.part, *inputs)

    torch.manual_seed(0)
    names = [f"x{i}" for i in range(len(args))]
    dynamic = {name: {0: "batch"} for name in names} if dynamic is None else dynamic
    net = Net().eval()
    done = export(
        net,
        args,
        path,
        input_names=names,
        output_names=list(outputs),
        dynamic=dynamic,
        exporter=exporter,
        target=target,
    )
    return net, done


def refused(*args, **options) -> CourseError:
    with pytest.raises(CourseError) as caught:
        write(*args, **options)
    return caught.value


# ------------------------------------------------------------------ values taken out of the data


TOKENS = torch.tensor([[3, 4, 5, 0, 0], [3, 4, 0, 0, 0]])
IMAGE = torch.rand((2, 3, 8, 8), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "forward, args",
    [
        (lambda t: t[:, : int((t != 0).sum(1).max())].float() * 2, (TOKENS,)),  # the longest text
        (lambda t: t.float() * int(t.max()), (TOKENS,)),
        (lambda t: t.float() + int(t.sum()), (TOKENS,)),
        (lambda t: t.float() - t.float().mean().item(), (TOKENS,)),
        (lambda x, n: x[:, : int(n.max())], (torch.rand(2, 6), torch.tensor([4, 3]))),  # lengths beside the data
        (lambda x, n: x[:, : int(n[0])], (torch.rand(2, 6), torch.tensor([4, 4]))),  # all the same: no range
        (lambda x, m: x * int(m.sum()), (torch.rand(2, 6), torch.ones(2, 6, dtype=torch.bool))),
        (lambda x, m: x / int(m[0].sum()), (torch.rand(2, 6), torch.tensor([[True, False] * 3, [True] * 6]))),
        (lambda x: x.float() / float(x.max()), (torch.arange(32, dtype=torch.uint8).reshape(2, 16),)),
        (lambda x: x * int((x > 0).sum()), (torch.randn((2, 8), generator=torch.Generator().manual_seed(1)),)),
        (lambda x: x + x.max().item(), (IMAGE,)),
        (lambda x: x + float(x.sum()), (torch.zeros(2, 4),)),  # scaling leaves zeros as they are
        (lambda x: x - np.float32(x.detach().numpy().mean()), (IMAGE,)),  # by way of NumPy
        (lambda x: x * torch.tensor(x.std().item()), (IMAGE,)),
    ],
    ids=lambda value: None if callable(value) else "",
)
def test_a_value_that_python_takes_out_of_an_input_is_refused(tmp_path, forward, args):
    error = refused(forward, args, tmp_path / "n.onnx")
    assert "built in" in error.what or "has no input" in error.what
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["8.6", "10"])
def test_a_length_out_of_the_tokens_is_refused_by_auto_too(tmp_path, target):
    table = nn.Embedding(20, 8)
    error = refused(
        lambda table, t: table(t)[:, : int((t != 0).sum(1).max())].mean(1),
        (TOKENS,),
        tmp_path / "n.onnx",
        module=table,
        exporter="auto",
        target=target,
    )
    assert "built in" in error.what or "depends on the data" in error.what


@pytest.mark.parametrize(
    "forward, args",
    [
        (lambda t: F.one_hot(t, 8).float().sum(1), (TOKENS,)),
        (lambda t: (t != 0).sum(1), (TOKENS,)),
        (lambda x, m: (x * m).sum(1) / m.sum(1), (torch.rand(2, 6), torch.ones(2, 6, dtype=torch.bool))),
        (lambda x, m: x.masked_fill(~m, float("-inf")), (torch.rand(2, 6), torch.tensor([[True, False] * 3] * 2))),
        (lambda x, i: x.gather(1, i), (torch.rand(2, 6), torch.tensor([[0, 5], [2, 2]]))),
        (lambda x: (x.float() / 255).mean((2, 3)), (torch.full((2, 3, 8, 8), 7, dtype=torch.uint8),)),
        (lambda x: x.sqrt().log(), (IMAGE,)),
        (lambda x: x.argmax(1), (IMAGE,)),
        (lambda x: x > 0.3, (IMAGE,)),
    ],
    ids=lambda value: None if callable(value) else "",
)
def test_what_is_right_passes(tmp_path, forward, args):
    net, done = write(forward, args, tmp_path / "n.onnx")
    assert check_parity(net, tmp_path / "n.onnx", {f"x{i}": arg for i, arg in enumerate(args)}).samples == 2
    assert done.notes == ()


def test_an_index_outside_its_table_is_not_tried(tmp_path):
    table = nn.Embedding(6, 4)  # 5 is its last row, and the largest of the example
    write(lambda table, t: table(t), (torch.full((2, 3), 5),), tmp_path / "n.onnx", module=table)
    assert (tmp_path / "n.onnx").exists()


# ------------------------------------------------------------------ outputs of every kind


@pytest.mark.parametrize("exporter", ["torchscript", "auto"])
def test_integers_are_compared(tmp_path, exporter):
    bins = torch.arange(12).reshape(2, 6)
    try:
        write(lambda i: (i - 5) // 3, (bins,), tmp_path / "n.onnx", exporter=exporter, target="8.6")
    except CourseError as error:
        assert "values wrong" in error.cause and "towards zero" in error.cause and "torch.floor" in error.next_step
    else:  # an exporter that floors wrote it right
        lower = np.arange(-7, 5).reshape(2, 6)
        assert (OnnxRunner(tmp_path / "n.onnx").run({"x0": lower})["y"] == (lower - 5) // 3).all()


def test_a_size_that_is_divided_is_not_taken_for_the_mistake(tmp_path):
    """x.shape[1] // 2 divides integers rightly; what is wrong is the number that Python took out of x."""
    axes = {"x0": {0: "batch", 1: "n"}}
    counts = lambda x: (x[:, : x.shape[1] // 2] / x.max().item() * 50).int()  # noqa: E731
    error = refused(counts, (torch.rand(2, 6),), tmp_path / "n.onnx", dynamic=axes)
    assert "built in" in error.what and "values wrong" in error.cause and "towards zero" not in error.cause


def test_a_class_map_of_a_built_in_scale_is_refused(tmp_path):
    conv = nn.Conv2d(3, 4, 3, padding=1)
    error = refused(
        lambda conv, x: conv(x / x.max().item() * 4 - 2).argmax(1), (IMAGE,), tmp_path / "n.onnx", module=conv
    )
    assert "values wrong" in error.cause and "instead of" in error.cause


@pytest.mark.parametrize(
    "wanted, change, wrong",
    [
        (np.arange(6), lambda y: y, False),
        (np.arange(6), lambda y: np.where(y == 2, 7, y), True),
        (np.arange(4000), lambda y: np.where(y == 2, 7, y), False),  # a tie of an argmax
        (np.arange(6), lambda y: y.astype(np.float32), True),
        (np.arange(6, dtype=np.int64), lambda y: y.astype(np.int32), False),
        (np.array([True, False]), lambda y: ~y, True),
        (np.array([True, False]), lambda y: y.astype(np.int64), True),
        (np.float32([1, np.nan, 3]), lambda y: y, False),
        (np.float32([1, np.nan, 3]), lambda y: np.float32([1, 2, 3]), True),
        (np.float32([1, 2, 3]), lambda y: np.float32([1, np.nan, 3]), True),
        (np.float32([1, -np.inf]), lambda y: y, False),
        (np.float32([1, -np.inf]), lambda y: -y, True),
        (np.float32([1, np.inf]), lambda y: np.float32([9, np.inf]), True),  # the finite ones beside an infinity
        (np.float32([[640, 0.9], [320, 0.1]]), lambda y: y + np.float32([0, 0.3]), True),  # a score beside pixels
        (np.float32([[640, 0.9], [320, 0.1]]), lambda y: y + np.float32([3, 0]), False),
        (np.float32([[640, 320], [0.9, 0.1]]), lambda y: y + np.float32([[0], [0.3]]), True),  # on the other axis
        (np.float32([5, 4, 1e-7]), lambda y: y + np.float32([0, 0, 1e-6]), False),  # rounding near 0
        (np.complex64([1 + 2j]), lambda y: y.conj(), True),
        (np.float32([]), lambda y: y, False),
        (np.float32(3.0), lambda y: np.float32(4.0), True),
    ],
)
def test_each_output_is_compared_in_its_own_scale(wanted, change, wrong):
    assert bool(difference(np.asarray(change(wanted)), np.asarray(wanted))) == wrong


def test_scores_beside_pixels_are_compared_by_export(tmp_path):
    def decode(x):  # boxes up to 640 and scores in one tensor, as a YOLO gives them
        return torch.cat([x[:, :4] * 640, (x[:, 4:] / x[:, 4:].max().item()).clamp(0, 1)], 1)

    error = refused(decode, (torch.rand((2, 6, 9), generator=torch.Generator().manual_seed(2)),), tmp_path / "n.onnx")
    assert "is off by" in error.cause and "exporter warned" in error.cause


# ------------------------------------------------------------------ names, warnings, random layers


def test_an_input_that_the_file_lacks_is_named(tmp_path):
    error = refused(lambda x, unused: x * 2, (IMAGE, torch.rand(2, 3)), tmp_path / "n.onnx")
    assert "no input 'x1'" in error.what and "does not use it" in error.cause


def test_what_the_tracer_warned_of_stands_in_the_notes(tmp_path):
    def fixed_table(x):
        return x + torch.tensor(np.asarray(x.new_ones(1)))  # right, but by way of NumPy

    _, done = write(fixed_table, (IMAGE,), tmp_path / "n.onnx")
    assert any("torchscript exporter warned" in note and "test_what_the_gate_sees.py" in note for note in done.notes)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: F.dropout(x, 0.5),
        lambda x: F.dropout2d(x, 0.5),
        lambda x: x + torch.rand_like(x),
        lambda x: x[torch.randperm(x.shape[0])] * torch.rand(1),
        lambda x: torch.bernoulli(x),
    ],
)
def test_a_model_that_answers_at_random_is_called_random(tmp_path, forward):
    error = refused(forward, (IMAGE,), tmp_path / "n.onnx", exporter="auto")
    assert "at random" in error.what and "two answers for one input" in error.cause and "training" in error.next_step


def test_a_complex_buffer_is_written_or_the_way_out_helps(tmp_path):
    turns = nn.Module()
    turns.register_buffer("turns", torch.polar(torch.ones(16, 4), torch.outer(torch.arange(16.0), torch.rand(4))))

    def rope(part, x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())
        return torch.view_as_real(pairs * part.turns[: x.shape[1]]).flatten(2)

    x = torch.rand(2, 10, 8)
    net, done = write(rope, (x,), tmp_path / "n.onnx", module=turns, exporter="auto")
    assert done.exporter == "dynamo" and check_parity(net, tmp_path / "n.onnx", {"x0": x}).max_abs < 1e-5
    error = refused(rope, (x,), tmp_path / "m.onnx", module=turns, exporter="torchscript")
    assert "two float32 buffers" in error.next_step and "model.float()" not in error.next_step


def test_a_complex_input_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(DtypeError, match="view_as_real"):
        write(lambda x: x.real, (torch.ones(2, 3, dtype=torch.complex64),), tmp_path / "n.onnx")


def test_adaptive_pooling_of_an_open_size_says_what_to_fix(tmp_path):
    open_sizes = {"x0": {0: "b", 2: "h", 3: "w"}}
    x = torch.rand(2, 3, 12, 12)
    error = refused(
        lambda x: F.adaptive_avg_pool2d(x, (3, 3)), (x,), tmp_path / "n.onnx", exporter="auto", dynamic=open_sizes
    )
    assert "pool" in str(error) and "fix" in error.next_step


def test_when_both_exporters_failed_neither_is_advised(tmp_path):
    error = refused(
        lambda p, x: p(x).flatten(1), (IMAGE,), tmp_path / "n.onnx", module=nn.AdaptiveMaxPool2d(3), exporter="auto"
    )
    assert "exporter=" not in error.next_step and "adaptive_max_pool2d" in str(error)


# ------------------------------------------------------------------ check_parity ends in a CourseError


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    path = tmp_path_factory.mktemp("parity") / "n.onnx"
    return write(lambda x: x * 2, (torch.rand(2, 3),), path)[0], path


def test_the_line_with_the_numbers_is_shown(doubled):
    model, path = doubled
    with pytest.raises(CourseError, match="Got: 4 Expected: 3"):
        check_parity(model, path, {"x0": np.zeros((2, 4), np.float32)})


@pytest.mark.parametrize("bad", [[1, 2], ["x0"], [None], [{"x0": object()}], {"x0": np.array(["a"])}, [{}]])
def test_inputs_of_any_kind_end_in_a_course_error(doubled, bad):
    with pytest.raises(CourseError):
        check_parity(doubled[0], doubled[1], bad)


class Answers:
    def __init__(self, answer):
        self.answer = answer

    def run(self, feeds):
        return self.answer(feeds) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [1, 2],
        lambda feeds: 1 / 0,
        lambda feeds: {}["gone"],
        lambda feeds: {"y": object()},
        lambda feeds: {"y": np.array(["a", "b"])},
    ],
)
def test_a_converted_model_of_any_kind_ends_in_a_parity_error(doubled, answer):
    with pytest.raises(ParityError):
        check_parity(doubled[0], Answers(answer), {"x0": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(
    "problem", [KeyError("gone"), IndexError("out"), TypeError("no"), ValueError("bad"), OSError(5)]
)
def test_a_model_that_fails_in_any_way_ends_in_a_course_error(doubled, problem):
    class Fails(nn.Module):
        def forward(self, x):
            raise problem

    with pytest.raises(CourseError, match=type(problem).__name__):
        check_parity(Fails().eval(), doubled[1], {"x0": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("Got invalid dimensions\n index: 0 Got: 1 Expected: 2\n Please fix either the inputs/outputs or the model.",
         "index: 0 Got: 1 Expected: 2"),
        ("mat1 and mat2 shapes cannot be multiplied (2x4 and 3x5)", "(2x4 and 3x5)"),
        ("something\nis wrong", "is wrong"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_the_telling_line_holds_the_numbers(text, wanted):
    assert wanted in telling_line(RuntimeError(text))


# ------------------------------------------------------------------ other values


def test_variations_stay_in_the_range_of_the_example():
    feeds = {
        "tokens": TOKENS.numpy(),
        "mask": np.array([[True, False, True], [False, True, False]]),
        "boxes": np.float32([[0, 1, 2, 8, 9], [0, 3, 4, 6, 7]]),
    }
    seen = list(variations(feeds, np.random.default_rng(0)))
    assert len(seen) >= 4
    for varied in seen:
        assert varied["tokens"].min() >= 0 and varied["tokens"].max() <= 5 and varied["tokens"].dtype == np.int64
        assert varied["mask"].any(-1).all()
        assert (varied["boxes"][:, 0] == 0).all()  # a column of indices stays one
    assert any((varied["tokens"] == 5).all() for varied in seen) and any(
        (varied["tokens"] == 0).all() for varied in seen
    )


def test_nothing_to_vary_makes_no_variation():
    assert not list(variations({"x": np.float32(2.0)}, np.random.default_rng(0)))


class Threshold(torch.nn.Module):
    def forward(self, x):
        return (x > 1).float() * 100


@pytest.mark.parametrize("value, stable", [(1.0, False), (2.0, True)])
def test_a_trial_that_hangs_on_a_rounding_error_is_known(value, stable):
    x = np.full((1, 8), value, np.float32)
    trial = Trial({}, {"x": x}, run_torch(Threshold(), [x]))
    assert _stable(Threshold(), trial, np.random.default_rng(0)) is stable


class OfRounding:
    """As ONNX Runtime with other rounding: takes 1 for more than 1. always: is wrong everywhere."""

    inputs = ("x",)

    def __init__(self, always):
        self.always, self.asked = always, 0

    def run(self, feeds):
        self.asked += 1
        x = feeds["x"]
        return {"y": ((x > 1) ^ ((x == 1) | self.always)).astype(np.float32) * 100}


@pytest.mark.parametrize(
    "value, always, asked, refused",
    [
        (1.0, False, 2, False),  # hangs on rounding: other values are drawn, and decide
        (1.0, True, None, True),  # so a file that is wrong does not get away with it
        (2.0, True, 1, True),  # nor is anything drawn anew where PyTorch is sure
    ],
)
def test_where_rounding_decides_other_values_do(monkeypatch, value, always, asked, refused):
    x = np.full((1, 8), value, np.float32)
    runner = OfRounding(always)
    monkeypatch.setitem(
        verify.__globals__, "OnnxRunner", lambda final: runner
    )  # the package has a function of this name
    names = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 8]) for name in "xy"]
    file = onnx.helper.make_model(onnx.helper.make_graph([], "g", names[:1], names[1:]))
    job = Job(Threshold(), (torch.from_numpy(x),), ["x"], ["y"], {"x": {}}, {"y": {}}, 17)
    trial = Trial({}, {"x": x}, run_torch(Threshold(), [x]))
    if refused:
        with pytest.raises(CourseError, match="built in"):
            verify(file, file, job, [trial])
    else:
        verify(file, file, job, [trial])
    assert asked in (None, runner.asked)
