# %% [markdown]
# # Why a plugin, and why not
#
# Sooner or later TensorRT refuses an operator. A plugin is one way out of five, the most expensive to keep, and sometimes
# the only good one. Here you meet such an operator and try the ways.
#
# **Afterwards you can** read what the parser says about an operator that it does not take, say the operator in other
# words, cut a model at it, and decide by numbers whether a plugin is worth its lines.
#
# **Time:** 40 minutes. The cells together take about half a minute on a CPU.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | the refusal | TensorRT-RTX's parser, here and now | recorded: TensorRT 8.6's words |
# | the ways | built, compared, and timed **in ONNX Runtime on this CPU** | timed with TensorRT: a recorded table, or your own |
# | the plugin | its examination: the lesson after the kernels | its time, in the same table |

# %% [markdown]
# ## 1. The refusal
#
# A small network that restores images: it predicts a patch of 8 × 8 pixels around every fourth pixel, and adds the
# overlapping patches up. PyTorch calls that `fold`, ONNX calls it `Col2Im` since opset 18. The same step ends
# transformers that work on overlapping patches, and, in one dimension, speech models (overlap-add).

# %%
import inspect

import onnx
import onnxruntime
import torch
from onnx import helper
from torch.nn import functional

from course import bench
from course.exercises import check, choice, hint, solved
from course.export import export
from course.native.fold import lookup, recorded, restorer
from course.plot import plugins as plot

image = torch.rand(1, 3, 256, 256)
export(restorer.body(), (image,), "artifacts/body.onnx", input_names=["image"],
       output_names=["patches"], target="8.6")
model = restorer.with_col2im("artifacts/body.onnx")     # as PyTorch's exporters write a fold, opset 18
print([node.op_type for node in model.graph.node])

answer = lookup.parse(model)
if answer is None:
    print("open: TensorRT-RTX is not on this machine")
else:
    print(f"parse: {answer.code} at {answer.operator}: {answer.message}")
    print("nodes that it would take:", lookup.parts(model))

# %% [markdown]
# That is all of it: the condition in the parser's source that was not met, here just `false`. So read the operator and look it
# up in the list of supported operators that belongs to *your* version's parser (`docs/operators.md` of onnx-tensorrt).
#
# ## 2. Way one: say it with another operator
#
# A transposed convolution also puts a small picture at every fourth pixel and adds where pictures overlap. Its pictures are its
# weights.
#
# **Exercise 1.** Write the fold (side 8, stride 4, padding 2) as one `functional.conv_transpose2d`.

# %% nbgrader={"grade_id": "why-rewrite", "solution": true}
def rewritten(patches):
    """patches [n, c * 64, h, w] -> [n, c, 4 h, 4 w]."""
    ### BEGIN SOLUTION
    channels = patches.shape[1]
    weights = torch.eye(channels).view(channels, -1, 8, 8)
    return functional.conv_transpose2d(patches, weights, stride=4, padding=2)
    ### END SOLUTION

# %% nbgrader={"grade_id": "why-rewrite-test", "grade": true, "points": 2}
check("why-rewrite")

# %% [markdown]
# Three lines, and no version of TensorRT is in the way. (If only a convolution stood before the fold, both would be one
# transposed convolution with the convolution's own weights: the fold would be gone. Here a tanh lies between.)
#
# ## 3. Way two: take it apart
#
# 191 of 192 weights of that convolution are zeros. Without multiplying: split each patch into 2 × 2 quarters of 4 × 4 pixels.
# Quarters of one kind do not overlap; side by side they are an image. So the fold is four images, shifted and added.
#
# **Exercise 2.** Write it with `unflatten`, `functional.pixel_shuffle`, `functional.pad`, `+` and slices.

# %% nbgrader={"grade_id": "why-decompose", "solution": true}
def decomposed(patches):
    """patches [n, c * 64, h, w] -> [n, c, 4 h, 4 w]."""
    ### BEGIN SOLUTION
    parts = patches.unflatten(1, (-1, 2, 4, 2, 4))        # c, quarter's row, row in it, and columns
    total = 0
    for i in range(2):
        for j in range(2):
            image = functional.pixel_shuffle(parts[:, :, i, :, j].flatten(1, 3), 4)
            total = total + functional.pad(image, (4 * j, 4 * (1 - j), 4 * i, 4 * (1 - i)))
    return total[:, :, 2:-2, 2:-2]
    ### END SOLUTION

# %% nbgrader={"grade_id": "why-decompose-test", "grade": true, "points": 3}
check("why-decompose")

# %% [markdown]
# ## 4. Way three: cut the model
#
# The engine computes what comes before the node, a framework the rest. Everything that is made before and read behind
# has to cross the border.
#
# **Exercise 3.** Write `cut` with plain `onnx`: two models. The second holds the node `name` and all that depends on it; the
# first holds everything else, also what stands further down in the list. Each has only the inputs, outputs and initializers
# that it needs.

# %% nbgrader={"grade_id": "why-cut", "solution": true}
def cut(model, name):
    """(before, after): two ModelProtos."""
    ### BEGIN SOLUTION
    graph, before, after, waits = model.graph, [], [], set()
    for node in graph.node:
        if node.name == name or waits & set(node.input):
            after.append(node)
            waits |= set(node.output)
        else:
            before.append(node)
    typed = {one.name: one for one in onnx.shape_inference.infer_shapes(model).graph.value_info}
    typed |= {one.name: one for one in (*graph.input, *graph.output)}
    read = {tensor for node in after for tensor in node.input}
    made = [tensor for node in before for tensor in node.output]
    crossing = [typed[tensor] for tensor in made if tensor in read]
    ends = [one for one in graph.output if one.name in made and one.name not in read]
    second = [*crossing, *(one for one in graph.input if one.name in read)]

    def part(nodes, inputs, outputs):
        used = {tensor for node in nodes for tensor in node.input}
        weights = [one for one in graph.initializer if one.name in used]
        new = helper.make_graph(nodes, "part", inputs, outputs, weights)
        return helper.make_model(new, opset_imports=model.opset_import, ir_version=model.ir_version)

    first = part(before, list(graph.input), [*crossing, *ends])
    return first, part(after, second, [one for one in graph.output if one.name in waits])
    ### END SOLUTION

# %% nbgrader={"grade_id": "why-cut-test", "grade": true, "points": 3}
check("why-cut")

# %%
cut, rewritten = solved("why-cut", cut), solved("why-rewrite", rewritten)
decomposed = solved("why-decompose", decomposed)
before, after = cut(model, "fold")
for one in after.graph.input:
    sides = [side.dim_value for side in one.type.tensor_type.shape.dim]
    megabytes = 4 * torch.Size(sides).numel() / 1e6
    print(f"{one.name} {sides} crosses the border: {megabytes:.1f} MB in FP32, "
          f"{image.nbytes / 1e6:.1f} MB come back")

# %% [markdown]
# The patches hold four times as many numbers as the image. On one GPU they stay where they are. If the rest runs on the CPU, they
# cross PCI Express, and the GPU waits.
#
# ## 5. Way four: let a partitioner cut (read, not run)
#
# What you wrote, automatically: ONNX Runtime's TensorRT provider asks the parser which nodes it would take (the list in part 1),
# builds an engine of each part, and gives the others to its CUDA or CPU provider. `torch_tensorrt.compile` does it with
# PyTorch's graph; `min_block_size` says how few nodes are not worth an engine. Nothing to maintain; but several engines in
# place of one, a border at each cut, and after an update of either side perhaps other cuts. Look at the log for what runs where.
#
# ## 6. What each costs, on this CPU
#
# ONNX Runtime has Col2Im, so here the model runs whole, too. That is a CPU and another runtime: the order on a GPU is its own.
#
# **Predict:** which of the two forms of the fold takes longer here?
# - `"rewritten"`: it multiplies by zeros, or `"decomposed"`: it goes through memory more often, or `"neither"`

# %%
guess = None   # "rewritten", "decomposed" or "neither"

# %%
def session(data):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


forms = {}
for name, function in {"rewritten": rewritten, "decomposed": decomposed}.items():
    export(restorer.Restorer(function), (image,), f"artifacts/{name}.onnx", input_names=["image"],
           output_names=["restored"], target="8.6")
    forms[name] = open(f"artifacts/{name}.onnx", "rb").read()
forms["Col2Im, whole"] = model.SerializeToString()
sessions = {name: session(data) for name, data in forms.items()}
first, feeds = session(before.SerializeToString()), {"image": image.numpy()}
ways = {name: lambda s=one: torch.from_numpy(s.run(None, feeds)[0]) for name, one in sessions.items()}
ways["cut, rest in PyTorch"] = lambda: functional.fold(
    torch.from_numpy(first.run(None, feeds)[0]), (256, 256), 8, padding=2, stride=4)
exact = restorer.Restorer()(image).detach()
found = bench.compare_many(ways, rounds=15, max_seconds=8)
for name, call in ways.items():
    error, pair = (call() - exact).abs().max().item(), found.get(name)
    time = next(iter(found.values())).b.p50 if pair is None else pair.a.p50
    times = f"{pair.ratio:.2f} ({pair.low:.2f} to {pair.high:.2f})" if pair else "1"
    print(f"{name:22} {time:6.1f} ms on this CPU, {times} times as fast as rewritten, "
          f"error {error:.0e}")
for one in (restorer.rewritten, restorer.decomposed):
    print(f"{one.__name__}: {len(inspect.getsource(one).splitlines())} lines to maintain")
pair = found["decomposed"]
choice(guess, "neither" if pair.equal else "rewritten" if pair.ratio > 1 else "decomposed",
       "That is ONNX Runtime on this CPU, timed in turns; the interval says whether a "
       "difference was shown.")

# %% [markdown]
# ## 7. What each costs on a GPU, and way five
#
# There the same ways run with TensorRT, and a fifth: a plugin, one kernel that reads each patch once and writes each pixel
# once. You learn to write such a kernel in the next two lessons, and the class around it after them.

# %%
found = recorded.show()

# %% [markdown]
# A plugin is more than its kernel. TensorRT asks it questions, copies it, writes it into the plan and makes it anew from there:

# %%
plot.life_cycle()

# %% [markdown]
# ## Decide
#
# Try the ways in this order, and stop at the first that is fast enough on *your* GPU:
#
# | way | take it if | it costs |
# | --- | --- | --- |
# | another operator, exactly equal | algebra allows it: a fold, a fixed filter, a permutation | a few lines at export |
# | small operators | the builder fuses them, or they are cheap | lines, and kernels that go through memory |
# | cut by hand | the node is the first or the last, and little crosses | two runtimes to deploy |
# | a partitioner | many operators are missing, or they change with each release | a log to watch, borders |
# | a plugin | the operator is slow in pieces, or cannot be said otherwise: data-dependent loops, a fused attention | a kernel, a class, a build for each TensorRT version and GPU, tests |
#
# On one H200 at batch 8 the whole network took {{docs/results/h200/ways/summary.json: results.b8.plugin.p50_ms | .2f}} ms with the plugin and {{docs/results/h200/ways/summary.json: results.b8.rewritten.p50_ms | .2f}} ms with the
# rewrite: is that worth 150 lines? With the rest on the CPU it took {{docs/results/h200/ways/summary.json: results.b8.cut, CPU.p50_ms | .2f}} ms.
#
# One more comes before all of them: a newer TensorRT. Look whether its parser has the operator.
#
# ## Summary
#
# - The parser names the operator and the condition that failed; the list of its version says what it takes.
# - Many operators are a convolution, a permutation or a sum in disguise. Test the rewrite against the original, with odd sizes.
# - A cut costs what crosses it, and depends on who reads what, not on the order in the file.
# - A plugin is the last way, not the first; then it is one kernel that touches memory once.
#
# **Next:** CUDA kernels, from the first index to 16-byte loads.
