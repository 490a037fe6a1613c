# %% [markdown]
# # The API by hand
#
# `course.engine` hides TensorRT's own objects. In this lesson you use them yourself, once: you define a small
# network layer by layer, build it, and run it with memory and copies of your own.
#
# **Afterwards you can**
#
# - say which object makes which, and which must live until when
# - define a network with NumPy weights, and give it a profile
# - read TensorRT's error messages and find the line that they are about
# - run an engine with your own GPU buffers, in the right order
#
# **Time:** 45 minutes. The cells together take about 30 seconds on a CPU; on one H100 they took 29 s.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | network, config, profile, plan | real: TensorRT-RTX, the same objects | TensorRT itself |
# | error messages | real | the same, and those of a run |
# | running the plan | **open**. ONNX Runtime runs your network instead | yes, by hand with PyCUDA |
# | speed of copies | **open** | measured |

# %%
import math

import numpy as np
import torch

from course import bench
from course.by_hand import network_onnx, raw
from course.data import cifar10, preprocess
from course.engine import BuildConfig, Profile, available_runtimes, build, log
from course.exercises import check, hint, prediction, solved
from course.models import resnet50
from course.plot import api as plot_api

why_not = available_runtimes()["tensorrt"]
trt = raw.module()                    # the module tensorrt where it works, else tensorrt_rtx
on_gpu = raw.can_run(trt)
print(f"This notebook uses {trt.__name__} {trt.__version__}.")
if not on_gpu:
    print("TensorRT does not work here:", why_not)
    print("So TensorRT-RTX builds, and ONNX Runtime on the CPU runs.")

# %% [markdown]
# ## 1. Eight objects
#
# TensorRT splits the work in two. A **build** is slow and happens once. A **run** is fast and happens many
# times. Between the two stands the **plan**: bytes that you can write to a file.

# %%
plot_api.objects()

# %% [markdown]
# Each object is made by a call of another one. Python can tell you which: the first line of a call's help ends
# with `-> ` and the class that it gives back.

# %%
print(trt.Builder.create_network.__doc__.split("\n")[0])

# %% [markdown]
# **Exercise 1 (2 points).** Which call makes a `config`, a `profile`, the `plan`, an `engine` and a `context`? Write
# `makers["config"] = "Class.call"`, as the first line does for the network. `help(trt.Builder)`, `help(trt.Runtime)`
# and `help(trt.ICudaEngine)` have the answers. The profile is not in the picture: it holds the sizes that an input may
# have, and section 4 comes back to it.

# %% nbgrader={"grade_id": "makers", "solution": true}
makers = {"network": "Builder.create_network"}
### BEGIN SOLUTION
makers["config"] = "Builder.create_builder_config"
makers["profile"] = "Builder.create_optimization_profile"
makers["plan"] = "Builder.build_serialized_network"
makers["engine"] = "Runtime.deserialize_cuda_engine"
makers["context"] = "ICudaEngine.create_execution_context"
### END SOLUTION

# %% nbgrader={"grade_id": "makers-test", "grade": true, "points": 2}
check("makers")

# %% [markdown]
# How long must each of them live? Once the plan is there, everything that built it can go. The engine does not
# need the plan any more, but it needs its runtime, and all of them need the logger.

# %%
plot_api.lifetimes()

# %% [markdown]
# ## 2. The logger
#
# TensorRT says what went wrong only in its log. A call that fails gives back `None`, `False` or -1, and the
# reason goes to the logger. So a logger comes first, and you must be able to read it.
#
# A logger is a class with one method:
#
# ```python
# class Logger(trt.ILogger):
#     def log(self, severity, message):
#         ...
# ```
#
# A process should have **one** logger (TensorRT-RTX insists on it), so this notebook takes the one of the course.
# `log.capture()` collects what is logged inside its block. The first builder of a process loads the libraries and
# starts the GPU: on one H100 this cell took 8 s.

# %%
logger = log.trt_logger(trt)

with log.capture() as lines:
    builder = trt.Builder(logger)
print(type(builder).__name__, "with", len(lines), "lines in the log")

# %% [markdown]
# ## 3. A network, layer by layer
#
# We take the first layers of the trained ResNet-50: a convolution, a ReLU and a max pooling. In PyTorch a batch
# normalisation stands behind the convolution. It only scales and shifts each channel, so PyTorch can fold it into
# the convolution's weights. Three layers are left.

# %%
model = resnet50()
convolution = torch.nn.utils.fuse_conv_bn_eval(model.conv1, model.bn1)
stem = torch.nn.Sequential(convolution, torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2, 1)).eval()
print(stem)

kernel = convolution.weight.detach().numpy()    # [outputs, inputs, height, width]
bias = convolution.bias.detach().numpy()
print("kernel", kernel.dtype, kernel.shape, " bias", bias.dtype, bias.shape)

# %% [markdown]
# An empty network comes from the builder. Versions differ here. TensorRT 8.6 wants a flag, `EXPLICIT_BATCH`; in
# TensorRT 10 the flag does nothing, in TensorRT 11 it is gone. Ask whether it is there, not which version you have.

# %%
def empty_network(builder):
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    return builder.create_network(flags)

network = empty_network(builder)
print("layers:", network.num_layers, " EXPLICIT_BATCH exists here:",
      hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"))

# %% [markdown]
# **Exercise 2 (4 points).** Define the three layers. The calls:
#
# - `network.add_input(name, trt.float32, shape)` gives a tensor; -1 in the shape leaves a side open
# - `network.add_convolution_nd(tensor, channels, (7, 7), trt.Weights(kernel), trt.Weights(bias))` gives a layer
# - `network.add_activation(tensor, trt.ActivationType.RELU)` gives a layer
# - `network.add_pooling_nd(tensor, trt.PoolingType.MAX, (3, 3))` gives a layer
# - `layer.get_output(0)` is the tensor that a layer computes
# - `layer.stride_nd` and `layer.padding_nd` are set after the layer is there; the numbers stand in the print above
#
# The input is called `image`, with an open batch: `(-1, 3, 224, 224)`. The output is called `features`
# (`tensor.name = ...`), and it must be marked with `network.mark_output(tensor)`.

# %% nbgrader={"grade_id": "define", "solution": true}
def define(network):
    """Put the three layers into an empty network."""
    image = network.add_input("image", trt.float32, (-1, 3, 224, 224))
    ### BEGIN SOLUTION
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel), trt.Weights(bias))
    layer.stride_nd = (2, 2)
    layer.padding_nd = (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd = (2, 2)
    layer.padding_nd = (1, 1)
    features = layer.get_output(0)
    features.name = "features"
    network.mark_output(features)
    ### END SOLUTION

# %% nbgrader={"grade_id": "define-test", "grade": true, "points": 4}
check("define")

# %% [markdown]
# How did the check run your network without a GPU? A network definition can be read back: its layers, their
# weights, strides and paddings. `network_onnx.to_onnx` does that and writes ONNX, and ONNX Runtime runs it.
#
# TensorRT did not copy the weights. It reads them when it builds. So an array must stay as it is until then.

# %%
network = empty_network(builder)
solved("define", define)(network)
for index in range(network.num_layers):
    layer = network.get_layer(index)
    print(layer.name, "->", layer.get_output(0).name, list(layer.get_output(0).shape))

# %% [markdown]
# ## 4. Config and profile
#
# The network says **what** to compute. The config says **how** to build it: memory, precision, and the sizes of
# the open dimensions. A build without a profile cannot know how large a batch may be.
#
# **Exercise 3 (3 points).** Write `configure(builder)`. It makes a config and a profile and gives back both.
#
# - The workspace (scratch memory of one layer) may take 256 MiB:
#   `config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, bytes)`.
# - The profile takes batch 1 to 8 and is tuned for 4. `builder.create_optimization_profile()` makes one;
#   `profile.set_shape("image", smallest, usual, largest)` takes three whole shapes.
# - The config must know the profile: `config.add_optimization_profile(profile)`.
#
# `raw.plain_settings` stands there already. It switches off TF32, a faster kind of arithmetic with fewer digits,
# so that the numbers can be compared with PyTorch's, and it keeps the search for kernels short.

# %% nbgrader={"grade_id": "configure", "solution": true}
def configure(builder):
    """A config for batch 1 to 8, and its profile."""
    config = builder.create_builder_config()
    raw.plain_settings(trt, config)
    ### BEGIN SOLUTION
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 256 << 20)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))
    config.add_optimization_profile(profile)
    return config, profile
    ### END SOLUTION

# %% nbgrader={"grade_id": "configure-test", "grade": true, "points": 3}
check("configure")

# %% [markdown]
# ## 5. The plan
#
# Now build. The result is a plan, plain bytes. The weights alone take 4 bytes each.
#
# **Predict:** how many kB will the plan have?

# %%
print(f"weights: {(kernel.nbytes + bias.nbytes) / 1e3:.1f} kB")
guess = None   # your number: kB of the plan

# %%
config, profile = solved("configure", configure)(builder)
with log.capture() as lines:
    plan = builder.build_serialized_network(network, config)
errors = [line.text for line in lines if line.severity == "ERROR"]
if plan is None:
    print("No plan:", *errors, sep="\n")
else:
    print(f"a plan of {plan.nbytes} bytes, {len(lines)} lines in the log")
    prediction(guess, plan.nbytes / 1e3, "kB")

# %% [markdown]
# A plan is more than weights. It holds the program, too: which kernel runs with which memory, and often the kernels'
# machine code. With TensorRT 8.6.0 on one H100 it had 249 kB, 38 kB of which are the weights. That is why a plan
# belongs to one version of TensorRT and one kind of GPU, and why a plan from somebody else is as dangerous as a
# program from somebody else.
#
# ## 6. When it does not build
#
# Three mistakes are in the next cell. Each is common.

# %%
def broken(builder):
    """Three mistakes. Copy it to the exercise below and repair it there."""
    network = empty_network(builder)
    image = network.add_input("image", trt.float32, (-1, 3, 224, 224))
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel[:, 0].copy()),
                                       trt.Weights(bias))
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.get_output(0).name = "features"
    config = builder.create_builder_config()
    raw.plain_settings(trt, config)
    profile = builder.create_optimization_profile()
    profile.set_shape("input", (1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))
    config.add_optimization_profile(profile)
    return network, config


def first_error(make):
    """Build what make(builder) gives; the first error in the log, or the size of the plan."""
    with log.capture() as lines:
        try:
            network, config = make(builder)
            plan = builder.build_serialized_network(network, config)
        except Exception as error:          # some versions refuse at the call itself
            return f"{error} / {raw.first_error(lines)}"
    return raw.first_error(lines) if plan is None else f"no error: a plan of {plan.nbytes} bytes"

print(first_error(broken))

# %% [markdown]
# **Exercise 4 (3 points).** Repair it. TensorRT tells one mistake at a time, so work in rounds: read the first
# error, change one line, build again with `print(first_error(repaired))`. The result must still be the same
# network as in exercise 2.

# %% nbgrader={"grade_id": "repair", "solution": true}
def repaired(builder):
    """broken(), without its mistakes."""
    ### BEGIN SOLUTION
    network = empty_network(builder)
    image = network.add_input("image", trt.float32, (-1, 3, 224, 224))
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel), trt.Weights(bias))
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.get_output(0).name = "features"
    network.mark_output(layer.get_output(0))
    config = builder.create_builder_config()
    raw.plain_settings(trt, config)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))
    config.add_optimization_profile(profile)
    return network, config
    ### END SOLUTION

# %% nbgrader={"grade_id": "repair-test", "grade": true, "points": 3}
check("repair")

# %% [markdown]
# ## 7. The same network from an ONNX file
#
# Nobody defines a ResNet by hand. `trt.OnnxParser` reads an ONNX file and makes the same `add_...` calls that you
# made. Here is the stem as PyTorch has it, **with** its batch normalisation, exported to ONNX.
#
# **Predict:** four PyTorch modules went in. How many layers will the network have?

# %%
guess = None   # your number: layers

# %%
from course.export import export

with_norm = torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool).eval()
path = "artifacts/stem.onnx"
export(with_norm, (torch.zeros(2, 3, 224, 224),), path, input_names=["image"],
       output_names=["features"], dynamic={"image": {0: "batch"}},
       once=True)                                # a copy, if this machine has exported it before

parsed = empty_network(builder)
parser = trt.OnnxParser(parsed, logger)          # keep it: it owns the weights of the network
with open(path, "rb") as file:
    understood = parser.parse(file.read())
if not understood:
    print(parser.get_error(0).desc())
for index in range(parsed.num_layers):
    print(parsed.get_layer(index).name, list(parsed.get_layer(index).get_output(0).shape))
prediction(guess, parsed.num_layers, "layers")

# %% [markdown]
# The batch normalisation is gone. `export` simplifies the graph, and that folds it into the convolution, as we did
# above. A parser fills a network and does no more: profile, config, build and plan stay your work.
#
# ## 8. From the plan to an engine
#
# `trt.Runtime(logger)` reads the plan. What comes back is an engine or `None`.

# %%
with log.capture() as lines:
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan) if plan is not None else None
if engine is None:
    print("No engine. The log says:", raw.first_error(lines))
    print("A plan runs on a GPU only. From here on ONNX Runtime runs your network on this machine.")
else:
    context = engine.create_execution_context()  # holds the shapes and addresses of one run
    for index in range(engine.num_io_tensors):   # tensors are found by name, not by a number
        name = engine.get_tensor_name(index)
        print(engine.get_tensor_mode(name).name, name, engine.get_tensor_dtype(name).name,
              list(engine.get_tensor_shape(name)))

# %% [markdown]
# ## 9. Memory
#
# The GPU works in its own memory. You allocate it, in bytes, and you say where every input and every output lies.
# TensorRT does not check the size. With too few bytes it writes over something else.
#
# **Exercise 5 (3 points).** Write `buffer_bytes(tensor, batch)`. `tensor.shape` is the shape, with -1 first for
# the batch. `tensor.dtype.itemsize` is the size of one number in bytes.

# %% nbgrader={"grade_id": "bytes", "solution": true}
def buffer_bytes(tensor, batch):
    """Bytes that the tensor needs at this batch size."""
    ### BEGIN SOLUTION
    return batch * math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
    ### END SOLUTION

# %% nbgrader={"grade_id": "bytes-test", "grade": true, "points": 3}
check("bytes")

# %% [markdown]
# Copies have two kinds. A plain NumPy array lies in memory that the operating system may move. The GPU cannot read
# it while the program goes on, so the driver first copies it to a place of its own. **Page-locked** (pinned) memory
# stays where it is, and the copy can run beside your program.
#
# **Predict:** how many times as fast is a copy of 38.5 MB to the GPU from page-locked memory?

# %%
guess = None   # your number: times as fast

# %%
if on_gpu:
    plain = torch.zeros(64, 3, 224, 224)
    locked = plain.pin_memory()
    target = torch.empty_like(plain, device="cuda")
    copies = bench.compare(lambda: target.copy_(locked, non_blocking=True),
                           lambda: target.copy_(plain),
                           labels=("from page-locked memory", "from plain memory"),
                           device="cuda", max_seconds=6)
    print(copies)
    prediction(guess, copies.ratio, "times as fast")
else:
    print("Open: needs a GPU with TensorRT. Nothing was measured.")

# %% [markdown]
# On one H100 it was 3.40 times as fast (95 % interval 3.35 to 3.52): 0.717 ms against 2.44 ms.
#
# ## 10. One run by hand
#
# A **stream** is a queue of work for the GPU. Copies and runs on one stream are done in the order in which you put
# them there. The calls come back at once; the work is done later. So before you read the answer, you must wait.
#
# **Exercise 6 (4 points).** Complete `run_by_hand`, with PyCUDA. Shape, memory and stream are there; the rest is
# yours:
#
# - `context.set_tensor_address(name, int(buffer))`
# - `cuda.memcpy_htod_async(buffer, array, stream)`: host to device, that is to the GPU
# - `context.execute_async_v3(stream.handle)`: gives `False` if TensorRT refuses
# - `cuda.memcpy_dtoh_async(array, buffer, stream)`: device to host
# - `stream.synchronize()`
#
# The check really calls your function: on a stand-in for PyCUDA and the context, whose stream does its work only when
# somebody waits, and whose memory is full of NaN at first. Where there is a GPU, it is called there, too.

# %% nbgrader={"grade_id": "by-hand", "solution": true}
def run_by_hand(cuda, context, image):
    """cuda: pycuda.driver; context: of the engine; image: float32 [n, 3, 224, 224].

    Gives the features, float32 [n, 64, 56, 56].
    """
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))     # known now, since the input's shape is
    host_in = cuda.pagelocked_empty(image.shape, np.float32)
    host_out = cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    ### BEGIN SOLUTION
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    if not context.execute_async_v3(stream.handle):
        raise RuntimeError("TensorRT refused to run; read its log.")
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    stream.synchronize()
    ### END SOLUTION
    return host_out.copy()

# %% nbgrader={"grade_id": "by-hand-test", "grade": true, "points": 4}
check("by-hand")

# %% [markdown]
# Now with real pictures: eight photographs from CIFAR-10.

# %%
pictures = cifar10.images("public").pixels[:8]
images = preprocess.classifier(pictures)
with torch.inference_mode():
    answers = {"PyTorch": stem(torch.from_numpy(images)).numpy()}

if engine is not None:
    try:
        by_hand = solved("by-hand", run_by_hand)
        answers["by hand"] = by_hand(raw.pycuda_driver(), context, images)
        print("by hand:", answers["by hand"].shape, "from", trt.__name__)
    except Exception as error:
        print("Not run:", error)
else:
    print("Open: needs a GPU with TensorRT.")

# %% [markdown]
# What happens with a batch of 9? The profile ends at 8. Where there is a GPU, `set_input_shape` gives `False`, and the
# log says why. TensorRT 8.6.0 says *"Runtime dimension does not satisfy any optimization profile"*, and names neither
# the tensor nor the profile. A program that does not look at `False` goes on, with a shape that it did not ask for.

# %%
if engine is not None:
    with log.capture() as lines:
        taken = context.set_input_shape("image", (9, 3, 224, 224))
    print("set_input_shape gave", taken, "-", raw.first_error(lines))
else:
    print("Open: needs a GPU with TensorRT. Section 11 shows how course.engine refuses batch 9.")

# %% [markdown]
# ## 11. The same in three lines
#
# This is what `course.engine` does for you, on a GPU with TensorRT and on a CPU with ONNX Runtime. It takes the
# network that you defined, as ONNX.
#
# **Predict:** how large will the largest difference between the engine and PyTorch be?

# %%
print(f"largest value of PyTorch's features: {np.max(answers['PyTorch']):.1f}")
guess = None   # your number: largest difference, such as 0.01

# %%
network = empty_network(builder)
solved("define", define)(network)
onnx_model = network_onnx.to_onnx(trt, network)

batch = Profile.batch(onnx_model, 1, 4, 8)
easy = build(onnx_model, BuildConfig(profiles=(batch,), optimization_level=2,
                                     timing_cache="artifacts/timing.cache"))
answers[easy.runtime] = easy.run({"image": images})["features"]

print(easy)
away = {label: float(np.abs(features - answers["PyTorch"]).max())
        for label, features in answers.items()}
for label, largest in away.items():
    print(f"{label}: largest difference from PyTorch {largest:.1e}")
prediction(guess, away[easy.runtime], "(largest difference)")

# %%
second = {label: features[1] for label, features in answers.items()}
plot_api.feature_maps(pictures[1], second, channels=[4, 13, 17, 37, 45])

# %% [markdown]
# The rows look alike, as they should. Each channel answers to something else: a colour, the light background, an
# outline, dark spots. The dark lines at the rim come from the padding: beyond the picture the convolution sees zeros,
# and its white background ends there. The differences between the rows are too small to see: sums of FP32 numbers in
# another order. On one H100 the largest was 0.000032, by hand and with `course.engine`, where the largest feature is
# 26.6.
#
# And a batch of 9:

# %%
try:
    easy.run({"image": np.concatenate([images, images[:1]])})
except Exception as error:
    print(error)

# %% [markdown]
# ## 12. Is it faster?
#
# **Predict:** how many times as fast as PyTorch are these three layers, on this machine, at batch 8?

# %%
guess = None   # your number: times as fast

# %%
device = "cuda" if on_gpu else "cpu"
feed, stem_here = torch.from_numpy(images).to(device), stem.to(device)
torch.backends.cudnn.allow_tf32 = False      # the engine was built without TF32, too

def eager():
    with torch.inference_mode():
        return stem_here(feed)

speed = bench.compare(lambda: easy.run({"image": feed}), eager,
                      labels=(easy.runtime, "PyTorch eager"), items=(8, 8), device=device,
                      max_seconds=6)
stem.to("cpu")
print("On the GPU:" if on_gpu else "A CPU speed, which says nothing about a GPU:")
print(speed)
prediction(guess, speed.ratio, "times as fast")
easy.close()

# %% [markdown]
# TensorRT does not win here. On one H100 it took 1.09 times as long as PyTorch (95 % interval 1.06 to 1.11; 0.218 ms
# against 0.201 ms). Three layers are too little work: much of such a run is Python, which checks shapes and starts the
# kernels. Lesson 03 runs the same layers from C++ and shows how much that is. And TF32 is off in both. With the whole
# ResNet-50 there is much to gain: milestone 1 measures it.
# ([docs/results/README.md](../docs/results/README.md) has the page of this lesson on the H100.)
#
# ## Summary
#
# - Logger, Builder, Network and Config make a plan. Logger, Runtime, Engine and Context run it.
# - The plan is bytes with machine code in them. Take plans only from people whose programs you would run.
# - A failed call gives `None`, `False` or -1. The reason is in the log only. Look at both.
# - A network has named inputs and **marked** outputs. An open dimension (-1) needs a profile.
# - Weights are read when the plan is built. Until then the arrays must stay as they are.
# - A run is: shapes, addresses, copy, execute, copy, wait, read. One stream keeps the order; only you can wait.
# - `course.engine` does all of that. Use it, and remember what lies below when something fails.
#
# **Next:** the same run in C++, in lesson [03](03_cpp.ipynb).
