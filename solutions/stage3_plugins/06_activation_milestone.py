# %% [markdown]
# # Milestone 3a: an activation as a plugin
#
# You write a TensorRT plugin from its kernel to the engine that uses it, and hand it in as a team would check it in. The
# grader measures the files, not this notebook.
#
# **Afterwards you can** take an operator that TensorRT has no layer for from a formula to an engine that runs it in FP32 and FP16.
#
# **Time:** 100 minutes, most of it for the class. The cells together took under a minute on two CPU cores.
#
# | you hand in | what it is | what the grader does with it | points |
# | --- | --- | --- | --- |
# | `m3a/activation.cu` | the kernels and their launcher, by hand | runs them at sizes and values that you do not see, FP32 and FP16 | 4 |
# | `m3a/activation_plugin.cpp` | the class and its creator, by hand | drives them as TensorRT does, shapes of rank 1 to 5 | 4 |
# | `artifacts/mish_net.onnx` | a network with your node, made by this notebook | runs it beside the network | 3 |
# | `m3a/build_engine.py` | `build`, by hand: network and library to a plan | lets it build networks and load a library of its own | 3 |
# | all four | the engine that your script builds, saved and read again | on a GPU: right (2), faster than unfused layers (2), near a copy (2) | 6 |
# | the question at the end | in words | a person reads it, by a rubric | 4 |
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | kernels and class | all of it: compiled for the CPU, every access and every call checked | the same sources, in TensorRT |
# | the network | all of it: your nodes are run as standard operators | the engine |
# | the build script | all of it, with a stand-in for TensorRT 8.6 that builds with TensorRT-RTX | builds with TensorRT and your plugin |
# | speed | **open** | measured beside unfused layers, PyTorch, the CPU and a copy |
#
# Each file is compiled in a box that has no inputs, and run in another one that has no compiler and no answers. So a plugin
# includes headers of C++, CUDA and TensorRT and its own files; it opens no file, starts no process, and needs no assembly.
# The script must run without `course`: its box has Python's packages and `tensorrt`.

# %%
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from course import kernels
from course.exercises.stage3_plugins.activation_milestone import rehearse
from course.models.mish import mish, mish_net
from course.native import plugin

Path("artifacts").mkdir(exist_ok=True)

# %% [markdown]
# ## 1. The operator
#
# **Mish** with a parameter: y = x · tanh(softplus(beta · x)), softplus(z) = log(1 + e^z). The node is `CourseMish`, version
# `"1"`, no namespace, with the attribute `beta`, a float above 0.
#
# Taken literally the formula overflows: in FP32 e^z is infinite from z = 89 on, in FP16 from z = 12. The answer there is
# simply x. Of +infinity it is +infinity, of NaN it is NaN.
#
# Open `m3a/activation.cu` and write the kernels and the launcher that `m3a/activation.cuh` declares. Then run this cell,
# again and again. The grader takes other sizes and other values.

# %%
def try_kernels():
    """Both types at three sizes, each access checked."""
    try:
        module = kernels.load("m3a/activation.cu")
    except kernels.KernelError as error:
        return print(error)
    if "launchMish" not in module.launchers:
        return print("launchMish is not written yet.")
    random = np.random.default_rng(0)
    for dtype, limit in ((np.float32, 2e-5), (np.float16, 2e-3)):
        for size in (1, 37, 1000):
            x = random.normal(0, 6, size).astype(dtype)
            half = dtype is np.float16
            report = module.check("launchMish", x, kernels.out(size, dtype), size, 1.5, half, None)
            wanted = mish(x.astype(np.float64), 1.5)
            off = np.abs(report.outputs[0] - wanted).max()
            words = "right" if off <= limit * np.abs(wanted).max() else f"off by {off:.3g}"
            print(f"{np.dtype(dtype).name}, {size} elements: {words if report.ok else report}")


try_kernels()

# %% [markdown]
# ## 2. The plugin's class
#
# Open `m3a/activation_plugin.cpp`. It holds two empty classes and the macro that registers the creator; the methods that must
# be overridden are in `NvInferRuntime.h`, and the compiler names those that are missing. `IPluginV2DynamicExt` is what
# TensorRT 8.6 has; the headers of 10 and 11 still have it, deprecated in favour of `IPluginV3`.
#
# The next cell compiles your class for the CPU and drives it as TensorRT does: it asks for formats position by position, copies
# it, writes it to a plan and reads it again, runs two of them side by side, and looks at every pointer that you keep.

# %%
contract = plugin.Contract(
    "CourseMish",
    lambda x, beta: mish(x.astype(np.float64), beta),
    shapes=[((3, 5),), ((1,),), ((2, 3, 4, 5),)],
    attributes={"beta": 1.5},
)
try:
    print(plugin.examine("m3a", contract))
except Exception as error:   # not written yet, or does not compile: the message says which
    print(error)

# %% [markdown]
# ## 3. The node in the network
#
# `mish_net` is a small network: four convolutions, each followed by a Mish with **its own** beta. PyTorch exports each as
# standard operators, and TensorRT would run them as its own layers. To call your plugin, the file must name it.

# %%
plain = "artifacts/mish_net_plain.onnx"
torch.onnx.export(mish_net(), (torch.zeros(2, 3, 64, 64),), plain, input_names=["image"], output_names=["logits"],
                  dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}}, opset_version=17, dynamo=False)
exported = onnx.load(plain)
for node in exported.graph.node[:8]:
    print(f"{node.op_type:10} {list(node.input)} -> {list(node.output)}")

# %% [markdown]
# Write `artifacts/mish_net.onnx`: the same network in which each activation is one node `CourseMish` of the domain `course`,
# with its `beta` as a float attribute and `plugin_version` `"1"`, which TensorRT's parser reads. Input and output keep their
# names, and nothing of the old activations stays.

# %% nbgrader={"grade_id": "m3a-surgery", "solution": true}
path = "artifacts/mish_net.onnx"
### BEGIN SOLUTION
model = onnx.load(plain)
graph = model.graph
numbers = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
for node in graph.node:
    if node.op_type == "Constant":
        numbers[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
makes = {name: node for node in graph.node for name in node.output}
uses = {}
for node in graph.node:
    for name in node.input:
        uses.setdefault(name, []).append(node)

gone = set()
for soft in [node for node in graph.node if node.op_type == "Softplus"]:
    scaled = makes.get(soft.input[0])
    if scaled is not None and scaled.op_type == "Mul":          # beta * x
        x, beta = sorted(scaled.input, key=lambda name: name in numbers)
        start, value = [scaled], float(numbers[beta])
    else:                                                       # the exporter left out a beta of 1
        start, x, value = [], soft.input[0], 1.0
    (tanh,) = uses[soft.output[0]]
    (product,) = uses[tanh.output[0]]
    place = list(graph.node).index(product)
    made = helper.make_node("CourseMish", [x], list(product.output), domain="course", beta=value, plugin_version="1")
    graph.node.insert(place, made)
    for node in (*start, soft, tanh, product):
        graph.node.remove(node)
used = {name for node in graph.node for name in node.input}
for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] not in used]:
    graph.node.remove(node)
model.opset_import.append(helper.make_opsetid("course", 1))
onnx.save(model, path)
print([(node.op_type, helper.get_attribute_value(node.attribute[0])) for node in graph.node if node.domain == "course"])
### END SOLUTION

# %% [markdown]
# ## 4. The engine
#
# Open `m3a/build_engine.py` and write `build`: the library, the parser, the config with one profile, the plan; in TensorRT's own
# API, as in lesson 5. FP16 is allowed only if `fp16` says so. Two things go wrong without an error:
#
# - **The library comes too late, or not at all.** The parser asks the registry as soon as it comes to your node. Your class
#   registers itself as `ctypes.CDLL` opens its library: the macro calls `getPluginRegistry`. The wheel of 8.6 keeps that function
#   to itself, so open its `libnvinfer.so` again before, with `RTLD_GLOBAL`; `/proc/self/maps` has the path. (`load_library`
#   wants the two functions of lesson 5, which your class does not have: then it gives `None`.)
# - **Nobody asked.** `parse_from_file` answers `False` and `build_serialized_network` answers `None`; then raise an error that
#   says what failed, and write no plan.
#
# The next cell runs the script with your network, and with half of its file. Without a GPU a stand-in takes TensorRT's place, with
# a library that knows your node in standard operators: parser and build are TensorRT-RTX's, and nothing is run.

# %%
rehearse("m3a", path)

# %% [markdown]
# ## 5. The score-board
#
# The next cell starts the grader itself, in another process. Its sizes, values and beta are public here; in grading they are
# others, drawn for you alone.

# %% nbgrader={"grade_id": "m-s3-m3a", "grade": true, "points": 20}
from autograder import selfcheck

selfcheck("s3.m3a")

# %% [markdown] nbgrader={"grade_id": "m3a-plugin-or-not", "task": true, "points": 4}
# ## 6. Plugin or not
#
# A team deploys a detector with TensorRT and asks you about three of its operators: **SiLU** after every convolution,
# **non-maximum suppression** at the end, and **a sampling layer of their own** in the neck, which for each pixel gathers nine
# values at fractional positions that the network has computed. For each, say in four or five lines whether you would write a
# plugin, and what else could be done: leave it to TensorRT's own layers and fusion, take a plugin that exists, rewrite the
# graph, or split the model. Name what you would measure before you decide, and what a plugin costs later, when the version of
# TensorRT changes.
#
# Write your answer in a new cell below this one.
#
# ### BEGIN MARK SCHEME
# Rubric, 4 points, one for each line:
#
# - **SiLU: no.** TensorRT has the layers (sigmoid, multiplication) and fuses pointwise layers; a plugin ends that fusion and adds
#   a pass over memory. Says how to see it: layer information or a profile of the engine, with and without.
# - **NMS: no plugin of one's own.** A plugin that exists (EfficientNMS_TRT) or TensorRT's own NMS layer, with a fixed number of
#   outputs; or it stays outside, on the GPU or on the CPU. Weighs the copy to the CPU and the output whose size depends on data.
# - **The sampling layer: a plugin is reasonable.** It gathers at computed places, which standard operators express with many
#   Gather or GridSample nodes, each a pass over memory; names these, a split with the framework in between, or somebody's
#   plugin for deformable convolutions as alternatives, and what each costs.
# - **Decides by measurement and counts the upkeep.** The operator's share of the time first; then the plugin against the best
#   alternative, in one engine, FP16 included. Upkeep: a build for each major version, V2 to V3, tests, formats (INT8), who owns it.
#
# An answer that writes a plugin for all three, or for none, without a measurement, gets at most 1.
# ### END MARK SCHEME
