# %% [markdown]
# # The calibration set
#
# The same network, the same calibrator, the same pairs: only the images that the calibrator saw are others, and the
# INT8 network no longer works. Here you see it happen, find out why without a single label, and choose a set that
# holds.
#
# **Afterwards you can** say what a calibration set must contain and how large it must be, tell saturation from lost
# resolution, watch for it in production, and feed a calibrator exactly what the network sees in use.
#
# **Time:** 35 minutes. The cells together run for about half a minute on two quiet CPU cores.
#
# | | on a CPU | a GPU adds |
# | --- | --- | --- |
# | calibration, accuracy, what saturates | all of it | nothing |
# | speed | not in this lesson | not in this lesson |

# %%
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader

from course.data import cifar10, preprocess, surfaces
from course.exercises import check, choice, hint, solved
from course.models.inspector import SIZE, inspector
from course.plot import histograms as plot
from course.quantize import collect, paired, quantize, scales, tensors_to_calibrate

# %% [markdown]
# ## 1. Photographs for a camera that sees steel
#
# An inspection network: the first stage of the shipped ResNet-50, which was trained on photographs, and a head fitted
# to surfaces with five classes: good, scratch, pit, inclusion, patch. Somebody quantises it and takes the images at
# hand for calibration: 64 photographs of CIFAR-10.
#
# **Predict:** with these, the accuracy on surfaces
# - `"stays"`: photographs are more varied than grey surfaces, so all ranges are wide enough
# - `"falls, too narrow"`: values of surfaces lie beyond the limits
# - `"falls, too wide"`: the limits are so far out that surfaces have few steps left

# %%
guess = None   # one of the three

# %%
path = "artifacts/inspector.onnx"
Path("artifacts").mkdir(exist_ok=True)
warnings.simplefilter("ignore")   # of the older exporter, whose files every TensorRT reads
torch.onnx.export(inspector(), (torch.rand(2, 3, SIZE, SIZE),), path, dynamo=False, opset_version=17,
                  input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}})
photographs = cifar10.images("calibration").pixels[:64]
shown = np.array(surfaces.MATERIALS * 30)     # to test: as many of each material
drawn = [surfaces.surface(seed, SIZE, material=str(one)) for seed, one in enumerate(shown)]
labels = np.array([one.label for one in drawn])
test = preprocess.classifier(np.stack([one.image for one in drawn]), SIZE)
line = np.stack([surfaces.surface(seed, SIZE).image for seed in range(2000, 2256)])   # to calibrate
plot.pictures({"for calibration": photographs[:8], "in use": line[:8]}, "What the calibrator saw, and what came")

# %%
def run(model):
    """float32 [90, 5]: logits of the test surfaces, by ONNX Runtime on the CPU."""
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], {"image": test[at:at + 30]})[0]
                           for at in range(0, len(test), 30)])

tensors = tensors_to_calibrate(path)
exact = run(onnx.load(path))

def counted(images):
    """Histograms of all tensors that get a pair, for images that are prepared already."""
    return collect(path, images, tensors, bins=2048, batch=32)

def report(name, histograms, method):
    """Calibrate, quantise, run; print; return the SQNR of each image's logits in dB."""
    found = run(quantize(path, scales(histograms, method)))
    change = paired(100 * (found.argmax(1) == labels), 100 * (exact.argmax(1) == labels))
    quality = 10 * np.log10((exact ** 2).sum(1) / ((found - exact) ** 2).sum(1))
    print(f"{name:24} {method:8} {quality.mean():6.1f} dB, right {100 * (found.argmax(1) == labels).mean():.1f} %, "
          f"against float {change} points")
    return quality

print(f"float: right {100 * (exact.argmax(1) == labels).mean():.1f} % of {len(labels)}")
of_photographs = counted(preprocess.classifier(photographs, SIZE))
of_line = counted(preprocess.classifier(line[:64], SIZE))
for method in ("min-max", "entropy"):
    wrong_domain = report("64 photographs", of_photographs, method)
    right_domain = report("64 surfaces", of_line, method)

# %% [markdown]
# The intervals are over the same 90 surfaces, image by image. Entropy with photographs collapses; with as many
# surfaces, the same code loses little. Which of the two reasons was it?
#
# **Exercise 1.** Write `saturated` with `onnx` and ONNX Runtime: of each tensor, the share of values that the limits
# would clip. It needs no labels, so it can run beside production.

# %% nbgrader={"grade_id": "set-saturated", "solution": true}
def saturated(path, limits, x):
    """path: float ONNX file with the input "image"; limits: tensor inside -> largest magnitude; x: float32 images.

    Returns a dict: tensor -> share of its values (0 to 1) that lie beyond the limit.
    """
    ### BEGIN SOLUTION
    model = onnx.load(path)
    for name in limits:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    values = session.run(list(limits), {"image": x})
    return {name: float((np.abs(value) > limits[name]).mean()) for name, value in zip(limits, values)}
    ### END SOLUTION

# %% nbgrader={"grade_id": "set-saturated-test", "grade": true, "points": 3}
check("set-saturated")

# %%
saturated = solved("set-saturated", saturated)
inner = [name for name in tensors if name != "image"]
entropy = scales(of_photographs, "entropy")
limits = {name: entropy.amax(name) for name in inner}
today = saturated(path, limits, test[:64])
then = saturated(path, limits, preprocess.classifier(photographs, SIZE))
print(f"{'beyond the limit:':62} photographs    surfaces")
for name in inner:
    print(f"{name.removeprefix('/backbone/'):62} {100 * then[name]:9.4f} % {100 * today[name]:9.4f} %")
worst = max(inner, key=lambda name: today[name] - then[name])
more = today[worst] > 2 * then[worst]
choice(guess, "stays" if wrong_domain.mean() > right_domain.mean() - 0.5 else
       "falls, too narrow" if more else "falls, too wide",
       f"At {worst.removeprefix('/backbone/')}, {100 * today[worst]:.2g} % of the surfaces' values are beyond the limit, "
       f"{100 * then[worst]:.2g} % of the photographs'.")
plot.overlay({"photographs": of_photographs[worst], "surfaces": of_line[worst]}, limits[worst],
             worst.removeprefix("/backbone/"))

# %% [markdown]
# A 32-pixel photograph enlarged to 96 is smooth; a machined surface is full of edges, and edges are what the first
# stage of the network measures. To the eye the photographs are richer, to these filters they are poorer. What counts
# is not the content of an image, but the range of the activations that it causes. A control experiment: images
# without any content.

# %%
noise = np.random.default_rng(0).standard_normal((64, 3, SIZE, SIZE)).astype(np.float32)
_ = report("64 images of noise", counted(noise), "entropy")

# %% [markdown]
# Noise is full of edges, too. That is no advice to calibrate with it. It says that "representative" means: **the
# activations reach as far as they do in use.**
#
# ## 2. The right images, prepared wrongly
#
# The network's input is (pixel / 255 − mean) / deviation. A calibration script of its own often forgets a part.
#
# **Predict:** the calibrator is fed grey levels from 0 to 255 instead. The accuracy
# - `"falls, too narrow"`
# - `"falls, too wide"`
# - `"stays"`: a scale adapts to its data

# %%
guess = None   # one of the three

# %%
raw = line[:64].transpose(0, 3, 1, 2).astype(np.float32)    # [64, 3, SIZE, SIZE], 0 to 255 as they come
right = scales(of_line, "entropy")
for name, images in {"0 to 1, not normalised": raw / 255, "0 to 255": raw}.items():
    histograms = counted(images)
    report(name, histograms, "entropy")
    slipped = scales(histograms, "entropy")
    reach = np.median([slipped.amax(tensor) / right.amax(tensor) for tensor in tensors])
    print(f"{'':24} limits: {reach:.3g} times those of the right preparation, in the middle")
choice(guess, "falls, too wide" if reach > 2 else "falls, too narrow" if reach < 0.5 else "stays",
       "The scales fit the data that the calibrator saw. In use the values are smaller, and few steps are left.")

# %% [markdown]
# Two slips, two opposite mechanisms. The engine builds without a warning in either case, and the float network is fine.
#
# So let the calibrator and the application share one function. ONNX Runtime's `quantize_static` asks an object of
# yours for batches, until it gets `None`. TensorRT's `IInt8EntropyCalibrator2` (8.6 and 10) works in the same way: its
# `get_batch` returns addresses of GPU memory instead, and `None` at the end. TensorRT 11 has no calibrators: there a
# tool such as Model Optimizer asks, and writes Q/DQ pairs.
#
# **Exercise 2.** Write `Reader`: all images once, in batches, prepared as in use.

# %% nbgrader={"grade_id": "set-reader", "solution": true}
class Reader(CalibrationDataReader):
    def __init__(self, pixels, batch=32):
        """pixels: uint8 [N, SIZE, SIZE, 3]; batch: images at once, the last batch may be smaller."""
        ### BEGIN SOLUTION
        self.pixels, self.batch, self.at = pixels, batch, 0
        ### END SOLUTION

    def get_next(self):
        """{"image": float32 [n, 3, SIZE, SIZE]}, or None behind the last image."""
        ### BEGIN SOLUTION
        rows = self.pixels[self.at:self.at + self.batch]
        self.at += self.batch
        return {"image": preprocess.classifier(rows, SIZE)} if len(rows) else None
        ### END SOLUTION

# %% nbgrader={"grade_id": "set-reader-test", "grade": true, "points": 3}
check("set-reader")

# %% [markdown]
# ## 3. How many?
#
# Three sets of 8, three of 64, and one of 256 surfaces, through your reader.
#
# **Predict:** from 8 to 256 images, *min-max*
# - `"gets better"`: more data is better data
# - `"stays"`: 8 images show all there is
# - `"gets worse"`: the largest value of a larger set is a rarer one

# %%
guess = None   # one of the three

# %%
Reader = solved("set-reader", Reader)
sets = {n: [list(iter(Reader(line[at:at + n]).get_next, None)) for at in range(0, min(3 * n, 256), n)]
        for n in (8, 64, 256)}
histograms = {n: [counted(one) for one in several] for n, several in sets.items()}
found = {f"{method}, {n} images": [report(f"{n} images", one, method) for one in histograms[n]]
         for method in ("min-max", "entropy") for n in sets}
large, small = (found[f"min-max, {n} images"] for n in (256, 8))
step = paired(large[0], np.mean(small, 0))
choice(guess, "gets better" if step.low > 0 else "gets worse" if step.high < 0 else "stays",
       f"The difference is {step} dB. An outlier never leaves a maximum again; in a histogram it stays one of many.")
plot.spread({name: [one.mean() for one in several] for name, several in found.items()},
            right_domain.mean(), "One dot for each set (line: entropy, section 1)",
            "SQNR of the answers in dB (right is better)")

# %% [markdown]
# Entropy needs counts: with 8 images chance decides what it gets, and with 64 it still has a say. Min-max does best with
# the smallest sets here, since they hold no rare outlier: it clips by accident. TensorRT's Developer Guide found about
# 500 images enough for classifiers of ImageNet. Calibrate with several sets of one size: if their dots lie together,
# the size is enough.
#
# ## 4. Which ones?
#
# A day's log of the line. The first 64 images are quickly taken, and all show the same material.

# %%
log = surfaces.production_log()   # ({"seed": ..., "material": ...}, ...) in the order of the day
material_of = {one["seed"]: one["material"] for one in log}
kinds = {material: [one["seed"] for one in log if one["material"] == material]
         for material in surfaces.MATERIALS}
print({material: len(seeds) for material, seeds in kinds.items()})

def photographed(seeds):
    """The network's input for these surfaces of the log."""
    return preprocess.classifier(np.stack([surfaces.surface(seed, SIZE, material=material_of[seed]).image
                                           for seed in seeds]), SIZE)

first = counted(photographed([one["seed"] for one in log[:64]]))
_ = report("the first 64 of the day", first, "entropy")

# %% [markdown]
# **Exercise 3.** Choose at most 64 seeds from the log. On surfaces that you have not seen, the answers must come closer to
# float than with the first 64, so clearly that the interval says so.

# %% nbgrader={"grade_id": "set-chosen", "solution": true}
chosen = None   # a list of seeds
### BEGIN SOLUTION
chosen = [seed for seeds in kinds.values() for seed in seeds[:21]]
### END SOLUTION

# %% nbgrader={"grade_id": "set-chosen-test", "grade": true, "points": 4}
check("set-chosen")

# %% [markdown]
# Now scene kind by scene kind. A mean over all hides that one kind pays for the others.

# %%
chosen = solved("set-chosen", chosen)
chosen_by = report("yours", counted(photographed(chosen)), "entropy")
first_by = report("the first 64 of the day", first, "entropy")
rows = {kind: paired(chosen_by[shown == kind], first_by[shown == kind]) for kind in surfaces.MATERIALS}
plot.intervals({kind: (one.mean, one.low, one.high) for kind, one in rows.items()},
               "dB gained over the first 64 of the day", "Your set, by material", "as good as the first 64")

# %% [markdown]
# Fabric, which the first 64 showed, loses nothing by sharing the set with others. Where it does lose, one scale cannot
# serve both kinds.
#
# ## Decide
#
# | you have | do |
# | --- | --- |
# | images of another domain only | do not use entropy or squared error with them; min-max fails more gently here |
# | images from the line, one kind after the other | the same number of each kind, some hundred in all |
# | one kind that needs quite other ranges | a set and an engine for each kind, if the kind is known beforehand; measure that it pays |
# | a script of its own for calibration | call the application's preparation from it |
# | an engine in production | log the share that saturates; calibrate again when it grows |
#
# ## Summary
#
# - A calibration set must make the activations reach as far as they do in use. How it looks does not matter.
# - Too narrow limits saturate, too wide ones leave few steps. Both are silent.
# - Entropy trusts its histogram, so it suffers most from a wrong one. Min-max suffers from outliers, and more so with
#   more images.
# - Compare several sets of one size: their spread says whether the size is enough.
# - Report by scene kind.
#
# **Next:** lesson [06](06_int8_milestone.ipynb): the milestone, an INT8 network that is measured.
