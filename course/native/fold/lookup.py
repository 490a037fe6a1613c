"""How a parser finds a plugin for an ONNX node: TensorRT-RTX's own parser and registry, on a CPU.

A creator in Python stands for the plugin. It writes down what it is given and creates nothing, so the parser ends there:
whether a node reaches the creator, and with which attributes, is real, and nothing is built.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx

from course.engine import available_runtimes, log

ATTRIBUTES = ("kernel", "stride", "padding")


@dataclass(frozen=True)
class Answer:
    """found: the parser came to the creator. fields: the attributes that it was given, as lists. code, message: the parser's,
    about the node where it stopped; operator: that node's."""

    found: bool
    fields: dict[str, list] = field(default_factory=dict)
    code: str = ""
    message: str = ""
    operator: str = ""


def parse(
    model: onnx.ModelProto, *, name: str = "CourseFold", version: str = "1", namespace: str = ""
) -> Answer | None:
    """Parse with one creator registered under these three words; None where TensorRT-RTX is not there."""
    if available_runtimes()["rtx"] is not None:
        return None
    import tensorrt_rtx as trt

    given: dict[str, list] = {}
    calls: list[str] = []

    class Creator(trt.IPluginCreatorV3One):
        def __init__(self):
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = name, version, namespace
            kind = trt.PluginFieldType.INT32
            self.field_names = trt.PluginFieldCollection(
                [trt.PluginField(one, np.array([], np.int32), kind) for one in ATTRIBUTES]
            )

        def create_plugin(self, layer, fields: trt.PluginFieldCollection, phase):
            calls.append(layer)
            given.update({one.name: np.asarray(one.data).tolist() for one in fields})

    registry, creator = trt.get_plugin_registry(), Creator()
    with log.capture(), log.captured_stderr():
        builder = trt.Builder(log.trt_logger(trt))
        network = builder.create_network(0)
        registry.register_creator(creator, namespace)
        try:
            parser = trt.OnnxParser(network, log.trt_logger(trt))
            parser.parse(model.SerializeToString())
            error = parser.get_error(0) if parser.num_errors else None
        finally:
            registry.deregister_creator(creator)
    if error is None:
        return Answer(bool(calls), given)
    return Answer(bool(calls), given, error.code().name, error.desc(), error.node_operator())


def parts(model: onnx.ModelProto) -> list[list[int]] | None:
    """Numbers of the nodes that the parser would take, a list for each connected part: what an automatic partitioner asks for.

    None where TensorRT-RTX is not there.
    """
    if available_runtimes()["rtx"] is not None:
        return None
    import tensorrt_rtx as trt

    with log.capture(), log.captured_stderr():
        network = trt.Builder(log.trt_logger(trt)).create_network(0)
        parser = trt.OnnxParser(network, log.trt_logger(trt))
        if parser.supports_model_v2(model.SerializeToString()):
            return [list(range(len(model.graph.node)))]
        return [list(parser.get_subgraph_nodes(number)) for number in range(parser.num_subgraphs)]
