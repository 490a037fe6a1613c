# %% [markdown]
# # Where the time goes
#
# A request to a vision service is decoded, shrunk, normalised, copied, computed and turned into an answer. The network is
# one stage of several, and often not the longest. Here you take a naive service apart before you make anything faster.
#
# **Afterwards you can** measure the stages of a request without fooling yourself, say in advance what an improvement can
# bring at most, make the right stage faster, and see why memory belongs to the tail of the latencies.
#
# **Time:** 40 minutes. The cells together run for about half a minute on two CPU cores.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | decode, preprocess, answer | real: Pillow, NumPy, PyTorch on the CPU | nothing: these stay on the CPU here |
# | copy and compute | ONNX Runtime, no copy to another memory | **open** here: stage 1 times both with TensorRT |
# | your stop watch | held against stages that only *start* their work, as a GPU's do | the same |

# %%
import io
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from course.exercises import check, choice, hint, solved
from course.exercises.stage4_architect.where_the_time_goes import (compute, decode, frames, name,
                                                                   normalise, service)
from course.plot.stages import timeline

files = frames()       # JPEG files of a camera, 1280 x 960; the images are CIFAR-10's, enlarged
print(f"{len(files)} frames, {len(files[0]) / 1e3:.0f} kB each; the first one is a {service(files[0])}")

# %% [markdown]
# The service in four lines. ResNet-50 takes 112 × 112 pixels here.
#
# ```python
# pixels = decode(file)      # Pillow: uint8 [960, 1280, 3]
# x = normalise(pixels)      # float32, minus mean, over deviation; then shrunk to [1, 3, 112, 112]
# logits = compute(x)        # ResNet-50
# answer = name(logits)      # the largest one's name
# ```
#
# **Predict:** where does most of the time go on this CPU?
# - `"the network"`: fifty layers
# - `"the pixels"`: decode and normalise together
# - `"the answer"`: Python

# %%
guess = None   # one of the three

# %% [markdown]
# ## 1. A stop watch
#
# A stage is a function. It gets what the stage before gave. On a GPU a call often only *starts* the work and comes back at
# once, so a stop watch has to wait for the work, or it measures the launch. `wait()` does that: on a GPU it would be
# `torch.cuda.synchronize()` or `cudaStreamSynchronize`.
#
# **Exercise 1.** Write `taken_apart`.

# %% nbgrader={"grade_id": "time-spans", "solution": true}
def taken_apart(stages, value, wait):
    """stages: name -> function of one value; value: for the first. -> (answer, {name: milliseconds})."""
    ### BEGIN SOLUTION
    spans = {}
    for stage, call in stages.items():
        begin = time.perf_counter()
        value = call(value)
        wait()
        spans[stage] = 1e3 * (time.perf_counter() - begin)
    return value, spans
    ### END SOLUTION

# %% nbgrader={"grade_id": "time-spans-test", "grade": true, "points": 3}
check("time-spans")

# %%
taken_apart = solved("time-spans", taken_apart)
naive = {"decode": decode, "preprocess": normalise, "compute": compute, "postprocess": name}

def medians(stages):
    """Stage -> milliseconds in the median request, over all frames; the first two only warm up."""
    runs = [taken_apart(stages, file, lambda: None)[1] for file in (*files[:2], *files)][2:]
    return {stage: float(np.median([spans[stage] for spans in runs])) for stage in stages}

spans = medians(naive)
pixels = spans["decode"] + spans["preprocess"]
choice(guess, "the pixels" if pixels > spans["compute"] else "the network",
       f"Pixels {pixels:.1f} ms, network {spans['compute']:.1f} ms. The frame has a hundred times as many pixels as the "
       "network sees, and each is decoded, converted and normalised.")
timeline({"naive": spans}, "The median request")

# %% [markdown]
# One warning: waiting after each stage is right for measuring and wrong for serving. It takes away the overlap of copy and
# compute that a stream gives you. Measure with it, serve without it. `nsys` shows both at once.
#
# ## 2. What can be gained at most
#
# Amdahl (1967): a stage that gets faster takes nothing off the others. So ask before you optimise.
#
# **Exercise 2.** Write `speed_up`: how many times as fast the whole request gets.

# %% nbgrader={"grade_id": "time-amdahl", "solution": true}
def speed_up(spans, stage, factor):
    """spans: {stage: ms}; `stage` gets `factor` times as fast -> old total over new total."""
    ### BEGIN SOLUTION
    total = sum(spans.values())
    return total / (total - spans[stage] + spans[stage] / factor)
    ### END SOLUTION

# %% nbgrader={"grade_id": "time-amdahl-test", "grade": true, "points": 2}
check("time-amdahl")

# %%
speed_up = solved("time-amdahl", speed_up)
for stage in spans:
    print(f"{stage:12} ten times as fast: the request {speed_up(spans, stage, 10):.2f} times, "
          f"no time at all: {speed_up(spans, stage, np.inf):.2f} times")

# %% [markdown]
# The same arithmetic says what a GPU does to this service: it makes `compute` many times as fast, and what is left is the
# rest. Then JPEG files decide how many GPUs are busy.
#
# ## 3. Make it faster
#
# **Exercise 3.** Write `fast`: file in, the class's name out, with the same answers as `service`. `compute` stays as it is;
# all the rest together must be at least twice as fast. The check times both in turns, without the network. Look at the
# bars first.

# %% nbgrader={"grade_id": "time-faster", "solution": true}
def fast(file):
    """What service(file) answers, sooner."""
    ### BEGIN SOLUTION
    image = Image.open(io.BytesIO(file))
    image.draft("RGB", (224, 224))      # the decoder leaves out what a smaller picture does not need
    return name(compute(normalise(np.asarray(image.convert("RGB")))))
    ### END SOLUTION

# %% nbgrader={"grade_id": "time-faster-test", "grade": true, "points": 4}
check("time-faster")

# %%
fast = solved("time-faster", fast)

def small(file):
    """A decoder that is told how many pixels are wanted."""
    image = Image.open(io.BytesIO(file))
    image.draft("RGB", (224, 224))
    return np.asarray(image.convert("RGB"))

after = medians({**naive, "decode": small})
timeline({"naive": spans, "smaller decode": after}, "The median request")

# %% [markdown]
# `draft` uses a property of the format: JPEG holds blocks of 8 × 8 frequencies, and a decoder that leaves out the high ones
# gives a half, a quarter or an eighth of the size. The stage *after* it gained, too: it has fewer pixels to convert.
# Pixels differ a little from those of a full decode, so accuracy is measured again, not assumed.
#
# ## 4. Several sensors at once
#
# Four cameras deliver at the same moment, and the answer is due when all four are done. Pillow lets go of Python's lock
# while it decodes, so threads can share the decoding out; and the network takes all four in one batch.

# %%
def one_by_one(four):
    return [name(compute(normalise(small(file)))) for file in four]

pool = ThreadPoolExecutor(4)

def together(four):
    x = np.concatenate(list(pool.map(lambda file: normalise(small(file)), four)))
    return [name(logits[None]) for logits in compute(x)]

four = files[:4]
print("the same answers:", one_by_one(four) == together(four))
for label, way in (("one by one", one_by_one), ("together", together)):
    taken = []
    for _ in range(8):
        begin = time.perf_counter()
        way(four)
        taken.append(1e3 * (time.perf_counter() - begin))
    print(f"{label:11} {np.median(taken):6.1f} ms for four frames")

# %% [markdown]
# How much that brings depends on the cores that are free: here decoding and the network share them. And the slowest sensor
# sets the pace: if one frame comes late, decide how long the batch waits for it, and what happens then.
#
# ## 5. Memory and the tail
#
# A service that must answer in time is judged by its slow requests. One source of slow requests is memory: a fresh array
# comes from the operating system, which hands out its pages one by one, at the first touch. A fixed plan takes all buffers
# at the start and writes into them for ever; TensorRT does so inside an engine.
#
# **Predict:** the same arithmetic on a full frame, into fresh arrays and into buffers that are kept. What does the plan
# change?
# - `"only the tail"`: the median is the same arithmetic
# - `"the median, too"`: every request touches new pages
# - `"nothing"`: the allocator keeps the memory

# %%
guess = None   # one of the three

# %%
frame = decode(files[0])
kept = np.empty(frame.shape, np.float32)

def fresh():
    scaled = frame.astype(np.float32)
    return (scaled - 114) / 58          # three new arrays of 15 MB

def planned():
    np.copyto(kept, frame)
    np.subtract(kept, 114, out=kept)
    return np.divide(kept, 58, out=kept)

taken = {"fresh": [], "planned": []}
for _ in range(400):
    for label, way in (("fresh", fresh), ("planned", planned)):
        begin = time.perf_counter()
        way()
        taken[label].append(1e3 * (time.perf_counter() - begin))
p = {label: np.percentile(values, (50, 99, 99.9)) for label, values in taken.items()}
for label, (p50, p99, p999) in p.items():
    print(f"{label:8} p50 {p50:5.1f} ms   p99 {p99:5.1f} ms   p99.9 {p999:5.1f} ms")
faster = p["fresh"][0] / p["planned"][0]
choice(guess, "the median, too" if faster > 1.1 else "only the tail" if p["fresh"][1] > 1.1 * p["planned"][1] else "nothing",
       f"The median takes {faster:.1f} times as long with fresh arrays. Large arrays are given back to the operating system at "
       "once and fetched again: page by page, in every request.")

# %% [markdown]
# 400 requests say little about p99.9: less than one of them lies beyond it. Lesson [05](05_load_and_tails.ipynb) says how
# many are needed. On a GPU `cudaMalloc` and `cudaFree` are worse than this: they wait for the whole device. PyTorch's
# caching allocator avoids them as long as sizes repeat; a new size, or memory that runs short, brings them back in the
# middle of a request.
#
# ## Summary
#
# - Take a request apart before you make it faster. A stage ends when its work is done, not when its call is back.
# - Amdahl says what an improvement can bring at most; the longest bar is where to begin.
# - The cheapest pixel is the one that nobody decodes.
# - Buffers that are taken once keep the operating system out of the requests, in the median and in the tail.
#
# **Next:** lesson [02](02_cuda_graphs.ipynb): the network is short now, and its launches are what is left.
