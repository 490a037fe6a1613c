"""A plugin in TensorRT on a GPU: its library, the boxes that use it, and networks of one operator."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper

from autograder.checks import plugin_boxes, plugin_build
from autograder.checks.base import Bench
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.operator import Operator

INSIDE = "autograder.artifacts.plugin_gpu_inside"
LEVEL = 2


def library(at: Bench) -> np.ndarray:
    """The plugin for this machine's TensorRT and GPU, compiled in a build box; bytes as uint8.

    Raises:
        Rejected: the sources are refused, or do not compile.
        MissingFileError: this machine lacks TensorRT's headers or nvcc.
    """
    return at.once(("built for the GPU", at.path), lambda: _library(at))


def _library(at: Bench) -> np.ndarray:
    import torch

    from course.kernels import toolkit
    from course.native.plugins import headers

    include, compiler = headers.real(), toolkit.nvcc()
    major, minor = torch.cuda.get_device_capability()
    with at.step("compiling the plugin for the GPU"):
        box = plugin_boxes.build_box(at, include.folder, compiler.parents[1])
        _, (made,) = box.ask(
            "for_gpu",
            include=str(include.folder),
            cuda=str(compiler.parents[1]),
            architecture=f"sm_{major}{minor}",
            seconds=at.limits_s["build"],
        )
        box.close()
    return made


def box(at: Bench, plugin: np.ndarray | None) -> Box:
    """A new process with TensorRT, with the plugin or without."""
    sees = ("course", "autograder/artifacts/plugin_gpu_inside.py")
    made = at.bare_box(INSIDE, sees=sees, confined=plugin is not None)
    if plugin is not None:
        made.ask("load", [plugin], seconds=120)
    return made


def engine(
    at: Bench, made: Box, key: str, network: bytes, shapes: list, half: bool, reader: Box | None = None
) -> list[dict]:
    """Build in one box, save, and read it again in `reader` (the same, if left out). Returns its layers."""
    seconds = at.limits_s["build"]
    data = np.frombuffer(network, np.uint8)
    made.ask("build", [data], key=key, half=half, shapes=shapes, level=LEVEL, seconds=seconds)
    _, (plan,) = made.ask("plan", key=key, seconds=120, most_answer=1 << 28)
    return _opened(reader or made, key, plan)


def script(at: Bench, path: str, plugin: np.ndarray) -> Box:
    """A new process with TensorRT, the plugin and the build script that was handed in as `path`.

    Raises:
        Rejected: the script is missing, or cannot be loaded.
    """
    if path not in at.taken:
        raise Rejected(f"{path} is missing.", "It builds the engine of your network.", "Write it, and hand it in.")
    made = at.box(path, sees=("course", *plugin_build.SEES), inside=plugin_build.INSIDE)
    made.ask("start", [plugin], stand_in="", seconds=at.limits_s["run"])
    return made


def scripted(at: Bench, made: Box, key: str, network: bytes, shapes: list, half: bool, reader: Box) -> list[dict]:
    """Let the script build and save, and read its engine in `reader`. Returns its layers.

    The reader runs whatever the plan holds: no more than the plugin itself may do there.

    Raises:
        Rejected: the script wrote no plan, or it cannot be read.
    """
    data = np.frombuffer(network, np.uint8)
    answer, plans = made.ask("build", [data], shapes=shapes, fp16=half, seconds=at.limits_s["build"])
    if raised := str(answer.get("raised") or ""):
        raise Rejected("Your build script failed with your network and your plugin.", raised[:600], "Run it yourself.")
    if len(plans) != 1:
        raise Rejected("Your build script wrote no plan of your network.", "There is none at the path.", "Write it.")
    return _opened(reader, key, plans[0])


def _opened(reader: Box, key: str, plan: np.ndarray) -> list[dict]:
    answer, _ = reader.ask("open", [plan], key=key, seconds=120)
    return answer["layers"] if isinstance(answer.get("layers"), list) else []


def network(task: Operator, attributes: dict[str, float], half: bool, how: str) -> bytes:
    """x [n] -> y [n], in FP16 or FP32. how: "plugin", one custom node; "standard", its operators; "unfused", these with each
    tensor between them as an output, so that TensorRT computes one after the other.
    """
    element = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    node = helper.make_node(task.node, ["x"], ["y"], domain=task.domain, **attributes)
    ends = [helper.make_tensor_value_info(name, element, ["n"]) for name in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(task.domain, 1)]
    model = helper.make_model(
        helper.make_graph([node], "operator", ends[:1], ends[1:]), opset_imports=opsets, ir_version=8
    )
    if how == "plugin":
        model.graph.node[0].attribute.append(helper.make_attribute("plugin_version", task.version))
        return model.SerializeToString()
    model.functions.append(onnx.FunctionProto.FromString(task.function_of_onnx()))
    model = onnx.inliner.inline_local_functions(model)
    _fold_casts(model, element)
    if how == "unfused":
        between = [node.output[0] for node in model.graph.node if node.op_type != "Constant" and node.output[0] != "y"]
        model.graph.output.extend(helper.make_tensor_value_info(name, element, ["n"]) for name in between)
    return model.SerializeToString()


def _fold_casts(model: onnx.ModelProto, element: int) -> None:
    """Constant and CastLike become one constant of the tensor's type: TensorRT 8.6 knows no CastLike of opset 17."""
    numbers = {
        node.output[0]: onnx.helper.get_attribute_value(node.attribute[0])
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    kept = []
    for node in model.graph.node:
        if node.op_type == "CastLike":
            value = np.array([numbers[node.input[0]]], onnx.helper.tensor_dtype_to_np_dtype(element))
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
        elif node.op_type != "Constant":
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)
