# %% [markdown]
# # Milestone 4a: a service
#
# You put the classifier behind a port: image files come in, logits go out, from many clients at once. You hand in a model
# repository as a team would check it in. The grader serves it with the real Triton, sends traffic from outside, and breaks
# things. It measures the repository, not this notebook.
#
# **Afterwards you can** design a service that joins requests, keeps a limit in a flood, and outlives a fault, and prove it.
#
# **Time:** 90 minutes. The cells together take about three minutes on two CPU cores, on a GPU six, nearly all of it the
# score-board.
#
# | you hand in | what it is | points |
# | --- | --- | --- |
# | `m4a/repository/classifier/config.pbtxt` | how Triton batches, queues and refuses; by hand | |
# | `m4a/repository/classifier/1/model.py` | decoding, preprocessing, the network; by hand | 20 for all of it |
# | `m4a/repository/classifier/1/on_gpu.py` | preprocessing and TensorRT as CUDA graphs; by hand | 4 more on a GPU |
# | `m4a/repository/classifier/1/model.onnx` | the network, made by this notebook | |
# | the question at the end | in words | 4 |
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | answers, batches, traffic, faults | all of it: Triton's Python backend and ONNX Runtime, in a box | the same repository with TensorRT, beside a naive service on that GPU |
# | CUDA graphs | **open**: 4 points | launches counted from outside, and one client's wait with graphs and without |
#
# Triton has an environment of its own (320 MB): `course serve setup`. Without it this notebook runs, and all 24 points stay
# open on this machine. On a GPU its models must see TensorRT and PyTorch: `course serve setup --see-system-packages`.

# %%
import io
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from course.data import cifar10
from course.export import export
from course.models import resnet50
from course.serving import ServingError, closed_loop, open_loop, plans, with_triton

model = Path("m4a/repository/classifier/1/model.onnx")
export(resnet50(), (torch.rand(2, 3, 224, 224),), model, input_names=["image"], output_names=["logits"],
       dynamic={"image": {0: "batch"}}, target="8.6",
       once=True)   # a copy, if this machine has exported it before

# %% [markdown]
# ## 1. The naive service
#
# This is what your repository is compared with: one process, one thread, one image at a time. Its two files are short; read
# them first.

# %%
import course.serving.models as given

naive = Path("artifacts/naive/classifier")
shutil.rmtree(naive, ignore_errors=True)
(naive / "1").mkdir(parents=True)
source = Path(given.__file__).parent / "naive"
shutil.copyfile(source / "config.pbtxt", naive / "config.pbtxt")
shutil.copyfile(source / "model.py", naive / "1" / "model.py")
shutil.copyfile(model, naive / "1" / "model.onnx")
print((naive / "config.pbtxt").read_text())
print((naive / "1" / "model.py").read_text())

# %% [markdown]
# ## 2. Traffic
#
# JPEG files of 32 by 32 pixels, one in a request: uint8, [1, bytes]. The network wants 224 by 224, resized bilinearly, RGB,
# minus (123.675, 116.28, 103.53), over (58.395, 57.12, 57.375), channels first.

# %%
def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return np.frombuffer(buffer.getvalue(), np.uint8)[None]


requests = [{"file": jpeg(image)} for image in cifar10.images("public").pixels[:60]]


def measured(server):
    """A service at one client, at eight, and in traffic that does not wait."""
    one = closed_loop(server.address, "classifier", requests, 1, seconds=2)
    eight = closed_loop(server.address, "classifier", requests, 8, seconds=3)
    flood = open_loop(server.address, "classifier", requests, 2 * eight.rate, seconds=3)
    for load in (one, eight, flood):
        print(load)


with_triton("artifacts/naive", measured)

# %% [markdown]
# ## 3. Your service
#
# Write `config.pbtxt` and `model.py`. What the grader looks for:
#
# - **Answers** (5 points): PyTorch's logits, one by one and under load.
# - **Batches** (4): with 12 clients two images in an execution or more; and at one client no more than 1.5 times the naive
#   service's wait.
# - **Traffic** (6): the largest rate of random arrivals at which 99 % are answered in time, at least 1.5 times the naive
#   service's (6 times on a GPU). An answer is in time if it comes within ten times what the naive service takes for a single client.
# - **Faults** (5): a file that is no image fails alone; with twice the traffic that it can bear, what is answered comes within
#   3 s and the rest is refused; after a killed process and a reload everything is answered; afterwards it is as fast as before.
#
# Run the next cell again and again. What is not written yet, Triton says itself.

# %%
try:
    with_triton(plans.beside("m4a/repository", "artifacts/served"), measured)   # as it is, or on a GPU with an engine
except ServingError as error:
    print(error)

# %% [markdown]
# ## 4. The same repository on a GPU
#
# A repository is written once and served in both places; Triton starts `config.pbtxt` on either. What differs is one file: where
# there is a GPU, the grader builds `model.plan` from your `model.onnx`, for batches of 1 to your `max_batch_size` (FP16; 128 at
# most), and puts it beside. A plan in what you hand in is refused: it is program code, and for one GPU.
#
# So `model.py` looks whether `model.plan` is there and leaves the work to `on_gpu.py`, else to ONNX Runtime. `on_gpu.py` is yours:
#
# - JPEGs are decoded on the CPU. 3 kB of pixels an image travel to the GPU, not 600 kB of normalised floats; the resizing is
#   `torch.nn.functional.interpolate` there, bilinear with `align_corners=False`.
# - Copy, preprocessing, `execute_async_v3` and the copy back are recorded as one CUDA graph for each of some batch sizes; a batch
#   takes the smallest that holds it. `torch.cuda.CUDAGraph` and `with torch.cuda.graph(graph, stream=...)` make the four calls of
#   lesson [02](02_cuda_graphs.ipynb), whose four traps hold here, too: a stream of its own, a run before the recording, one context
#   for each graph, and inputs that are written to the old place (page-locked, so that the copy can be recorded).
#
# **CUDA graphs** (4 points, on a GPU): CUPTI counts launches in your service's processes, so a graph that is recorded and never
# replayed shows; and the wait of a single client is compared with that of a service like yours without graphs. At the end
# of this chain it is little: most of a request's time is HTTP, decoding, and kernels that take as long either way. Batches,
# traffic and faults are measured there beside a naive service that preprocesses on the CPU and runs one image at a time.

# %% [markdown]
# ## 5. The score-board
#
# The grader starts both services in boxes without a network; its traffic comes in over a socket. The images are public here; in
# grading they are others, drawn for you alone. Fields that load code or files from elsewhere, and a response cache, are refused.

# %% nbgrader={"grade_id": "m-s4-m4a", "grade": true, "points": 24}
from autograder import selfcheck

selfcheck("s4.m4a")

# %% [markdown] nbgrader={"grade_id": "m4a-two-services", "task": true, "points": 4}
# ## 6. Two services
#
# Two teams share a machine with one GPU. **Fraud check**: one transaction in a request, 200 a second at the peak, an answer after
# 30 ms is worth nothing. **Moderation**: a school uploads images of a class, thousands at once, and wants all of them by
# the evening. For each, say in five to eight lines how you would configure it: batches and queue delay, instances, the size of the
# queue and the time in it, what a client is told when it is refused, and which figure of the server's you would put on the wall.
# Then say what happens when both run on that GPU, and what you would do about it.
#
# Write your answer in a new cell below this one.
#
# ### BEGIN MARK SCHEME
# Rubric, 4 points, one for each line:
#
# - **Fraud check: latency first.** No or hardly any queue delay; batches only from what waits anyway; a queue with a time below
#   30 ms that rejects; p99 (or the part within 30 ms) on the wall, measured in open loop at the peak.
# - **Moderation: throughput first.** Large preferred batches, a delay that costs nothing here, a long queue or a client that sends
#   more slowly; throughput and progress on the wall; p99 does not matter.
# - **Refusal is part of the interface.** Says what is refused, how quickly, and what the client does (fallback or another rule for
#   fraud; try again later for moderation). A queue without an end is named as a fault.
# - **Both on one GPU.** Sees that a large batch of one holds the other up for its whole time; names a remedy and its price
#   (priorities or rate limits, smaller batches, MIG or a second GPU, the night) and how to see whether it works.
#
# The same configuration for both, or figures without a reason, gets at most 1.
# ### END MARK SCHEME
