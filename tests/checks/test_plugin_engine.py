"""The judge's side of a plugin in an engine: stand-ins for TensorRT's two processes, right ones and wrong ones."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from autograder.checks import custom_nodes, plugin_gpu
from autograder.checks.plugin_engine import PluginEngine
from autograder.milestones.stage3 import MISH, NODES, SAMPLE
from autograder.rejected import Rejected
from autograder.tasks.base import Seeds


class FakeTensorRT:
    """build, plan, open and run of plugin_gpu_inside, computed by the reference. change(key, outputs) may spoil them."""

    def __init__(self, change, layers: int):
        self.change, self.layers, self.built = change, layers, {}

    def ask(self, command: str, arrays=(), **head):
        key = head["key"]
        if command == "build":  # by the grader
            self.built[key] = arrays[0].tobytes()
        elif command == "plan":
            return {}, [np.frombuffer(self.built[key], np.uint8)]
        elif command == "open":
            self.built[key] = arrays[0].tobytes()
            return {
                "layers": [{"name": "n", "kind": "PluginV2"}] * self.layers + [{"name": "c", "kind": "CaskConvolution"}]
            }, []
        elif command == "run":
            (x,) = arrays
            if key.startswith("network"):
                made = custom_nodes.model_of(MISH)(x)
            else:
                (node,) = onnx.load_model_from_string(self.built[key]).graph.node
                beta = next(onnx.helper.get_attribute_value(one) for one in node.attribute if one.name == "beta")
                made = MISH.answers(x, beta=beta).astype(x.dtype)
            return {}, [self.change(key, made)]
        return {}, []

    def close(self) -> None: ...


class FakeScript:
    """build of plugin_build_inside. answers(fp16): (what it says, the plan, if any)."""

    def __init__(self, answers):
        self.answers = answers

    def ask(self, command: str, arrays=(), **head):
        if command == "build":
            said, plan = self.answers(head["fp16"])
            return {"raised": said, "plan": len(plan)}, [np.frombuffer(plan, np.uint8)] * bool(plan)
        return {}, []

    def close(self) -> None: ...


def measured(
    monkeypatch,
    tmp_path,
    change=lambda key, y: y,
    layers: int = NODES,
    taken: tuple[str, ...] = ("n.onnx", "build.py"),
    answers=lambda fp16: ("", b"a plan"),
):
    (tmp_path / "n.onnx").write_bytes(b"a network")
    monkeypatch.setattr(plugin_gpu, "library", lambda at: np.zeros(1, np.uint8))
    monkeypatch.setattr(plugin_gpu, "box", lambda at, plugin: FakeTensorRT(change, layers))
    made = SimpleNamespace(path=tmp_path / "n.onnx")
    at = SimpleNamespace(
        task=MISH,
        path="m3a",
        taken=dict.fromkeys(taken, made),
        box=lambda path, **options: FakeScript(answers),
        limits_s={"run": 1, "build": 1},
        draw=lambda purpose, count: MISH.draw(Seeds("public", "", "t"), purpose, count),
        step=lambda text: contextlib.nullcontext(),
    )
    return PluginEngine("n.onnx", "build.py", nodes=NODES, sample=SAMPLE).measure(at)


def test_right_in_both_types(monkeypatch, tmp_path):
    share, words, message, values = measured(monkeypatch, tmp_path)
    assert (share, message) == (1, "") and "FP32 and FP16 right" in words
    assert values["FP16"]["plugin_layers"] == NODES


@pytest.mark.parametrize(
    ("change", "share", "says"),
    [
        (lambda key, y: y * 1.1 if key == "network FP16" else y, 0.5, "FP16: the network"),
        (lambda key, y: np.full_like(y, np.nan), 0, "the network"),
        (lambda key, y: np.nan_to_num(y, posinf=0) if key == "node FP32" else y, 0.5, "FP32: one node, 4099 elements"),
        (lambda key, y: np.append(y[:-1], y.dtype.type(7)) if key.startswith("node") else y, 0, "one node, 1 elements"),
        (lambda key, y: y[:1], 0, "shape"),
    ],
    ids=["half-network", "nan", "infinity", "last-element", "shape"],
)
def test_what_is_wrong_is_named(monkeypatch, tmp_path, change, share, says):
    found, _, message, _ = measured(monkeypatch, tmp_path, change)
    assert found == share and says in message, message


def test_a_plugin_that_is_not_in_the_engine(monkeypatch, tmp_path):
    share, _, message, _ = measured(monkeypatch, tmp_path, layers=NODES - 1)
    assert share == 0 and f"{NODES - 1} of {NODES} nodes are the plugin's" in message


@pytest.mark.parametrize("missing", ["n.onnx", "build.py"])
def test_without_the_network_or_the_script(monkeypatch, tmp_path, missing):
    with pytest.raises(Rejected, match=f"{missing} is missing"):
        measured(monkeypatch, tmp_path, taken=tuple({"n.onnx", "build.py"} - {missing}))


@pytest.mark.parametrize(
    ("answers", "share", "says"),
    [
        (
            lambda fp16: ("RuntimeError: nothing was built", b"") if fp16 else ("", b"a plan"),
            0.5,
            "FP16: Your build script failed",
        ),
        (lambda fp16: ("", b""), 0, "wrote no plan"),
        (lambda fp16: ("RuntimeError", b"a plan"), 0, "RuntimeError"),
    ],
    ids=["not-in-half", "no-plan", "plan-and-error"],
)
def test_what_the_script_does_not_build_is_named(monkeypatch, tmp_path, answers, share, says):
    found, _, message, _ = measured(monkeypatch, tmp_path, answers=answers)
    assert found == share and says in message, message
