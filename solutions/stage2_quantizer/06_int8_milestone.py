# %% [markdown]
# # Milestone 2a: ResNet-50 in INT8
#
# You quantise the trained ResNet-50 and hand in what a team would check in: the INT8 model, and the two scripts that
# an older TensorRT needs. The grader measures the files, not this notebook.
#
# **Time:** 60 minutes. The cells together took one to two minutes on two CPU cores that others used too, and
# eight minutes on a GPU, half of them the score-board.
#
# | you hand in | what it is | what the grader does with it | points |
# | --- | --- | --- | --- |
# | `artifacts/resnet50_int8.onnx` | the network with Q/DQ pairs, made by this notebook | builds engines from it: INT8 kernels (4), accuracy (5), speed against FP16 at batch 64 (4) | 13 |
# | `m2a/calibrator.py` | `Calibrator`, by hand, in the API of TensorRT 8.6 and 10 | has a network of its own calibrated, with images of its own | 4 |
# | `m2a/build_engine.py` | `build`, by hand: ONNX to a plan | lets it build networks of its own | 3 |
# | the question at the end | a plan, in words | a person reads it, by a rubric | 4 |
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | the INT8 model | made, and its accuracy measured: ONNX Runtime rounds as INT8 does | the same, in TensorRT |
# | INT8 kernels | real, from the kernels that TensorRT-RTX lists | from TensorRT's inspector |
# | the scripts | run with a stand-in for TensorRT 8.6, which asks the calibrator as 8.6 does | run with TensorRT 8.6 or 10; beside 11, which has no calibrators, with the stand-in |
# | speed | **open**: 4 points | measured, at batch 64 |
#
# The scripts lie in a folder of their own. Both must run without
# `course`: in the grader's box there are only Python's packages and `tensorrt`. A plan or a calibration cache that
# you hand in is never used.

# %%
import numpy as np
import torch

from course.data import cifar10, preprocess
from course.exercises.stage2_quantizer.int8_milestone import look_at, rehearse
from course.export import export
from course.models import resnet50

plain, path = "artifacts/resnet50.onnx", "artifacts/resnet50_int8.onnx"
export(resnet50(), (torch.zeros(2, 3, 224, 224),), plain, input_names=["image"], output_names=["logits"],
       dynamic={"image": {0: "batch"}}, simplify=True, target="8.6",
       once=True)   # a copy, if this machine has exported it before
calibration, public = cifar10.images("calibration"), cifar10.images("public")
print(f"{len(calibration)} images to calibrate with, {len(public)} to try the result on")

# %% [markdown]
# ## 1. The INT8 model
#
# Write `artifacts/resnet50_int8.onnx`: the network with pairs of QuantizeLinear and DequantizeLinear, which TensorRT
# 8.6, 10 and 11 all read. Which images, how many, which method and which placement is yours to decide; you did all of it
# in the lessons before. The input stays `image`, its batch open.
#
# The grader asks for three things. At least 90 % of the multiplications run in INT8 kernels, with one weight scale for
# each output channel. On images that nobody saw, the accuracy is at most one point below FP32's. And on a GPU the engine
# is at least 1.3 times as fast as FP16 at batch 64; below 1.0 there are no points.

# %% nbgrader={"grade_id": "m2a-quantize", "solution": true}
### BEGIN SOLUTION
from course.quantize import ptq

chosen = np.concatenate([np.flatnonzero(calibration.labels == label)[:6] for label in range(10)])
made = ptq(plain, preprocess.classifier(calibration.pixels[chosen]), "entropy")   # six images of each class
made.save(path)
print(f"{len(made.calibration.scales)} scales from {len(chosen)} images in {made.calibration.seconds:.0f} s")
### END SOLUTION

# %% [markdown]
# ## 2. Look at it yourself
#
# 32 labelled images that the calibration did not see. One image is 3.1 points here, so this is a look, not a verdict;
# the grader takes 512.

# %%
look_at(path, plain, preprocess.classifier(public.pixels[:32]), public.labels[:32])

# %% [markdown]
# ## 3. The two scripts
#
# Open `m2a/calibrator.py` and `m2a/build_engine.py` and write what is missing. Two things cost people days:
#
# - **Memory.** TensorRT reads the batch *after* `get_batch` has returned its address. Whoever lets go of the tensor
#   calibrates with whatever lies there by then, and nothing warns him. On a machine without a GPU the stand-in notices.
# - **The cache.** TensorRT uses any cache that `read_calibration_cache` gives it, also one of another model or of other
#   images, without a word. So your calibrator must know what a cache was made of.
#
# The next cell uses both scripts on the first layers of the network. Read in which order TensorRT asks.

# %%
rehearse("m2a", preprocess.classifier(calibration.pixels[:18]))

# %% [markdown]
# ## 4. The score-board
#
# The next cell starts the grader itself, in another process. It took half a minute to one and a half on two CPU cores.
# Its images are public here; in grading they are others, drawn for you alone.

# %% nbgrader={"grade_id": "m-s2-m2a", "grade": true, "points": 20}
from autograder import selfcheck

selfcheck("s2.m2a")

# %% [markdown] nbgrader={"grade_id": "m2a-search", "task": true, "points": 4}
# ## 5. Plan a search
#
# A team quantised its own network, calibrated it with 500 images, and lost four points of accuracy. They have a day, one
# GPU, and ask you where to begin. Write the plan, ten to fifteen lines: what you look at first and why, what each step
# could show, and what you do then. Name the tool or the function for each step. Say when you would stop and keep a layer in
# FP16, and what that costs.
#
# Write your answer in a new cell below this one.
#
# ### BEGIN MARK SCHEME
# Rubric, 4 points, one for each line:
#
# - **Cheap suspects first.** Before any layer is blamed: is the drop larger than the noise of the test set (an interval,
#   or paired images); is preprocessing in calibration the same as in use; are the images of the right domain and all
#   kinds; is the cache of this model and these images?
# - **Splits the error.** Tells range from resolution: compares methods (entropy, percentile, min-max), per channel with
#   per tensor, weights alone with activations alone. Says what each outcome would mean.
# - **Finds layers by measurement.** Noise of each layer alone and gathered (`layer_noise`, or outputs of inner tensors in
#   FP32 and INT8), or leaving layers out one by one or by halves; names likely ones (first layer, depthwise convolutions,
#   tensors with outliers, a Concat of different ranges, the head), and confirms on the whole test set.
# - **Ends with a decision and its price.** Which layers stay in FP16, what that costs in time (reformats between INT8 and
#   FP16, broken fusions: measured, not guessed), when to stop, and what is next if it does not suffice (more or other data,
#   quantisation-aware training, FP16 for all).
#
# A plan that begins by trying settings at random, or only names tools, gets at most 1.
# ### END MARK SCHEME
