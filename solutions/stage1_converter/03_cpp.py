# %% [markdown]
# # The same in C++
#
# A plan needs no Python. In this lesson you read and complete a C++ program that runs one, and you write two small
# pieces of C++ that every such program needs: an owner of memory, and the preprocessing of an image.
#
# **Afterwards you can**
#
# - translate a call of TensorRT's Python API into C++
# - declare objects in an order that destroys them safely, and give memory back in every case
# - build a C++ program against TensorRT, and say what is missing when it does not build
# - check that C++ and Python give the same numbers, and measure which is faster
#
# **Time:** 45 minutes. The cells together take about 30 seconds on a CPU; on one H100 they took 40 s. You should be
# able to read C++; what is special about it here is explained.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | C++ without TensorRT (owner, preprocessing) | compiled and run with g++ | the same |
# | `cpp/infer.cpp` | compiled if TensorRT's headers are there, else **open** | built and run |
# | C++ against Python: preprocessing | measured | the same |
# | C++ against Python: running an engine | **open** | answers compared, speed measured |

# %%
import ctypes
from pathlib import Path

import numpy as np
import torch

from course import bench, plot
from course.data import cifar10
from course.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from course.engine import BuildConfig, Profile, build
from course.exercises import check, hint, prediction, solved
from course.export import export
from course.models import resnet50
from course.native import compile as cpp_build
from course.native import programs as cpp_programs

tools = cpp_build.find()
print(tools)
print("\nMissing for infer.cpp:" if tools.missing() else "\nNothing is missing.")
print("\n".join(f"- {what}" for what in tools.missing()))

# %% [markdown]
# ## 1. Read the program
#
# Open `cpp/infer.cpp` beside this notebook. It reads a plan and a file of raw float32 values, runs the engine once,
# and writes the answer. It is the run of the last lesson, with the same steps.
#
# **Predict:** how many lines of code does it have, without comments and empty lines?

# %%
guess = None   # your number: lines

# %%
lines = [line.strip() for line in Path("cpp/infer.cpp").read_text().splitlines()]
code = [line for line in lines if line and not line.startswith("//")]
prediction(guess, len(code), "lines")

# %% [markdown]
# Most of them are not TensorRT. They look at what every call gave back, and they give back every resource. Python
# does the first with exceptions and the second with its garbage collector; C++ leaves both to you.
#
# **Exercise 1 (3 points).** Which C++ name belongs to each Python name? Most follow one rule: the words joined, each
# but the first with a capital letter. Three do not, and `Runtime` has a function of its own. `cpp/infer.cpp` has all of
# them, some in comments of places that you will complete. Add these to `cpp_names`, as the first line does:
#
# - `"Runtime"` (the function that makes one), `"Runtime.deserialize_cuda_engine"`
# - `"ICudaEngine.create_execution_context"`, `"ICudaEngine.num_io_tensors"`, `"ICudaEngine.get_tensor_name"`
# - `"IExecutionContext.get_tensor_shape"`, `"IExecutionContext.set_tensor_address"`,
#   `"IExecutionContext.execute_async_v3"`

# %% nbgrader={"grade_id": "cpp-names", "solution": true}
cpp_names = {"IExecutionContext.set_input_shape": "setInputShape"}
### BEGIN SOLUTION
cpp_names["Runtime"] = "createInferRuntime"
cpp_names["Runtime.deserialize_cuda_engine"] = "deserializeCudaEngine"
cpp_names["ICudaEngine.create_execution_context"] = "createExecutionContext"
cpp_names["ICudaEngine.num_io_tensors"] = "getNbIOTensors"
cpp_names["ICudaEngine.get_tensor_name"] = "getIOTensorName"
cpp_names["IExecutionContext.get_tensor_shape"] = "getTensorShape"
cpp_names["IExecutionContext.set_tensor_address"] = "setTensorAddress"
cpp_names["IExecutionContext.execute_async_v3"] = "enqueueV3"
### END SOLUTION

# %% nbgrader={"grade_id": "cpp-names-test", "grade": true, "points": 3}
check("cpp-names")

# %% [markdown]
# ## 2. Who is destroyed first?
#
# C++ destroys the objects of a block at its end, the one that was **declared last** first. TensorRT's objects use
# each other until the end: an engine uses its runtime, a runtime its logger. GPU memory from `cudaMallocAsync` is
# given back on its stream, so the stream must still be there.
#
# **Exercise 2 (2 points).** Put these six into an order in which they may be declared, as a list `declared`:
# `"engine"`, `"logger"`, `"buffer"`, `"context"`, `"stream"`, `"runtime"`. The check makes a real C++ program with this
# order and looks at what it destroys when.

# %% nbgrader={"grade_id": "cpp-lifetime", "solution": true}
### BEGIN SOLUTION
declared = ["logger", "runtime", "engine", "context", "stream", "buffer"]
### END SOLUTION

# %% nbgrader={"grade_id": "cpp-lifetime-test", "grade": true, "points": 2}
check("cpp-lifetime")

# %% [markdown]
# ## 3. An owner for memory
#
# `cudaMalloc` gives memory, `cudaFree` takes it back. Between them an error can happen, and then nobody comes to the
# line with `cudaFree`. C++ has one answer: an object owns the memory. Its constructor takes it; its destructor, which
# C++ calls in every case, gives it back.
#
# **Exercise 3 (3 points).** Complete `Buffer`. Two functions are given, as stand-ins for those of CUDA that count
# their calls: `void* allocate(std::size_t bytes)` and `void release(void* memory)`. Give the memory back exactly once
# in every case: at the end of a block, after an exception, and when somebody tries to copy a `Buffer`.
#
# The C++ stands in a Python string. Replace the line in its middle.

# %% nbgrader={"grade_id": "cpp-owner", "solution": true}
owner = r"""
class Buffer {
public:
    explicit Buffer(std::size_t bytes) : memory_(allocate(bytes)) {}
    void* get() const { return memory_; }
    // BEGIN SOLUTION
    ~Buffer() { release(memory_); }
    Buffer(const Buffer&) = delete;             // a copied pointer would be given back twice
    Buffer& operator=(const Buffer&) = delete;
    // END SOLUTION

private:
    void* memory_;
};
"""

# %% nbgrader={"grade_id": "cpp-owner-test", "grade": true, "points": 3}
check("cpp-owner")

# %% [markdown]
# The standard library has this owner ready made: `std::unique_ptr` with a deleter. In `cpp/infer.cpp` look for
# `DeviceBuffer` and `HostBuffer`. TensorRT's own objects are owned by plain `unique_ptr`s.
#
# ## 4. An image into floats
#
# A network wants float32 values, all red ones first, then green, then blue: `[3, height, width]`. A camera or a JPEG
# gives bytes: red, green and blue of the first pixel, then of the second. In Python this is one line of NumPy. In C++
# you write it. A mistake here gives wrong answers from a good engine, and no error.
#
# **Exercise 4 (4 points).** Write `preprocess`. Divide by 255, subtract `MEAN[channel]`, divide by `STD[channel]`
# (both are given as `float` arrays), and put each value in its place.

# %% nbgrader={"grade_id": "cpp-preprocess", "solution": true}
preprocess = r"""
// pixels: [height][width][3], bytes, RGB. Gives [3][height][width].
std::vector<float> preprocess(const std::uint8_t* pixels, int height, int width) {
    std::vector<float> result(static_cast<std::size_t>(3) * height * width);
    // BEGIN SOLUTION
    for (int c = 0; c < 3; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                result[(c * height + y) * width + x] =
                    (pixels[(y * width + x) * 3 + c] / 255.0f - MEAN[c]) / STD[c];
    // END SOLUTION
    return result;
}
"""

# %% nbgrader={"grade_id": "cpp-preprocess-test", "grade": true, "points": 4}
check("cpp-preprocess")

# %% [markdown]
# ## 5. Is C++ faster? First the preprocessing
#
# Your function as a shared library, called from Python, against NumPy. Both work on one image of 224 x 224 pixels,
# on one core.
#
# **Predict:** how many times as fast as NumPy is your C++?

# %%
guess = None   # your number: times as fast

# %%
small = torch.tensor(cifar10.images("public").pixels[:8]).permute(0, 3, 1, 2).float()
large = torch.nn.functional.interpolate(small, size=(224, 224), mode="bilinear")
pixels = large.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()   # [8, 224, 224, 3]
mean, std = np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)


def numpy_way(image=pixels[0]):
    return np.ascontiguousarray(((image.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))


try:
    mine = solved("cpp-preprocess", preprocess)
    source = cpp_programs.preprocess_library(mine)
    built = cpp_build.program(source, "preprocess", include=["cpp"], shared=True)
    library = ctypes.CDLL(str(built))
except Exception as error:
    library = None
    print("Not measured:", error)


def cpp_way(image=pixels[0]):
    result = np.empty((3, 224, 224), np.float32)
    library.run(image.ctypes.data_as(ctypes.c_void_p), 224, 224,
                result.ctypes.data_as(ctypes.c_void_p))
    return result


if library is not None:
    print(f"largest difference: {np.abs(cpp_way() - numpy_way()).max():.1e}")
    preparing = bench.compare(cpp_way, numpy_way, labels=("C++", "NumPy"), max_seconds=6)
    print(preparing)
    prediction(guess, preparing.ratio, "times as fast")

# %%
def both_ways():
    return plot.latency({"one image, 224 x 224": [preparing.a, preparing.b]},
                        "Preprocessing on this CPU")

both_ways() if library is not None else None

# %% [markdown]
# NumPy makes a new array for each step and goes through memory each time; C++ goes through it once. That is where a
# gain is to be had. It is a CPU number: 1.70 times (95 % interval 1.67 to 1.73) on the CPU beside our H100. In
# section 8 both start the same kernels on the GPU. Think about what C++ can save there.
#
# ## 6. Complete the program
#
# Three places in `cpp/infer.cpp` say `YOUR CODE HERE`. The comment above each tells what to write:
#
# 1. `Logger::log` keeps the text of an error and drops what is not a warning or an error.
# 2. `set_shape` tells the context the input's shape, and throws if it is refused.
# 3. `run_once` sets the addresses, copies, runs, copies back, and waits.
#
# **Exercise 5 (4 points).** Complete them, save the file, and read its text into `infer_cpp`, with
# `Path("cpp/infer.cpp").read_text()`.
#
# The check compiles this text against stand-in headers and runs the program: its stream does its work only when
# somebody waits, and some calls fail on purpose. Where TensorRT's headers are, it also compiles with them; on a GPU it
# builds the program, runs it on fresh inputs, and tries a batch that the engine must refuse.

# %% nbgrader={"grade_id": "cpp-infer", "solution": true}
### BEGIN SOLUTION
infer_cpp = Path("cpp/infer.cpp").read_text()
### END SOLUTION

# %% nbgrader={"grade_id": "cpp-infer-test", "grade": true, "points": 4}
check("cpp-infer")

# %% [markdown]
# ## 7. Build it, run it, compare
#
# First a plan: the first layers of ResNet-50 from the last lesson. `engine.save_plan` writes what TensorRT reads,
# without the course's own description.

# %%
model = resnet50()
stem = torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool).eval()
path = "artifacts/stem.onnx"
export(stem, (torch.zeros(2, 3, 224, 224),), path, input_names=["image"], output_names=["features"],
       dynamic={"image": {0: "batch"}}, once=True)   # a copy, if this machine has exported it before
engine = build(path, BuildConfig(profiles=(Profile.batch(path, 1, 4, 8),), optimization_level=2,
                                 timing_cache="artifacts/timing.cache"))
on_gpu = engine.runtime == "tensorrt"
plan = engine.save_plan("artifacts/stem.plan" if on_gpu else "artifacts/stem-onnxruntime.onnx")
print(engine)
print(plan, f"{plan.stat().st_size / 1e3:.0f} kB:",
      "a TensorRT plan" if on_gpu else "no TensorRT plan; ONNX Runtime keeps the ONNX file itself")

# %% [markdown]
# The program is built by CMake, which `cpp/CMakeLists.txt` tells where TensorRT and CUDA are. Without CMake the
# compiler alone does it. By hand it would be:
#
# ```
# cmake -S cpp -B artifacts/cpp/infer-build -DTENSORRT_INCLUDE_DIR=...
# cmake --build artifacts/cpp/infer-build
# ```
#
# Headers and library must be of one version. With headers of another major version the program can compile, and crash.

# %%
infer = None
try:
    infer = cpp_build.build("cpp", tools)
except Exception as error:
    print("Open:", error)

# %% [markdown]
# Now eight pictures go all the way: your C++ preprocessing, then `infer`. Python runs the same plan on the same floats.
#
# **Predict:** how large is the largest difference between the two answers?

# %%
guess = None   # your number: largest difference

# %%
prepare = cpp_way if library is not None else numpy_way
prepared = np.stack([prepare(image) for image in pixels])
prepared.tofile("artifacts/image.f32")
from_python = engine.run({"image": prepared})["features"]
with torch.inference_mode():
    from_torch = stem(torch.from_numpy(prepared)).numpy()
away = np.abs(from_python - from_torch).max()
print(f"{engine.runtime} from Python: largest difference from PyTorch {away:.1e}")

ran = False
if infer is None or not on_gpu:
    print("Open: running infer needs a GPU with TensorRT and what is listed above.")
else:
    try:
        print(cpp_build.call(infer, plan, "artifacts/image.f32", "8x3x224x224",
                             "artifacts/features.f32").strip())
        from_cpp = np.fromfile("artifacts/features.f32", np.float32).reshape(from_python.shape)
        difference = float(np.abs(from_cpp - from_python).max())
        same = np.array_equal(from_cpp, from_python)
        print("bit for bit the same" if same else "not bit for bit the same")
        prediction(guess, difference, "(largest difference)")
        ran = True
    except Exception as error:
        print("Not run:", error)

# %% [markdown]
# One plan holds one choice of kernels. Whoever starts them, they do the same arithmetic in the same order. So look for
# a difference of 0 here; on one H100 the answers were the same bit for bit. If yours differ, the two did not run the
# same plan or the same input.
#
# A program meets wrong arguments, too. Look at what `infer` says about a missing file, a wrong shape and a file that
# is no plan:

# %%
if infer is not None:
    for arguments in (("no.plan", "artifacts/image.f32", "8x3x224x224"),
                      (plan, "artifacts/image.f32", "9x3x224x224"),
                      (path, "artifacts/image.f32", "8x3x224x224")):
        try:
            cpp_build.call(infer, *arguments, "artifacts/features.f32")
        except Exception as error:
            print(error, "\n")
else:
    print("Open: infer was not built.")

# %% [markdown]
# ## 8. Is C++ faster? The engine
#
# `infer` takes its times with CUDA events, a mark before and a mark after a run, on the GPU's own clock. So does
# `course.bench`. In both, input and output stay on the GPU. Eight rounds alternate between the two programs, so that
# a change of the GPU's clock hits both. In Python we call TensorRT through `course.engine`, which checks shapes and
# makes a new output for each run.
#
# **Predict:** at batch 1, how many times as fast is C++?

# %%
guess = None   # your number: times as fast

# %%
if ran:
    first = torch.from_numpy(prepared[:1]).cuda()
    prepared[:1].tofile("artifacts/one.f32")
    cpp_ms, python_ms = [], []
    for _ in range(8):
        cpp_build.call(infer, plan, "artifacts/one.f32", "1x3x224x224", "artifacts/one-out.f32",
                       100, 4, "artifacts/times.f32")
        cpp_ms.append(np.fromfile("artifacts/times.f32", np.float32).astype(np.float64))
        python_ms.append(bench.measure(lambda: engine.run({"image": first}), label="Python",
                                       device="cuda", min_samples=100, max_seconds=2).milliseconds)
    ratio, low, high = bench.ratio_interval(np.array([np.median(ms) for ms in cpp_ms]),
                                            np.array([np.median(ms) for ms in python_ms]),
                                            resolution=bench.RESOLUTION["cuda"])
    print(f"C++ is {ratio:.2f} times as fast as Python "
          f"(95 % interval {low:.2f} to {high:.2f}), batch 1")
    prediction(guess, ratio, "times as fast")
else:
    print("Open: needs a GPU with TensorRT and a built infer. Nothing was measured.")

# %%
def both_times():
    name = f"GPU {torch.cuda.get_device_name()}"
    cpp = bench.Samples("C++", "cuda", name, np.concatenate(cpp_ms))
    python = bench.Samples("Python", "cuda", name, np.concatenate(python_ms))
    return plot.latency({"three layers, batch 1": [cpp, python]},
                        "The same plan from C++ and from Python")

both_times() if ran else None

# %% [markdown]
# The kernels are the same, so what differs is the time between them: how long the CPU takes to start a run. It counts
# when a run is short, as here: on one H100 C++ was 6.00 times as fast (95 % interval 4.56 to 8.23), with medians of
# 0.0257 ms and 0.159 ms ([results](../docs/results/README.md)). Most of the 0.159 ms is `course.engine` and Python.
# The interval is wide because Python's times scatter; another notebook ran on the same machine. The ratio is the median
# over the eight rounds, so not exactly that of the two medians.
# For a whole network at a large batch the GPU works much longer than the CPU needs to start it. So measure your own
# case before you rewrite anything.
#
# ## Summary
#
# - A plan runs without Python. The calls are the same; the names follow one rule with a few exceptions.
# - C++ destroys in reverse order of declaration: logger, runtime, engine, context, stream, buffers, and back.
# - An owner gives a resource back in its destructor, once, in every case. It must not be copied by accident.
# - Look at what every call gives back. `false` and `nullptr` are all you get; the reason is in the log.
# - Wheels hold no headers. Headers and library must have the same version.
# - The same plan gives the same bits from both languages. The usual mistake is in the preprocessing: test it alone.
# - C++ saves time on the CPU. Whether that matters depends on how long the GPU works.
#
# **Next:** lesson [04](04_precision.ipynb) shows what precision a network needs.
