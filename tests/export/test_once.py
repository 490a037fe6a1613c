"""An export that is made once: the next one of the same network is a copy, of any other network it is not."""

from __future__ import annotations

import dataclasses
import importlib
import sys

import pytest
import torch

from course.export import export, once
from course.models import resnet50, yolo

CODE = """
import torch

def scaled(x):
    return x * FACTOR

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(4, 3)
        self.shift, self.table, self.way = 0.0, torch.arange(2000.0), {"of": [1, (2, None)]}
        self.register_buffer("offset", torch.zeros(3), persistent=False)

    def forward(self, x):
        return scaled(self.layer(x)) + self.shift + self.offset + self.table[1000] + self.way["of"][0]
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "cache" / "onnx"


def network(folder, factor=2.0):
    (folder / "some_network.py").write_text(CODE.replace("FACTOR", str(factor)))
    sys.modules.pop("some_network", None)
    importlib.invalidate_caches()
    return importlib.import_module("some_network").Net().eval()


def write(model, path, width=2, **settings):
    settings = {"dynamic": {"x": {0: "batch"}}, "target": "8.6", "once": True, **settings}
    return export(model, (torch.ones(width, 4),), path, input_names=["x"], output_names=["y"], **settings)


def test_the_second_is_a_copy(tmp_path, cache):
    first = write(network(tmp_path), tmp_path / "first.onnx")
    second = write(network(tmp_path), tmp_path / "second.onnx")
    assert not first.cached and second.cached and "exported before" in str(second)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    assert second.seconds < first.seconds
    own = {"path", "seconds", "cached"}
    one, two = ({key: value for key, value in vars(each).items() if key not in own} for each in (first, second))
    assert one == two and second.path == tmp_path / "second.onnx"
    assert set(vars(first)) == {field.name for field in dataclasses.fields(first)}
    assert not write(network(tmp_path), tmp_path / "third.onnx", once=False).cached
    assert len(list(cache.glob("*.onnx"))) == 1


@pytest.mark.parametrize(
    "what",
    [
        "weights",
        "attribute",
        "tensor that is no buffer",
        "attribute inside",
        "buffer that is not saved",
        "code",
        "code beside it",
        "shape",
        "axes",
        "target",
        "names of outputs",
        "simplification",
        "course",
        "package",
    ],
)
def test_another_one_is_exported(what, tmp_path, monkeypatch):
    write(network(tmp_path), tmp_path / "first.onnx")
    model, settings = network(tmp_path), {}
    if what == "weights":
        model.layer.bias.data[1] += 1
    elif what == "attribute":
        model.shift = 1.0
    elif what == "tensor that is no buffer":
        model.table[1000] = 7.0  # in the middle, which repr leaves out
    elif what == "attribute inside":
        model.way["of"][0] = 2
    elif what == "buffer that is not saved":
        model.offset[1] = 1.0
    elif what == "code":
        model = network(tmp_path, factor=3.0)
    elif what == "code beside it":
        (tmp_path / "beside.py").write_text("")
    elif what == "shape":
        settings = {"width": 3}
    elif what == "axes":
        settings = {"dynamic": None}
    elif what == "target":
        settings = {"target": "10"}
    elif what == "names of outputs":
        done = export(
            model,
            (torch.ones(2, 4),),
            tmp_path / "named.onnx",
            input_names=["x"],
            output_names=["z"],
            dynamic={"x": {0: "batch"}},
            target="8.6",
            once=True,
        )
        assert not done.cached
        return
    elif what == "simplification":
        settings = {"simplify": False}
    elif what == "course":
        copied = tmp_path / "export"
        copied.mkdir()
        (copied / "once.py").write_text("# another version\n")
        monkeypatch.setattr(once, "__file__", str(copied / "once.py"))
    else:
        real = once._version
        monkeypatch.setattr(once, "_version", lambda name: "9" if name == "torch" else real(name))
    assert not write(model, tmp_path / "second.onnx", **settings).cached


@pytest.mark.parametrize("ending", ["onnx", "json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"sha256": 1}'])
def test_a_damaged_one_is_exported_again(ending, damage, tmp_path, cache):
    good = write(network(tmp_path), tmp_path / "first.onnx")
    (kept,) = cache.glob(f"*.{ending}")
    kept.write_bytes(damage)
    again = write(network(tmp_path), tmp_path / "second.onnx")
    assert not again.cached and again.sha256 == good.sha256
    assert write(network(tmp_path), tmp_path / "third.onnx").cached


def test_a_network_of_a_notebook_is_exported_each_time(tmp_path):
    names = {"__name__": "__main__"}
    exec(CODE.replace("FACTOR", "2"), names)
    assert not write(names["Net"]().eval(), tmp_path / "first.onnx").cached
    assert not write(names["Net"]().eval(), tmp_path / "second.onnx").cached


@pytest.mark.parametrize("what", ["hook", "function"])
def test_what_cannot_be_compared_is_exported_each_time(what, tmp_path):
    for name in ("first", "second"):
        model = network(tmp_path)
        if what == "hook":
            model.layer.register_forward_hook(lambda module, inputs, answer: answer + 1)
        else:
            model.then = lambda x: x
        assert not write(model, tmp_path / f"{name}.onnx").cached


def test_the_courses_networks_are_kept_and_told_apart(tmp_path):
    places = [
        once.place(model, (torch.ones(2, 3, 64, 64),), "same")
        for model in (resnet50(), resnet50(), yolo(), yolo(decode=False), torch.nn.Sequential(resnet50().conv1))
    ]
    assert None not in places and places[0] == places[1] and len(set(places)) == 4


def test_where_nothing_can_be_kept_it_is_exported(tmp_path, monkeypatch, cache):
    cache.parent.mkdir()
    cache.write_text("a file where the folder would be")
    assert not write(network(tmp_path), tmp_path / "first.onnx").cached
    assert (tmp_path / "first.onnx").stat().st_size > 0
