# %% [markdown]
# # What the builder does
#
# `build()` takes an ONNX file and gives an engine. In between it does four things: it fuses layers, it plans
# memory, it measures kernels, and it writes the result for one kind of GPU. You will see each of them, and
# measure what it is worth.
#
# **Afterwards you can** say which layers were fused and what that saves, read how much memory an engine needs and
# why it allocates none while it runs, use optimisation levels and a timing cache, and explain why an engine file
# does not run elsewhere.
#
# **Time:** 60 minutes. The cells together run for about one minute on a CPU; on one H100 they took 136 s.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | fusion | ONNX Runtime's fused graph, and TensorRT-RTX's list of kernels | TensorRT's own layers |
# | what fusion is worth | measured with ONNX Runtime: CPU speeds | GPU speeds |
# | memory plan | you write one, and compare it with TensorRT-RTX's | TensorRT's number, and a trace of its allocations |
# | tuning | you write a tuner for convolutions of PyTorch | builds at two levels, with and without a timing cache |

# %%
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from course import bench, plot
from course.data import cifar10, preprocess
from course.engine import (
    BuildConfig,
    Profile,
    available_runtimes,
    build,
    container,
    load,
    network_layers,
)
from course.errors import CourseError
from course.exercises import check, hint, prediction, solved
from course.export import export
from course.models import resnet50
from course.plot import builder as plot_builder
from course.profiling import allocations, verbose
from course.profiling.steps import Tensor, fused_steps, most_live, tensor_bytes
from course.text import text_table

missing = available_runtimes()           # runtime -> None if it works here, else the reason
gpu = missing["tensorrt"] is None
rtx = missing["rtx"] is None
batch = 8 if gpu else 1
print("Engines run on TensorRT, on the GPU." if gpu else
      "Engines run on ONNX Runtime, on the CPU: all speeds here are CPU speeds.")
print("TensorRT-RTX builds here, too." if rtx else
      "TensorRT-RTX is not here: what needs it is skipped.")

# %%
model = resnet50()
images = cifar10.images("public")
path = "artifacts/resnet50.onnx"
example = torch.from_numpy(preprocess.classifier(images.pixels[:2]))
print(export(model, (example,), path, input_names=["image"], output_names=["logits"],
             dynamic={"image": {0: "batch"}}, exporter="torchscript",
             once=True))                        # a copy, if this machine has exported it before
nodes = network_layers(path, "onnxruntime")     # the ONNX nodes, one Layer each


def settings(**more):
    """The same configuration for every engine of this lesson, but for what is in `more`."""
    usual = {"profiles": Profile.batch(path, batch, batch, batch), "optimization_level": 1,
             "timing_cache": "artifacts/timing.cache"}
    return BuildConfig("tf32" if gpu else "fp32", **{**usual, **more})

# %% [markdown]
# ## 1. Fusion: how many layers are left?
#
# A GPU runs a network as a list of kernels. Each kernel reads its inputs from memory and writes its result back.
# For a ReLU that is nearly all of the work: one comparison per number, but the whole tensor is read and written.
# **Fusion** lets one kernel do the work of several nodes, so that what is between them never goes to memory.
#
# The file has this many nodes. **Predict:** how many layers has the engine?

# %%
print(len(nodes), "ONNX nodes")
guess = None   # your number: layers

# %%
engine = build(path, settings())
layers = engine.layers()
prediction(guess, len(layers), "layers")
engines = [engine]
if rtx and not gpu:
    seen = build(path, settings(runtime="rtx"))
    engines.append(seen)
print(text_table(("runtime", "version", "layers", "seconds to build"),
                 [(e.runtime, e.runtime_version, len(e.layers()), e.build_seconds)
                  for e in engines]))
plot.fusion(nodes, engines[-1].layers())

# %% [markdown]
# Each row is one layer of the engine, with the ONNX nodes that it replaces. A convolution takes in the ReLU that
# follows it, and at the end of a block the addition of the skip connection as well. Where the table has two runtimes:
# they were written independently, and fuse nearly the same nodes.
#
# The names: TensorRT calls a layer that runs a kernel of its library "Cask…". A "Reformat" only changes the layout
# of a tensor, and a "NoOp" does nothing. TensorRT-RTX calls a convolution "correlation", and a kernel that it
# generates for itself "kgen".
#
# **Exercise 1.** What fusion saves are tensors that are never written. Write `hidden(nodes, layers)`: the names of
# all tensors that one layer makes and that nothing outside of this layer reads.
#
# A node has `name`, `inputs` and `outputs` (each with a `name`). A layer has `onnx_nodes`, the names of the nodes
# that it replaces. The network's output has no reader, and is written.

# %% nbgrader={"grade_id": "fusion-hidden", "solution": true}
def hidden(nodes, layers):
    """Set of the names of the tensors that stay inside one layer."""
    ### BEGIN SOLUTION
    home = {name: number for number, layer in enumerate(layers) for name in layer.onnx_nodes}
    readers = {}
    for node in nodes:
        for tensor in node.inputs:
            readers.setdefault(tensor.name, []).append(node.name)
    names = set()
    for node in nodes:
        for tensor in node.outputs:
            places = {home.get(reader, reader) for reader in readers.get(tensor.name, ())}
            if places == {home.get(node.name)}:
                names.add(tensor.name)
    return names
    ### END SOLUTION

# %% nbgrader={"grade_id": "fusion-hidden-test", "grade": true, "points": 3}
check("fusion-hidden")

# %% [markdown]
# **Predict:** at batch 8, how many MB does fusion keep out of memory in one run?

# %%
guess = None   # your number: MB

# %%
sizes = tensor_bytes(nodes, batch=8)
hidden = solved("fusion-hidden", hidden)
unwritten = hidden(nodes, layers)
saved, everything = sum(sizes[name] for name in unwritten) / 1e6, sum(sizes.values()) / 1e6
prediction(guess, saved, "MB")
print(f"{len(unwritten)} of {len(sizes)} tensors are never written.")
written = {"every ONNX tensor": everything, "tensors that are written": everything - saved}
plot_builder.bars(written, "MB", "Tensors of one run at batch 8", "in FP32 (less is better)")

# %% [markdown]
# Every hidden tensor would be written once and read at least once. And each layer that is gone is a kernel that nobody
# has to launch: for a small batch that can be worth more than the bytes.
#
# ## 2. What is fusion worth?
#
# People name numbers, mostly without saying how they were measured. We can measure: a tensor that is an *output* of the
# engine must be written, so no kernel can swallow it. `BuildConfig(keep_outputs=...)` marks inner tensors as outputs.
#
# **Exercise 2.** Put names into `keep` so that no addition is fused with a convolution any more. Use at most 20
# names. Look at the layers of your engine before you check: builders look for another way.

# %% nbgrader={"grade_id": "fusion-break", "solution": true}
keep = []
### BEGIN SOLUTION
maker = {tensor.name: node for node in nodes for tensor in node.outputs}
summands = [tensor.name for node in nodes if node.kind == "Add" for tensor in node.inputs]
keep = [name for name in summands if maker[name].kind == "Conv"]
### END SOLUTION
broken = build(path, settings(keep_outputs=keep))
print(f"{len(keep)} tensors kept: {len(layers)} layers became {len(broken.layers())}")

# %% nbgrader={"grade_id": "fusion-break-test", "grade": true, "points": 3}
check("fusion-break")

# %% [markdown]
# A fair test needs a control. `broken` differs from `engine` in two ways: it has fewer fusions, *and* it returns 20
# more tensors. So we build a third engine, which returns 20 more tensors of the same sizes, but such as are written
# anyway: the 16 block outputs, and those of your tensors that no layer hid. No fusion is lost there.
#
# **Predict:** how much longer does `broken` take than the control, in percent?

# %%
guess = None   # your number: percent longer

# %%
broken = solved("fusion-break", broken, nodes=nodes)
sums = {node.outputs[0].name for node in nodes if node.kind == "Add"}
blocks = [node.outputs[0].name for node in nodes
          if node.kind == "Relu" and node.inputs[0].name in sums]
more = [spec.name for spec in broken.outputs if spec.name != "logits"]
already = [name for name in more if name not in unwritten]
control = build(path, settings(keep_outputs=blocks + already))
lost = {name: len(unwritten) - len(hidden(nodes, other.layers()))
        for name, other in {"control": control, "broken": broken}.items()}
print(f"Tensors that were hidden before, and are written now: {lost}")
device = "cuda" if gpu else "cpu"
x = torch.from_numpy(preprocess.classifier(images.pixels[:batch])).to(device)
runs = {"control: more outputs": control, "fused": engine, "fusions broken": broken}
# Each of the others is compared with the first.
compared = bench.compare_many({name: lambda e=e: e.run({"image": x}) for name, e in runs.items()},
                              device=device, items=dict.fromkeys(runs, batch), rounds=60,
                              max_seconds=10 if gpu else 5)
slower = compared["fusions broken"]
prediction(guess, 100 * (1 / slower.ratio - 1), "percent longer")
for result in compared.values():
    print(result)
panel = f"batch {batch}, {engine.runtime} on the {'GPU' if gpu else 'CPU'}"
samples = [compared["fused"].a, slower.b, slower.a]
plot.latency({panel: samples}, "The same network with fewer fusions")

# %% [markdown]
# "Fused" against the control is the price of returning tensors. "Fusions broken" against the control is what these
# fusions are worth. Look at its interval first: if it holds 1, this machine was too busy to tell. (Some of the new
# layers only bring an output into its plain layout. The control has such layers, too.)
#
# On one H100 (TensorRT 8.6.0, TF32, batch 8) the fused engine took 1.15 ms, the control 1.64 ms and the broken engine
# 1.78 ms (medians). Without a control you would say that these fusions are worth 55 %. With it the broken engine takes
# 1.08 times as long (95 % interval 1.07 to 1.10): 8 %. That is the worth of the 16 fusions that were broken; 49 other
# tensors stayed hidden. (The page of that run, and all others: [docs/results/README.md](../docs/results/README.md) in
# the course's folder.)
#
# So when you keep inner tensors to look for an error, the engine gets slower, and its FP16 errors may change, too:
# what was in a register is now rounded to memory. Take them out again before you measure speed.

# %%
broken.close()
control.close()

# %% [markdown]
# ## 3. A memory plan
#
# PyTorch asks for memory while the network runs, tensor by tensor. An engine knows all shapes beforehand. It
# computes one address for every tensor when it is built, and asks for all of the memory before the first run.
#
# The fused graph as a list of steps, with the tensors that really lie in memory:

# %%
steps = fused_steps(nodes, layers, sorted(unwritten))
print(text_table(("step", "layer", "reads", "writes"),
                 [(number, step.name, ", ".join(step.reads), ", ".join(step.writes))
                  for number, step in enumerate(steps[:5])], 36))

# %% [markdown]
# **Exercise 3.** A tensor's lifetime begins with the step that writes it and ends with the last step that reads it,
# both included. Write `lifetimes(steps, sizes)`: one `Tensor(name, size, first, last)` for each tensor that some
# step writes. `sizes[name]` are its bytes.

# %% nbgrader={"grade_id": "memory-lifetimes", "solution": true}
def lifetimes(steps, sizes):
    """List of Tensor(name, size in bytes, first step, last step)."""
    ### BEGIN SOLUTION
    first, last = {}, {}
    for number, step in enumerate(steps):
        for name in step.writes:
            first[name] = last[name] = number
        for name in step.reads:
            last[name] = number
    return [Tensor(name, sizes[name], first[name], last[name]) for name in first]
    ### END SOLUTION

# %% nbgrader={"grade_id": "memory-lifetimes-test", "grade": true, "points": 2}
check("memory-lifetimes")

# %% [markdown]
# The bytes that are alive in one step need a place at the same time. No plan can do with less than the busiest step
# needs. **Predict:** at batch 8, how many MB are alive in the busiest step? (All tensors together are in the last
# figure of section 1.)

# %%
guess = None   # your number: MB

# %%
tensors = solved("memory-lifetimes", lifetimes)(steps, sizes)
prediction(guess, most_live(tensors) / 1e6, "MB")
plot_builder.lifetimes([(tensor.size, tensor.first, tensor.last) for tensor in tensors])

# %% [markdown]
# The early layers need most: their images are large. Later ones have more channels but far fewer pixels.
#
# **Exercise 4.** Write `plan(tensors)`: a dict from name to address in bytes. Two tensors that are alive in the same
# step must not overlap. Get the highest address low: for ResNet-50 within 1.5 times the busiest step.

# %% nbgrader={"grade_id": "memory-plan", "solution": true}
def plan(tensors):
    """Dict: name of a tensor -> its address in bytes, from 0 up."""
    ### BEGIN SOLUTION
    places, placed = {}, []
    for tensor in sorted(tensors, key=lambda tensor: -tensor.size):
        address = 0
        for other in sorted(placed, key=lambda other: places[other.name]):
            if other.first <= tensor.last and tensor.first <= other.last:   # alive at the same time
                if address + tensor.size <= places[other.name]:
                    break                                                   # it fits in below
                address = max(address, places[other.name] + other.size)
        places[tensor.name] = address
        placed.append(tensor)
    return places
    ### END SOLUTION

# %% nbgrader={"grade_id": "memory-plan-test", "grade": true, "points": 4}
check("memory-plan")

# %%
places = solved("memory-plan", plan, tensors=tensors)(tensors)
peak = max(places[tensor.name] + tensor.size for tensor in tensors)
rectangles = [(tensor.first, tensor.last, places[tensor.name], tensor.size) for tensor in tensors]
plot_builder.memory_map(rectangles, "Your memory plan for ResNet-50, batch 8",
                        bound=most_live(tensors))

# %% [markdown]
# Read it from left to right: a rectangle ends when its last reader is done, and another tensor takes its place.
#
# **Predict:** how many MB did NVIDIA's planner take for the same network, at batch 8, with tensors in FP32?

# %%
guess = None   # your number: MB

# %%
totals = {"your plan": peak / 1e6, "busiest step": most_live(tensors) / 1e6,
          "a place for every tensor": sum(tensor.size for tensor in tensors) / 1e6}
eight = Profile.batch(path, 8, 8, 8)
if gpu:
    totals["TensorRT"] = engine.memory().activation_bytes / 1e6      # built for batch 8
elif rtx:
    planned = build(path, BuildConfig("fp32", profiles=(eight,), runtime="rtx"))
    totals["TensorRT-RTX"] = planned.memory().activation_bytes / 1e6
if len(totals) > 3:
    prediction(guess, list(totals.values())[-1], "MB")
else:
    print("Neither TensorRT nor TensorRT-RTX is here: NVIDIA's number stays open.")
    print("`course doctor` says what is missing.")
plot_builder.bars(totals, "MB", "Memory between the layers, batch 8", "(less is better)")

# %% [markdown]
# A real planner has more to do: kernels need scratch memory, layouts pad channels, and addresses must be multiples
# of 256 bytes. The idea is the one that you wrote. `Engine.memory().activation_bytes` tells the number for any
# TensorRT engine: it is what each execution context takes. (On one H100 it was 65.8 MB, where the busiest step needs
# 57.8 MB and a place for every tensor 362 MB.)
#
# ## 4. Allocations while it runs
#
# Does it hold? If everything is planned, a run must ask for no memory at all.
#
# On a CPU we can count that. A page of memory that a process touches for the first time costs a *page fault*, and
# the operating system counts those. **Predict:** how many MB does PyTorch take anew in each run, at batch 8?

# %%
guess = None   # your number: MB per run

# %%
eight_images = torch.from_numpy(preprocess.classifier(images.pixels[:8]))
on_cpu = build(path, BuildConfig("fp32", profiles=eight, runtime="onnxruntime"))


def eager():
    with torch.inference_mode():
        return model(eight_images)


def planned_run():
    return on_cpu.run({"image": eight_images})


fresh = {"PyTorch eager": allocations.fresh_megabytes(eager, 2),
         "engine (ONNX Runtime)": allocations.fresh_megabytes(planned_run, 2)}
prediction(guess, fresh["PyTorch eager"], "MB per run")
plot_builder.bars(fresh, "MB per run", "Memory newly taken in each run (CPU)", "(less is better)")

# %% [markdown]
# PyTorch asks the C library for every tensor and gives it back. The C library keeps what is small, and returns the
# rest to the operating system, so that the next run must ask again: the number changes from machine to machine, and
# even from run to run. The engine keeps what it has planned. What is left, if anything, is the answer itself, and
# Python. (On a GPU PyTorch's caching allocator keeps what was given back, so in a steady state it asks CUDA for nothing
# either. The plan is still worth having: it is smaller, and it does not depend on what ran before.)
#
# On a GPU TensorRT asks an *allocator* for memory, an object that we can replace by one that counts. The next cell
# loads the engine under such an allocator and runs it 101 times. **Predict** the number of requests in the last
# 100 runs.

# %%
guess = None   # your number: requests

# %%
if gpu:
    traced = allocations.trace(engine, {"image": x})
    phases = {"load the engine": traced.loading, "make a context": traced.context,
              "first run": traced.first_run, f"the next {traced.count} runs": traced.runs}
    print(text_table(("phase", "requests", "MB"),
                     [(name, phase.requests, phase.bytes / 1e6) for name, phase in phases.items()]))
    prediction(guess, traced.runs.requests, "requests")
    print(f"Free GPU memory before these runs {traced.free_before / 1e6:.0f} MB, "
          f"after them {traced.free_after / 1e6:.0f} MB.")
else:
    print("Open: this needs a GPU with TensorRT. The text below says what one H100 showed.")

# %% [markdown]
# Loading takes room for the weights, a context takes what section 3 calls the plan. On one H100 these were 94.0 MB and
# 65.8 MB, and then 0 requests in 101 runs.
#
# Why it matters: a request to the GPU's driver can wait for everything that runs, and memory that is asked for in the
# middle of a run can be missing. What an engine needs, it has from the start.
#
# ## 5. Auto-tuning
#
# One convolution can be computed in many ways. TensorRT calls each a **tactic**. Which is the fastest depends on
# the shape and on the GPU, so the builder runs them and takes the winner. Here are three real ways to compute the
# same convolution in PyTorch on a CPU:

# %%
def direct(x, w, stride, pad):
    return F.conv2d(x, w, stride=stride, padding=pad)


def columns(x, w, stride, pad):
    """Copy every patch into a column, then one matrix product."""
    size = w.shape[-1]
    out = (x.shape[-1] + 2 * pad - size) // stride + 1
    patches = F.unfold(x, size, padding=pad, stride=stride)
    return (w.flatten(1) @ patches).view(len(x), len(w), out, out)


def channels_last(x, w, stride, pad):
    """As `direct`, with a pixel's channels side by side in memory. The conversion is part of it."""
    layout = {"memory_format": torch.channels_last}
    return F.conv2d(x.contiguous(**layout), w.contiguous(**layout), stride=stride, padding=pad)


def candidates(shape):
    """Name -> function. shape: (batch, channels in, pixels, channels out, kernel size, stride)."""
    count, channels, pixels, out, size, stride = shape
    x, w = torch.randn(count, channels, pixels, pixels), torch.randn(out, channels, size, size)
    return {f.__name__: lambda f=f: f(x, w, stride, size // 2)
            for f in (direct, columns, channels_last)}


shapes = [(1, 3, 224, 64, 7, 2), (1, 64, 56, 64, 3, 1), (1, 64, 56, 256, 1, 1),
          (1, 1024, 14, 256, 1, 1), (1, 512, 7, 512, 3, 1), (8, 1024, 14, 256, 1, 1)]
first, *others = candidates(shapes[1]).values()
equal = all(torch.allclose(first(), other(), atol=1e-2) for other in others)
print("They compute the same:", equal)

# %% [markdown]
# **Exercise 5.** Write `autotune(key, candidates, cache)`: the name of the fastest candidate.
#
# - `cache` is the path of a file that may not exist yet. If it has an answer for `key`, return it and run nothing.
# - Else time every candidate with `bench.measure(function, warmup_s=0.02, min_samples=10, max_seconds=0.4).p50`
#   (milliseconds), and write the winner into the file, beside what is there already.

# %% nbgrader={"grade_id": "autotune", "solution": true}
def autotune(key, candidates, cache):
    """Name of the fastest of `candidates` (name -> function); the file `cache` keeps answers."""
    ### BEGIN SOLUTION
    known = json.loads(Path(cache).read_text()) if Path(cache).is_file() else {}
    if key not in known:
        times = {name: bench.measure(function, warmup_s=0.02, min_samples=10, max_seconds=0.4).p50
                 for name, function in candidates.items()}
        known[key] = min(times, key=times.get)
        Path(cache).write_text(json.dumps(known))
    return known[key]
    ### END SOLUTION

# %% nbgrader={"grade_id": "autotune-test", "grade": true, "points": 4}
check("autotune")

# %% [markdown]
# **Predict:** for how many of the six shapes is `direct`, the plain `conv2d`, the fastest? (One thread, so that it
# is the arithmetic that we compare.)

# %%
guess = None   # your number: shapes of 6

# %%
threads = torch.get_num_threads()
torch.set_num_threads(1)
measured = {}
for shape in shapes:
    name = f"{shape[0]} × {shape[1]} × {shape[2]}² → {shape[3]}, {shape[4]} × {shape[4]}"
    measured[name] = {
        way: bench.measure(function, warmup_s=0.02, min_samples=10, max_seconds=0.4).p50
        for way, function in candidates(shape).items()}
torch.set_num_threads(threads)
winners = [min(ways, key=ways.get) for ways in measured.values()]
prediction(guess, winners.count("direct"), "shapes of 6")
plot_builder.tuning(measured, "One convolution, three ways (CPU, one thread)")

# %% [markdown]
# If no way wins everywhere, a builder has to measure. That is also why building takes so long: on one H100 the first
# build of this lesson, at level 1, timed over 800 tactics for 48 layers, in several data layouts.
#
# **Predict:** how many times as fast is your tuner when the cache already has all answers?

# %%
guess = None   # your number: times as fast

# %%
autotune = solved("autotune", autotune)
cache = Path("artifacts/convolutions.json")


def tune_all():
    return [autotune(str(shape), candidates(shape), cache) for shape in shapes]


def tune_anew():
    cache.unlink(missing_ok=True)
    return tune_all()


cold = bench.measure(tune_anew, warmup_s=0, min_samples=1, max_seconds=3).p50
warm = bench.measure(tune_all, min_samples=3, max_seconds=2).p50
prediction(guess, cold / warm, "times as fast")
print(f"{cold / 1000:.2f} s with an empty cache, {warm / 1000:.2f} s with a full one.\n"
      f"The file holds (with {threads} threads):")
print(json.dumps(json.loads(cache.read_text()), indent=1))

# %% [markdown]
# With a full cache nearly all of the time goes into the random inputs, which `candidates` still makes.
#
# Some winners may be others than in the figure: there one thread ran, here all of them. Where two ways are nearly
# equal, chance decides, too. The answer belongs to the machine *and* to how it is used.
#
# TensorRT has the same two knobs.
#
# - `optimization_level`, 0 to 5: how many tactics are tried. 0 takes the first that works, 3 is the default, 5 tries
#   most.
# - `timing_cache`, a file: what was measured once is not measured again.
#
# Three builds show what they are worth on a GPU: seconds to build, and ms per run.

# %%
if gpu:
    kept = Path("artifacts/levels.cache")
    kept.unlink(missing_ok=True)
    tried = {"level 0, no cache": build(path, settings(optimization_level=0, timing_cache=None)),
             "level 2, empty cache": build(path, settings(optimization_level=2, timing_cache=kept)),
             "level 2, full cache": build(path, settings(optimization_level=2, timing_cache=kept))}
    print(text_table(("build", "seconds to build", "layers"),
                     [(label, e.build_seconds, len(e.layers())) for label, e in tried.items()]))
    runs = {label: lambda e=e: e.run({"image": x}) for label, e in tried.items()}
    speeds = bench.compare_many(runs, device="cuda", items=dict.fromkeys(runs, batch), rounds=200,
                                max_seconds=8)
    print(*speeds.values(), sep="\n")
elif rtx:
    tried = {f"level {level}": build(path, settings(runtime="rtx", optimization_level=level))
             for level in (0, 3, 5)}
    print(text_table(("TensorRT-RTX", "seconds to build", "layers"),
                     [(label, e.build_seconds, len(e.layers())) for label, e in tried.items()]))
    print(next(line.text for line in tried["level 0"].build_log if "timing cache" in line.text))
    print("Speed by level, and the timing cache, are open: they need a GPU with TensorRT.")
else:
    print("Open: this needs a GPU with TensorRT, or TensorRT-RTX.")
    print("`course doctor` says what is missing.")

# %% [markdown]
# On one H100 the builds took 9.66 s at level 0, 20.3 s at level 2 with an empty cache, and 10.4 s with a full one, one
# build each. Level 2 ran 1.10 times as fast as level 0 (95 % interval 1.09 to 1.11), with either cache. (The very
# first build of a process is no fair comparison: it also starts CUDA and loads TensorRT's libraries. The first one of
# this notebook took 23.7 s there, though it was at level 1.)
#
# TensorRT-RTX leaves the tuning to the machine where the engine runs, so it builds quickly. TensorRT tunes when it
# builds. What it tried stands in the build log, which the next lesson reads.

# %%
log = verbose.read_build_log(engines[-1].build_log)
print(engines[-1].runtime, log, sep=": ")

# %% [markdown]
# ## 6. Two builds, and two machines
#
# The same file, the same settings, twice. **Predict:** how many bytes of the two engines differ?

# %%
guess = None   # your number: bytes

# %%
def bytes_that_differ(config):
    """Size of an engine, and how many bytes of it are others when it is built once more."""
    plans = [build(path, config).save_plan("artifacts/twice.plan").read_bytes() for _ in range(2)]
    one, two = (np.frombuffer(plan, np.uint8) for plan in plans)
    common = min(len(one), len(two))
    return len(one), int((one[:common] != two[:common]).sum()) + abs(len(one) - len(two))


runtime = "tensorrt" if gpu else "rtx" if rtx else "onnxruntime"
rows = [(f"batch {batch} only", *bytes_that_differ(settings(runtime=runtime)))]
if not gpu:                              # two more TensorRT builds would only make you wait
    open_batch = settings(runtime=runtime, profiles=Profile.batch(path, 1, 8, 8))
    rows.append(("batch 1 to 8", *bytes_that_differ(open_batch)))
prediction(guess, rows[-1][2], "bytes")
print(text_table((f"built twice with {runtime}", "bytes", "that differ"), rows))

# %% [markdown]
# Zero is possible, and nobody promises it. (On one H100 it was 0 of 95.8 MB. Both builds read the same timing cache
# there, so they chose the same tactics.) Builders may number things in the order in which threads finish. Where two
# tactics are equally fast and no cache remembers, chance decides which one wins; then the last digits of the answers
# change as well. (An engine of ONNX Runtime holds the ONNX file itself, so there two builds are equal.)
#
# So never compare engines by their hash. Compare their answers, and keep the hash of the ONNX file: the course's
# engine file has it in its header.
#
# An engine holds machine code that was chosen on one GPU, in the format of one TensorRT version. The header says
# which, and `load` compares. First, another network:

# %%
saved = engine.save("artifacts/resnet50.engine")
other = "artifacts/other.onnx"
tiny = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()).eval()
export(tiny, (torch.rand(1, 3, 32, 32),), other, input_names=["image"], output_names=["features"],
       exporter="torchscript")
try:
    load(saved, onnx=other)
except CourseError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# Then an engine from another machine. We have none, so we change what the header says: built with TensorRT 10.3.0 on
# a Tesla T4, to be loaded on an H100 with 10.16.1. This is the check that `load` makes before TensorRT sees a byte.

# %%
header, payload = container.read(saved)
foreign = dataclasses.replace(header, runtime="tensorrt", runtime_version="10.3.0", gpu="Tesla T4",
                              compute_capability="7.5")
try:
    container.require_same_machine(saved, foreign, "10.16.1", "9.0", "NVIDIA H100")
except CourseError as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# What may travel, in NVIDIA's words (Developer Guide, "Engine compatibility"): an engine is meant for the GPU **model**
# it was built on. On another model of the same compute capability (an H200 for an H100) TensorRT loads it with a
# warning: not recommended, it may be slow or fail. Another compute capability fails, another operating system always.
# If you want more, ask for it when you build, at a price in speed or size:
#
# - `HardwareCompatibilityLevel.AMPERE_PLUS` (since 8.6): Ampere and everything newer
# - `HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY` (since 10): all models of one compute capability
# - `BuilderFlag.VERSION_COMPATIBLE` (since 8.6): newer TensorRT versions of the same major version
#
# **Exercise 6.** Write this check, for engines without such a flag, on one operating system. `reasons(header, version, capability, sha256)` returns a list with the words
# `"version"`, `"architecture"` and `"model"`, as many of them as speak against loading; an empty list means go ahead.
# `header` has `runtime_version`, `compute_capability`, `gpu` and `onnx_sha256`. Whether another GPU model of the same
# compute capability counts as another "architecture" is up to you.

# %% nbgrader={"grade_id": "engine-travels", "solution": true}
def reasons(header, version, capability, sha256):
    """Which of "version", "architecture", "model" speak against loading an engine here."""
    ### BEGIN SOLUTION
    differences = {"version": header.runtime_version != version,
                   "architecture": header.compute_capability != capability,
                   "model": header.onnx_sha256 != sha256}
    return [word for word, differs in differences.items() if differs]
    ### END SOLUTION

# %% nbgrader={"grade_id": "engine-travels-test", "grade": true, "points": 2}
check("engine-travels")

# %%
engine.close()

# %% [markdown]
# ## Summary
#
# - **Fusion** gives one kernel the work of several nodes. What it saves are tensors that are never written,
#   and launches.
# - A tensor that you keep as an output cannot be fused away. The price has two parts, and a control tells them apart.
# - An engine's **memory plan** is made when it is built: tensors that do not live at the same time share addresses.
# - While it runs, an engine takes **no memory** for what is between its layers. You counted it.
# - The builder **measures** kernels, since the fastest depends on the shape. Levels say how many it tries, a timing
#   cache remembers the times.
# - Two builds need not give equal bytes. Compare answers.
# - An engine belongs to one TensorRT version, one GPU model, one operating system and one network, unless it was built
#   with a compatibility flag. The ONNX file is what you keep.
#
# **Next:** trtexec, the tool that builds and times engines from the command line, how to read its numbers, and why
# they are not those of your script.
