# %% [markdown]
# # The plugin: a class that TensorRT calls
#
# A plugin is a kernel with manners: TensorRT asks it what comes out, in which types and formats it works, how much memory
# it needs, to copy itself, to write itself into a file. Here you type such a class in C++, method by method.
#
# **Afterwards you can** write an `IPluginV2DynamicExt` with its `IPluginCreator`, say when each method is called and what
# it promises, and find out on a CPU whether it keeps the promise.
#
# **Time:** 40 minutes. The cells together take about half a minute on a CPU; the first time, headers and a compiler's
# parts come from PyPI. You need g++.
#
# | | on a CPU | a GPU with TensorRT adds |
# | --- | --- | --- |
# | the class | compiled, and called as TensorRT calls it, each call checked | the same class in an engine: next lesson |
# | the kernel | runs on a simulated GPU, every access checked | speed |

# %%
import torch

from course.errors import CourseError
from course.exercises import check, choice, hint, solved
from course.exercises.stage3_plugins.the_plugin import with_kept_sizes, with_own_memory
from course.native import fold, plugin
from course.plot import plugins as plot

print(fold.text("fold.h"))
plot.life_cycle()

# %% [markdown]
# ## 1. The operator, and the class
#
# `torch.nn.functional.fold` adds overlapping patches up to an image: c · k² channels at h × w places become c channels of
# height (h − 1) · stride + k − 2 · padding. ONNX calls it `Col2Im`; the first lesson of this stage met it. The kernel is
# there: `print(fold.text("fold.cu"))`. Above stands the class, declared and empty, and when TensorRT calls what.

# %% [markdown]
# ## 2. The builder's questions
#
# - `getNbOutputs`, `getOutputDataType`: how many outputs, and of which type, given the types of the inputs.
# - `getOutputDimensions`: the output's sides **as expressions** of the input's sides. While an engine with a range of
#   sizes is built, `in[0].d[2]` has no value. `build.constant(3)` makes an expression of a number,
#   `build.operation(DimensionOperation::kPROD, *a, *b)` one of two others (`kSUM`, `kSUB`, `kFLOOR_DIV` …).
# - `supportsFormatCombination(pos, inOut, …)`: may tensor number `pos` have the type and format that
#   `inOut[pos]` says, given those before it? Inputs come first, then outputs. The builder asks for everything and times what you offer.
#
# **Exercise 1.** Define these four, behind the class: `int32_t Fold::getNbOutputs() const noexcept { … }` and so on. Offer
# FP32 and FP16, both in `TensorFormat::kLINEAR`, output as input. `window` holds `kernel`, `stride` and `padding`.

# %% nbgrader={"grade_id": "plugin-questions", "solution": true}
questions = r"""
// BEGIN SOLUTION
int32_t Fold::getNbOutputs() const noexcept { return 1; }
DataType Fold::getOutputDataType(int32_t, const DataType* types, int32_t) const noexcept
{
    return types[0];
}
DimsExprs Fold::getOutputDimensions(int32_t, const DimsExprs* in, int32_t, IExprBuilder& build) noexcept
{
    DimsExprs out = in[0];
    const IDimensionExpr& area = *build.constant(window.kernel * window.kernel);
    out.d[1] = build.operation(DimensionOperation::kFLOOR_DIV, *in[0].d[1], area);
    for (int side : {2, 3}) {   // (h - 1) * stride + kernel - 2 * padding
        const IDimensionExpr* grown =
            build.operation(DimensionOperation::kPROD, *in[0].d[side], *build.constant(window.stride));
        int32_t rest = window.kernel - window.stride - 2 * window.padding;
        out.d[side] = build.operation(DimensionOperation::kSUM, *grown, *build.constant(rest));
    }
    return out;
}
bool Fold::supportsFormatCombination(int32_t pos, const PluginTensorDesc* inOut, int32_t,
                                     int32_t) noexcept
{
    const PluginTensorDesc& tensor = inOut[pos];
    bool number = tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
    return tensor.format == TensorFormat::kLINEAR && number && tensor.type == inOut[0].type;
}
// END SOLUTION
"""

# %% nbgrader={"grade_id": "plugin-questions-test", "grade": true, "points": 3}
check("plugin-questions")

# %% [markdown]
# ## 3. The work
#
# - `configurePlugin`: which types and formats were chosen, and the range of sizes. TensorRT may call it again before a run
#   with another shape. A place for decisions, not for the shape of the next run.
# - `getWorkspaceSize`: bytes of scratch memory for the largest shapes. TensorRT lends them to `enqueue`, and to other layers
#   at other times: what lies there is unknown.
# - `initialize`, `terminate`: take and give back what lives as long as an engine does, such as a cuBLAS handle.
# - `enqueue`: put the work on `stream`. Do not wait. `in` and `out` describe **this** call; `x` and `y` are memory of the
#   device. Return 0, or the error of the launch.
#
# **Exercise 2.** Define these five, with `launchFold` of `fold.cuh`:

# %%
print(fold.text("fold.cuh"))

# %% nbgrader={"grade_id": "plugin-work", "solution": true}
work = r"""
// BEGIN SOLUTION
void Fold::configurePlugin(const DynamicPluginTensorDesc*, int32_t,
                           const DynamicPluginTensorDesc*, int32_t) noexcept {}
size_t Fold::getWorkspaceSize(const PluginTensorDesc*, int32_t, const PluginTensorDesc*,
                              int32_t) const noexcept
{
    return 0;
}
int32_t Fold::initialize() noexcept { return 0; }
int32_t Fold::enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out,
                      const void* const* x, void* const* y, void*, cudaStream_t stream) noexcept
{
    int planes = int(out[0].dims.d[0] * out[0].dims.d[1]);
    int h = int(in[0].dims.d[2]), w = int(in[0].dims.d[3]);
    return launchFold(x[0], y[0], planes, h, w, window.kernel, window.stride, window.padding,
                      in[0].type == DataType::kHALF, stream);
}
void Fold::terminate() noexcept {}
// END SOLUTION
"""

# %% nbgrader={"grade_id": "plugin-work-test", "grade": true, "points": 3}
check("plugin-work")

# %% [markdown]
# A frequent mistake: `configurePlugin` keeps h and w of the largest shape, and `enqueue` uses them. Written so below.
#
# **Predict:** on which shapes of one engine are the numbers wrong?
# - `"the largest"`, `"all others"`, or `"none"`: the kernel looks at the memory's size

# %%
guess = None   # one of the three

# %%
def examine(work):
    """Findings about the course's plugin with this part exchanged."""
    folder = fold.write("artifacts/trial", fold.source({"work": work}))
    return plugin.examine(folder, fold.contract())


print(with_kept_sizes())
report = examine(with_kept_sizes())
print(report)
choice(guess, "all others" if report.kinds == {"stale-shape"} else "the largest",
       "A kernel gets an address, not a size. With the profile's largest shape it goes beyond both "
       "tensors. "
       "A test with the largest shape alone passes.")

# %% [markdown]
# And if `enqueue` takes its scratch memory itself, with `cudaMalloc` before the launch and `cudaFree` behind it?
#
# **Predict:** what goes wrong? `"the numbers"`, `"only the manners"`: right numbers, and a call that stops the pipeline, or
# `"nothing"`.

# %%
guess = None   # "the numbers", "only the manners" or "nothing"

# %%
report = examine(with_own_memory())
print(report)
choice(guess, "only the manners" if report.kinds == {"enqueue-blocks"} else "the numbers",
       "cudaFree may wait for the whole device, in every call. And while a CUDA graph is captured, "
       "both calls are errors: "
       "the engine would run, and could not be captured.")

# %% [markdown]
# ## 4. Copies, and the plan
#
# TensorRT works with copies: the network has one, the engine, each context. And an engine that is saved holds no code of
# yours, only the **name, version and namespace** of the creator and the bytes that `serialize` wrote.
#
# - `clone`: a new object with the same attributes and the same namespace.
# - `getSerializationSize`, `serialize`: how many bytes, and exactly these. What cannot be computed again belongs here; sizes of
#   a run and pointers do not.
# - `getPluginType`, `getPluginVersion`, `getPluginNamespace`: as the creator's, else the plan leads nowhere.
# - `destroy`: the last call. `delete this`.
#
# **Exercise 3.** Define these eight (with `setPluginNamespace`). Name `"CourseFold"`, version `"1"`. `std::memcpy` is at hand.

# %% nbgrader={"grade_id": "plugin-plan", "solution": true}
plan = r"""
// BEGIN SOLUTION
size_t Fold::getSerializationSize() const noexcept { return sizeof window; }
void Fold::serialize(void* buffer) const noexcept { std::memcpy(buffer, &window, sizeof window); }
IPluginV2DynamicExt* Fold::clone() const noexcept
{
    Fold* copy = new (std::nothrow) Fold(window);
    if (copy) copy->setPluginNamespace(space.c_str());
    return copy;
}
void Fold::destroy() noexcept { delete this; }
const char* Fold::getPluginType() const noexcept { return "CourseFold"; }
const char* Fold::getPluginVersion() const noexcept { return "1"; }
void Fold::setPluginNamespace(const char* name) noexcept { space = name; }
const char* Fold::getPluginNamespace() const noexcept { return space.c_str(); }
// END SOLUTION
"""

# %% nbgrader={"grade_id": "plugin-plan-test", "grade": true, "points": 3}
check("plugin-plan")

# %% [markdown]
# ## 5. The creator
#
# The registry holds one creator for each plugin. The ONNX parser finds it by the node's name. `getFieldNames` lists the
# attributes that it wants and their types (`PluginFieldType::kINT32`); `createPlugin` gets those that the node has, in any order.
# When a plan is loaded, `deserializePlugin` gets the bytes. What these calls pass in is gone when they return; what
# you return must stay.
#
# **Exercise 4.** Write `class FoldCreator : public IPluginCreator` from nothing: `getPluginName`, `getPluginVersion`,
# `getFieldNames`, `createPlugin(const char* name, const PluginFieldCollection* fields)`,
# `deserializePlugin(const char* name, const void* data, size_t bytes)`, `setPluginNamespace`, `getPluginNamespace`; all
# `noexcept override`, the two getters of names `const`. Behind it `REGISTER_TENSORRT_PLUGIN(FoldCreator);`.

# %% nbgrader={"grade_id": "plugin-creator", "solution": true}
creator = r"""
// BEGIN SOLUTION
class FoldCreator : public IPluginCreator {
public:
    const char* getPluginName() const noexcept override { return "CourseFold"; }
    const char* getPluginVersion() const noexcept override { return "1"; }
    const PluginFieldCollection* getFieldNames() noexcept override
    {
        all.nbFields = 3;
        all.fields = fields;
        return &all;
    }
    IPluginV2* createPlugin(const char*, const PluginFieldCollection* given) noexcept override
    {
        Window window;
        for (int32_t i = 0; i < given->nbFields; ++i) {
            std::string name = given->fields[i].name;
            if (given->fields[i].type != PluginFieldType::kINT32) return nullptr;
            int32_t value = *static_cast<const int32_t*>(given->fields[i].data);
            if (name == "kernel") window.kernel = value;
            if (name == "stride") window.stride = value;
            if (name == "padding") window.padding = value;
        }
        return made(window);
    }
    IPluginV2* deserializePlugin(const char*, const void* data, size_t bytes) noexcept override
    {
        Window window;
        if (bytes != sizeof window) return nullptr;
        std::memcpy(&window, data, sizeof window);
        return made(window);
    }
    void setPluginNamespace(const char* name) noexcept override { space = name; }
    const char* getPluginNamespace() const noexcept override { return space.c_str(); }

private:
    IPluginV2* made(Window window) const
    {
        Fold* plugin = new (std::nothrow) Fold(window);
        if (plugin) plugin->setPluginNamespace(space.c_str());
        return plugin;
    }
    PluginField fields[3]{{"kernel", nullptr, PluginFieldType::kINT32, 1},
                          {"stride", nullptr, PluginFieldType::kINT32, 1},
                          {"padding", nullptr, PluginFieldType::kINT32, 1}};
    PluginFieldCollection all{};
    std::string space;
};
REGISTER_TENSORRT_PLUGIN(FoldCreator);
// END SOLUTION
"""

# %% nbgrader={"grade_id": "plugin-creator-test", "grade": true, "points": 3}
check("plugin-creator")

# %% [markdown]
# ## 6. The whole plugin
#
# Your four parts, in one file, examined together; and the kernel beside PyTorch's own fold:

# %%
parts = {"questions": solved("plugin-questions", questions), "work": solved("plugin-work", work),
         "plan": solved("plugin-plan", plan), "creator": solved("plugin-creator", creator)}
folder = fold.write("artifacts/fold", fold.source(parts))
print(plugin.examine(folder, fold.contract()))

x = torch.randn(2, 27, 5, 4)
theirs = torch.nn.functional.fold(x.flatten(2), (9, 7), 3, stride=2, padding=1)
ours = torch.from_numpy(fold.fold(x.numpy(), 3, 2, 1))
print("NumPy's reference and PyTorch differ by", (theirs - ours).abs().max().item())

# %% [markdown]
# What was not seen here: whether TensorRT takes the library, and how fast it is. A GPU needs the same files, compiled by nvcc
# and g++ with TensorRT's own headers **of the version that will run it**: a plugin built with the headers of another major version
# crashes.

# %%
try:
    print("built for a GPU:", plugin.build(folder))
except CourseError as error:
    print("open on this machine:", error)

# %% [markdown]
# ## Decide
#
# | you want | then |
# | --- | --- |
# | one plugin for TensorRT 8.6, 10 and 11 | this class. It is deprecated since 10 and still in the headers of 11 |
# | only TensorRT 10 or newer | `IPluginV3`: the same questions in three parts (core, build, run), attributes serialised as fields |
# | scratch memory | `getWorkspaceSize`, not `cudaMalloc` |
# | a table or handle that lives long | `initialize`, once an engine; give it back in `terminate` |
# | the fastest layout | offer more formats, one by one, each with a kernel that reads it and a test |
#
# ## Summary
#
# - Sizes are expressions while the engine is built, and numbers only in `enqueue`.
# - An offered type or format is a promise. Look at `inOut[0]` to `inOut[pos]` only.
# - `enqueue` uses its stream, does not wait, and returns what the launch said.
# - A plan holds name, version, namespace and your bytes; a copy needs the attributes and the namespace.
# - The creator reads fields by name, and keeps nothing of the caller's.
#
# **Next:** the plugin in a network, through ONNX, and in a new process.
