# %% [markdown]
# # PTQ on TensorRT
#
# Post-training quantisation (PTQ) needs a scale for every tensor. TensorRT 8.6 and 10 find the scales if
# somebody hands them data: a *calibrator*, a class that you write. TensorRT 11 reads scales from Q/DQ pairs in the file.
# You do both, and fall into the trap that costs people days.
#
# **Afterwards you can** write a calibrator that TensorRT can use, build with it, keep a cache from being used for the wrong
# thing, carry the scales of an old cache over to TensorRT 11, and say what PTQ and QAT are.
#
# **Time:** 40 minutes. The cells take half a minute on a CPU; on a GPU seven minutes, since TensorRT really builds and
# calibrates a ResNet-50.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | the calibrator | a stand-in for TensorRT 8.6 asks it, call by call, as TensorRT does | TensorRT 8.6 or 10 itself |
# | the scales | computed by the course, by the same method | TensorRT's own |
# | accuracy of a file with pairs | ONNX Runtime | the same |
# | speed | recorded on an H200 | lesson 03 measures it |

# %%
import hashlib
import struct
from pathlib import Path

import numpy as np
import onnx
import torch

from course.data import cifar10, preprocess
from course.exercises import check, choice, hint, solved
from course.export import export
from course.models import resnet50
from course.quantize import (calibration_from, file_rows, file_table, quantize, read_cache,
                             tensorrt_here, trial, watched)

trt = tensorrt_here(needs="IInt8EntropyCalibrator2")
device = "cpu" if hasattr(trt, "recording") else "cuda"      # the stand-in reads the CPU's memory

# %% [markdown]
# ## 1. What TensorRT asks
#
# While it builds, TensorRT calls four methods of yours:
#
# | it calls | you give |
# | --- | --- |
# | `get_batch_size()` | images in a batch |
# | `read_calibration_cache()` | the bytes of a cache, or `None`: "calibrate" |
# | `get_batch(names)` | a list: for each input the *address* of a batch in device memory; `None` at the end |
# | `write_calibration_cache(cache)` | nothing: keep these bytes |
#
# An address is a number; it keeps nothing alive. TensorRT reads the memory *after* `get_batch` has returned, and always a
# whole batch.
#
# **Exercise 1.** Write the class. The base class chooses the method: `IInt8EntropyCalibrator2` cuts outliers off by entropy,
# `IInt8MinMaxCalibrator` keeps the largest value.

# %% nbgrader={"grade_id": "ptq-calibrator", "solution": true}
class Calibrator(trt.IInt8EntropyCalibrator2):
    """images: float32 [N, C, H, W]; rows that fill no batch are left out. cache: path of a file."""

    def __init__(self, images, batch_size, cache):
        super().__init__()          # TensorRT's own part
        ### BEGIN SOLUTION
        self.images, self.batch_size, self.cache = images, batch_size, Path(cache)
        self.place, self.held = 0, None
        ### END SOLUTION

    def get_batch_size(self):
        ### BEGIN SOLUTION
        return self.batch_size
        ### END SOLUTION

    def get_batch(self, names):
        """names: of the network's inputs, here one -> a list with one address (int), or None at the end."""
        ### BEGIN SOLUTION
        batch = self.images[self.place : self.place + self.batch_size]
        if len(batch) < self.batch_size:
            return None
        self.place += self.batch_size
        self.held = torch.tensor(batch, device=device)     # held until the next call
        return [self.held.data_ptr()]
        ### END SOLUTION

    def read_calibration_cache(self):
        """The bytes of the file if it is there, else None."""
        ### BEGIN SOLUTION
        return self.cache.read_bytes() if self.cache.is_file() else None
        ### END SOLUTION

    def write_calibration_cache(self, cache):
        """cache: TensorRT's memory, gone when this returns."""
        ### BEGIN SOLUTION
        self.cache.write_bytes(bytes(cache))
        ### END SOLUTION

# %% nbgrader={"grade_id": "ptq-calibrator-test", "grade": true, "points": 4}
check("ptq-calibrator")

# %% [markdown]
# If a method raises, TensorRT prints the error and goes on as if the data had ended. An engine comes out all the same,
# calibrated with what was read so far. So count the batches.
#
# ## 2. Build with it
#
# The parser and the network are those of stage 1. New is the config.
#
# **Exercise 2.** Write `configure`. INT8 and FP16 are *allowed* by flags; TensorRT takes whichever is faster for each layer.
# The engine's profile says which batches it can run. Calibration has a profile of its own: TensorRT reads as many rows as
# that one's optimal shape has. Without it, it takes the engine's first profile.

# %% nbgrader={"grade_id": "ptq-configure", "solution": true}
def configure(builder, network, calibrator, batches):
    """batches: (min, opt, max) of the engine; the only input is [batch, C, H, W] -> the builder config."""
    ### BEGIN SOLUTION
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    name, sample = network.get_input(0).name, tuple(network.get_input(0).shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *((size, *sample) for size in batches))
    config.add_optimization_profile(profile)
    usual = (calibrator.get_batch_size(), *sample)
    calibration = builder.create_optimization_profile()
    calibration.set_shape(name, usual, usual, usual)
    config.set_calibration_profile(calibration)
    config.int8_calibrator = calibrator
    return config
    ### END SOLUTION

# %% nbgrader={"grade_id": "ptq-configure-test", "grade": true, "points": 3}
check("ptq-configure")

# %% [markdown]
# Now ResNet-50. Its images have 112 pixels a side here, and calibration gets 8 of them, so that a CPU is done in seconds.
# In earnest take the real size and some hundred images; lesson 05 shows which.

# %%
Calibrator, configure = solved("ptq-calibrator", Calibrator), solved("ptq-configure", configure)
plain, cache = "artifacts/resnet50.onnx", Path("artifacts/resnet50.cache")
export(resnet50(), (torch.rand(2, 3, 112, 112),), plain, input_names=["image"],
       output_names=["logits"], dynamic={"image": {0: "batch"}}, target="8.6",
       once=True)   # a copy, if this machine has exported it before

def build(calibrator):
    """Build ResNet-50 with a calibrator; say what TensorRT asked of it."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(Path(plain).read_bytes())
    config = configure(builder, network, calibrator, (1, 8, 32))
    config.builder_optimization_level = 0   # the first kernel that works: scales do not depend on it
    plan = builder.build_serialized_network(network, config)
    for method, gave in calibrator.calls:
        print(f"  {method:24} -> {gave}")
    return plan

images = cifar10.images("calibration").pixels[:8]
pixels = torch.nn.functional.interpolate(torch.tensor(images).permute(0, 3, 1, 2).float(), size=112)
cache.unlink(missing_ok=True)
plan = build(watched(Calibrator)(pixels.numpy(), 4, str(cache)))
print(cache.read_text()[:120])

# %% [markdown]
# `watched` writes the calls down; the first is your own, in `configure`. TensorRT asked for a cache, read two batches, met
# the end, and gave the scales away. A line of the cache is a tensor and its scale, in hexadecimal.
#
# ## 3. The trap
#
# How good are the scales? Written into the file as Q/DQ pairs (section 4 shows how), they can be tried anywhere:

# %%
public = cifar10.images("public")
test, labels = preprocess.classifier(public.pixels[:48], 112), public.labels[:48]
first = quantize(plain, calibration_from(read_cache(cache)))
rows = file_rows({"float": plain, "INT8, first cache": first}, test, labels)
print(file_table(rows))

# %% [markdown]
# A collapse: calibration got pixels from 0 to 255. In use, `preprocess.classifier` also divides by 255, subtracts the mean
# and divides by the deviation. So the scales are far too large. Repair it and build again:

# %%
right = preprocess.classifier(images, 112)

# %% [markdown]
# **Predict:** the same class, the same cache file, the right images. What comes out?
# - `"right scales"`: the images changed, so TensorRT calibrates
# - `"old scales"`: TensorRT takes the cache as it is
# - `"error"`: TensorRT notices that the cache is of other images

# %%
guess = None   # "right scales", "old scales" or "error"

# %%
before = cache.read_bytes()
plan = build(watched(Calibrator)(right, 4, str(cache)))
choice(guess, "old scales" if cache.read_bytes() == before else "right scales",
       "No get_batch at all. The cache holds names and scales; nothing in it says which images or which model it is of.")

# %% [markdown]
# TensorRT compares one thing: the first line, its own version and the method. Everything else is yours to compare. Its log
# does warn ("Generated calibration scales using calibration cache. Make sure that calibration cache has latest scales."), in
# every build, also in all the right ones.
#
# **Exercise 3.** Write `CarefulCalibrator`: the cache is used only if it was made of this model and these images. A cache
# that does not say what it was made of is not used.

# %% nbgrader={"grade_id": "ptq-careful", "solution": true}
class CarefulCalibrator(Calibrator):
    """model: bytes of the ONNX file; all else as before."""

    def __init__(self, model, images, batch_size, cache):
        super().__init__(images, batch_size, cache)
        ### BEGIN SOLUTION
        self.file, self.origin = Path(cache), Path(f"{cache}.from")
        self.mark = hashlib.sha256(model + np.ascontiguousarray(images).tobytes()).hexdigest()
        ### END SOLUTION

    def read_calibration_cache(self):
        ### BEGIN SOLUTION
        known = self.origin.is_file() and self.origin.read_text() == self.mark
        return self.file.read_bytes() if known else None
        ### END SOLUTION

    def write_calibration_cache(self, cache):
        ### BEGIN SOLUTION
        self.file.write_bytes(bytes(cache))
        self.origin.write_text(self.mark)
        ### END SOLUTION

# %% nbgrader={"grade_id": "ptq-careful-test", "grade": true, "points": 3}
check("ptq-careful")

# %%
CarefulCalibrator = solved("ptq-careful", CarefulCalibrator)
plan = build(watched(CarefulCalibrator)(Path(plain).read_bytes(), right, 4, str(cache)))
second = quantize(plain, calibration_from(read_cache(cache)))
rows += file_rows({"float": plain, "INT8, right cache": second}, test, labels)[1:]
print(file_table(rows))

# %% [markdown]
# Only the scales differ between the two INT8 rows. On 48 images, one or two more or fewer say nothing. The
# dB are steadier: 6 dB less is twice the error.
#
# ## 4. Without a calibrator: Q/DQ
#
# Calibrators are deprecated in TensorRT 10 and removed in 11. The way that works everywhere is *explicit*: a
# `QuantizeLinear` and a `DequantizeLinear` in the ONNX file say which tensor is rounded, and their scale says how. In 8.6,
# and in 10 unless the network is strongly typed, the flag INT8 must still be set; a calibrator is ignored if there are
# pairs. In 11 there is no flag.
#
# An old project left a cache behind, written by TensorRT 8.6.0 on an H200 from 256 images. A line is `tensor: digits`; the
# digits are the bytes of a float32, the most significant first.

# %%
old = (trial.RECORDED / "implicit_b64.calibration").read_text()
print(old[:160])

# %% [markdown]
# **Exercise 4.** Make `int8`: ResNet-50 with Q/DQ pairs that have these scales. Read `old` yourself; `quantize(plain,
# scales)` writes the pairs for a dict of scales. The check measures your model on other images.

# %% nbgrader={"grade_id": "ptq-pairs", "solution": true}
int8 = None   # a ModelProto
### BEGIN SOLUTION
scales = {}
for line in old.splitlines()[1:]:
    tensor, _, digits = line.rpartition(": ")
    (scales[tensor],) = struct.unpack(">f", bytes.fromhex(digits))
int8 = quantize(plain, scales)
### END SOLUTION

# %% nbgrader={"grade_id": "ptq-pairs-test", "grade": true, "points": 3}
check("ptq-pairs")

# %%
int8 = solved("ptq-pairs", int8)
rows += file_rows({"float": plain, "INT8, TensorRT's cache": int8}, test, labels)[1:]
print(file_table(rows))

# %% [markdown]
# ## 5. Speed, size, accuracy
#
# **Predict:** the file with pairs is as large as the float file; TensorRT's INT8 plan has about a quarter of the FP32
# plan. Why?
# - `"float weights"`: the file keeps float weights, and the builder rounds them
# - `"compression"`: TensorRT compresses its plans
# - `"kernels"`: INT8 kernels have less code

# %%
guess = None   # one of the three

# %%
weights = {tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type)
           for tensor in int8.graph.initializer if len(tensor.dims) == 4}
print(f"{len(weights)} convolution weights in the file: {set(weights.values())}")
choice(guess, "float weights" if set(weights.values()) == {"FLOAT"} else "compression",
       "A pair stands on each weight. The builder computes Q once and stores the integers.")

# %% [markdown]
# Recorded with TensorRT 8.6.0 on one H200, builder level 1, batch 64, 224 px, CUDA graph, medians; top-1 on
# {{docs/results/h200/int8/summary.json: top1_images}} images. Speed is relative to FP16:
#
# | | ms | times FP16 | plan, bytes | top-1 |
# | --- | --- | --- | --- | --- |
# | FP32 | {{docs/results/h200/int8/summary.json: results.b64.FP32.p50_ms | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.FP32.times_fp16.0 | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.FP32.plan_bytes | ,d}} | {{docs/results/h200/int8/summary.json: results.b64.FP32.top1 | .1%}} |
# | FP16 | {{docs/results/h200/int8/summary.json: results.b64.FP16.p50_ms | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.FP16.times_fp16.0 | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.FP16.plan_bytes | ,d}} | {{docs/results/h200/int8/summary.json: results.b64.FP16.top1 | .1%}} |
# | INT8, calibrator | {{docs/results/h200/int8/summary.json: results.b64.INT8 implicit.p50_ms | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.INT8 implicit.times_fp16.0 | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.INT8 implicit.plan_bytes | ,d}} | {{docs/results/h200/int8/summary.json: results.b64.INT8 implicit.top1 | .1%}} |
# | INT8, Q/DQ pairs | {{docs/results/h200/int8/summary.json: results.b64.Q/DQ good.p50_ms | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.Q/DQ good.times_fp16.0 | .2f}} | {{docs/results/h200/int8/summary.json: results.b64.Q/DQ good.plan_bytes | ,d}} | {{docs/results/h200/int8/summary.json: results.b64.Q/DQ good.top1 | .1%}} |
#
# ## 6. PTQ or QAT?
#
# Both end in the same file: pairs with scales. **PTQ** chooses the scales of a trained network and leaves its weights alone;
# it takes minutes. **QAT** (quantisation-aware training) goes on training with the rounding switched on, so that the weights
# get used to it; it takes a training run, labels, and somebody who can train. The names get mixed up, since
# a file with pairs is often called "a QAT model", whoever wrote the pairs. TensorRT's log does so, too: for a calibrator on a
# network with pairs, 8.6 says "Use quantization aware training".
#
# ## Decide
#
# | your case | do |
# | --- | --- |
# | TensorRT 8.6 or 10, and nobody wants to say where INT8 goes | a calibrator, with a careful cache |
# | TensorRT 11, or one file for all versions | Q/DQ pairs |
# | an old cache, a new TensorRT | carry the scales over, as above |
# | accuracy lost | first the preprocessing and the cache, then the images, then single layers; QAT last |
#
# ## Summary
#
# - A calibrator hands over addresses. Hold the memory, give whole batches, end with `None`.
# - Count the batches that were read: errors inside a calibrator look like the end of the data.
# - Calibrate with what the network gets in use, to the last division.
# - TensorRT believes any cache of its method, of another model too. Write down what it was made of, and compare.
# - PTQ chooses scales, QAT trains weights. Both are pairs in the file.
#
# **Next:** lesson [03](03_when_int8_disappoints.ipynb): the file with pairs is slower than FP16.
