# %% [markdown]
# # Integration: the plugin in a network, a file, a process
#
# The class is right. Now TensorRT has to find it: through a node in an ONNX file, from code that builds a network by hand, and
# again when the saved engine is loaded in another process.
#
# **Afterwards you can** write a custom node out of PyTorch, put one into a finished graph, add a plugin layer by hand in
# TensorRT 8.6, 10 and 11, make a library that `load_library` understands, and read the one message that all mistakes share.
#
# **Time:** 40 minutes. The cells together take about half a minute on a CPU.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | node and graph surgery | run, compared, and read by TensorRT-RTX's parser and registry | the same |
# | network by hand | against a stand-in for the registry and the network | the real ones |
# | the library | compiled for 8 and 10; its entry points are called | loaded by TensorRT |
# | engine, saved and loaded again | open | measured against PyTorch |

# %%
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from course.exercises import check, choice, hint, solved
from course.export import export
from course.native import fold
from course.native.fold import lookup, on_gpu, restorer, saved

# %% [markdown]
# ## 1. A node out of PyTorch
#
# The parser makes a plugin layer of a node if a creator has the node's name. So the exporter has to write
# `course::CourseFold` instead of what `fold` is made of. `torch.onnx.ops.symbolic` writes such a node, with attributes; the
# shape that you give is what the exporter knows of its output. The older exporter has the same idea: an
# `autograd.Function` with a method `symbolic(g, x)` that returns `g.op("course::CourseFold", x, kernel_i=8)`.
#
# **Exercise 1.** Write `forward`: the fold's numbers in PyTorch, one node in an export. Attributes: `kernel`, `stride`,
# `padding`, and `plugin_version` "1".

# %% nbgrader={"grade_id": "integration-export", "solution": true}
class FoldNode(torch.nn.Module):
    def __init__(self, kernel, stride, padding):
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, patches: torch.Tensor):
        """patches [n, c * kernel**2, h, w] -> [n, c, height, width]."""
        ### BEGIN SOLUTION
        k, s, p = self.kernel, self.stride, self.padding
        n, c, h, w = patches.shape
        size = ((h - 1) * s + k - 2 * p, (w - 1) * s + k - 2 * p)
        if not torch.onnx.is_in_onnx_export():
            return torch.nn.functional.fold(patches.flatten(2), size, k, padding=p, stride=s)
        words = {"kernel": k, "stride": s, "padding": p, "plugin_version": "1"}
        return torch.onnx.ops.symbolic("course::CourseFold", (patches,), words, dtype=patches.dtype,
                                       shape=(n, c // k**2, *size), version=1)
        ### END SOLUTION

# %% nbgrader={"grade_id": "integration-export-test", "grade": true, "points": 2}
check("integration-export")

# %% [markdown]
# ## 2. Surgery on a finished graph
#
# Often the ONNX file is all you get. Then the nodes are exchanged in the file. `onnx` alone is enough: a graph is a list of
# nodes, and a node is a name, an operator, and the names of what it reads and writes. (`onnx-graphsurgeon` offers the same
# with objects instead of names.)

# %%
export(restorer.body(), (torch.rand(1, 3, 64, 64),), "artifacts/body.onnx", input_names=["image"],
       output_names=["patches"], target="8.6")
given = restorer.with_col2im("artifacts/body.onnx")
for node in given.graph.node[-3:]:
    print(node.op_type, list(node.input), "->", list(node.output),
          {one.name: helper.get_attribute_value(one) for one in node.attribute})

# %% [markdown]
# **Exercise 2.** Write `with_node`: a copy of the model in which one `CourseFold` of the domain `"course"` stands for Reshape and
# Col2Im, with the attributes that belong to *this* Col2Im (square windows; the same stride and padding on all sides). What
# nobody reads any more goes, and `opset_import` names the domain.

# %% nbgrader={"grade_id": "integration-surgery", "solution": true}
def with_node(model):
    """A new ModelProto: [..., Reshape, Col2Im, ...] becomes [..., CourseFold, ...]."""
    ### BEGIN SOLUTION
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    place, col2im = next((i, node) for i, node in enumerate(graph.node) if node.op_type == "Col2Im")
    reshape = next(node for node in graph.node if col2im.input[0] in node.output)
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    numbers = {one.name: one.ints for one in col2im.attribute}
    words = {"kernel": int(constants[col2im.input[2]][0]), "stride": numbers["strides"][0],
             "padding": numbers["pads"][0]}
    node = helper.make_node("CourseFold", [reshape.input[0]], [col2im.output[0]],
                            name=col2im.name, domain="course", **words)
    graph.node.insert(place, node)
    graph.node.remove(col2im)
    graph.node.remove(reshape)
    read = {name for one in graph.node for name in one.input}
    for one in [one for one in graph.initializer if one.name not in read]:
        graph.initializer.remove(one)
    model.opset_import.append(helper.make_opsetid("course", 1))
    return model
    ### END SOLUTION

# %% nbgrader={"grade_id": "integration-surgery-test", "grade": true, "points": 3}
check("integration-surgery")

# %%
with_node = solved("integration-surgery", with_node)
model = with_node(given)
onnx.save(model, "artifacts/restorer.onnx")
print([node.op_type for node in model.graph.node])

# %% [markdown]
# ## 3. How the parser finds the plugin
#
# By three words: the node's name, and its attributes `plugin_version` (without it "1") and `plugin_namespace` (without it
# empty). The node's *domain* plays no part. Then it hands the attributes over that `getFieldNames` lists.
#
# Five slips: a wrong name, a wrong version, a wrong namespace, an attribute forgotten, an attribute as float instead of int.
#
# **Predict:** which of them does the parser report as an error?
# - `"all five"`, `"the first three"`, or `"the first three, each by its name"`

# %%
guess = None   # one of the three

# %%
slips = {"none": {}, "name": {"op_type": "CourseUnfold"}, "version": {"plugin_version": "2"},
         "namespace": {"plugin_namespace": "course"}, "float": {"kernel": 8.0}}
models = {slip: restorer.with_plugin("artifacts/body.onnx", **words) for slip, words in slips.items()}
models["forgotten"] = restorer.with_plugin("artifacts/body.onnx")
del models["forgotten"].graph.node[-1].attribute[-1]
answers = {slip: lookup.parse(one) for slip, one in models.items()}
for slip, answer in answers.items():
    if answer is None:
        print(f"{slip}: open, TensorRT-RTX is not on this machine")
    else:
        called = f"creator called with {answer.fields}"
        print(f"{slip}: {called if answer.found else answer.message}")
messages = {answer.message for answer in answers.values() if answer and not answer.found}
choice(guess, "the first three" if len(messages) <= 1 else "the first three, each by its name",
       "And the message is one for all of them. The other two reach the creator: a plugin that trusts "
       "its attributes computes something else, without a word.")

# %% [markdown]
# This was TensorRT-RTX's parser with its registry; the creator was a small one in Python. So check attributes in `createPlugin`,
# as the course's creator does with their types, and return `nullptr` rather than a guess. The same question, asked before the
# parser runs: list the registry. In Python `registry.plugin_creator_list` (up to 10) or `registry.all_creators` (from 10 on).
#
# ## 4. By hand
#
# Without ONNX you ask the registry yourself.
#
# | step | Python | C++ |
# | --- | --- | --- |
# | the registry | `trt.get_plugin_registry()` | `getPluginRegistry()` |
# | a library into it (8.6 and later) | `registry.load_library(path)` | `registry->loadLibrary(path)` |
# | a creator, 8.6 and 10 | `registry.get_plugin_creator(name, version, space)` | `registry->getPluginCreator(name, version, space)` |
# | a creator, 10 and later | `registry.get_creator(…)` | `registry->getCreator(…)` |
# | a V2 plugin into a network | `network.add_plugin_v2([x], plugin)` | `network->addPluginV2(&x, 1, *plugin)` |
# | a V3 plugin, 10 and later | `network.add_plugin_v3([x], [], plugin)` | `network->addPluginV3(&x, 1, nullptr, 0, *plugin)` |
# | the library inside a version-compatible plan | `config.plugins_to_serialize = [path]` | `config->setPluginsToSerialize(&path, 1)` |
#
# **Exercise 3.** Write `add_fold` for V2, in 8.6, 10 and 11. It marks the layer's output, and says clearly if the library was not
# loaded.

# %% nbgrader={"grade_id": "integration-by-hand", "solution": true}
def add_fold(trt, registry, network, patches, kernel, stride, padding):
    """Add CourseFold behind the tensor `patches` -> the layer. trt: for PluginField and its like."""
    ### BEGIN SOLUTION
    find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator
    creator = find("CourseFold", "1", "")
    if creator is None:
        raise RuntimeError("CourseFold is not registered: load its library first.")
    values = {"kernel": kernel, "stride": stride, "padding": padding}
    fields = [trt.PluginField(name, np.array([value], np.int32), trt.PluginFieldType.INT32)
              for name, value in values.items()]
    layer = network.add_plugin_v2([patches],
                                  creator.create_plugin("fold", trt.PluginFieldCollection(fields)))
    network.mark_output(layer.get_output(0))
    return layer
    ### END SOLUTION

# %% nbgrader={"grade_id": "integration-by-hand-test", "grade": true, "points": 3}
check("integration-by-hand")

# %% [markdown]
# ## 5. A library that can be loaded
#
# `REGISTER_TENSORRT_PLUGIN` registers as soon as the library is opened, by `ctypes.CDLL` or the linker, and needs
# TensorRT's symbols at that moment. `load_library` is the tidier way: it opens the library and asks it for its
# creators. For that it looks for two C functions:
#
# | | TensorRT 8.6 | 10 and later |
# | --- | --- | --- |
# | creators | `IPluginCreator* const* getPluginCreators(int32_t& count)` | `IPluginCreatorInterface* const* getCreators(int32_t& count)` |
# | a way to the logger | `void setLoggerFinder(ILoggerFinder* finder)` | the same |
#
# **Exercise 4.** Write both for 8.6 and 10, in one source. `FoldCreator` stands above; it no longer registers itself.

# %% nbgrader={"grade_id": "integration-entry", "solution": true}
entry = r"""
// BEGIN SOLUTION
#if NV_TENSORRT_MAJOR >= 10
using Creator = IPluginCreatorInterface;
#define ENTRY getCreators
#else
using Creator = IPluginCreator;
#define ENTRY getPluginCreators
#endif
extern "C" TENSORRTAPI Creator* const* ENTRY(int32_t& count)
{
    static FoldCreator creator;
    static Creator* const list[] = {&creator};
    count = 1;
    return list;
}
extern "C" TENSORRTAPI void setLoggerFinder(ILoggerFinder*) {}
// END SOLUTION
"""

# %% nbgrader={"grade_id": "integration-entry-test", "grade": true, "points": 3}
check("integration-entry")

# %%
entry = solved("integration-entry", entry)
sources = fold.write("artifacts/fold_library", fold.source(entry=entry))
print((sources / "fold_plugin.cpp").read_text()[-700:])

# %% [markdown]
# ## 6. Saved, and loaded in a new process
#
# The plan holds name, version, namespace and the plugin's bytes. The process that loads it needs the library, **before**
# `deserialize_cuda_engine`; otherwise that call returns `None` and the log says that no creator was found.
#
# **Predict:** you rebuild the library with a faster kernel and leave the plan as it is. The next process that loads it runs
# - `"the old kernel"`: it is in the plan, or `"the new kernel"`: the plan holds bytes only

# %%
guess = None   # "the old kernel" or "the new kernel"

# %%
written = saved.plan_bytes(fold.write("artifacts/fold", fold.source()), kernel=8, stride=4, padding=2)
print(f"serialize writes {len(written)} bytes:", np.frombuffer(written, np.int32))
choice(guess, "the new kernel" if len(written) < 100 else "the old kernel",
       "serialize wrote twelve bytes: three numbers. The code comes from the library that is "
       "loaded, so both have to be kept together, unless plugins_to_serialize packed the library "
       "into a version-compatible plan.")

# %% [markdown]
# Here is the whole way as a script, for TensorRT 8.6 and 10: `build` in one process, `run` in the next.

# %%
script = r"""
import sys
from pathlib import Path
import tensorrt as trt
import torch

step, library, model, plan = sys.argv[1:]
log = trt.Logger(trt.Logger.WARNING)
trt.get_plugin_registry().load_library(library)
if step == "build":
    builder = trt.Builder(log)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(model):
        raise SystemExit(parser.get_error(0).desc())
    config = builder.create_builder_config()
    config.set_tactic_sources(0)    # else 8.6 loads cuBLAS and cuDNN, to hand them to the plugin
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise SystemExit("no engine was built: the log says why")
    Path(plan).write_bytes(data)
else:
    engine = trt.Runtime(log).deserialize_cuda_engine(Path(plan).read_bytes())
    context = engine.create_execution_context()
    tensors = {}
    for name in (engine.get_tensor_name(i) for i in range(engine.num_io_tensors)):
        tensors[name] = torch.rand(tuple(engine.get_tensor_shape(name)), device="cuda")
        context.set_tensor_address(name, tensors[name].data_ptr())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    print("enqueued:", context.execute_async_v3(stream.cuda_stream))
    stream.synchronize()
    from course.native.fold import restorer
    wanted = restorer.Restorer().cuda()(tensors["image"])
    print("largest difference from PyTorch:", (wanted - tensors["restored"]).abs().max().item())
"""
Path("artifacts/fold_engine.py").write_text(script)
done = on_gpu.end_to_end("artifacts/fold_engine.py", sources, "artifacts/restorer.onnx",
                         "artifacts/restorer.plan")

# %% [markdown]
# ## When it does not work
#
# | you see | it is | do |
# | --- | --- | --- |
# | "Plugin not found, are the plugin name, version, and namespace correct?" | one of the three words, or no library | list the registry, compare |
# | `load_library` fails in 10, and works in 8.6 | the library has only `getPluginCreators` | add `getCreators` |
# | `load_library` fails in 8.6, and works in 10 | the other way round | add `getPluginCreators` |
# | `undefined symbol: getPluginRegistry` | a library that registers itself, opened where TensorRT's functions are hidden: the wheel of 8.6 hides them | open `libnvinfer.so` with `ctypes.CDLL(path, ctypes.RTLD_GLOBAL)` before, or leave the macro out and use `load_library` |
# | 8.6 builds nothing, and its log misses cuBLAS or cuDNN | it wants to hand their handles to a V2 plugin | `config.set_tactic_sources(0)`, if the plugin needs neither cuBLAS nor cuDNN |
# | a crash while loading or building | headers of another major version | build with those of the TensorRT that runs |
# | right engine, wrong numbers | an attribute lost, or of another type | let `createPlugin` refuse |
# | `deserialize_cuda_engine` gives `None` in a new process | the library was not loaded there | load it first |
#
# ## Summary
#
# - The node's name, `plugin_version` and `plugin_namespace` find the creator; the domain does not.
# - A custom node computes in PyTorch and is one node in the file.
# - Surgery: read the numbers from the node that you replace, remove what nobody reads, name the domain.
# - One source serves 8.6, 10 and 11 if it asks which method or macro is there.
# - The plan has the attributes, the library has the code. A new process needs both.
#
# **Next:** milestone 3a, an activation of your own.
