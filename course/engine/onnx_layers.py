"""The nodes of an ONNX model as layers, with the shapes that ONNX can infer."""

from __future__ import annotations

import onnx

from course.engine.graph import Model, dims_of, node_name
from course.engine.types import Layer, TensorInfo


def layers(model: Model) -> tuple[Layer, ...]:
    """The nodes of the model, each a layer, with the shapes that ONNX can infer."""
    graph = onnx.shape_inference.infer_shapes(model.proto).graph
    infos = {value.name: _info(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        infos[tensor.name] = TensorInfo(tensor.name, _dtype_name(tensor.data_type), tuple(tensor.dims))

    def tensors(names):
        return tuple(infos.get(name, TensorInfo(name)) for name in names if name)

    return tuple(
        Layer(
            node_name(node, index),
            node.op_type,
            tensors(node.input),
            tensors(node.output),
            (node_name(node, index),),
            node.domain,
        )
        for index, node in enumerate(graph.node)
    )


def _info(value: onnx.ValueInfoProto) -> TensorInfo:
    tensor = value.type.tensor_type
    shape = dims_of(value) if tensor.HasField("shape") else None
    return TensorInfo(value.name, _dtype_name(tensor.elem_type), shape)


def _dtype_name(elem_type: int) -> str:
    name = onnx.TensorProto.DataType.Name(elem_type)
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(name, name.lower())
