# %% [markdown]
# # When INT8 disappoints
#
# "My INT8 engine is slower than FP16" is one of the most frequent issues about TensorRT. Here you meet such a model,
# find the reason in the layer list of its engine, and edit its Q/DQ pairs until it beats FP16.
#
# **Afterwards you can** read an engine's layer list, say which pair keeps which layers apart, take pairs out of an
# ONNX file and put them in, and prove that it helped.
#
# **Time:** 40 minutes. The cells together run for about half a minute on a CPU. With TensorRT on a GPU five engines
# are built, which takes some minutes.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | layer lists | recorded: TensorRT 8.6.0 on one H200 | the same |
# | what an edit does | TensorRT-RTX builds it here and lists its kernels | TensorRT's own layers |
# | speed | recorded on the H200, for five placements | measured, in turns with FP16 |

# %%
import re
from collections import Counter, defaultdict

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from course.exercises import check, choice, hint, solved
from course.export import export
from course.models import resnet50
from course.plot import int8 as plot
from course.quantize import calibration_from, quantize, read_cache, trial

# %% [markdown]
# ## 1. The disappointment
#
# ResNet-50, quantised as ONNX Runtime's `quantize_static` does it unless told otherwise: a pair of `QuantizeLinear`
# (Q) and `DequantizeLinear` (DQ) around every operator. On the H200 at batch 64, FP16 took
# {{docs/results/h200/int8/summary.json: results.b64.FP16.p50_ms | .2f}} ms. This INT8 engine took
# {{docs/results/h200/int8/summary.json: results.b64.Q/DQ default.p50_ms | .2f}} ms.
#
# **Predict:** where does the time go?
# - `"reformats"`: layers that turn INT8 into float and back
# - `"additions"`: additions that run as layers of their own
# - `"slow kernels"`: the same layers as in FP16, but slower ones

# %%
guess = None   # one of the three

# %%
fp16, layers = trial.recorded_layers("FP16"), trial.recorded_layers("Q/DQ default")
for name, rows in (("FP16", fp16), ("INT8, default pairs", layers)):
    print(f"{name}: {len(rows)} layers, {dict(Counter(row['kind'] for row in rows))}")
choice(guess, "additions", "FP16 has 2 Reformat layers and INT8 only 3. What is new are PointWise layers.")

# %% [markdown]
# So not reformats, although most answers on the web say so. Look at one block. A frame is a layer of the engine, the
# boxes are ONNX nodes:

# %%
plot.block({"FP16": fp16, "INT8, default": layers}, title="A residual block (TensorRT 8.6.0)")

# %% [markdown]
# ## 2. Read the list
#
# A row of the inspector's list has a name made of the ONNX nodes that the layer computes, such as
# `/layer1/layer1.0/conv3/Conv + /layer1/layer1.0/Add`. Nodes whose name ends in `/Conv` are convolutions, in `/Add`
# additions. `Reformatting CopyNode … to X` computes nothing: it carries data to the layer X.
#
# **Exercise 1.** Write `outside`: the additions that a layer computes without a convolution.

# %% nbgrader={"grade_id": "placement-outside", "solution": true}
def outside(layers):
    """layers: rows (dicts) with "name", "kind", "inputs", "outputs" -> a set of names such as "/layer1/layer1.0/Add"."""
    ### BEGIN SOLUTION
    found = set()
    for layer in layers:
        if "/Conv" not in layer["name"] and not layer["name"].startswith("Reformatting"):
            found.update(re.findall(r"/layer[^ ,()]*/Add", layer["name"]))
    return found
    ### END SOLUTION

# %% nbgrader={"grade_id": "placement-outside-test", "grade": true, "points": 2}
check("placement-outside")

# %% [markdown]
# All 16 additions of the network are outside. Each is one more kernel that reads two tensors from memory and writes
# one. For FP16 that happens inside the convolution's kernel.
#
# Why? Q after a tensor is a demand: *this tensor must exist in INT8.* TensorRT makes one kernel of
# DQ → Conv → Add → ReLU → Q. With a pair between Conv and Add, the convolution's own result is demanded, so its kernel
# must end there.
#
# ## 3. Take pairs off
#
# Here is the file. TensorRT calibrated the scales on the H200; the lesson before this one shows how.

# %%
export(resnet50(), (torch.rand(2, 3, 224, 224),), "artifacts/resnet50.onnx", input_names=["image"],
       output_names=["logits"], dynamic={"image": {0: "batch"}}, target="8.6",
       once=True)   # a copy, if this machine has exported it before
plain = onnx.load("artifacts/resnet50.onnx")
scales = calibration_from(read_cache(trial.RECORDED / "implicit_b64.calibration"))
naive = quantize(plain, scales, "outputs")        # as quantize_static by default
for node in [node for node in naive.graph.node if "layer1.0/conv3/Conv" in node.name]:
    print(f"{node.op_type:17} {list(node.input)} -> {list(node.output)}")

# %% [markdown]
# **Exercise 2.** Write `without_pairs` with plain `onnx`: a copy of the model in which these tensors have no pair. Whoever
# read the DQ reads the float tensor. The graph's outputs keep their names, also where a DQ writes one.

# %% nbgrader={"grade_id": "placement-remove", "solution": true}
def without_pairs(model, tensors):
    """tensors: names of float tensors, each the input of a QuantizeLinear -> a new ModelProto without their pairs."""
    ### BEGIN SOLUTION
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph, ends = model.graph, {value.name for value in model.graph.output}
    rounded = {node.output[0]: node.input[0] for node in graph.node
               if node.op_type == "QuantizeLinear"}
    renamed, gone = {}, set()
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and rounded.get(node.input[0]) in tensors:
            tensor, result = rounded[node.input[0]], node.output[0]
            gone |= {node.input[0], result}
            renamed.update({tensor: result} if result in ends else {result: tensor})
    kept = [node for node in graph.node if node.output[0] not in gone]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    return model
    ### END SOLUTION

# %% nbgrader={"grade_id": "placement-remove-test", "grade": true, "points": 3}
check("placement-remove")

# %% [markdown]
# Step one: only convolutions and residual additions gain from INT8 here. Every pair that none of them reads goes: those
# before ReLU, the poolings, the last product (10 columns are too few for tensor cores) and the output.

# %%
without_pairs = solved("placement-remove", without_pairs)

def readers(model):
    """Float tensor with a pair -> the operators that read the pair's DQ."""
    rounded = {node.output[0]: node.input[0] for node in model.graph.node
               if node.op_type == "QuantizeLinear"}
    behind = {node.output[0]: rounded[node.input[0]] for node in model.graph.node
              if node.op_type == "DequantizeLinear"}
    found = defaultdict(set)
    for node in model.graph.node:
        for name in set(node.input) & set(behind):
            found[behind[name]].add(node.op_type)
    for value in model.graph.output:
        if value.name in behind:
            found[behind[value.name]].add("output")
    return found

both = without_pairs(naive, [tensor for tensor, by in readers(naive).items()
                             if not by & {"Conv", "Add"}])
trials = [trial.trial("default", naive, plain), trial.trial("step 1: both sides", both, plain)]
print(trial.table(trials))

# %% [markdown]
# On a CPU the left columns are TensorRT-RTX's, built just now; the right ones were recorded for the very same pairs.
# Two things to see. The number of RTX's kernels hardly moves: another compiler, other kernels, so **count layers only in
# the list of the runtime that you deploy on.** What it must compute does move: activations are rounded half as often.
# And TensorRT gains: from {{docs/results/h200/int8/summary.json: results.b64.Q/DQ default.times_fp16.0 | .2f}} to
# {{docs/results/h200/int8/summary.json: results.b64.Q/DQ both sides.times_fp16.0 | .2f}} times FP16. Still all 16 additions are outside; but the first
# convolution, its ReLU and the pooling are one layer now instead of three, and no convolution is rounded twice.
#
# ## 4. And without any pair at the additions?
#
# If a pair before an Add is bad, take them all off: each convolution keeps its input pair, the additions get none.
#
# **Predict:** at builder level 1, against step 1, this is
# - `"faster"`: all additions join their convolutions
# - `"the same"`: the rounding only moves
# - `"slower"`: the skip travels as float

# %%
guess = None   # "faster", "the same" or "slower"

# %%
inputs = quantize(plain, scales, "inputs")
trials.append(trial.trial("no pair at Adds", inputs, plain))
print(trial.table(trials))
choice(guess, "slower" if (trials[2].ms or 2) > (trials[1].ms or 1) else "faster",
       "The additions are inside. But each block hands on floats, which are read twice and rounded by a layer of "
       "their own for the next convolution: 15 such layers in the recorded engine.")

# %% [markdown]
# In that engine "float" is FP16, since the FP16 flag was set as well. With TensorRT 8.6 and 10, `--int8` without `--fp16`
# leaves all of that in FP32. TensorRT 11 knows no such flags: float is what the file says, here FP32.
# All recorded engines were built at optimisation level 1. The level decides which kernels are tried, so build what you
# deploy at your own level, and measure.
#
# ## 5. Put a pair in
#
# The skip side needs INT8, the convolution's side must stay free. So one has to be able to add a pair, too.
#
# **Exercise 3.** Write `with_pair` with `helper.make_node`: one input of one node comes through a pair. Scale and zero
# point are initializers; the zero point is `np.int8(0)`. If the tensor has a pair already, use it.

# %% nbgrader={"grade_id": "placement-add", "solution": true}
def with_pair(model, name, slot, scale):
    """A new ModelProto in which input number `slot` of the node `name` comes through a pair with this scale."""
    ### BEGIN SOLUTION
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    place, node = next((place, node) for place, node in enumerate(graph.node) if node.name == name)
    tensor = node.input[slot]
    rounded = {one.input[0]: one.output[0] for one in graph.node
               if one.op_type == "QuantizeLinear"}
    for one in graph.node:
        if one.op_type == "DequantizeLinear" and one.input[0] == rounded.get(tensor):
            node.input[slot] = one.output[0]
            return model
    constants = [f"{tensor}_scale", f"{tensor}_zero"]
    for value, constant in zip((np.float32(scale), np.int8(0)), constants):
        graph.initializer.append(numpy_helper.from_array(value, constant))
    q = helper.make_node("QuantizeLinear", [tensor, *constants], [f"{tensor}_q"], f"{tensor}_Q")
    dq = helper.make_node("DequantizeLinear", [f"{tensor}_q", *constants], [f"{tensor}_dq"],
                          f"{tensor}_DQ")
    node.input[slot] = f"{tensor}_dq"
    graph.node.insert(place, q)
    graph.node.insert(place + 1, dq)
    return model
    ### END SOLUTION

# %% nbgrader={"grade_id": "placement-add-test", "grade": true, "points": 3}
check("placement-add")

# %% [markdown]
# ## 6. Beat FP16
#
# **Exercise 4.** Make `best`, from `both` or from `inputs`, with your two functions. You have `plain.graph.node` for
# names and `scales.scales` for the scale of each tensor. In 12 of the 16 blocks one input of the Add comes from `conv3`
# and the other from the block before. In 4 both come from a convolution; either may stay free. The check builds
# your model and looks into it.

# %%
with_pair = solved("placement-add", with_pair)
print([(node.name, list(node.input)) for node in plain.graph.node if node.op_type == "Add"][:2])

# %% nbgrader={"grade_id": "placement-best", "solution": true}
best = None   # a ModelProto
### BEGIN SOLUTION
best = without_pairs(both, [node.output[0] for node in plain.graph.node
                            if node.name.endswith("conv3/Conv")])
### END SOLUTION

# %% nbgrader={"grade_id": "placement-best-test", "grade": true, "points": 4}
check("placement-best")

# %%
best = solved("placement-best", best)
trials.append(trial.trial("best", best, plain))
print(trial.table(trials))
plot.ladder(trials, "INT8 at batch 64")

# %% [markdown]
# The same convolutions, the same INT8 kernels, the same answers; only the pairs moved. All five engines, block by
# block:

# %%
names = {"FP16": "FP16", "default": "Q/DQ default", "both sides": "Q/DQ both sides",
         "no pair at Adds": "Q/DQ inputs", "skip side": "Q/DQ good"}
times = {name: f"{trial.recorded()[variant]['p50_ms']:.2f} ms" for name, variant in names.items()}
plot.block({name: trial.recorded_layers(variant) for name, variant in names.items()}, notes=times,
           title="A residual block in five engines, batch 64 (TensorRT 8.6.0, H200)")

# %% [markdown]
# ## 7. And at batch 1?
#
# At batch 64 the default placement reached {{docs/results/h200/int8/summary.json: results.b64.Q/DQ default.times_fp16.0 | .2f}} times the speed of FP16.
#
# **Predict:** at batch 1 it loses
# - `"less"`: with little data there is less memory to move
# - `"as much"`: the layers are the same
# - `"more"`: a small kernel costs its start, however little it does

# %%
guess = None   # "less", "as much" or "more"

# %%
for batch in (1, 64, 256):
    for name in ("Q/DQ default", "Q/DQ good"):
        if name in trial.recorded(batch):
            ratio, low, high = trial.recorded(batch)[name]["times_fp16"]
            print(f"batch {batch:3}, {name}: {ratio:.2f} times as fast as FP16 ({low:.2f} to {high:.2f}), "
                  f"top-1 {100 * trial.recorded(batch)[name]['top1']:.1f} %")
choice(guess, "more", "Each addition on its own is one more kernel to start and to wait for, and all of FP16 takes "
       f"{trial.recorded(1)['FP16']['p50_ms']:.2f} ms on the H200.")

# %% [markdown]
# ## Decide
#
# | your case | do |
# | --- | --- |
# | your tool wrote a pair after every operator | exclude output quantisation, then take the pair off one side of each residual Add |
# | large batches, convolutions | INT8 with pairs on inputs and skips: {{docs/results/h200/int8/summary.json: results.b64.Q/DQ good.times_fp16.0 | .2f}} times FP16 at batch 64, {{docs/results/h200/int8/summary.json: results.b256.Q/DQ good.times_fp16.0 | .2f}} at 256 |
# | batch 1 | measure first: {{docs/results/h200/int8/summary.json: results.b1.Q/DQ good.times_fp16.0 | .2f}} times FP16 here. Is that worth a calibration and an accuracy test? |
# | few channels, a last layer of 10 outputs | leave it out |
# | TensorRT 8.6 or 10 and no need to control precisions | a calibrator: nobody placed anything, and it reached {{docs/results/h200/int8/summary.json: results.b64.INT8 implicit.times_fp16.0 | .2f}} times FP16 at batch 64 |
#
# These ratios are those of one network on one GPU with TensorRT 8.6.0. The rule is more general: NVIDIA's Developer Guide
# has it under "Q/DQ Layer-Placement Recommendations".
#
# ## Summary
#
# - Q is a demand: this tensor must exist in INT8. A pair inside a fusion ends the fusion.
# - Pairs belong on the inputs of convolutions and products, and on the skip side of a residual Add: on one side, not on
#   both, not on none.
# - The layer list of the engine that you deploy says what happened. Look for additions and activations on their own, and
#   for layers that only round.
# - One change, one build, one number.
#
# **Next:** lesson [04](04_when_int8_is_wrong.ipynb): the engine is fast, and its answers are wrong.
