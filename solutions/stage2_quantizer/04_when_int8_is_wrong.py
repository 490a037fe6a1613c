# %% [markdown]
# # When INT8 is wrong
#
# The engine is fast, and its answers are not what they were. Here a detector loses everything, then most of what it
# lost comes back with one edit, and the rest is found layer by layer.
#
# **Afterwards you can** find a scale that two ranges share, measure the noise of each layer by itself and through the
# depth, keep the guilty layers out of INT8 in TensorRT 8.6, 10 and 11, and say when another calibrator is cheaper.
#
# **Time:** 40 minutes. The cells together run for about half a minute on a CPU.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | accuracy of a file with Q/DQ pairs | all of it: ONNX Runtime computes what the file says | nothing |
# | precisions of layers through the API | the course's stand-in for TensorRT 8.6 | TensorRT itself |
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
from course.quantize import calibrate, layer_noise, quantize, sqnr_db, tensorrt_here, without_pairs

# %% [markdown]
# ## 1. A detector with one output
#
# As most detectors on the web, ours is exported with one output: boxes in pixels and class scores from 0 to 1 side by
# side, joined by a last Concat. We quantise it with a pair around every operator, as lesson
# [03](03_when_int8_disappoints.ipynb) began.
#
# **Predict:** what is left of its detections?
# - `"nearly all"`: INT8 costs some accuracy, as always
# - `"boxes"`: boxes are found, their scores are gone
# - `"scores"`: scores are right, boxes jump about

# %%
guess = None   # "nearly all", "boxes" or "scores"

# %%
Path("artifacts").mkdir(exist_ok=True)
plain = detection.joined("artifacts/detector.onnx")     # image -> detections [N, 2100, 4 + 20]
scenes = detection.compose(range(90_000, 90_016))
calibration = detection.frames(detection.compose(range(50_000, 50_008)))
scales = calibrate(plain, calibration, "min-max")
scales.save("artifacts/detector.scales.json")
naive = quantize(plain, scales, "outputs")

exact = detection.answers(plain, scenes)
rows = [detection.accuracy("float", plain, exact, scenes),
        detection.accuracy("INT8, default pairs", naive, exact, scenes)]
print(detection.accuracy_table(rows))
choice(guess, "boxes", "The boxes are off by a few pixels. Every score is exactly 0, so nothing is detected.")

# %% [markdown]
# mAP is the detector's accuracy; dB is the signal-to-noise ratio of the raw output: 6 dB less is twice the error.
#
# ## 2. Who ate the scores?
#
# A pair behind a Concat has one scale for all that was joined. **Exercise 1.** Write `levels`: for each Concat whose
# result is rounded, how many steps of that scale the largest value of each input takes. 127 is the best, 0 means: all of
# it becomes 0.

# %% nbgrader={"grade_id": "accuracy-levels", "solution": true}
def levels(model, largest):
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
boxes, scores = detection.halves(exact)
plot.two_ranges({"boxes, px": boxes, "scores": scores}, scale=scales.scales["detections"])

# %% [markdown]
# The scale comes from the boxes, up to hundreds of pixels. One step is more than four: a score of 0.99 rounds to 0.
# And the list goes on: three more Concats join box and class logits, which have different ranges, too.
#
# ## 3. The cure
#
# **Exercise 2.** Choose `off`: the float tensors whose pairs are taken out, so that the detections come back. Convolutions
# must stay in INT8. The check runs your model on scenes that you have not seen, and the points follow its mAP. The last
# tensor before the output's pair is called `detections_QuantizeLinear_Input`.

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
# Decoding is arithmetic on pixels; 127 steps are too few for it, and nothing of it is a convolution. Two outputs instead
# of one, or decoding outside the engine, have the same effect. From here on we use the last row.
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
# **Predict:** five layers may go back to float. Which ones help most?
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
best = max(picks, key=lambda name: {row.name: row for row in kept_rows}[f"5 in float: {name}"].boxes_db)
choice(guess, best, "A layer deep in the network shows the noise of all that came before. To put it back into float "
       "does not make its inputs better.")

# %% [markdown]
# Five layers drawn at random are the control: whatever they gain is worth nothing. Differences in mAP of a percent or
# less are noise on 16 scenes; the dB are steadier, since every number of the output counts.
#
# ## 5. Keep them out of INT8
#
# With a calibrator, TensorRT 8.6 and 10 choose the precision of each layer. You can ask for one, and insist.

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
# With Q/DQ pairs none of this is used: the pairs decide, in every version. Leave them out where a layer is to stay in float.
# TensorRT 11 knows pairs only. There, as in lesson 03, float is FP32 unless the file says FP16.
#
# **Exercise 4.** Choose `kept`: at most six convolutions that stay in float. The boxes must gain 6 dB, half of their error,
# on scenes that you have not seen.

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
# A layer adds much noise if its input's range is wide and most of its values are small: min-max spends the steps on a few
# outliers. So there is a cheaper cure to try first: cut the outliers off.

# %%
kept = solved("accuracy-kept", kept)
percentile = calibrate(plain, calibration, "percentile")
final = [rows[0], rows[-1],
         detection.accuracy("min-max, your layers in float", quantize(plain, scales, exclude=kept), exact, scenes),
         detection.accuracy("percentile, all in INT8", quantize(plain, percentile), exact, scenes),
         detection.accuracy("percentile, your layers in float", quantize(plain, percentile, exclude=kept), exact, scenes)]
print(detection.accuracy_table(final))
plot.gains(final[1:], "What each cure brings")
