# %% [markdown]
# # When INT8 is wrong
#
# The engine is fast, and its answers are not what they were. Here a detector loses everything, then most of what it
# lost comes back with one edit, and the rest is found layer by layer.
#
# **Afterwards you can** find a scale that two ranges share, measure the noise of each layer by itself and through the
# depth, keep the guilty layers out of INT8 in TensorRT 8.6, 10 and 11, and say when another calibrator is cheaper.
#
# **Time:** 40 minutes. The cells together run for about half a minute on two quiet CPU cores.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | accuracy of a file with Q/DQ pairs | all of it: ONNX Runtime computes what the file says | nothing |
# | precisions of layers through the API | asked of a stand-in for TensorRT 8.6 | asked of TensorRT 8.6 or 10 |
# | speed | not in this lesson | not in this lesson |

# %%
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from course import detection
from course.exercises import check, choice, hint, solved
from course.plot import int8 as plot
from course.quantize import collect, layer_noise, quantize, sqnr_db, tensorrt_here, without_pairs
from course.quantize import scales as scales_by

# %% [markdown]
# ## 1. A detector with one output
#
# Many detectors are exported with one output: boxes in pixels and class scores from 0 to 1 side by side, joined by a last
# Concat. So is ours here. We quantise it with a pair around every operator, as in the beginning of lesson
# [03](03_when_int8_disappoints.ipynb).
#
# **Predict:** what is left of its detections?
# - `"nearly all"`: 255 steps do for boxes and for scores
# - `"boxes"`: the boxes stay, since their range sets the scale; the scores are lost in it
# - `"scores"`: the scores stay, since they are small; the boxes saturate

# %%
guess = None   # "nearly all", "boxes" or "scores"

# %%
Path("artifacts").mkdir(exist_ok=True)
plain = detection.joined("artifacts/detector.onnx")     # image -> detections [N, 2100, 4 + 20]
scenes = detection.compose(range(90_000, 90_016))
calibration = detection.frames(detection.compose(range(50_000, 50_008)))
histograms = collect(plain, calibration)               # of every tensor, once for all methods
scales = scales_by(histograms, "min-max")
scales.save("artifacts/detector.scales.json")
naive = quantize(plain, scales, "outputs")

exact = detection.answers(plain, scenes)
rows = [detection.accuracy("float", plain, exact, scenes),
        detection.accuracy("INT8, default pairs", naive, exact, scenes)]
print(detection.accuracy_table(rows))
happened = "boxes" if rows[1].highest == 0 else "scores" if rows[1].boxes_db < 0 else "nearly all"
choice(guess, happened, f"The boxes have {rows[1].boxes_db:.0f} dB. The highest score of all is {rows[1].highest:.2g}.")

# %% [markdown]
# mAP is the detector's accuracy. The dB are the SQNR of boxes and scores against the float model's: 6 dB less is twice
# the error.
#
# ## 2. Where do the scores go?
#
# A pair behind a Concat has one scale for all that was joined.
#
# **Exercise 1.** Write `levels`: for each Concat whose result is rounded, how many steps of that scale the largest value
# of each input takes. 127 is the best; 0 means that all of it becomes 0.

# %% nbgrader={"grade_id": "accuracy-levels", "solution": true}
def levels(model: onnx.ModelProto, largest):
    """largest: float tensor -> largest magnitude -> {Concat's name: {input (float tensor): steps}}."""
    ### BEGIN SOLUTION
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    q = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    rounded = {node.output[0]: tensor for tensor, node in q.items()}
    behind = {node.output[0]: rounded[node.input[0]] for node in graph.node
              if node.op_type == "DequantizeLinear"}
    found = {}
    for node in graph.node:
        if node.op_type == "Concat" and node.output[0] in q:
            scale = float(numpy_helper.to_array(constants[q[node.output[0]].input[1]]))
            tensors = [behind.get(name, name) for name in node.input]
            found[node.name] = {tensor: round(largest[tensor] / scale) for tensor in tensors}
    return found
    ### END SOLUTION

# %% nbgrader={"grade_id": "accuracy-levels-test", "grade": true, "points": 3}
check("accuracy-levels")

# %%
levels = solved("accuracy-levels", levels)
found = levels(naive, {tensor: 127 * scale for tensor, scale in scales.scales.items()})
for name in sorted(found, key=lambda name: min(found[name].values()))[:4]:
    print(name, found[name])
print(f"one step of the output: {scales.scales['detections']:.2f}")
boxes, scores = detection.halves(exact)
plot.two_ranges({"boxes, px": boxes, "scores": scores}, scale=scales.scales["detections"])

# %% [markdown]
# The boxes reach hundreds of pixels, and set the scale. A score is less than half a step, so it becomes 0. The list goes on:
# for each of its three feature maps the head joins the logits of boxes and of classes, and one of the two gets few steps.
#
# ## 3. The cure
#
# **Exercise 2.** Choose `off`: float tensors whose pairs are taken out, so that the detections come back. All convolutions
# must stay in INT8. The check runs your model on scenes that you have not seen, and the points follow its mAP. The tensor
# before the output's pair is called `detections_QuantizeLinear_Input`.

# %%
paired = [node.input[0] for node in naive.graph.node if node.op_type == "QuantizeLinear"]
heads = [node.output[0] for node in plain.graph.node
         if node.op_type == "Conv" and node.name.endswith(".2/Conv")]   # the last convolutions
print(len(paired), "tensors have pairs;", heads)

# %% nbgrader={"grade_id": "accuracy-off", "solution": true}
off = None   # names of float tensors
### BEGIN SOLUTION
off = {*heads, "detections_QuantizeLinear_Input"}
for node in plain.graph.node:
    if off & set(node.input):
        off |= set(node.output)
### END SOLUTION

# %% nbgrader={"grade_id": "accuracy-off-test", "grade": true, "points": 4}
check("accuracy-off")

# %%
off = solved("accuracy-off", off)
last = ["detections_QuantizeLinear_Input"]
mended = quantize(plain, scales)              # lesson 03's placement: no pair there in the first place
rows += [detection.accuracy("without the last pair", without_pairs(naive, last), exact, scenes),
         detection.accuracy("your choice", without_pairs(naive, off), exact, scenes),
         detection.accuracy("pairs on inputs and skips", mended, exact, scenes)]
print(detection.accuracy_table(rows))

# %% [markdown]
# Without the last pair the scores are back, but not all of the accuracy. The rest of the decoding is arithmetic on pixels
# and on logits of two ranges: 127 steps are too few for it, and none of it is a convolution, so INT8 gains next to
# nothing there. Two outputs instead of one help the last Concat only; to decode outside the engine helps as your choice
# does. From here on we use the last row: lesson 03's placement, which puts no pair there to begin with.
#
# ## 4. The rest: which layers?
#
# The model is right again, but for some noise. Where does it come from? Make the output of a layer an output of the
# file, and compare it with the float model's, twice: in a file in which only this layer has pairs, so that the noise is its
# own (*alone*), and in the whole INT8 model, with the noise of all layers before it (*gathered*).

# %%
def inside(model, tensor, x):
    """The values of one tensor inside a model."""
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    opened.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(opened.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    return session.run([tensor], {"image": x})[0]

convs = [node for node in plain.graph.node if node.op_type == "Conv"]
one, x = convs[40], calibration[:4]
others = [node.name for node in convs if node.name != one.name]
alone = quantize(plain, scales, "inputs", exclude=others)
for name, model in {"alone": alone, "gathered": mended}.items():
    found = sqnr_db(inside(plain, one.output[0], x), inside(model, one.output[0], x))
    print(f"{one.name}, {name}: {found:.1f} dB")

# %% [markdown]
# `layer_noise` does that for every layer at once.
#
# **Predict:** five layers may go back to float. Which ones help the boxes most?
# - `"gathered"`: those with the most noise at their output
# - `"alone"`: those that add the most themselves
# - `"last"`: the last five; they decide

# %%
guess = None   # "gathered", "alone" or "last"

# %%
noise = layer_noise(plain, scales, calibration[:4])
plot.noise(noise)

# %%
picks = {"alone": sorted(noise, key=lambda layer: layer.alone)[:5],
         "gathered": sorted(noise, key=lambda layer: layer.gathered)[:5],
         "last": noise[-5:],
         "any": [noise[i] for i in np.random.default_rng(0).choice(len(noise), 5, replace=False)]}
kept_rows = [rows[-1]]
for name, layers in picks.items():
    model = quantize(plain, scales, exclude=[layer.node for layer in layers])
    kept_rows.append(detection.accuracy(f"5 in float: {name}", model, exact, scenes))
print(detection.accuracy_table(kept_rows))
best = max(zip(picks, kept_rows[1:]), key=lambda pair: pair[1].boxes_db)[0]
choice(guess, best, "What a layer shows at its output has mostly gathered before it. In float it passes that on "
       "all the same.")

# %% [markdown]
# Five layers drawn by chance are the control. On 16 scenes, a point of mAP more or less says nothing; the dB are
# steadier, since every number of the output counts.
#
# The guilty layers stand near the input. They are few, but all others work with their noise.
#
# ## 5. Keep them out of INT8
#
# With a calibrator, TensorRT 8.6 and 10 choose the precision of each layer by speed. `layer.precision` is a wish: the
# builder may still take a faster kernel of another precision. With the flag `PREFER_PRECISION_CONSTRAINTS` it keeps to the
# wish unless the build would fail, with `OBEY_PRECISION_CONSTRAINTS` it keeps to it or the build fails. (trtexec:
# `--layerPrecisions` and `--precisionConstraints`.)

# %%
trt = tensorrt_here(needs="IInt8EntropyCalibrator2")

# %% [markdown]
# **Exercise 3.** Write `keep_in_fp16` for such a build: the layers of these ONNX nodes run in FP16, all others may run in
# INT8. TensorRT must obey, not only try.

# %% nbgrader={"grade_id": "accuracy-obey", "solution": true}
def keep_in_fp16(trt, network, config, nodes):
    """trt: the module; network: parsed; config: has the flag INT8. nodes: names; a layer's name is its ONNX node's."""
    ### BEGIN SOLUTION
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in nodes:
            layer.precision = trt.float16
            layer.set_output_type(0, trt.float16)
    ### END SOLUTION

# %% nbgrader={"grade_id": "accuracy-obey-test", "grade": true, "points": 3}
check("accuracy-obey")

# %% [markdown]
# With Q/DQ pairs, the pairs alone say what runs in INT8, in every version: `exclude` leaves a layer without them. In 8.6
# and 10 such a layer runs in FP16 or FP32, as flags and layer precisions allow; in 11, which has neither, in the type that
# the file says.
#
# **Exercise 4.** Choose `kept`: at most six convolutions that stay in float. On scenes that you have not seen, the boxes
# must gain 6 dB, which halves their error.

# %% nbgrader={"grade_id": "accuracy-kept", "solution": true}
kept = None   # names of nodes, as in layer.node
### BEGIN SOLUTION
kept = [layer.node for layer in sorted(noise, key=lambda layer: layer.alone)[:6]]
### END SOLUTION

# %% nbgrader={"grade_id": "accuracy-kept-test", "grade": true, "points": 3}
check("accuracy-kept")

# %% [markdown]
# ## 6. Or another calibrator?
#
# A layer adds much noise if most of its input's values are small and a few are large: min-max spends the steps on those
# few. So there is a cure that costs no speed: a limit that cuts them off, as in lesson
# [01](01_quantisation_by_hand.ipynb).

# %%
kept = solved("accuracy-kept", kept)
percentile = scales_by(histograms, "percentile")
versions = {"min-max, 6 in float": quantize(plain, scales, exclude=kept),
            "percentile, all INT8": quantize(plain, percentile),
            "percentile, 6 in float": quantize(plain, percentile, exclude=kept)}
final = [rows[0], rows[-1], *(detection.accuracy(name, model, exact, scenes)
                              for name, model in versions.items())]
print(detection.accuracy_table(final))
plot.gains(final[1:], "What each cure brings")

# %% [markdown]
# The calibrator gains about as much as the layers, and nothing is slower for it. What is left after that is worth a look
# at single layers; here both together are best.
#
# What a layer in float costs stands in no file: its neighbours must go from INT8 to float and back, and its kernel is a
# slower one. Measure that on the GPU, as in lesson 03, before you keep it.
#
# ## Decide
#
# | you see | do |
# | --- | --- |
# | all scores 0, boxes nearly right | no pair on a Concat of different ranges; decode in float, or outside the engine |
# | classes or boxes a little worse everywhere | another calibrator first: it costs no speed |
# | a few layers with much noise of their own | those in FP16: OBEY in 8.6 and 10 with a calibrator, no pairs there in a file with pairs |
# | noise that gathers evenly over all layers | no layer is guilty: more or other images (lesson [05](05_calibration_set.ipynb)), then QAT, or FP16 for all |
# | it helps, by less than five layers drawn by chance | keep nothing in float |
#
# ## Summary
#
# - One scale for two ranges leaves few steps to the smaller one. Look at what each Concat joins.
# - SQNR against the float model tells versions apart long before mAP does.
# - Noise alone and noise gathered are two measurements. The first finds the layer to mend; the second says what arrives at
#   the end.
# - `layer.precision` is a wish, OBEY an order; in a file with Q/DQ pairs, a layer without them is out of INT8.
# - The calibrator comes before the layers.
#
# **Next:** lesson [05](05_calibration_set.ipynb): the engine is right on one day's images, and wrong on the next.
