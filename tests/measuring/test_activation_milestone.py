"""Milestone 3a: its reference gets all that a CPU can give, the released files nothing; networks with nodes that are wrong."""

from __future__ import annotations

import dataclasses
import functools
import io
import shutil

import onnx
import pytest
import torch
from onnx import helper

from autograder.measuring.measure import measure
from autograder.milestones.stage3 import ACTIVATION, NETWORK, PLUGIN
from course.models.mish import BETAS, mish_net, onnx_function
from course.paths import ROOT
from tools.gpu import grade

GRAPH_ONLY = dataclasses.replace(
    ACTIVATION,
    id="test.network",
    artifacts=tuple(one for one in ACTIVATION.artifacts if one.path == NETWORK),
    checks=tuple(check for check in ACTIVATION.checks if check.artifact == NETWORK),
)


@pytest.mark.slow
def test_the_reference_gets_full_marks(tmp_path):
    grade.make(ACTIVATION, tmp_path)
    report = measure(ACTIVATION, tmp_path, lane="cpu")
    assert (report.points, report.open_points) == (14, 6), report.text()


def test_the_released_files_get_nothing(tmp_path):
    shutil.copytree(ROOT / ACTIVATION.stage / PLUGIN, tmp_path / PLUGIN)
    report = measure(ACTIVATION, tmp_path, lane="cpu")
    assert report.points == 0 and report.status != "error", report.text()


@functools.cache
def exported() -> bytes:
    """The network as PyTorch writes it."""
    target = io.BytesIO()
    torch.onnx.export(
        mish_net(),
        (torch.zeros(2, 3, 64, 64),),
        target,
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    return target.getvalue()


def network(betas=BETAS, custom: int = 4) -> onnx.ModelProto:
    """The network; the first `custom` activations are the plugin's, with these betas."""
    model = onnx.load_model_from_string(exported())
    nodes = list(model.graph.node)
    for number, soft in enumerate([node for node in nodes if node.op_type == "Softplus"][:custom]):
        at = nodes.index(soft)
        scaled, tanh, product = nodes[at - 1], nodes[at + 1], nodes[at + 2]
        made = helper.make_node(
            "CourseMish",
            [scaled.input[0]],
            list(product.output),
            domain="course",
            beta=betas[number],
            plugin_version="1",
        )
        model.graph.node.insert(list(model.graph.node).index(product), made)
        for node in (scaled, soft, tanh, product):
            model.graph.node.remove(node)
    model.opset_import.append(helper.make_opsetid("course", 1))
    return model


def other_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    for node in model.graph.node:
        if node.op_type == "CourseMish":
            node.domain = "evil"
    model.opset_import.append(helper.make_opsetid("evil", 1))
    return model


def own_function(model: onnx.ModelProto) -> onnx.ModelProto:
    model.functions.append(onnx.FunctionProto.FromString(onnx_function()))
    return model


def strange_attribute(model: onnx.ModelProto) -> onnx.ModelProto:
    next(node for node in model.graph.node if node.op_type == "CourseMish").attribute.append(
        helper.make_attribute("gamma", 2.0)
    )
    return model


@pytest.mark.parametrize(
    ("make", "points", "says"),
    [
        (lambda: network(), 3, ""),
        (lambda: network(betas=(1.0, 1.0, 1.0, 1.0)), 0, "its own"),
        (lambda: network(betas=BETAS[::-1]), 0, "its own"),
        (lambda: network(custom=0), 0, "no node CourseMish"),
        (lambda: network(custom=2), 0.75, "2 Softplus"),
        (lambda: other_domain(network()), 0, "evil.CourseMish"),
        (lambda: own_function(network()), 0, "functions of its own"),
        (lambda: strange_attribute(network()), 0, "gamma"),
    ],
    ids=[
        "right",
        "one-beta",
        "betas-turned",
        "not-replaced",
        "half",
        "other-domain",
        "own-function",
        "strange-attribute",
    ],
)
def test_a_network_gets_what_it_must(make, points, says, tmp_path):
    (tmp_path / "artifacts").mkdir()
    onnx.save(make(), tmp_path / NETWORK)
    report = measure(GRAPH_ONLY, tmp_path, lane="cpu")
    assert report.problem == "" and report.points == points, report.text()
    words = " ".join(f"{report.reason} {report.checks[0].message}".split())
    assert says in words, report.text()
