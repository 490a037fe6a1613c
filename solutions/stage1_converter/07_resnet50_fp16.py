# %% [markdown]
# # Milestone 1: ResNet-50 to FP16
#
# You convert a trained ResNet-50 into an ONNX file that any TensorRT machine can build in FP16, and you
# prove that it still gives PyTorch's answers. The grader measures your file, not your notebook.
#
# **Time:** 30 minutes on a CPU, 30 minutes on a GPU. Most of it is thinking; no cell runs longer than two
# minutes. On one H100 the cells took 169 s: 62 s of them built the two engines, and 86 s were the grader's.
#
# **What runs where**
#
# | step | on a GPU with TensorRT | on a CPU |
# | --- | --- | --- |
# | export, check against PyTorch | the same | the same |
# | FP32 engine | TensorRT | ONNX Runtime |
# | FP16 engine | TensorRT, on tensor cores | ONNX Runtime: values rounded to FP16, arithmetic in FP32 |
# | speed of FP16 | measured | **open**: a CPU cannot show it |
#
# **Points:** 20 for the file (4 of them only on a GPU), 4 for your prediction and its explanation.

# %%
import numpy as np
import torch

from course import bench
from course.data import cifar10, preprocess
from course.engine import BuildConfig, Profile, build, network_layers
from course.export import check_parity, export
from course.models import resnet50

model = resnet50()              # shipped weights: 97 % on CIFAR-10 at 224 x 224 pixels
images = cifar10.images("public")
x = preprocess.classifier(images.pixels[:8])
weights = sum(p.numel() for p in model.parameters())
print(f"{weights / 1e6:.1f} million weights; input {x.dtype} {list(x.shape)}")

# %% [markdown]
# ## 1. Predict before you measure
#
# FP16 has half the bits of FP32. Write down a number for each question before you run anything below.
#
# 1. How many MB will the ONNX file have, and how many the FP16 engine's weights?
# 2. Of 64 images, on how many will the FP16 engine name another class than PyTorch?
# 3. By which factor will the engine be faster than PyTorch here, on your machine?

# %% nbgrader={"grade_id": "m1-prediction", "solution": true}
### BEGIN SOLUTION
onnx_mb, fp16_mb = 94, 47       # 23.5 million weights, 4 and 2 bytes each
other_class = 0                 # logits differ by a few thousandths of their size
factor = 1.7                    # on a CPU: folded batch norm, fused ReLU; on a GPU more, about 5 to 7
### END SOLUTION
print(f"I expect {onnx_mb} MB, {fp16_mb} MB, {other_class} other classes, {factor} times as fast.")

# %% [markdown]
# ## 2. Export
#
# Write `artifacts/resnet50.onnx`. Its input is called `image`, its output `logits`. **The batch size must
# be open**: the grader runs batch sizes that you do not know. Let `export` simplify the graph; it folds
# what can be computed beforehand. Give it `target="8.6"`: then it writes opset 17, which every TensorRT since 8.6
# reads. Without a target the opset is the newest that fits *your* machine, and the grader's may be older.

# %% nbgrader={"grade_id": "m1-export", "solution": true}
path = "artifacts/resnet50.onnx"
### BEGIN SOLUTION
exported = export(model, (torch.from_numpy(x),), path, input_names=["image"],
                  output_names=["logits"], dynamic={"image": {0: "batch"}}, simplify=True,
                  target="8.6")
print(exported)
### END SOLUTION

# %% [markdown]
# ## 3. Is it the same network?
#
# Same real images through PyTorch and through the file. `check_parity` refuses to go on if they disagree.
# Feed batches of several sizes, so that a fixed batch size cannot hide.

# %% nbgrader={"grade_id": "m1-parity", "solution": true}
### BEGIN SOLUTION
parity = check_parity(model, path, [{"image": x[:1]}, {"image": x[:5]}, {"image": x}])
print(parity)
### END SOLUTION

# %% [markdown]
# ## 4. Build two engines
#
# A profile says which batch sizes the engine accepts, and for which one it is tuned. Build `fp32` and
# `fp16`, both for batch 1 to 16, tuned for 8. The file stays FP32: with TensorRT 8.6 and 10
# a flag of the build chooses the precision. TensorRT 11 has no such flag; there `build` converts the file first.
#
# Give both `optimization_level=2` and `timing_cache="artifacts/timing.cache"`. The default level 3 tries more
# tactics and takes longer. On one H100 the builds took 21.0 s for FP32 and 39.6 s for FP16, at level 2 and with a cache
# that was empty at first. When you build once more, the cache saves much of it: in lesson 05 about half.

# %% nbgrader={"grade_id": "m1-build", "solution": true}
### BEGIN SOLUTION
profile = Profile.batch(path, 1, 8, 16)
usual = {"profiles": (profile,), "optimization_level": 2, "timing_cache": "artifacts/timing.cache"}
fp32 = build(path, BuildConfig("fp32", **usual))
fp16 = build(path, BuildConfig("fp16", **usual))
### END SOLUTION
for engine in (fp32, fp16):
    print(engine)
    print(f"  built in {engine.build_seconds:.1f} s, "
          f"weights {engine.memory().weights_bytes / 1e6:.0f} MB, "
          f"{len(network_layers(path))} layers became {len(engine.layers())}")

# %% [markdown]
# TensorRT counts its own layers, a few more than the file has nodes. Its FP32 engine may hold more than the file's
# 94 MB, as a kernel may keep its weights in a form of its own: on one H100 it was 120 MB in 91 layers, and 46 MB in 59
# layers for FP16. (FP32 here means without TF32, so other kernels win.)

# %% [markdown]
# ## 5. Does FP16 keep the answers?
#
# 64 labelled images, which the network was not trained on. Fill in how many get another class than PyTorch
# gives them, and the largest difference of any logit.

# %% nbgrader={"grade_id": "m1-compare", "solution": true}
batches = [preprocess.classifier(images.pixels[start:start + 16]) for start in range(0, 64, 16)]
with torch.inference_mode():
    expected = np.concatenate([model(torch.from_numpy(batch)).numpy() for batch in batches])
### BEGIN SOLUTION
answers = np.concatenate([fp16.run({"image": batch})["logits"] for batch in batches])
different = int((answers.argmax(1) != expected.argmax(1)).sum())
largest = float(np.abs(answers - expected).max())
### END SOLUTION
print(f"Another class on {different} of 64 images; largest difference of a logit {largest:.2g}.")

# %% [markdown]
# ## 6. How fast is it?
#
# `bench.compare` runs both in turns and gives a ratio with its 95 % interval. On a GPU compare the FP16
# engine, on a CPU the FP32 one: there FP16 only adds conversions. If other programs run, the interval is
# wide; on a CPU the grader therefore uses CPU time on one thread each. The ratio is the median of the rounds'
# ratios, so it may differ a little from the ratio of the two medians.
#
# Say over what a speed-up is. This one compares FP16 with PyTorch eager in FP32, so two things change at once: the
# precision and the runtime. PyTorch can do FP16, too. Medians at batch 8 on one H100, TensorRT 8.6.0: eager
# {{docs/results/h100/matrix/summary.json: rows.10.p50_ms | .2f}} ms in FP32,
# {{docs/results/h100/matrix/summary.json: rows.11.p50_ms | .2f}} ms in TF32 and
# {{docs/results/h100/matrix/summary.json: rows.12.p50_ms | .2f}} ms in FP16 (channels last), `torch.compile` in FP16
# {{docs/results/h100/matrix/summary.json: rows.13.p50_ms | .2f}} ms.

# %%
engine = fp16 if fp16.device.startswith("cuda") else fp32
device = "cuda" if engine is fp16 else "cpu"
batch = torch.from_numpy(x).to(device)
model.to(device)

def eager():
    with torch.inference_mode():
        return model(batch)

labels = (f"{engine.runtime} {engine.precision}", "PyTorch eager")
print(bench.compare(lambda: engine.run({"image": batch}), eager, device=device,
                    items=(len(x), len(x)), labels=labels,
                    max_seconds=8 if device == "cpu" else 15))
model.to("cpu")
fp32.close()
fp16.close()

# %% [markdown]
# ## 7. The score-board
#
# The next cell starts the grader itself, in another process, on your file. It takes about a minute on a
# CPU; on one H100 it took 86 s. Here its images are public; in grading they are others, drawn for you alone.

# %% nbgrader={"grade_id": "m-s1-m1", "grade": true, "points": 20}
from autograder import selfcheck

selfcheck("s1.m1")

# %% [markdown] nbgrader={"grade_id": "m1-why", "grade": true, "solution": true, "points": 4}
# ## 8. Explain
#
# Compare your three predictions with what you measured. Then: FP16 cannot hold numbers above 65504, and has
# about three decimal digits. Why does this network lose no accuracy, and what would a network look like
# that does? Say how you would find the layer that is to blame.
#
# ### BEGIN SOLUTION
# Sizes: 94 MB and 47 MB, as 23.5 million weights take 4 and 2 bytes (46 MB on one H100). No image changed its
# class: the logits changed by 0.24 % of their spread (the score-board on one H100), and the gap between the best
# two classes is mostly far wider.
# Batch normalisation keeps the values of every layer near 1, so nothing overflows, and rounding errors of
# many terms partly cancel.
#
# A network without normalisation, with large residual sums, with exp or a square of large values (attention
# scores, a variance over raw pixels) can overflow, or lose small differences of large numbers. To find the
# layer, keep the inner tensors as outputs (`keep_outputs`), compare FP32 and FP16 tensor by tensor on the
# same image, and take the first one whose error jumps. That layer stays in FP32.
#
# Rubric, 4 points: predictions compared with the measurement, with numbers (1); why this network is safe:
# range and gap between classes (1); a plausible network that is not (1); a way to find the layer that
# compares inner tensors (1).
# ### END SOLUTION
