# %% [markdown]
# # Quantisation by hand
#
# INT8 is 256 integers and a scale. Everything that can go wrong with it, and every tool of this stage, is about how
# that scale was chosen. Here you choose it yourself, first for one tensor, then for all of ResNet-50.
#
# **Afterwards you can** quantise by hand, say why TensorRT wants a zero point of 0, write Q/DQ nodes with a scale for
# each channel, write a calibrator, and prove that its scales are better than the naive ones.
#
# **Time:** 40 minutes. The cells together took 37 s on two CPU cores that others used too.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | arithmetic, nodes, calibrators, accuracy | all of it | nothing |
# | TensorRT's own scales | recorded: TensorRT 8.6.0 on one H200 | nothing |
# | speed | not in this lesson | not in this lesson |

# %%
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from course.data import cifar10, preprocess
from course.exercises import check, choice, hint, solved
from course.models import resnet50
from course.plot import histograms as plot
from course.quantize import (calibration_from, collect, paired, quantize, recorded_cache, scales,
                             sqnr_db, tensors_to_calibrate)

# %% [markdown]
# ## 1. 256 integers
#
# ONNX has two operators for INT8, and they are TensorRT's way in:
#
# - **Q**, `QuantizeLinear`: q = saturate(round(x / scale) + zero_point), an integer from −128 to 127;
# - **DQ**, `DequantizeLinear`: x ≈ (q − zero_point) · scale.
#
# **Exercise 1.** Write Q in NumPy. The check compares it with ONNX Runtime's node.

# %% nbgrader={"grade_id": "hand-quantise", "solution": true}
def quantise(x, scale, zero_point=0):
    """float32 array [...] -> int8 [...], as QuantizeLinear; halves are rounded to the even neighbour."""
    ### BEGIN SOLUTION
    return np.clip(np.rint(x / scale) + zero_point, -128, 127).astype(np.int8)
    ### END SOLUTION

# %% nbgrader={"grade_id": "hand-quantise-test", "grade": true, "points": 2}
check("hand-quantise")

# %% [markdown]
# ## 2. Why the zero point is 0
#
# A real tensor: the output of a ReLU inside ResNet-50, for eight photographs. To see it, make it an output of the
# file.

# %%
quantise = solved("hand-quantise", quantise)
path = "artifacts/resnet50.onnx"
Path("artifacts").mkdir(exist_ok=True)
warnings.simplefilter("ignore")   # of the older exporter, whose files every TensorRT reads
SIZE = 160                        # pixels a side: half the work of the usual 224
torch.onnx.export(resnet50(), (torch.rand(2, 3, SIZE, SIZE),), path, dynamo=False, opset_version=17,
                  input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}})
exact_model = onnx.load(path)
photographs = cifar10.images("public")
test = preprocess.classifier(photographs.pixels[:16], SIZE)

def run(model, images, output="logits"):
    """ONNX Runtime on the CPU. images: float32 [N, 3, SIZE, SIZE] -> the values of one output [N, ...]."""
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([output], {"image": images[at:at + 8]})[0]
                           for at in range(0, len(images), 8)])

tensor = "/layer1/layer1.1/relu/Relu_output_0"
opened = onnx.load(path)
opened.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
x = run(opened, test[:8], tensor)
print(f"{tensor}: {x.dtype} {list(x.shape)}, {x.min():.2f} to {x.max():.2f}, "
      f"{100 * (x == 0).mean():.0f} % zeros")

# %% [markdown]
# It is never negative. A *symmetric* scale, largest / 127 with zero point 0, leaves −128 to −1 unused. An *asymmetric*
# one, largest / 255 with zero point −128, uses all 256 integers.
#
# We measure with SQNR, signal to quantisation noise: 10 · log₁₀(Σ x² / Σ error²), in dB. More is better; 6 dB are half
# the error.
#
# **Predict:** what does the zero point gain here?
# - `"nothing"`: half of the values are 0, and 0 is exact either way
# - `"one bit"`: the steps are half as large
# - `"more"`: small values get digits that they did not have

# %%
guess = None   # one of the three

# %%
def through_int8(x, scale, zero_point=0):
    """What a pair of Q and DQ leaves of x."""
    return (quantise(x, scale, zero_point).astype(np.float32) - zero_point) * np.float32(scale)

symmetric = sqnr_db(x, through_int8(x, x.max() / 127))
asymmetric = sqnr_db(x, through_int8(x, x.max() / 255, -128))
print(f"symmetric {symmetric:.1f} dB, asymmetric {asymmetric:.1f} dB")
gained = "one bit" if 5 < asymmetric - symmetric < 7 else "more" if asymmetric > symmetric else "nothing"
choice(guess, gained, "Rounding is off by up to half a step, whatever the value; half the step is 6 dB.")

# %% [markdown]
# One bit, and TensorRT gives it away. Multiply out what a convolution adds up:
#
# Σ (qₓ − zₓ)(q_w − z_w) = **Σ qₓ q_w** − z_w Σ qₓ − zₓ Σ q_w + n zₓ z_w
#
# The first sum is what INT8 tensor cores compute. The last two terms are known when the engine is built. The second
# is one more sum for every output, at run time; and with zₓ ≠ 0 the padding around an image must be filled with zₓ. With
# both zero points 0, all of that is gone. NVIDIA's talk that introduced INT8 in TensorRT (Migacz, GTC 2017) drops the
# offsets with this argument, and the ONNX parsers of TensorRT 8.6 and 10 refuse a zero point other than 0; that of
# TensorRT-RTX 1.7 does, too. So from here on only the scale is left.
#
# ## 3. One scale, or one for each channel
#
# **Predict:** a convolution has 128 output channels, and its weights get one scale for all. Which channels suffer?
# - `"those with large weights"`: they are rounded most coarsely
# - `"those with small weights"`: the step is made for others
# - `"all alike"`: the step is the same for all

# %%
guess = None   # one of the three

# %%
weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in exact_model.graph.initializer}
node = next(node for node in exact_model.graph.node if node.name == "/layer2/layer2.2/conv1/Conv")
weight = weights[node.input[1]]                       # [output channels, input channels, 1, 1]
largest = np.abs(weight).max((1, 2, 3))
shared = [sqnr_db(row, through_int8(row, largest.max() / 127)) for row in weight]
own = [sqnr_db(row, through_int8(row, top / 127)) for row, top in zip(weight, largest)]
small = np.argsort(largest)[:32]
choice(guess, "those with small weights" if np.mean(np.array(shared)[small]) < np.mean(shared) - 2
       else "all alike", "The error is the same everywhere, but small weights are less to begin with.")
plot.channels(largest, shared, own, f"{node.name}: {len(weight)} channels")

# %% [markdown]
# A scale for each *output* channel costs nothing: every product in a sum has the same scale, so it is multiplied once,
# at the end. A scale for each *input* channel could not leave the sum. That is why TensorRT has scales per channel for
# weights and one scale per tensor for activations.
#
# In the file this is a pair with a vector of scales. Beware of its attribute `axis`: left out, it is 1, and a Conv's output
# channels are on axis 0.
#
# **Exercise 2.** Write `weight_pair` with `helper.make_node` and `numpy_helper.from_array`. Name DQ's output
# `f"{name}_dq"`. A channel that was pruned to 0 needs a scale, too: take 1.

# %% nbgrader={"grade_id": "hand-pair", "solution": true}
def weight_pair(name, weight, axis):
    """A pair for the float32 initializer `name`, a scale for each channel along `axis`.

    Returns ([Q node, DQ node], [scale, zero point]): NodeProtos and TensorProtos.
    """
    ### BEGIN SOLUTION
    largest = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(1)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    constants = [numpy_helper.from_array(scale, f"{name}_scale"),
                 numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero")]
    inputs = [constant.name for constant in constants]
    return [helper.make_node("QuantizeLinear", [name, *inputs], [f"{name}_q"], axis=axis),
            helper.make_node("DequantizeLinear", [f"{name}_q", *inputs], [f"{name}_dq"],
                             axis=axis)], constants
    ### END SOLUTION

# %% nbgrader={"grade_id": "hand-pair-test", "grade": true, "points": 3}
check("hand-pair")

# %% [markdown]
# Does the network notice? Your pair on all 53 convolutions, activations still in float; then the same with the
# largest scale of each tensor for all its channels.

# %%
weight_pair = solved("hand-pair", weight_pair)

def int8_weights(one_scale):
    model = onnx.load(path)
    for node in [node for node in model.graph.node if node.op_type == "Conv"]:
        (q, dq), constants = weight_pair(node.input[1], weights[node.input[1]], 0)
        for constant in constants:
            if one_scale and constant.name == q.input[1]:
                values = numpy_helper.to_array(constant)
                constant.CopyFrom(numpy_helper.from_array(np.full_like(values, values.max()),
                                                          constant.name))
        node.input[1] = dq.output[0]
        model.graph.initializer.extend(constants)
        for place, new in enumerate((q, dq)):
            model.graph.node.insert(place, new)
    return model

def quality(found):
    """SQNR of the logits of each image, dB."""
    return 10 * np.log10((exact ** 2).sum(1) / ((found - exact) ** 2).sum(1))

exact = run(exact_model, test)
by_tensor, by_channel = (quality(run(int8_weights(one), test)) for one in (True, False))
print(f"logits: {by_tensor.mean():.1f} dB with a scale for each tensor, {by_channel.mean():.1f} dB with one "
      f"for each channel\n{len(test)} images, difference and its 95 % interval: {paired(by_channel, by_tensor)} dB")

# %% [markdown]
# Two bits, for 0.1 MB of scales. Use them always.
#
# ## 4. Saturation against resolution
#
# Weights are known. Activations depend on the image, so their range must be guessed from samples: that is calibration.
# The largest value that was seen is one guess. Back to our tensor.
#
# **Predict:** the limit is set to 60 % of the largest value. All above saturates. The error becomes
# - `"larger"`: the largest values carry the most signal
# - `"smaller"`: few are clipped, and all others get finer steps

# %%
guess = None   # "larger" or "smaller"

# %%
limits_tried = x.max() * np.linspace(0.1, 1, 37)
rounding, clipping = [], []
for limit in limits_tried:
    error, outside = (through_int8(x, limit / 127) - x) ** 2, x > limit
    rounding.append(error[~outside].sum() / x.size)
    clipping.append(error[outside].sum() / x.size)
total = np.add(rounding, clipping)
at = np.abs(limits_tried - 0.6 * x.max()).argmin()
choice(guess, "smaller" if total[at] < total[-1] else "larger",
       f"Only {100 * (x > limits_tried[at]).mean():.3f} % of the values are clipped; the error is "
       f"{total[at] / total[-1]:.2f} times that of the whole range.")
plot.trade_off(limits_tried, rounding, clipping)

# %% [markdown]
# A calibrator finds such a limit without keeping the activations: it counts them into a histogram, image by image, and
# looks at the counts at the end. TensorRT's `IInt8EntropyCalibrator2` (8.6 and 10) works like that, and so do Model
# Optimizer and ONNX Runtime.
#
# **Exercise 3.** Write `best_limit`: the limit with the smallest squared error, from a histogram.

# %% nbgrader={"grade_id": "hand-calibrator", "solution": true}
def best_limit(counts, width):
    """counts: int64 [bins] of |x|, bin k holds k · width <= |x| < (k + 1) · width -> the limit, a number."""
    ### BEGIN SOLUTION
    middles = (np.arange(len(counts)) + 0.5) * width
    def error(limit):
        back = np.clip(np.rint(middles / (limit / 127)), 0, 127) * (limit / 127)
        return (counts * (back - middles) ** 2).sum()
    edge = (np.flatnonzero(counts)[-1] + 1) * width
    return min(edge * np.arange(1, 201) / 200, key=error)
    ### END SOLUTION

# %% nbgrader={"grade_id": "hand-calibrator-test", "grade": true, "points": 4}
check("hand-calibrator")

# %% [markdown]
# Now 16 other images, and every tensor that gets a pair. Beside yours: min-max, which clips nothing; entropy, which
# asks how little information is lost; and what TensorRT's own entropy calibrator chose on an H200 from 256 images.

# %%
best_limit = solved("hand-calibrator", best_limit)
seen = preprocess.classifier(cifar10.images("calibration").pixels[:16], SIZE)
histograms = collect(path, seen, tensors_to_calibrate(path), bins=2048)
calibrations = {"min-max": scales(histograms, "min-max"), "entropy": scales(histograms, "entropy"),
                "TensorRT 8.6.0 (H200)": calibration_from(recorded_cache())}
panels = {"the image": "image", "layer1.1, first ReLU": tensor,
          "layer2.0, skip side": "/layer2/layer2.0/downsample/downsample.0/Conv_output_0",
          "layer3.5, first ReLU": "/layer3/layer3.5/relu/Relu_output_0"}
lines = {name: {panel: found.amax(key) for panel, key in panels.items()}
         for name, found in calibrations.items()}
lines["yours"] = {panel: best_limit(histograms[key].magnitudes()[0], histograms[key].widths[0])
                  for panel, key in panels.items()}
plot.limits({panel: histograms[key] for panel, key in panels.items()}, lines)

# %% [markdown]
# Above a line, values are clipped. The counts are on a logarithmic axis: what looks like a broad tail is a handful of
# values. On the image nothing is worth clipping. TensorRT's lines and our entropy's lie close together, though one saw
# 256 images and the other 16.
#
# ## 5. The whole network
#
# **Exercise 4.** Make `limits`: tensor → limit, for all tensors of `histograms.tensors`. The answers of the network must
# come closer to the float ones than with min-max, on images that neither you nor this lesson has looked at.

# %% nbgrader={"grade_id": "hand-limits", "solution": true}
limits = None   # a dict
### BEGIN SOLUTION
limits = {name: best_limit(one.magnitudes()[0], one.widths[0])
          for name, one in histograms.tensors.items()}
### END SOLUTION

# %% nbgrader={"grade_id": "hand-limits-test", "grade": true, "points": 3}
check("hand-limits")

# %% [markdown]
# And the classes? **Predict:** with min-max, on the 16 test images,
# - `"some change"`: noise that is twice as large must turn some
# - `"none changes"`: the best logit is ahead by more than the noise

# %%
guess = None   # "some change" or "none changes"

# %%
limits = solved("hand-limits", limits)
candidates = {**calibrations, "yours": {name: limit / 127 for name, limit in limits.items()}}
found = {name: run(quantize(path, one), test) for name, one in candidates.items()}
gains = {name: paired(quality(one), quality(found["min-max"])) for name, one in found.items()}
changed = {name: int((one.argmax(1) != exact.argmax(1)).sum()) for name, one in found.items()}
for name, one in found.items():
    print(f"{name:22} {quality(one).mean():.1f} dB, {changed[name]} of {len(test)} classes changed")
noise = np.sqrt(((found["min-max"] - exact) ** 2).mean())
ahead = np.diff(np.sort(exact, 1)[:, -2:], axis=1)
choice(guess, "some change" if changed["min-max"] else "none changes",
       f"The best logit leads by {np.median(ahead):.1f} in the middle, by {ahead.min():.1f} at least; "
       f"the noise is {noise:.2f}.")
plot.intervals({name: (one.mean, one.low, one.high) for name, one in gains.items()
                if name != "min-max"}, "dB more than min-max", "The answers of ResNet-50 in INT8", "min-max")

# %% [markdown]
# So ten easy classes do not show which calibrator is better, and the noise does. On 16 images an interval may still reach
# 0; the 64 of the check are enough. Compare calibrators by
# the noise, on images that were not used to calibrate, image by image; then look whether the accuracy that you need is
# still there. Here it was: on the H200, {{docs/results/h200/int8/summary.json: top1_images}} images, top-1 was
# {{docs/results/h200/int8/summary.json: results.b64.FP16.top1 | .1%}} in FP16 and
# {{docs/results/h200/int8/summary.json: results.b64.INT8 implicit.top1 | .1%}} with TensorRT's scales.
#
# ## Decide
#
# | what | do |
# | --- | --- |
# | weights | a scale for each output channel, from the largest weight; nothing is clipped |
# | activations | one scale for the tensor, from a histogram, entropy or squared error; min-max as the baseline to beat |
# | evenly spread or bounded values, such as the image | any method: clipping does not pay |
# | zero point | 0 |
# | two calibrators differ by less than the interval | keep the simpler one |
#
# ## Summary
#
# - Q divides, rounds half to even, adds the zero point and saturates. DQ goes back.
# - A zero point of its own would gain one bit behind a ReLU; TensorRT gives it away for plain INT8 products.
# - A scale is made for the largest value of all that share it. Weights share within an output channel only.
# - A limit below the largest value trades saturation for resolution. A calibrator finds it from counts.
# - The noise of the answers, paired image by image, tells calibrators apart long before top-1 does.
#
# **Next:** lesson [02](02_ptq_on_tensorrt.ipynb) brings such scales into an engine.
