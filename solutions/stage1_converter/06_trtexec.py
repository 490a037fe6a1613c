# %% [markdown]
# # trtexec, and without it
#
# trtexec is NVIDIA's command for building and timing an engine. Its numbers are in most reports and issues about
# TensorRT. It is in no pip package, so many people do not have it. You learn to write its command lines and to read
# its output, and you get the same numbers without it.
#
# **Afterwards you can** write a command line for TensorRT 8.6, 10 and 11, read its summary and its files, say why
# your own script measures another number, and find the slowest layers and the tactics that a build tried.
#
# **Time:** 45 minutes. The cells together run for about one minute on a CPU; on one H100 they took 80 s.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | command lines, summaries, files | all of it | nothing |
# | one engine, timed in several ways | ONNX Runtime: CPU times | copies, CUDA graphs, events |
# | times per layer | ONNX Runtime's profiler | TensorRT's profiler |
# | build log | TensorRT-RTX's | TensorRT's, with the tactics it timed |
# | trtexec itself | cannot run | runs, if it is installed |

# %%
import os
import shlex
import subprocess
import sys

import numpy as np
import torch

from course import bench, plot
from course.data import cifar10, preprocess
from course.engine import BuildConfig, Profile, available_runtimes, build
from course.exercises import check, choice, hint, prediction, solved
from course.export import export
from course.machine import look
from course.models import resnet50
from course.plot import builder as plot_builder
from course.profiling import recorded, trtexec, trtexec_command, verbose, warmup
from course.text import text_table

missing = available_runtimes()
gpu, rtx = missing["tensorrt"] is None, missing["rtx"] is None
found = look.ask_tool(*look.tool_places()["trtexec"])
print("trtexec:", found.path or "not on this machine")
print("Engines run on TensorRT, on the GPU." if gpu else
      "Engines run on ONNX Runtime, on the CPU: all measured speeds here are CPU speeds.")

# %%
model = resnet50()
images = cifar10.images("public")
pixels = images.pixels[:8]
ready = preprocess.classifier(pixels)            # float32 [8, 3, 224, 224], what the network takes
path = "artifacts/resnet50.onnx"
print(export(model, (torch.from_numpy(ready[:2]),), path, input_names=["image"],
             output_names=["logits"], dynamic={"image": {0: "batch"}}, exporter="torchscript",
             once=True))                         # a copy, if this machine has exported it before

# %% [markdown]
# ## 1. One task, three command lines
#
# trtexec comes with TensorRT's tar file, Debian packages and containers. It takes an ONNX file, builds an engine,
# and runs it on random input for some seconds.
#
# The task: build for batch 1 to 16, tuned for 8, without TF32. Time batch 8, with a CUDA graph and without copies.

# %%
profile = Profile({"image": ((1, 3, 224, 224), (8, 3, 224, 224), (16, 3, 224, 224))})
task = {"precision": "fp32", "profile": profile, "cuda_graph": True, "transfers": False,
        "save_engine": "resnet50.plan"}
for generation in trtexec_command.GENERATIONS:
    words = trtexec_command.command(path, generation=generation, **task)
    print(f"TensorRT {generation}\n  " + " \\\n    ".join(words))

# %% [markdown]
# The line for 11 is shorter, since its defaults changed:
#
# | | 8.6 and 10 | 11 |
# | --- | --- | --- |
# | CUDA graph | off, `--useCudaGraph` | on, `--noCudaGraph` |
# | spin wait: the CPU asks again and again whether the GPU is done | off, `--useSpinWait` | on, `--noSpinWait` |
# | copies of inputs and outputs | timed, `--noDataTransfers` | not timed, `--includeDataTransfers` |
# | precision | `--fp16`, `--int8`, `--best` | no such flags: as the ONNX model says |
#
# So the same command line measures different things with 10 and 11. **Look at the version first** when you compare
# two numbers.
#
# **Exercise 1.** Write two command lines as lists of words, for TensorRT 10 and for 11. Both build a plan
# `artifacts/resnet50.plan` in **FP16** for batch 1 to 16, tuned for 8, and time batch 8 with a CUDA graph and without
# copies. For 10 the model is `artifacts/resnet50.onnx`. For 11 it is `artifacts/resnet50_fp16.onnx`, which has FP16
# inside. (Nothing is run here.)

# %% nbgrader={"grade_id": "trtexec-command", "solution": true}
words_10 = ["trtexec", "--onnx=artifacts/resnet50.onnx"]
words_11 = ["trtexec", "--onnx=artifacts/resnet50_fp16.onnx"]
### BEGIN SOLUTION
both = ["--minShapes=image:1x3x224x224", "--optShapes=image:8x3x224x224",
        "--maxShapes=image:16x3x224x224", "--saveEngine=artifacts/resnet50.plan"]
words_10 += [*both, "--fp16", "--useCudaGraph", "--noDataTransfers"]
words_11 += both
### END SOLUTION

# %% nbgrader={"grade_id": "trtexec-command-test", "grade": true, "points": 3}
check("trtexec-command")

# %% [markdown]
# ## 2. Read the summary
#
# The next cell prints what trtexec printed at the end of a real run: version 8.6.0, ResNet-50 in FP16 at batch 8, on
# an H200. All samples in this lesson are such recordings. Your own numbers come in part 4.

# %%
sample = recorded.text("fp16_b8_load.log")
print(sample.splitlines()[0], "\n")
print("\n".join(line[22:112] for line in sample.splitlines()[3:10]))          # no dates, and cut off

# %%
result = trtexec.read_log(sample)
columns = ("median ms", "mean ms", "p99 ms", "max ms")
print(f"TensorRT {result.version}: {result.throughput:.0f} queries/s (recorded)")
print(text_table(("recorded", *columns), result.rows()))

# %% [markdown]
# - A **query** is one batch, not one image. At batch 8 multiply by 8.
# - **H2D Latency** and **D2H Latency**: the copies from host to device and back.
# - **GPU Compute Time**: from an event before the first kernel to an event after the last, the gaps between kernels
#   included.
# - **Latency** = H2D + GPU compute + D2H.
# - **Enqueue Time**: what the CPU needs to launch all kernels of a query. It happens while the GPU computes.
#
# If each query waited for the one before, one latency times the queries in a second would be one second. Multiply the
# throughput with the mean latency in the table (in seconds). **Predict** first: how many queries are under way at once?

# %%
guess = None   # your number: queries

# %%
trace = trtexec.read_times(recorded.text("fp16_b8.times.json"))     # of --exportTimes, the first 60
under_way = result.throughput * result.latency.mean / 1000
prediction(guess, under_way, "queries under way at once, in this run")
plot_builder.timeline(trace, 6, "Six queries in trtexec (recorded)")

# %% [markdown]
# trtexec does not wait for a query before it starts the next one. The next input is copied while the GPU computes.
# So more queries come out per second than 1 / latency.
#
# **Exercise 2.** Write `throughput(trace)`: queries per second. A trace has arrays, one number per query, all in ms:
# `h2d_start`, `h2d_end`, `compute_start`, `compute_end`, `d2h_start`, `d2h_end`, and the durations `h2d`, `compute`,
# `d2h` and `latency`.

# %% nbgrader={"grade_id": "trtexec-throughput", "solution": true}
def throughput(trace):
    """Queries per second, from the first start to the last end."""
    ### BEGIN SOLUTION
    return 1000 * len(trace.compute) / (trace.d2h_end[-1] - trace.h2d_start[0])
    ### END SOLUTION

# %% nbgrader={"grade_id": "trtexec-throughput-test", "grade": true, "points": 3}
check("trtexec-throughput")

# %% [markdown]
# ## 3. Is the GPU waiting for the CPU?
#
# A small network can be **launch-bound**: the CPU launches kernels more slowly than the GPU runs them, and the GPU
# waits in between. Enqueue minus compute does not tell you how long. trtexec's compute time begins before the first
# launch and ends behind the last, so the gaps are in it, and it rises along with the enqueue time.
#
# trtexec warns by a rule of its own: the run may be launch-bound if the median enqueue time is **more than 0.8 of the
# median GPU compute time** (samples/common/sampleReporting.cpp). It then advises `--useCudaGraph`, which launches all
# kernels at once.
#
# **Exercise 3.** Write that rule: `launch_bound(result)` is `True` or `False`. A result has `enqueue`, `compute` and
# `latency`, each with `median` and `mean` in ms.

# %% nbgrader={"grade_id": "trtexec-launch-bound", "solution": true}
def launch_bound(result):
    """Whether trtexec would warn that launching limits this run."""
    ### BEGIN SOLUTION
    return result.enqueue.median > 0.8 * result.compute.median
    ### END SOLUTION

# %% nbgrader={"grade_id": "trtexec-launch-bound-test", "grade": true, "points": 4}
check("trtexec-launch-bound")

# %% [markdown]
# Two engines were timed with and without a CUDA graph: ResNet-50 at batch 8, and an MLP of three layers at batch 1.
# **Predict:** for which of them does the graph take the enqueue time below the limit: `"the MLP"`, `"ResNet-50"`,
# `"both"`, or was `"neither"` above it?

# %%
guess = None   # one of the four

# %%
judge = solved("trtexec-launch-bound", launch_bound)
runs = {name: trtexec.read_log(recorded.text(f"{name}.log")) for name in recorded.RUNS}
print(text_table(("recorded run", "enqueue ms", "compute ms", "ratio", "launch-bound"), [
    (name, run.enqueue.median, run.compute.median, run.enqueue.median / run.compute.median,
     "yes" if judge(run) else "") for name, run in runs.items()]))
choice(guess, "the MLP", "Only its launches took longer than 0.8 of its kernels. ResNet-50 was "
       "below the limit and gained all the same: the gaps between its kernels became shorter.",
       ("the MLP", "ResNet-50", "both", "neither"))

# %% [markdown]
# (The MLP's runs shared their card with other work: do not take its times for more than the ratio.)
#
# A script of your own measures more than this: its copies, preparing the input, Python, and waiting for the answer.
#
# ## 4. One engine, several numbers
#
# Now on your machine: one engine, one batch, timed in several ways. Each of them is somebody's "inference time".
#
# **Predict:** how many times as long does the slowest of these ways take as the fastest?

# %%
guess = None   # your number: times as long

# %%
size = 8 if gpu else 2                           # a batch that does not take long on a CPU
pixels, ready = pixels[:size], ready[:size]
config = BuildConfig("tf32" if gpu else "fp32", profiles=Profile.batch(path, size, size, size),
                     optimization_level=1, timing_cache="artifacts/timing.cache")
engine = build(path, config)
ways = {"prepare, then run": lambda: engine.run({"image": preprocess.classifier(pixels)}),
        "NumPy in, NumPy out": lambda: engine.run({"image": ready})}
if gpu:
    tensor = torch.from_numpy(ready).cuda()
    captured = engine.capture({"image": tensor})

    def wait(work):
        work()
        torch.cuda.synchronize()

    ways |= {"GPU tensors, wait": lambda: wait(lambda: engine.run({"image": tensor})),
             "CUDA graph, wait": lambda: wait(captured.replay)}
else:
    one = build(path, BuildConfig("fp32", profiles=Profile.batch(path, 1, 1, 1)))
    ways[f"{size} times batch 1"] = lambda: [one.run({"image": ready[i:i + 1]})
                                             for i in range(size)]
timed = bench.compare_many(ways, rounds=100 if gpu else 30, max_seconds=10)     # by the wall clock
samples = [next(iter(timed.values())).b, *(pair.a for pair in timed.values())]
if gpu:

    def again():
        return engine.run({"image": tensor})

    samples += [bench.measure(again, label="GPU tensors, no wait", clock=warmup.LaunchClock(),
                              max_seconds=2),
                bench.measure(again, label="GPU tensors, CUDA events", device="cuda",
                              max_seconds=2)]
medians = [s.p50 for s in samples]
prediction(guess, max(medians) / min(medians), "times as long")
panel = f"batch {size}, {engine.runtime} on the {'GPU' if gpu else 'CPU'}"
plot.latency({panel: samples}, "The same engine, the same images")

# %% [markdown]
# - *Prepare, then run* has resizing and normalising in it. trtexec never does: it feeds random numbers.
# - *NumPy in, NumPy out* is trtexec's **Latency**, plus Python. On a GPU both copies are in it.
# - *2 times batch 1* (on a CPU) handles the same images. It is another query: look at the batch size first.
# - *GPU tensors, wait* is a little more than **GPU Compute Time**, as most of the launching happens while the GPU
#   computes. *CUDA graph* takes most of the launching away, and the pauses between kernels with it.
# - *GPU tensors, no wait* is a mistake that is often made: `run` returns before the GPU is done. It is the **Enqueue
#   Time**. `course.bench` with `device="cuda"` uses events on the GPU's own clock and cannot fall into this.
#
# Medians on one H100 (batch 8, TF32): 2.26 ms with preparing, 1.49 ms from NumPy to NumPy; with GPU tensors 1.19 ms
# with waiting, 0.929 ms as a CUDA graph, 0.389 ms without waiting, 1.11 ms by events. The graph beats the events: they
# timed runs without a graph, pauses included.
#
# And which number do you take of all the samples? The first run of an engine, and the mean with a few slow runs in
# it, are not what a steady service sees. **Predict:** how many times as long as the median is the very first run of a
# fresh engine?

# %%
guess = None   # your number: times as long

# %%
fresh = build(path, config)                      # on a GPU its tactics come from the timing cache
times = warmup.every_run(lambda: fresh.run({"image": ready}), 20)
fresh.close()
prediction(guess, times[0] / np.median(times), "times as long")
print(text_table(("number", "ms"), [
    ("first run", float(times[0])), ("mean of all 20", float(times.mean())),
    ("mean without the first", float(times[1:].mean())), ("median", float(np.median(times)))]))

# %% [markdown]
# In the first run memory is taken, kernels are loaded and caches are filled: 8.46 ms against a median of 1.47 ms on one
# H100. trtexec warms up for 200 ms before it counts; `course.bench` warms up until the times settle.
#
# ## 5. The same without trtexec
#
# `course build` needs pip packages alone. It builds, times, and writes the same kinds of files. We start it as a
# program, as you would in a terminal.

# %%
words = [sys.executable, "-m", "course", "build", path, "-o", "artifacts/resnet50.engine",
         "--batch", f"{size},{size},{size}", "--precision", config.precision, "--level", "1",
         "--timing-cache", "artifacts/timing.cache", "--times", "artifacts/times.json",
         "--layer-profile", "artifacts/layers.json"]
plain = {**os.environ, "COLUMNS": "100", "FORCE_COLOR": "",         # no colours, no moving line
         "PYTHONIOENCODING": "utf-8"}                               # it writes UTF-8, we read UTF-8
done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", env=plain)
print("$ course", shlex.join(words[3:]).replace(" --", " \\\n    --"), "\n")
print(done.stdout, done.stderr)

# %%
measured = bench.load("artifacts/times.json").result
times = measured.milliseconds
print(f"course build on the {measured.device_name}, {len(times)} samples")
row = (f"batch {size}", measured.p50, float(times.mean()), measured.p99, float(times.max()))
print(text_table(("", *columns), [row]))
print(f"{1000 / measured.p50:.1f} queries/s, {measured.items_per_second:.1f} images/s")
plot.latency({f"batch {size}": [measured]}, "course build" + ("" if gpu else " (CPU)"))

# %% [markdown]
# On one H100 this build took 17.5 s, though the timing cache was full: the first build of a process also starts CUDA
# and loads TensorRT's libraries.
#
# NVIDIA's Polygraphy is another way, and `pip install polygraphy` gets it. The same task in its words:
#
# ```
# polygraphy convert artifacts/resnet50.onnx --convert-to trt -o resnet50.plan --fp16 \
#     --trt-min-shapes image:[1,3,224,224] --trt-opt-shapes image:[8,3,224,224] \
#     --trt-max-shapes image:[16,3,224,224]
# polygraphy run artifacts/resnet50.onnx --trt --onnxrt --input-shapes image:[8,3,224,224]
# ```
#
# (Not run here.) The second command runs TensorRT and ONNX Runtime on the same input and compares their answers, which
# trtexec cannot.
#
# If trtexec is here, the next cell runs it on the same model.

# %%
if found.path and gpu:
    import tensorrt

    major = tensorrt.__version__.split(".")[0]
    generation = {"8": "8.6", "10": "10"}.get(major, "11")
    words = trtexec_command.command(path, generation=generation, transfers=False, level=1,
                                    profile=config.profiles[0], program=found.path)
    real = trtexec_command.run(words)
    print(f"trtexec {real.version}, measured on this machine")
    print(text_table(("line", *columns), real.rows()))
    print(f"course build: median {measured.p50:.3f} ms")
else:
    print("Nothing was run:", "there is no GPU with TensorRT here." if not gpu else
          "trtexec is not here. TensorRT's tar file, Debian packages and containers have it.")
    print("`course build` above gave the numbers that you need; go on.")

# %% [markdown]
# ## 6. Which layers are slow?
#
# `--exportProfile` writes the time of each layer, and so did `course build --layer-profile`, in the same format. The
# profiler costs time, and lets no two layers overlap. Use its shares, not its sum.
#
# **Exercise 4.** Write `layers_for(rows, share)`: the smallest number of layers that together take at least this
# share (0 to 1) of the time. A row has `name`, `mean_ms` and `share`.

# %% nbgrader={"grade_id": "slowest-layers", "solution": true}
def layers_for(rows, share):
    """Fewest layers whose times add up to `share` of the whole."""
    ### BEGIN SOLUTION
    wanted, total = share * sum(row.mean_ms for row in rows), 0.0
    for count, row in enumerate(sorted(rows, key=lambda row: -row.mean_ms), start=1):
        total += row.mean_ms
        if total >= wanted * (1 - 1e-9):
            return count
    return len(rows)
    ### END SOLUTION

# %% nbgrader={"grade_id": "slowest-layers-test", "grade": true, "points": 2}
check("slowest-layers")

# %% [markdown]
# **Predict:** how many of the layers of ResNet-50 make up half of its time?

# %%
guess = None   # your number: layers

# %%
rows = trtexec.read_profile("artifacts/layers.json")
fewest = solved("slowest-layers", layers_for)
prediction(guess, fewest(rows, 0.5), f"layers of {len(rows)}")
plot_builder.slowest_layers(rows, 10, f"The slowest layers ({engine.runtime})")

# %% [markdown]
# (ONNX Runtime names a fused layer after the last tensor that it makes: `relu` is a convolution with its ReLU. TensorRT
# lists all nodes of a layer; the figure shows the end of the list.)
#
# If few layers take most of the time, look at those: their shapes, their precision, whether something was not fused.
# If the time is spread over many, no single layer is to blame, and only what helps all of them helps: a lower
# precision, a larger batch. On one H100, 21 of 60 layers made up half, and the slowest took 5.4 %.
#
# ## 7. The verbose build log
#
# `trtexec --verbose` prints thousands of lines, and `Engine.build_log` has the same. `read_build_log` makes tables of
# them: fusions, tactics, memory, warnings.

# %%
built = engine
if rtx and not gpu:
    built = build(path, BuildConfig("fp16", profiles=config.profiles, runtime="rtx"))
log = verbose.read_build_log(built.build_log)
print(f"{built.runtime} {built.runtime_version}: {log}\n")
print(text_table(("memory", "bytes"), list(log.memory.items())), "\n")
print(text_table(("phase", "seconds"), list(log.seconds.items())))
print("\nWarnings:", *(log.warnings or ("none",)), sep="\n  ")

# %% [markdown]
# The phases overlap: "Engine generation" has the selection of tactics in it. A warning about INT64 comes with nearly
# every ONNX file, whose shapes are INT64; it matters only for numbers beyond 2 billion.
#
# TensorRT-RTX compiles the whole network at once and times nothing when it builds, so its log has no table of
# tactics. TensorRT's log has one line for every kernel that it timed. In FP16 it may also warn of *subnormal* weights:
# numbers so small that FP16 keeps only some of their digits. For most networks that is harmless; check the accuracy.
#
# Tactics as TensorRT logs them (on a GPU yours, else a recording: three convolutions of ResNet-50 in FP16, batch 8, on
# an H200). A layer is tuned once for
# each combination of data layouts, and each has its own winner, so one layer may say "yes" several times.

# %%
tactics = [tactic for tactic in log.tactics if tactic.ms is not None]
origin = "your build" if tactics else "the recorded build"
if not tactics:
    tactics = list(verbose.read_build_log(recorded.text("fp16_b8_tactics.log")).tactics)
print(f"Tactics of {origin}:\n")
print(text_table(("layer", "tactic", "end of the kernel's name", "ms", "chosen"),
                 [(t.layer, t.id, t.name[-32:], t.ms, "yes" if t.chosen else "")
                  for t in tactics[:12]], 34))

# %% [markdown]
# **Exercise 5.** What is tuning worth? Write `gain(tactics)`: how many times as long would the network take if each
# layer used its slowest timed tactic instead of its fastest? A tactic has `layer` and `ms`; `ms` is `None` where
# nothing was timed. Take all formats of a layer together.

# %% nbgrader={"grade_id": "tuning-gain", "solution": true}
def gain(tactics):
    """Time with the slowest tactics over time with the fastest."""
    ### BEGIN SOLUTION
    times = {}
    for tactic in tactics:
        if tactic.ms is not None:
            times.setdefault(tactic.layer, []).append(tactic.ms)
    return sum(map(max, times.values())) / sum(map(min, times.values()))
    ### END SOLUTION

# %% nbgrader={"grade_id": "tuning-gain-test", "grade": true, "points": 3}
check("tuning-gain")

# %%
worth = solved("tuning-gain", gain)
print(f"In {origin} the slowest tactics would take {worth(tactics):.1f} times as long.")
engine.close()

# %% [markdown]
# ## Summary
#
# - trtexec's **defaults changed with 11**: CUDA graph and spin wait on, copies off, no precision flags. Give the
#   version with every number.
# - A **query** is a batch. **Latency** is copy + compute + copy. **Throughput** is more than 1 / latency, because
#   queries overlap.
# - A run is **launch-bound** by trtexec's rule if enqueue > 0.8 × compute; a CUDA graph helps it. Compute time holds
#   the gaps between kernels, so enqueue minus compute says nothing.
# - A script differs by **copies, launching, preparing, warm-up, the batch, and waiting**. Look at each before you call
#   one of the two wrong.
# - A time without waiting for the GPU is the enqueue time.
# - Take the **median** of warm runs. The first run is another thing.
# - `course build` and Polygraphy do the same with pip packages; `--layer-profile` and `Engine.build_log` show where
#   time goes and what the builder tried.
#
# **Next:** the milestone. You convert ResNet-50 to FP16, and the grader measures your file.
