"""Lesson 3.05, integration: a node out of PyTorch, graph surgery, a network by hand, and the library's entry point."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from course.errors import BuildError
from course.exercises import Wrong, exercise, reference
from course.exercises.stage3_plugins._graphs import NAMES, attributes, exported, judge_surgery, reshaped
from course.exercises.stage3_plugins._plugin import written
from course.native import fold
from course.native.fold import by_hand
from course.native.plugins import headers, session, sources
from course.native.plugins.compiler import compile_for_examination

if TYPE_CHECKING:
    import tensorrt

WINDOWS = ((3, 2, 1), (2, 2, 0))


@exercise(
    "integration-export",
    points=2,
    hints=(
        "What must forward do when nobody exports? And which sizes may the output's shape not hold as plain numbers?",
        'torch.onnx.is_in_onnx_export() tells. In an export return torch.onnx.ops.symbolic("course::CourseFold", (patches,), '
        "{…}, dtype=…, shape=…, version=1); else torch.nn.functional.fold(patches.flatten(2), size, …).",
        'n, c, h, w = patches.shape; size = ((h - 1) * s + k - 2 * p, (w - 1) * s + k - 2 * p); attributes {"kernel": k, '
        '"stride": s, "padding": p, "plugin_version": "1"}; shape=(n, c // k**2, *size); dtype=patches.dtype.',
    ),
)
def export_node(FoldNode: type):  # noqa: N803 - the notebook's name
    for kernel, stride, padding in WINDOWS:
        patches = torch.rand(2, 2 * kernel**2, 3, 4)
        wanted = torch.from_numpy(fold.fold(patches.numpy(), kernel, stride, padding))
        got = FoldNode(kernel, stride, padding)(patches)
        if got.shape != wanted.shape or not torch.allclose(got, wanted, atol=1e-5):
            raise Wrong(
                f"FoldNode({kernel}, {stride}, {padding}) does not compute the fold in PyTorch itself.",
                "symbolic() only writes a node; where nothing is exported it gives a tensor without values. Training and every "
                "comparison with the engine need the numbers.",
                "Return torch.nn.functional.fold(…) unless torch.onnx.is_in_onnx_export().",
            )
    model = exported(FoldNode(*WINDOWS[0]), (2, 18, 3, 4))
    nodes = [node for node in model.graph.node if node.domain]
    if len(nodes) != 1 or (nodes[0].domain, nodes[0].op_type) != ("course", "CourseFold"):
        raise Wrong(
            f"The exported graph holds {', '.join(f'{n.domain}::{n.op_type}' for n in model.graph.node) or 'no node'}.",
            "The parser looks for a plugin of the node's name.",
            'symbolic("course::CourseFold", …) writes it.',
            share=0.25,
        )
    shape = model.graph.output[0].type.tensor_type.shape.dim
    if not shape[0].dim_param:
        raise Wrong(
            f"The output's batch is written down as {shape[0].dim_value}, and the input's is open.",
            "The exporter cannot look into the node: what it knows of the output is the shape that you give.",
            "Take n from patches.shape.",
            share=0.5,
        )
    attributes(nodes[0], WINDOWS[0], 0.5)
    return "Right numbers in PyTorch, one node in the file, an open batch, and attributes that the creator reads."


class FoldNode(torch.nn.Module):
    """The course's answer: the fold in PyTorch, one node in an export."""

    def __init__(self, kernel, stride, padding):
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, patches: torch.Tensor):
        k, s, p = self.kernel, self.stride, self.padding
        n, c, h, w = patches.shape
        size = ((h - 1) * s + k - 2 * p, (w - 1) * s + k - 2 * p)
        if not torch.onnx.is_in_onnx_export():
            return torch.nn.functional.fold(patches.flatten(2), size, k, padding=p, stride=s)
        words = {"kernel": k, "stride": s, "padding": p, "plugin_version": "1"}
        shape = (n, c // k**2, *size)
        return torch.onnx.ops.symbolic(
            "course::CourseFold", (patches,), words, dtype=patches.dtype, shape=shape, version=1
        )


@reference("integration-export")
def _export_node():
    return FoldNode


@exercise(
    "integration-surgery",
    points=3,
    hints=(
        "What does Col2Im take that the plugin wants as it was before the Reshape? And where do its numbers stand?",
        "Block [k, k] is Col2Im's third input, an initializer; strides and pads are attributes. The new node reads the Reshape's "
        "input and writes Col2Im's output. Then the old nodes go, and the initializers that nobody reads, and the model says "
        "which version of the domain it uses.",
        'helper.make_node("CourseFold", [reshape.input[0]], [col2im.output[0]], domain="course", kernel=int(block[0]), '
        "stride=strides[0], padding=pads[0]); graph.node.insert(place, node); graph.node.remove(…) for both; "
        'model.opset_import.append(helper.make_opsetid("course", 1)).',
    ),
)
def surgery(with_node: Callable):
    for window in WINDOWS:
        given = reshaped(*window)
        kept = given.SerializeToString(deterministic=True)
        model = with_node(given)
        if not isinstance(model, onnx.ModelProto):
            raise Wrong(
                f"with_node returns a {type(model).__name__}.", "A ModelProto is expected.", "Return the model."
            )
        if given.SerializeToString(deterministic=True) != kept:
            raise Wrong(
                "The model that was passed in has changed.",
                "Whoever calls may need it again, as you do for the comparison.",
                "Work on a copy: onnx.ModelProto.FromString(model.SerializeToString()).",
            )
        judge_surgery(given, model, window)
    return f"One node in place of two, for {len(WINDOWS)} windows: same values, and the parser comes to the creator with them."


def with_fold_node(model: onnx.ModelProto) -> onnx.ModelProto:
    """The course's answer: one CourseFold in place of Reshape and Col2Im, in a copy."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    place, col2im = next((i, node) for i, node in enumerate(graph.node) if node.op_type == "Col2Im")
    reshape = next(node for node in graph.node if col2im.input[0] in node.output)
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    numbers = {one.name: one.ints for one in col2im.attribute}
    words = {
        "kernel": int(constants[col2im.input[2]][0]),
        "stride": numbers["strides"][0],
        "padding": numbers["pads"][0],
    }
    node = helper.make_node(
        "CourseFold", [reshape.input[0]], [col2im.output[0]], name=col2im.name, domain="course", **words
    )
    graph.node.insert(place, node)
    graph.node.remove(col2im)
    graph.node.remove(reshape)
    read = {name for one in graph.node for name in one.input}
    for one in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(one)
    model.opset_import.append(helper.make_opsetid("course", 1))
    return model


@reference("integration-surgery")
def _surgery():
    return with_fold_node


@exercise(
    "integration-by-hand",
    points=3,
    hints=(
        "Which three words find a creator? What does the registry return if it finds none, and which method has it in your version?",
        'find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator. A field: '
        'trt.PluginField("kernel", np.array([3], np.int32), trt.PluginFieldType.INT32).',
        'creator = find("CourseFold", "1", ""); if creator is None: raise RuntimeError(…); plugin = creator.create_plugin('
        '"fold", trt.PluginFieldCollection(fields)); layer = network.add_plugin_v2([patches], plugin); '
        "network.mark_output(layer.get_output(0)).",
    ),
)
def by_hand_network(add_fold: Callable):
    trt = _fields()
    for version, window in itertools.product((8, 10, 11), ((8, 4, 2), (3, 1, 0))):
        network, registry = by_hand.Network((-1, 2 * window[0] ** 2, 64, 64)), by_hand.Registry(version)
        try:
            add_fold(trt, registry, network, network.inputs[0], *window)
        except AttributeError as error:
            if "NoneType" in str(error):
                raise Wrong(
                    f"The registry was asked for {registry.asked[-1]}, and there is no such creator.",
                    "It answers None, without an error. CourseFold has version 1 and the empty namespace: the domain of an "
                    "ONNX node is not the plugin's namespace.",
                    'Ask for ("CourseFold", "1", "").',
                ) from error
            raise Wrong(
                f"TensorRT {version}: {error}.",
                "8.6 has get_plugin_creator, 11 has get_creator, 10 both.",
                'Look which one is there: hasattr(registry, "get_creator").',
                share=0.5,
            ) from error
        if len(network.layers) != 1:
            raise Wrong(
                f"{len(network.layers)} layers were added.", "One was expected.", "network.add_plugin_v2([…], plugin)."
            )
        got = tuple(network.layers[0].plugin.window[name] for name in NAMES)
        if got != window:
            raise Wrong(
                f"The plugin has kernel, stride, padding {got}, and {window} was asked for.",
                "A PluginField is a pointer and a type: the bytes of your array are read as this type. A float32 3.0 read as an "
                "int32 is 1077936128. A field of another type, or with another name, is not looked at.",
                "np.array([value], np.int32) with trt.PluginFieldType.INT32, for each of kernel, stride, padding.",
                share=0.25,
            )
        if network.outputs != [network.layers[0].get_output(0)]:
            raise Wrong(
                "The layer's output is not an output of the network.",
                "What no output needs is removed by the builder, the plugin too.",
                "network.mark_output(layer.get_output(0)).",
                share=0.5,
            )
    try:
        network = by_hand.Network((1, 9, 4, 4))
        add_fold(trt, by_hand.Registry(8, loaded=False), network, network.inputs[0], 3, 1, 0)
    except (AttributeError, TypeError) as error:
        raise Wrong(
            f"Without the plugin's library: {type(error).__name__}: {error}.",
            "The registry answers None, and the next line stumbles. Whoever reads that does not think of a library.",
            'if creator is None: raise RuntimeError("CourseFold is not registered: load its library first").',
            share=0.75,
        ) from error
    except Exception:
        return (
            "One plugin layer, with its attributes, in 8.6, 10 and 11; and a clear word if the library was not loaded."
        )
    raise Wrong(
        "Without the plugin's library it goes on.", "The registry has no creator.", "Raise an error.", share=0.75
    )


def added_fold(
    trt, registry: tensorrt.IPluginRegistry, network: tensorrt.INetworkDefinition, patches, kernel, stride, padding
):
    """The course's answer: CourseFold behind the tensor `patches`, marked as output; its layer."""
    find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator
    creator = find("CourseFold", "1", "")
    if creator is None:
        raise RuntimeError("CourseFold is not registered: load its library first.")
    values = {"kernel": kernel, "stride": stride, "padding": padding}
    fields = [
        trt.PluginField(name, np.array([value], np.int32), trt.PluginFieldType.INT32) for name, value in values.items()
    ]
    layer = network.add_plugin_v2([patches], creator.create_plugin("fold", trt.PluginFieldCollection(fields)))
    network.mark_output(layer.get_output(0))
    return layer


@reference("integration-by-hand")
def _by_hand_network():
    return added_fold


def _fields() -> SimpleNamespace:
    """PluginField and its like: TensorRT's, else TensorRT-RTX's."""
    try:
        import tensorrt as trt

        if not hasattr(trt, "PluginField"):
            raise ImportError
    except ImportError:
        import tensorrt_rtx as trt
    return SimpleNamespace(
        PluginField=trt.PluginField,
        PluginFieldCollection=trt.PluginFieldCollection,
        PluginFieldType=trt.PluginFieldType,
    )


@exercise(
    "integration-entry",
    points=3,
    hints=(
        "Which two functions does load_library look for, under which names, in 8.6 and in 10? Who owns the list?",
        'extern "C" keeps the name as it is. TensorRT 8: IPluginCreator* const* getPluginCreators(int32_t& count). From 10 on: '
        "IPluginCreatorInterface* const* getCreators(int32_t& count). And void setLoggerFinder(ILoggerFinder*).",
        "#if NV_TENSORRT_MAJOR >= 10 … #else … #endif; static FoldCreator creator; static IPluginCreatorInterface* const list[] "
        '= {&creator}; count = 1; return list; and extern "C" TENSORRTAPI void setLoggerFinder(ILoggerFinder*) {}',
    ),
)
def entry(entry: str):
    text = written("entry", entry)
    for major, wanted in ((8, "getPluginCreators"), (10, "getCreators")):
        _judge_entry(text, major, wanted)
    return "load_library finds CourseFold in TensorRT 8 and 10, from one source."


def _judge_entry(text: str, major: int, wanted: str) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = fold.write(temporary, fold.source(entry='#include "entry.h"\n'))
        (folder / "entry.h").write_text(text)
        try:
            compiled = compile_for_examination(sources.find(folder), headers.stand_in(major), tell=lambda line: None)
        except BuildError as error:
            raise Wrong(
                f"With the headers of TensorRT {major}: {error.what}",
                "IPluginCreatorInterface and getCreators came with TensorRT 10; 8.6 has IPluginCreator and getPluginCreators. "
                f"The compiler: {error.cause}",
                "One source for both asks the headers: #if NV_TENSORRT_MAJOR >= 10.",
            ) from error
        steps = [{"do": "creators", "name": "CourseFold", "version": "1"}, {"do": "fields"}]
        answers = session.run(Path(compiled), steps, session.Arrays())
    exported = answers.steps.get(0)
    if exported is None or not answers.done:
        raise Wrong(
            f"TensorRT {major}: {wanted} was called, and what it returned cannot be read.",
            "TensorRT reads the list after the function has returned.",
            "Make creator and list static.",
            share=0.25,
        )
    if exported["entry_point"] != wanted:
        raise Wrong(
            f"TensorRT {major} finds no {wanted} in the library.",
            "Without extern \"C\" the name in the library holds the parameters' types, too. And the other generation's name "
            "does not count: issues #4121 and #4051 of NVIDIA/TensorRT are of people who had only one of them.",
            f'extern "C" TENSORRTAPI … {wanted}(int32_t& count).',
            share=0.25,
        )
    chosen = exported["chosen"]
    if chosen is None or chosen["name"] != "CourseFold":
        raise Wrong(
            f"TensorRT {major}: {wanted} lists {len(exported['creators'])} creators, and none is CourseFold's.",
            "count is a reference: TensorRT reads as many entries as it says.",
            "count = 1; return list;",
            share=0.5,
        )
    if not exported["logger_finder"]:
        raise Wrong(
            f"TensorRT {major} finds no setLoggerFinder in the library.",
            "load_library asks for it, too: it gives plugins a way to TensorRT's logger. The body may be empty.",
            'extern "C" TENSORRTAPI void setLoggerFinder(ILoggerFinder*) {}',
            share=0.75,
        )


@reference("integration-entry")
def _entry():
    return fold.text("entry.h")
