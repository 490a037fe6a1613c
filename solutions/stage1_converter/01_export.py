# %% [markdown]
# # Export
#
# ONNX is a file format for networks. PyTorch writes it, TensorRT reads it. Much of what goes wrong later
# began here, so this lesson looks into the file.
#
# **Afterwards you can** export a model with an open batch size, look at the graph as a picture, prove that the
# file gives PyTorch's answers, and repair the four failures that stop most exports.
#
# **Time:** 45 minutes. The cells together run for about one minute on a CPU; on one H100 they took 51 s.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | export, pictures, check against PyTorch | all of it | nothing |
# | does TensorRT take this file? | asked of TensorRT-RTX's parser, on the CPU | asked of your TensorRT's own parser |
# | speed | not in this lesson | not in this lesson |

# %%
import numpy as np
import onnx
import onnxslim
import torch
import torch.nn.functional as F
from torch import nn

from course.data import cifar10, preprocess
from course.engine import BuildConfig, Profile, build, log, network_layers
from course.errors import CourseError
from course.exercises import check, hint, prediction
from course.exercises.stage1_converter.export import parser_here
from course.export import TARGET_OPSET, check_parity, export
from course.export.exporters import quiet
from course.models import resnet50, yolo
from course.models.yolo import WithNMS
from course.plot import graph as plot_graph

parser = parser_here()
asked = {"tensorrt": "your TensorRT", "rtx": "TensorRT-RTX, on the CPU", None: "nobody"}[parser]
print(f"PyTorch {torch.__version__}. Whether TensorRT takes a file, we ask {asked}.")
if parser is None:
    print("Neither TensorRT nor TensorRT-RTX works on this machine: these questions stay open.")

# %% [markdown]
# ## 1. Why a file in between?
#
# A PyTorch model is a Python program. A runtime such as TensorRT wants a list of operations, with shapes and
# weights, and no Python. An ONNX file is that list.

# %%
plot_graph.pipeline()

# %% [markdown]
# A file holds three things:
#
# - **a graph**: nodes such as `Conv` or `Add`, and the tensors between them;
# - **the weights**, as numbers;
# - **the opset**: the version of the list of operators that the nodes are taken from.
#
# Each runtime reads opsets up to some newest one. The course writes the one that fits the target:

# %%
# Sources: docs/operators.md of onnx-tensorrt (8.6: opset 17; 10: opset 20), NVIDIA's ONNX Opset
# Guide for 11.x (25), ONNX Runtime's compatibility table for 1.20 (21).
print("target       we write   it reads up to")
for target, (written, newest) in TARGET_OPSET.items():
    name = target if target == "onnxruntime" else f"TensorRT {target}"
    print(f"{name:12} opset {written}   opset {newest}")

# %% [markdown]
# ## 2. ResNet-50 becomes a graph
#
# ResNet-50 has 53 convolutions, each followed by a batch normalisation, 49 ReLUs, 16 additions, two poolings,
# a flatten and a linear layer: 175 operations.
#
# **Predict:** how many nodes has the ONNX graph?

# %%
guess = None   # your number: nodes

# %%
resnet = resnet50()
images = cifar10.images("public")
x = preprocess.classifier(images.pixels[:8])
resnet_path = "artifacts/resnet50.onnx"
done = export(resnet, (torch.from_numpy(x[:2]),), resnet_path, input_names=["image"],
              output_names=["logits"], dynamic={"image": {0: "batch"}}, exporter="torchscript",
              simplify=False)   # as the exporter writes it; section 5 simplifies
print(done)
prediction(guess, done.nodes_after, "nodes")
print(plot_graph.count(resnet_path))

# %% [markdown]
# There is no batch normalisation in the file. With fixed weights it is a multiplication and an addition for each
# channel, and the exporter put both into the weights of the convolution before it: a **fusion** of two operations that
# the exporter knows (in eval mode). It is not constant folding, which computes nodes whose inputs are all constants.
#
# Two blocks of the graph as a picture. Each box is a node, with the shape of the tensor that it makes. N is the
# open batch size. Look for the arrows that go past the boxes: these are the skip connections.

# %%
nodes = network_layers(resnet_path, "onnxruntime")
pool = next(node for node in nodes if node.kind == "MaxPool")
first_add, second_add = [node for node in nodes if node.kind == "Add"][:2]
blocks = plot_graph.part(resnet_path, pool.outputs[0].name, second_add.outputs[0].name)
plot_graph.draw(resnet_path, blocks, "The first two blocks of ResNet-50")

# %% [markdown]
# In the first block the skip has a convolution of its own, since 64 channels must become 256. In the second block
# the input itself is added.
#
# ## 3. Open the batch size
#
# An exporter runs your model once, on an example, and keeps the sizes that it saw. Here is a small network,
# exported in the simplest way.

# %%
torch.manual_seed(0)
small = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                      nn.Flatten(), nn.Linear(8, 10)).eval()
example = torch.rand(2, 3, 32, 32)
export(small, (example,), "artifacts/fixed.onnx", input_names=["image"], output_names=["logits"])
fixed = build("artifacts/fixed.onnx", BuildConfig(runtime="onnxruntime"))
print(fixed.inputs)
try:
    fixed.run({"image": np.zeros((5, 3, 32, 32), np.float32)})
except CourseError as error:
    print(error)

# %% [markdown]
# The file takes two images and nothing else. An axis that may change must be named: the name appears in the file,
# and two axes with one name must have one size.
#
# **Exercise 1.** Export `small` to `batch_path`, so that the batch is open and called `batch`. All other sizes
# stay as they are.

# %% nbgrader={"grade_id": "export-batch", "solution": true}
batch_path = "artifacts/batch.onnx"
### BEGIN SOLUTION
print(export(small, (example,), batch_path, input_names=["image"], output_names=["logits"],
             dynamic={"image": {0: "batch"}}))
### END SOLUTION

# %% nbgrader={"grade_id": "export-batch-test", "grade": true, "points": 2}
check("export-batch")

# %% [markdown]
# An open batch has a price: TensorRT must know the range. That is what a `Profile` is for, in the next lessons:
# `Profile.batch(batch_path, 1, 8, 32)` means 1 to 32, tuned for 8.
#
# ## 4. Two exporters
#
# PyTorch has two. `export` of the course calls one of them and then checks what came out.
#
# | | torchscript (the old one) | dynamo (the new one) |
# | --- | --- | --- |
# | how it works | runs the model once and writes down each operation | follows the Python code, sizes as symbols |
# | a Python `if` on the data | keeps one side, and only warns | refuses |
# | opset | 17 and others | made for 18; older ones through a converter that may fail |
# | operator without a translation | fails, for example RMSNorm | breaks many of them into simpler ones first |
# | custom translation | `symbolic` of a function: our NMS uses it | `custom_translation_table=`; writes torchvision's NMS by itself |
# | graph | many small nodes for shapes; needs simplification | folded already |
#
# One row of this table, tried:

# %%
class Normalise(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.RMSNorm(16)

    def forward(self, x):
        return self.norm(x)

for exporter in ("torchscript", "dynamo"):
    try:
        done = export(Normalise().eval(), (torch.rand(2, 16),), "artifacts/rms.onnx",
                      input_names=["x"], output_names=["y"], exporter=exporter,
                      target="onnxruntime")
        print(exporter, "wrote", done)
    except CourseError as error:
        print(exporter, "refused:", error)

# %% [markdown]
# Now both write the detector, with nothing simplified afterwards. It computes the centres of its grid cells from
# the shape of the image, so there is something to fold. The new exporter is slow, so it gets a
# small image: the number of nodes does not depend on that.
#
# **Predict:** the dynamo exporter's graph has 229 nodes. How many has the torchscript exporter's?

# %%
guess = None   # your number: nodes

# %%
detector = yolo()
photo = torch.rand(2, 3, 320, 320)
written = {}
for exporter, target, image in (("dynamo", "onnxruntime", photo[:, :, :64, :64]),
                                ("torchscript", None, photo)):   # None: what runs here
    file = f"artifacts/detector_{exporter}.onnx"
    written[exporter] = export(detector, (image,), file, input_names=["image"],
                               output_names=["boxes", "scores"], dynamic={"image": {0: "batch"}},
                               exporter=exporter, target=target, simplify=False)
    print(written[exporter])
prediction(guess, written["torchscript"].nodes_after, "nodes")

# %% [markdown]
# ## 5. Simplification
#
# **onnxslim** folds constants, joins nodes and removes those that do nothing.
#
# **Predict:** how many of the torchscript nodes are left?

# %%
guess = None   # your number: nodes

# %%
with quiet():
    onnx.save(onnxslim.slim("artifacts/detector_torchscript.onnx"), "artifacts/detector.onnx")
before = plot_graph.count("artifacts/detector_torchscript.onnx")
after = plot_graph.count("artifacts/detector.onnx")
prediction(guess, sum(after.values()), "nodes")
plot_graph.operators({"as written": before, "after onnxslim": after}, "The detector's nodes")

# %% [markdown]
# All `Constant`, `Cast`, `Shape`, `Gather`, `Unsqueeze`, `Range` and `Slice` nodes are gone: with a fixed image size of
# 320 x 320 pixels, the grid is a table of numbers. Not one convolution went away. TensorRT would fold most of this by
# itself; a smaller graph is easier to read, and fewer operators mean fewer that a parser could refuse.
#
# ## 6. The detector's graph, with and without its end
#
# A detector ends in two steps that are no convolutions. **Decoding** turns raw numbers into boxes. **NMS** drops
# boxes that cover a better one. Both can be inside the file or outside.
#
# **Predict:** how many nodes does decoding add, and how many NMS?

# %%
guess_decode = None   # your number: nodes that decoding adds
guess_nms = None      # your number: nodes that NMS adds on top

# %%
def write(model, name, outputs):
    return export(model.eval(), (photo,), f"artifacts/detector_{name}.onnx", input_names=["image"],
                  output_names=outputs, dynamic={"image": {0: "batch"}}, exporter="torchscript")

raw = write(yolo(decode=False), "raw", ["raw"])
with_nms = write(WithNMS(detector), "nms", ["boxes", "scores", "labels"])
decoded = sum(after.values())
prediction(guess_decode, decoded - raw.nodes_after, "nodes for decoding")
prediction(guess_nms, with_nms.nodes_after - decoded, "nodes for NMS")
for name in ("detector_raw", "detector", "detector_nms"):
    outputs = [f"{v.name} {[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]}"
               for v in onnx.load(f"artifacts/{name}.onnx").graph.output]
    print(f"{name:13} {', '.join(outputs)}")

# %%
path = "artifacts/detector.onnx"
made = {(node.kind, node.outputs[0].shape): node.outputs[0].name
        for node in network_layers(path, "onnxruntime")}
head = plot_graph.part(path, made["Mul", (-1, 208, 10, 10)], made["Reshape", (-1, 84, 100)])
plot_graph.draw(path, head, "The head for the coarsest grid")

# %% [markdown]
# Left the boxes (64 numbers for each of 10 × 10 cells), right the 20 classes. `Sigmoid` and `Mul` together are
# the SiLU activation: x · sigmoid(x). ONNX has no node for it in the opsets written here, so it is two nodes. You
# will see in lesson 05 what becomes of them. And this is decoding. (A `Split` makes two tensors; its box shows the
# shape of the first.)

# %%
decoding = plot_graph.part(path, made["Concat", (-1, 84, 2100)], ["boxes", "scores"])
plot_graph.draw(path, decoding, "Decoding: scores left, boxes right")

# %% [markdown]
# Which form is best? Decoding inside: the engine gives boxes, and nobody has to write it again in C++. NMS inside
# is convenient, too, but its work depends on the image, which is hard for a runtime that plans ahead. (Engines in use
# often have the plugin `EfficientNMS_TRT` there, with an output of fixed size.) The dynamo exporter writes
# `torchvision.ops.nms`; the course's `WithNMS` has a translation for the old exporter only (`symbolic`), so here it stops:

# %%
try:
    export(WithNMS(detector).eval(), (photo,), "artifacts/refused.onnx", input_names=["image"],
           output_names=["boxes", "scores", "labels"], exporter="dynamo", target="onnxruntime")
except CourseError as error:
    print(error)

for name in ("detector_raw", "detector", "detector_nms"):
    if parser is None:
        print(f"{name}: not asked, no parser of TensorRT works here")
        continue
    try:
        layers = network_layers(f"artifacts/{name}.onnx", parser)
        print(f"{name}: read; {len(layers)} layers before any fusion ({asked})")
    except CourseError as error:
        print(f"{name}: refused by {asked}. {error}")

# %% [markdown]
# A parser takes what it knows, so this depends on the version. TensorRT 8.6.0, on one H100, read all three files: 288,
# 327 and 383 layers. TensorRT-RTX 1.7 reads them, too. These are more layers than the files have nodes, since the
# parser needs several for some nodes. That NMS is read does not make it fast: measure before you choose.
#
# ## 7. The parity gate
#
# A file that loads is not yet a file that is right. Before anything else is built on it, the same **real** inputs
# go through PyTorch and through the file.
#
# **Exercise 2.** Write `compare`. It returns two numbers: the largest difference of any logit (a positive
# number), and the part of the images, 0 to 1, that get the same class from both. `run_file` is given.

# %%
def run_file(path, image):
    """Run a file with the input "image" on ONNX Runtime.

    image: float32 [N, ...]; returns logits, float32 [N, classes].
    """
    batches = Profile.batch(path, 1, len(image), len(image))
    engine = build(path, BuildConfig(runtime="onnxruntime", profiles=(batches,)))
    return next(iter(engine.run({"image": image}).values()))

# %% nbgrader={"grade_id": "export-parity", "solution": true}
def compare(model, path, image):
    """(largest difference of any logit, part of the images with the same class).

    image: float32 [N, ...].
    """
    ### BEGIN SOLUTION
    with torch.inference_mode():
        expected = model(torch.from_numpy(image)).numpy()
    answers = run_file(path, image)
    return np.abs(answers - expected).max(), (answers.argmax(1) == expected.argmax(1)).mean()
    ### END SOLUTION

# %% nbgrader={"grade_id": "export-parity-test", "grade": true, "points": 4}
check("export-parity")

# %% [markdown]
# `check_parity` of the course does this and stops with an error when the answers differ.
#
# **Predict:** ResNet-50's logits for these images are numbers up to about 4. By how much do ONNX Runtime's
# differ from PyTorch's, at most, on 8 images? Answer in millionths of 1.

# %%
guess = None   # your number: millionths of 1; 100 000 would be a difference of 0.1

# %%
parity = check_parity(resnet, resnet_path, [{"image": x[:3]}, {"image": x[3:]}])
print(parity)
prediction(guess, 1e6 * parity.max_abs, "millionths")

# %% [markdown]
# The difference is not zero: both add the same products in another order, and each addition rounds. A real mistake
# is larger by a factor of a thousand or more. Here is the most common one, which no parser will ever find: pixels
# in BGR order instead of RGB.

# %%
class Swapped(nn.Module):
    """The network with the channels of its input in the other order: blue, green, red."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image.flip(1))

try:
    check_parity(Swapped(resnet).eval(), resnet_path, {"image": x[:3]})
except CourseError as error:
    print(error)

# %% [markdown]
# ## 8. Failure one: a branch on the data
#
# A camera's night mode: if the batch is dark, double its brightness.

# %%
class Brighten(nn.Module):
    def forward(self, image):
        if image.mean() < 0.25:
            return 2 * image
        return image

dark, bright = 0.3 * torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
with quiet():   # PyTorch's own old exporter, on a dark example; it warns, and goes on
    torch.onnx.export(Brighten(), (dark,), "artifacts/branch.onnx", input_names=["image"],
                      output_names=["answer"], opset_version=17, dynamo=False)
print(plot_graph.count("artifacts/branch.onnx"))

# %% [markdown]
# **Predict:** the file was made with a dark example. Now it gets a bright image. By how much is the result off, as
# a factor? (1 means right.)

# %%
guess = None   # your number: a factor

# %%
session = build("artifacts/branch.onnx", BuildConfig(runtime="onnxruntime"))
answer = session.run({"image": bright.numpy()})["answer"]
prediction(guess, float((answer / Brighten()(bright).numpy()).mean()), "times the right value")

# %% [markdown]
# Tracing kept the side that the example took. Nothing failed, and the file is wrong for every bright image. The
# course's `export` refuses this model with both exporters, and names the line. The file in its message is the cell that
# defines `Brighten`:

# %%
try:
    export(Brighten().eval(), (dark,), "artifacts/refused.onnx", input_names=["image"],
           output_names=["answer"], dynamic={"image": {0: "batch"}})
except CourseError as error:
    print(error)

# %% [markdown]
# **Exercise 3.** Write it without `if`. The rule stays the same: a batch whose mean is below 0.25 is doubled.

# %% nbgrader={"grade_id": "export-branch", "solution": true}
class BrightenFixed(nn.Module):
    def forward(self, image):
        ### BEGIN SOLUTION
        return torch.where(image.mean() < 0.25, 2 * image, image)
        ### END SOLUTION

# %% nbgrader={"grade_id": "export-branch-test", "grade": true, "points": 3}
check("export-branch")

# %% [markdown]
# ## 9. Failure two: a batch size in the code
#
# This module turns images of 3 x 4 x 4 pixels into rows of length 1. It was written for batches of 8.

# %%
class Embed(nn.Module):
    def forward(self, image):
        rows = image.view(8, -1)
        return rows / rows.norm(dim=1, keepdim=True)

# %% [markdown]
# **Predict:** `Embed` gets 3 images. How many rows come out?

# %%
guess = None   # your number: rows

# %%
def try_export(model):
    try:
        print(export(model.eval(), (torch.rand(8, 3, 4, 4),), "artifacts/embed.onnx",
                     input_names=["image"], output_names=["answer"],
                     dynamic={"image": {0: "batch"}}))
    except CourseError as error:
        print(error)

rows = Embed()(torch.rand(3, 3, 4, 4))
prediction(guess, len(rows), f"rows, each of {rows.shape[1]} numbers instead of 48")
try_export(Embed())

# %% [markdown]
# This is the worst kind of mistake. PyTorch does not complain: 3 images have 144 numbers, which are cut into 8 rows.
# The export works, and the parity gate would pass, because the file makes the same mistake as PyTorch. A gate
# compares two versions. That the first one is right, you must test in PyTorch, at more than one batch size.
#
# Now a version that is right in PyTorch at every size:

# %%
class EmbedAgain(nn.Module):
    def forward(self, image):
        rows = image.reshape(int(image.shape[0]), -1)
        return rows / rows.norm(dim=1, keepdim=True)

try_export(EmbedAgain())

# %% [markdown]
# `int(...)` made a plain number of the size, and a plain number goes into the file. The course finds it because it
# runs each new file at batch 1, 2 and 3. Its message names the node and, with the dynamo exporter, the line.
#
# **Exercise 4.** Write it so that any batch size works, in PyTorch and in the file.

# %% nbgrader={"grade_id": "export-flatten", "solution": true}
class EmbedFixed(nn.Module):
    def forward(self, image):
        ### BEGIN SOLUTION
        rows = image.flatten(1)
        return rows / rows.norm(dim=1, keepdim=True)
        ### END SOLUTION

# %% nbgrader={"grade_id": "export-flatten-test", "grade": true, "points": 3}
check("export-flatten")

# %% [markdown]
# ## 10. Failure three: an operator that the parser does not know
#
# This module joins 16 patches of 4 x 4 pixels to an image of 16 x 16. PyTorch calls the operation `fold`, ONNX
# calls it `Col2Im`. The export works. ONNX Runtime runs the file. Then TensorRT's parser reads it:

# %%
class Join(nn.Module):
    """Patches [N, 48, 16] (48 = 3 channels of 4 x 4 pixels) -> image [N, 3, 16, 16]."""

    def forward(self, patches):
        return F.fold(patches, (16, 16), kernel_size=4, stride=4)

patches = torch.rand(2, 48, 16)
print(export(Join().eval(), (patches,), "artifacts/join.onnx", input_names=["image"],
             output_names=["answer"], dynamic={"image": {0: "batch"}}, exporter="dynamo",
             target="onnxruntime"))
if parser is None:
    print("Not asked: no parser of TensorRT works here.")
else:
    try:
        network_layers("artifacts/join.onnx", parser)
    except CourseError as error:
        print(error)

# %% [markdown]
# The error names the node and the operator (so did TensorRT 8.6.0 and TensorRT-RTX 1.7). Three ways out: other
# operators, a cut (this part runs outside the engine), or a plugin (stage 3). Other operators are the cheapest: the
# patches do not overlap, so `fold` only moves numbers.
#
# **Exercise 5.** Write `JoinFixed`: the same result, with operators that the parser knows.

# %% nbgrader={"grade_id": "export-operator", "solution": true}
class JoinFixed(nn.Module):
    """Patches [N, 48, 16] (48 = 3 channels of 4 x 4 pixels) -> image [N, 3, 16, 16]."""

    def forward(self, patches):
        ### BEGIN SOLUTION
        return F.pixel_shuffle(patches.reshape(-1, 48, 4, 4), 4)
        ### END SOLUTION

# %% nbgrader={"grade_id": "export-operator-test", "grade": true, "points": 4}
check("export-operator")

# %% [markdown]
# ## 11. Failure four: int64, for TensorRT 8.6
#
# PyTorch counts in int64: sizes, indices, words. TensorRT 8.6 has no int64 inside: its parser makes int32 of it,
# says so, and cuts numbers that do not fit. TensorRT 10 and 11 have int64, and need none of this. But a file that
# 8.6 must read, too, would change the dtype of its input from one version to the next: trouble for whoever feeds it.

# %%
torch.manual_seed(1)
words = nn.Sequential(nn.Embedding(100, 8), nn.Flatten(), nn.Linear(48, 4)).eval()
tokens = torch.randint(0, 100, (2, 6))   # int64, PyTorch's default
export(words, (tokens,), "artifacts/words.onnx", input_names=["tokens"], output_names=["scores"],
       dynamic={"tokens": {0: "batch"}})
if parser is None:
    print("Not asked: no parser of TensorRT works here.")
else:
    with log.capture() as lines:
        network = network_layers("artifacts/words.onnx", parser)
    said = [f"  {line.severity}: {line.text}" for line in lines
            if line.severity in ("WARNING", "ERROR")]
    print(f"The parser's warnings ({asked}):", *said or ["  none"], sep="\n")

batches = Profile.batch("artifacts/words.onnx", 1, 2, 4)
engine = build("artifacts/words.onnx", BuildConfig(runtime="onnxruntime", profiles=(batches,)))
try:
    engine.run({"tokens": tokens.numpy().astype(np.int32)})
except CourseError as error:
    print(error)

# %% [markdown]
# TensorRT 8.6.0 warns of "INT64 weights", although the only thing in this file that is int64 is its input. ONNX
# Runtime keeps int64, and refuses int32. One file, two dtypes for whoever feeds it.
#
# **Exercise 6.** Export `words` again, to `int32_path`, so that the file's input is int32. The batch stays open.

# %% nbgrader={"grade_id": "export-int32", "solution": true}
int32_path = "artifacts/words_int32.onnx"
### BEGIN SOLUTION
print(export(words, (tokens.to(torch.int32),), int32_path, input_names=["tokens"],
             output_names=["scores"], dynamic={"tokens": {0: "batch"}}))
### END SOLUTION

# %% nbgrader={"grade_id": "export-int32-test", "grade": true, "points": 2}
check("export-int32")

# %% [markdown]
# Constants can be int64, too: sizes, axes and indices in the graph.
#
# **Predict:** how many of the constants in the detector's file with NMS are int64?

# %%
guess = None   # your number: tensors

# %%
tensors = [tensor for tensor in onnx.load("artifacts/detector_nms.onnx").graph.initializer
           if tensor.data_type == onnx.TensorProto.INT64]
prediction(guess, len(tensors), "int64 tensors")
values = np.concatenate([onnx.numpy_helper.to_array(tensor).ravel() for tensor in tensors])
print(f"values from {values.min()} to {values.max()}")
print(f"int32 holds up to {2**31 - 1}; {int((np.abs(values) > 2**31 - 1).sum())} values do not fit")

# %% [markdown]
# This file is safe. Others hold 9223372036854775807, which means "to the end" in a `Slice` node: it may be cut to
# the largest int32 without harm. An index into a table of more than 2 147 483 647 rows may not.
#
# ## 12. And TensorFlow?
#
# This course does not install TensorFlow, so this is text and nothing was run. The tool is **tf2onnx**:
#
# ```
# pip install tf2onnx
# python -m tf2onnx.convert --saved-model DIR --output model.onnx --opset 17
# ```
#
# What to look out for: TensorFlow orders images as [N, height, width, channels]; `--inputs-as-nchw NAME` changes
# the input to PyTorch's order. The rest of this lesson holds: look at the graph, open the batch, and put the same
# inputs through TensorFlow and through the file.

# %% [markdown]
# ## Summary
#
# - An ONNX file is a graph, weights and an opset. TensorRT reads opsets up to a newest one.
# - An exporter keeps the sizes of the example. Name the axes that may change: `dynamic={"image": {0: "batch"}}`.
# - Two exporters: torchscript follows one example, dynamo follows the code. When one fails, try the other.
# - Simplification removes bookkeeping nodes, not convolutions.
# - A Python `if` on data becomes `torch.where`; a number for the batch becomes `flatten(1)` or `-1`; an unknown
#   operator becomes known ones; integer inputs are int32 if TensorRT 8.6 must read the file.
# - No file without the parity gate: the same real inputs through PyTorch and through the file.
#
# **Next:** lesson [02](02_api_by_hand.ipynb) builds an engine from such a file, by hand.
