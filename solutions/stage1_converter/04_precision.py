# %% [markdown]
# # Precision
#
# A GPU is fastest with small numbers: 16 bits instead of 32. This lesson shows what such a number can hold, what
# it loses, and how to see whether your network minds.
#
# **Afterwards you can** say what FP32, TF32, FP16 and BF16 hold, round by hand, measure the error of each layer on
# real images, explain TensorRT's warning about subnormal weights, and repair an overflow.
#
# **Time:** 50 minutes. The cells together run for about one minute on a CPU; on one H100 they took 86 s, of which three
# engines took 60 s.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | formats, rounding, overflow | all of it | nothing |
# | error of each layer | values rounded to the format, sums in FP32 | the same |
# | what becomes of the file | the converted graph; TensorRT-RTX builds it | your TensorRT's own log |
# | answers of an engine | ONNX Runtime, FP16 by rounding values | TensorRT in FP32; on tensor cores in TF32, FP16 |
# | speed | not in this lesson | not in this lesson |

# %%
from collections import Counter

import numpy as np
import onnx
import torch

from course.data import cifar10, preprocess
from course.engine import BuildConfig, Profile, available_runtimes, build, graph
from course.exercises import check, hint, prediction, solved
from course.export import export
from course.models import resnet50, yolo
from course.plot import precision as plot_precision
from course.precision import FORMATS, folded, layer_errors, number_in

has_gpu = available_runtimes()["tensorrt"] is None
print("TensorRT works here: engines are TensorRT's." if has_gpu else
      "No TensorRT on a GPU here: engines are ONNX Runtime's, on the CPU. "
      "Parts that need a GPU say so.")

# %% [markdown]
# ## 1. Four formats
#
# A floating-point number is a sign, an exponent and a mantissa: ± 1.mantissa × 2^exponent. The exponent says how
# large, the mantissa says how exact. Each box is one bit.

# %%
plot_precision.bits()

# %% [markdown]
# - **FP32** is what PyTorch trains in.
# - **TF32** is no format for storing. A tensor core that is given FP32 numbers looks at 19 of their 32 bits.
# - **FP16** has TF32's mantissa, and a short exponent.
# - **BF16** has FP32's exponent, and a short mantissa.
#
# **Predict:** what is the largest number that FP16 holds?

# %%
guess = None   # your number

# %%
prediction(guess, FORMATS["FP16"].largest, "(largest FP16 number)")
plot_precision.ranges()

# %% [markdown]
# Read the left half as "does my number fit?", the right half as "how many digits are left?". A step of 1/1024 is
# about three decimal digits, 1/128 about two.
#
# ## 2. Round by hand
#
# The bits of an FP32 number can be read as a whole number: `x.view(np.uint32)`. TF32 keeps the upper 19 of them,
# BF16 the upper 16.

# %%
def show(value):
    bits = f"{np.float32(value).view(np.uint32):032b}"
    print(f"{value:>12g}   {bits[0]} {bits[1:9]} {bits[9:]}")

for value in (1.0, -1.0, 2.0, 1.5, 0.1, 1.9999):
    show(value)

# %% [markdown]
# **Exercise 1.** Write `to_tf32` and `to_bf16`: the nearest number of the format. Half way between two, either may
# come out. Infinity and "not a number" are not asked for.

# %% nbgrader={"grade_id": "precision-rounding", "solution": true}
def to_tf32(x):
    """float32 array [...] -> the nearest TF32 numbers, as float32 [...]."""
    ### BEGIN SOLUTION
    bits = x.view(np.uint32)
    return ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)
    ### END SOLUTION

def to_bf16(x):
    """float32 array [...] -> the nearest BF16 numbers, as float32 [...]."""
    ### BEGIN SOLUTION
    bits = x.view(np.uint32)
    return ((bits + np.uint32(1 << 15)) & np.uint32(0xFFFF0000)).view(np.float32)
    ### END SOLUTION

# %% nbgrader={"grade_id": "precision-rounding-test", "grade": true, "points": 4}
check("precision-rounding")

# %% [markdown]
# ## 3. Find the limits of a format
#
# Below its smallest *normal* number a format goes on for a while with **subnormal** numbers: the exponent has
# reached its end, so leading digits of the mantissa become 0, and fewer digits are left. Then comes 0.
#
# **Exercise 2.** `to` is a function that rounds a number to a format. Find the format's limits by trying: the
# largest finite number, the smallest normal number, the smallest subnormal number. The check uses a format that you
# have not seen.

# %% nbgrader={"grade_id": "precision-limits", "solution": true}
def limits(to):
    """(largest finite, smallest normal, smallest subnormal) of the format that `to` rounds to."""
    ### BEGIN SOLUTION
    largest = 1.0
    while np.isfinite(to(2 * largest)):
        largest *= 2
    part = largest
    while part > largest * 1e-12:
        part /= 2
        if np.isfinite(to(largest + part)):
            largest = to(largest + part)
    step = 1.0
    while to(1 + step / 2) > 1:
        step /= 2
    normal = 1.0
    # below the normal numbers, one with a one as its last digit does not survive
    while to(normal / 2 * (1 + step)) == normal / 2 * (1 + step):
        normal /= 2
    smallest = 1.0
    while to(smallest / 2) > 0:
        smallest /= 2
    return largest, normal, smallest
    ### END SOLUTION

# %% nbgrader={"grade_id": "precision-limits-test", "grade": true, "points": 3}
check("precision-limits")

# %%
fp16 = number_in(torch.float16)
print("60000 + 10 in FP16:", fp16(fp16(60000) + fp16(10)), "  (the step there is 32)")
print("65519, 65520 in FP16:", fp16(65519), fp16(65520))
print("1e-5, 1e-7, 1e-8 in FP16:", fp16(1e-5), fp16(1e-7), fp16(1e-8))

# %% [markdown]
# ## 4. The error of each layer, on real images
#
# Rounding one number to FP16 is wrong by at most 1/2048 of it. What is left of that after 54 layers? We run
# ResNet-50 twice on the same images: once exact, once with the weights and the inputs of every layer rounded. That
# is what tensor cores do; they add in FP32.
#
# **Exercise 3.** Two tensors must become one number. Write the relative error: the length (root of the sum of
# squares) of the difference, divided by the length of the exact tensor.

# %% nbgrader={"grade_id": "precision-error", "solution": true}
def relative_error(found, exact):
    """float32 arrays of one shape -> one number; 0.001 is a thousandth."""
    ### BEGIN SOLUTION
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)
    ### END SOLUTION

# %% nbgrader={"grade_id": "precision-error-test", "grade": true, "points": 2}
check("precision-error")

# %% [markdown]
# **Predict:** the relative error of the worst of the 54 layers, with FP16, in percent?

# %%
guess = None   # your number: percent

# %%
resnet = resnet50()
images = cifar10.images("public")
x = torch.from_numpy(preprocess.classifier(images.pixels[:4]))
network = folded(resnet)   # batch normalisation goes into the convolutions, as in an exported file
errors = {name: layer_errors(network, x, name) for name in ("TF32", "FP16", "BF16")}
for name, found in errors.items():
    worst = max(found, key=found.get)
    print(f"{name}: worst {worst} with {100 * found[worst]:.2f} %, "
          f"logits {100 * found['fc']:.3f} %")
prediction(guess, 100 * max(errors["FP16"].values()), "percent")
plot_precision.layer_errors(errors, "ResNet-50, 4 images: errors on their way through the network")

# %% [markdown]
# Three things to see. FP16 and TF32 lie on each other nearly everywhere: they have the same mantissa, and hardly
# anything here leaves FP16's range. BF16 has three bits less, and its line lies higher by a factor of about eight. And
# the error does not grow without end: rounding errors point in all directions, and later layers average over many
# inputs.
#
# Which layer is to blame? An error that arrives is not an error that was made there. Now each layer gets its exact
# input, so what is left is its own.
#
# **Predict:** the largest error of its own that any layer makes with FP16, in percent?

# %%
guess = None   # your number: percent

# %%
alone = layer_errors(network, x, "FP16", alone=True)
for name in sorted(alone, key=alone.get, reverse=True)[:3]:
    print(f"{name}: own error {100 * alone[name]:.3f} %, "
          f"with what arrives {100 * errors['FP16'][name]:.2f} %")
prediction(guess, 100 * max(alone.values()), "percent")
plot_precision.layer_errors({"FP16": alone}, "FP16: the error that each layer makes itself")

# %% [markdown]
# A layer's own error is about the format's step (1/1024, that is 0.1 %) or less. `conv1` makes the largest: it takes
# differences of neighbouring pixels, which are nearly equal. Without their signs, its terms are about 29 times
# as large as their sum; in most other layers about 5 times. The large terms are rounded, and what cancels
# leaves the rounding. And look at layer 6. The first figure jumps from 0.1 % to 0.4 % there, but the layer itself makes
# only 0.03 %: it magnifies what arrives.
#
# ## 5. Subnormal weights, and a warning
#
# TensorRT 8.6.0 says of ResNet-50 in FP16: *"57 weights are affected by this issue: Detected subnormal FP16 values."*
# It sounds bad. By "weights" it means tensors: 57 of the 108 in the file hold at least one such number. How many
# numbers are it?
#
# **Exercise 4.** Write `count_small`: how many weights become subnormal in FP16, and how many that were not 0
# become 0.

# %% nbgrader={"grade_id": "precision-subnormal", "solution": true}
def count_small(weights):
    """How many weights become subnormal in FP16, and how many that were not 0 become 0.

    weights: float32 array [...].
    """
    ### BEGIN SOLUTION
    half = np.abs(weights.astype(np.float16))
    return ((half > 0) & (half < 2**-14)).sum(), ((half == 0) & (weights != 0)).sum()
    ### END SOLUTION

# %% nbgrader={"grade_id": "precision-subnormal-test", "grade": true, "points": 3}
check("precision-subnormal")

# %% [markdown]
# **Predict:** ResNet-50 has 23.5 million weights. How many become subnormal?

# %%
guess = None   # your number: weights

# %%
resnet_path, detector_path = "artifacts/resnet50.onnx", "artifacts/detector.onnx"
for model, example, path, outputs in ((resnet, x[:2], resnet_path, ["logits"]),
                                      (yolo(), torch.rand(2, 3, 320, 320), detector_path, ["boxes", "scores"])):
    export(model, (example,), path, input_names=["image"], output_names=outputs, dynamic={"image": {0: "batch"}},
           exporter="torchscript", once=True)           # a copy, if this machine has exported it before

def weights_of(path):
    """All float32 weights of a file in one row."""
    tensors = [tensor for tensor in onnx.load(path).graph.initializer
               if tensor.data_type == onnx.TensorProto.FLOAT]
    return np.concatenate([onnx.numpy_helper.to_array(tensor).ravel() for tensor in tensors])

count = solved("precision-subnormal", count_small)
for path in (detector_path, resnet_path):
    weights = weights_of(path)
    few, none = count(weights)
    print(f"{path}: of {weights.size} weights {few} become subnormal and {none} become 0; "
          f"half of all are larger than {np.median(np.abs(weights)):.2g}")
prediction(guess, int(few), "weights of ResNet-50")

# %% [markdown]
# A subnormal weight is off by at most 2⁻²⁵, which is 0.00000003. Beside weights of 0.01 and more that is nothing. The
# warning is worth reading once: it matters when the weights of a *whole layer* are that small, since then the layer
# has lost its digits. TensorRT 8.6.0 has a second line like this, on 12 tensors: their numbers below 2⁻²⁴, the smallest
# that FP16 has, are not made 0, but 2⁻²⁴. These are 22 numbers. Rounding to the nearest, as in `count_small`,
# turns 5 of them into 0 and 17 into 2⁻²⁴. Both are harmless.
#
# ## 6. Why tensor cores add in FP32
#
# A convolution is a sum of thousands of products. Here is such a sum: 16 384 products of numbers between 0 and 1.
# The exact sum is about 4 100, well within FP16's range.
#
# **Predict:** the sum so far is kept in FP16, and rounded after each addition. Where does it end?

# %%
guess = None   # your number

# %%
rng = np.random.default_rng(0)
a, b = (rng.random(16384).astype(np.float16) for _ in range(2))
products = a.astype(np.float32) * b.astype(np.float32)
sums = {"FP16 accumulator": np.add.accumulate(products, dtype=np.float16),
        "FP32 accumulator": np.cumsum(products)}
prediction(guess, float(sums["FP16 accumulator"][-1]), f"(exact: {products.sum():.0f})")
plot_precision.running_sum(products, sums)

# %% [markdown]
# Above 2048 the next FP16 number is 2050. A product is less than 1, that is less than half of the step: the sum
# rounds back to where it was, for ever. The line bends before that: above 1024 the step is 1, and products below 0.5
# are lost.
#
# **Exercise 5.** Write `dot`: the sum of the products x · y, with an accumulator of a given type. Each product is
# made in FP32. The sum is rounded to the accumulator's type after each addition.

# %% nbgrader={"grade_id": "precision-accumulate", "solution": true}
def dot(a, b, accumulator):
    """a, b: float16 [n]; accumulator: np.float16 or np.float32. Returns a number of that type."""
    ### BEGIN SOLUTION
    total = accumulator(0)
    for x, y in zip(a, b):
        total = accumulator(np.float32(total) + np.float32(x) * np.float32(y))
    return total
    ### END SOLUTION

# %% nbgrader={"grade_id": "precision-accumulate-test", "grade": true, "points": 3}
check("precision-accumulate")

# %% [markdown]
# Tensor cores can multiply FP16 and add in FP32, and what TensorRT builds from convolutions normally does so. Sums
# that you write yourself (a `ReduceSum` over a large tensor, a kernel of your own) are your own business.
#
# ## 7. Overflow
#
# Attention compares each token with each other: scores = q · k / √d. In FP16, with large activations:

# %%
rng = np.random.default_rng(1)
q, k = ((45 * rng.standard_normal((48, 128))).astype(np.float16) for _ in range(2))

def scores(q, k):
    """q, k: float16 [tokens, d] -> float16 [tokens, tokens]."""
    with np.errstate(over="ignore"):
        return (q @ k.T) / np.float16(np.sqrt(q.shape[1]))

exact = q.astype(np.float64) @ k.astype(np.float64).T / np.sqrt(128)
print(f"largest of q and k: {max(np.abs(q).max(), np.abs(k).max()):.0f}, of the exact scores: "
      f"{np.abs(exact).max():.0f}. FP16 holds 65504.")

# %% [markdown]
# **Predict:** how many of the 48 × 48 = 2304 scores are infinite?

# %%
guess = None   # your number: scores

# %%
broken = scores(q, k)
prediction(guess, int(np.isinf(broken).sum()), "scores")
with np.errstate(invalid="ignore"):
    row = broken[np.isinf(broken).any(1)][0].astype(np.float32)
    weights = np.exp(row - row.max())
    print("softmax of a row with an infinite score:", (weights / weights.sum())[:4], "...")

# %% [markdown]
# One infinite score makes a whole row "not a number" (nan), and from there it spreads through the network. Neither
# the inputs nor the right scores are too large for FP16; what is too large is the number in between.
#
# **Exercise 6.** Write `scores_fixed`: the same scores in FP16, without overflow.

# %% nbgrader={"grade_id": "precision-overflow", "solution": true}
def scores_fixed(q, k):
    """q, k: float16 [tokens, d] -> float16 [tokens, tokens]: q · k / sqrt(d)."""
    ### BEGIN SOLUTION
    return (q / np.float16(np.sqrt(q.shape[1]))) @ k.T
    ### END SOLUTION

# %% nbgrader={"grade_id": "precision-overflow-test", "grade": true, "points": 3}
check("precision-overflow")

# %% [markdown]
# The same trick helps a sum of squares (layer normalisation, a variance): divide by the largest value first. Where
# nothing of that kind helps, keep this part in FP32 or BF16.
#
# ## 8. How to ask TensorRT for FP16
#
# Two generations, two ways.
#
# ```python
# # TensorRT 8.6 and 10: a flag. The file stays FP32, and each layer may use FP16 or not.
# config.set_flag(trt.BuilderFlag.FP16)
#
# # TensorRT 11: there is no such flag. The network is strongly typed: what the file says is what runs.
# # So the file must say FP16: weights converted, a Cast behind each input and before each output.
# from onnxruntime.transformers.float16 import convert_float_to_float16
# converted = convert_float_to_float16(onnx.load("resnet50.onnx"), keep_io_types=True)
# ```
#
# So "choose the precision when you build" holds for 8.6 and 10. (10 can build strongly typed networks as well.) With
# the flag, TensorRT chooses by speed, and may keep a layer in FP32. With types, you choose. `build(path,
# BuildConfig("fp16"))` takes the way that the runtime has. Here is the second one, looked at.
#
# **Predict:** how many `Cast` nodes has the converted ResNet-50?

# %%
guess = None   # your number: nodes

# %%
before = onnx.load(resnet_path)
after = graph.prepared(graph.read(resnet_path), float16=True).proto   # as build() for TensorRT 11
type_name = onnx.TensorProto.DataType.Name
for name, proto in (("before", before), ("after", after)):
    weights = dict(Counter(type_name(tensor.data_type) for tensor in proto.graph.initializer))
    ends = [type_name(value.type.tensor_type.elem_type)
            for value in (*proto.graph.input, *proto.graph.output)]
    print(f"{name}: weights {weights}, {graph.weights_bytes(proto) / 1e6:.0f} MB; "
          f"input and output {ends}")
prediction(guess, sum(node.op_type == "Cast" for node in after.graph.node), "Cast nodes")

# %% [markdown]
# TensorRT-RTX is strongly typed, too, and builds on a CPU. Which types do its kernels write?

# %%
batches = Profile.batch(resnet_path, 1, 16, 16)
if available_runtimes()["rtx"] is None:
    for precision in ("fp32", "fp16"):
        engine = build(resnet_path, BuildConfig(precision, runtime="rtx", profiles=(batches,)))
        written = Counter(layer.outputs[0].dtype for layer in engine.layers() if layer.outputs)
        print(f"TensorRT-RTX {engine.runtime_version}, {precision}: "
              f"kernels by what they write: {dict(written)}")
else:
    print(f"Skipped: TensorRT-RTX does not work here. {available_runtimes()['rtx']}")

# %% [markdown]
# ## 9. Does the network mind?
#
# The last question is the only one that counts: labelled images, which the network was not trained on, through each
# engine. On a GPU these are 256 images and three engines: FP32, TF32, FP16. On a CPU these are 32 images, and
# ONNX Runtime with FP32 and with the converted file; it rounds the values to FP16 and computes in FP32. TF32 is open
# there: it needs a GPU with TensorRT.
#
# **Predict:** on how many of the images does FP16 name another class than FP32?

# %%
guess = None   # your number: images

# %%
count = 256 if has_gpu else 32
cheap = {"optimization_level": 1, "timing_cache": "artifacts/timing.cache"} if has_gpu else {}
engines = {precision: build(resnet_path, BuildConfig(precision, profiles=(batches,), **cheap))
           for precision in (("fp32", "tf32", "fp16") if has_gpu else ("fp32", "fp16"))}
inputs = [preprocess.classifier(images.pixels[start:start + 16]) for start in range(0, count, 16)]
logits = {precision: np.concatenate([engine.run({"image": batch})["logits"] for batch in inputs])
          for precision, engine in engines.items()}

# %%
labels = images.labels[:count]
engine = engines["fp32"]
print(f"{engine.runtime} {engine.runtime_version} on {engine.device}, {count} images")
for precision, found in logits.items():
    off = np.linalg.norm(found - logits["fp32"]) / np.linalg.norm(logits["fp32"])
    right = (found.argmax(1) == labels).sum()
    other = (found.argmax(1) != logits["fp32"].argmax(1)).sum()
    print(f"  {precision}: logits off by {100 * off:.3f} %, right on {right}, "
          f"another class than fp32 on {other}")
if not has_gpu:
    print("  tf32: open. It needs a GPU with TensorRT.")
prediction(guess, int((logits["fp16"].argmax(1) != logits["fp32"].argmax(1)).sum()), "images")

# %% [markdown]
# Compare the error of the logits with what section 4 said for the same format: there values were rounded in
# PyTorch, here a runtime did the work. A class changes only where the best two logits are closer than the
# error.
#
# On one H100, TensorRT 8.6.0, 256 images: the logits were off by 0.126 % with TF32 and by 0.173 % with FP16, no image
# changed its class, and all three engines were right on 248 ([results](../docs/results/README.md)). Section 4 said
# 0.085 % and 0.093 %, for the first 4 of these images and with other arithmetic: the same size, not the same number.
#
# And TensorRT's own words about small weights, from the log of the FP16 build. Compare its count of tensors with the
# 57 and 12 of section 5. TensorRT 11 is given a file that is FP16 already, and has nothing to convert:

# %%
if not has_gpu:
    print("Open: this needs a GPU with TensorRT.")
else:
    lines = [line for line in engines["fp16"].build_log if "ubnormal" in line.text]
    print("\n".join(f"{line.severity}: {line.text[:400]}" for line in lines[:3]) or
          "The log of this build does not speak of subnormal weights.")
for engine in engines.values():
    engine.close()

# %% [markdown]
# ## Summary
#
# - The exponent is the range, the mantissa is the number of digits. FP16: up to 65504, three digits. BF16: FP32's
#   range, two digits. TF32: FP32's range, three digits, and only inside tensor cores.
# - Below 2⁻¹⁴ FP16 loses digits, below 2⁻²⁵ everything. Count before you worry about the warning.
# - Errors of rounding partly cancel. Measure them layer by layer, on real images; give a layer its exact input to see
#   what it does itself.
# - Sums belong in FP32. Tensor cores do that.
# - Overflow comes from numbers in between. Scale first, then multiply.
# - TensorRT 8.6 and 10 have a flag for FP16, TensorRT 11 takes the types of the file.
# - The last word has the accuracy on labelled images.
#
# **Next:** lesson [05](05_builder.ipynb) looks at how several layers become one kernel.
