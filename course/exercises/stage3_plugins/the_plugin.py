"""Lesson 3.04, the plugin: four parts of one IPluginV2DynamicExt, each examined together with the course's other three."""

from __future__ import annotations

from course.exercises import exercise, reference
from course.exercises.stage3_plugins._plugin import examined
from course.native import fold


@exercise(
    "plugin-questions",
    points=3,
    hints=(
        "What does the builder know of the sides when it asks? And at which position may you look when it asks about `pos`?",
        "An output's side is an expression: build.operation(DimensionOperation::kPROD, *in[0].d[2], *build.constant(…)). "
        "supportsFormatCombination: position 0 decides for itself, position 1 by inOut[0].",
        "DimsExprs out = in[0]; out.d[1] = kFLOOR_DIV of in[0].d[1] by kernel * kernel; out.d[2] and out.d[3] = kSUM of "
        "(kPROD of the side with stride) and the constant kernel - stride - 2 * padding. And: return tensor.format == "
        "TensorFormat::kLINEAR && (float or half) && tensor.type == inOut[0].type.",
    ),
)
def questions(questions: str):
    examined(
        "questions",
        questions,
        {
            "unknown-side": "The engine is built for a range of sizes. A side of the input has no value then, only a name; "
            "the output's side has to be a formula of it.",
            "output-shape": "The builder reserves the output's memory by this formula. The input's sides are not the output's.",
            "output-type": "The type is not fixed: it follows the input's, which the builder chooses.",
            "format-looks-ahead": "The builder asks position by position, inputs first. When it asks about `pos`, the "
            "descriptions behind it are not filled in.",
            "format-too-wide": "Whoever says yes gets it: a tensor of that type in that format, and a kernel that reads it "
            "as if it were plain rows of numbers.",
            "format-missing": "Each yes is an offer; without the offer TensorRT converts the tensor before and behind the plugin.",
        },
    )
    return "Output sizes as formulas, right with open and with known sides; FP32 and FP16 offered, nothing else."


@reference("plugin-questions")
def _questions():
    return fold.text("questions.h")


@exercise(
    "plugin-work",
    points=3,
    hints=(
        "Which of these calls know the sizes of *this* run? And who says on which stream?",
        "Only enqueue's descriptions are true for this call: take n, c, h, w from in[0].dims and out[0].dims there, the type "
        "from in[0].type. The kernel needs no memory beside input and output, so the workspace has 0 bytes.",
        "return launchFold(x[0], y[0], int(out[0].dims.d[0] * out[0].dims.d[1]), int(in[0].dims.d[2]), "
        "int(in[0].dims.d[3]), window.kernel, window.stride, window.padding, in[0].type == DataType::kHALF, stream);",
    ),
)
def work(work: str):
    report = examined(
        "work",
        work,
        {
            "stream-ignored": "Work on another stream does not wait for the layer before, and the layer behind does not wait "
            "for it. A test on one stream never shows it.",
            "stale-shape": "configurePlugin sees the range of the profile, or an earlier shape. One engine runs many shapes, "
            "and only enqueue knows which one now.",
            "half-ignored": "The pointers say nothing about the type. The builder chose FP16, since it was offered.",
            "error-hidden": "A launch that fails leaves the output as it was. Only your return value tells TensorRT.",
            "enqueue-blocks": "enqueue only puts work on the stream. A call that waits or takes memory stops the whole "
            "pipeline, and a CUDA graph cannot hold it.",
            "wrong-output": "Each number of the launcher's list has its place: planes is batch times output channels, h and w "
            "are the input's.",
            "kernel": "The kernel itself is right: it was told other sizes than its memory has.",
        },
    )
    return f"Right for {len(report.combinations)} combinations and every shape, on the stream that it got; errors are passed on."


@reference("plugin-work")
def _work():
    return fold.text("work.h")


@exercise(
    "plugin-plan",
    points=3,
    hints=(
        "What must a copy know to compute the same? And what must a plan hold, so that another process knows it?",
        "The state is `window` (12 bytes) and `space`. The window goes into the plan. The namespace does not: the registry "
        "sets it again. clone() takes both along.",
        "std::memcpy(buffer, &window, sizeof window); and clone: Fold* copy = new (std::nothrow) Fold(window); "
        "if (copy) copy->setPluginNamespace(space.c_str()); return copy; and destroy: delete this;",
    ),
)
def plan(plan: str):
    examined(
        "plan",
        plan,
        {
            "serialize-short": "The plan gets as many bytes as getSerializationSize says. What serialize leaves out is "
            "whatever lay there.",
            "serialize-overrun": "serialize writes behind its place in the plan.",
            "no-plugin": "The creator reads three whole numbers, 12 bytes, from the plan. It was given another length.",
            "deserialize-loses": "The plugin in the new process knows only what stands in the plan.",
            "clone-loses": "TensorRT works with copies: the network, the engine and each context have one of their own.",
            "clone-namespace": "The engine finds the creator of a saved plugin by name, version *and* namespace. The copy has "
            "forgotten the third.",
            "namespace-lost": "The engine finds the creator of a saved plugin by name, version *and* namespace.",
            "double-free": "TensorRT calls destroy for every plugin that it got, copies too: each has to be an object of its own.",
            "use-after-free": "TensorRT calls destroy for every plugin that it got, copies too: each has to be an object of "
            "its own.",
            "leak": "destroy is the last call. Nobody else gives the object back.",
            "identity": "These two words go into the plan. With them the creator is looked for when the engine is loaded.",
        },
    )
    return "Copies compute the same, 12 bytes go into the plan and come back, and nothing is left behind destroy."


@reference("plugin-plan")
def _plan():
    return fold.text("plan.h")


@exercise(
    "plugin-creator",
    points=3,
    hints=(
        "Who calls createPlugin, and in which order do the fields come? How long must what getFieldNames returns live?",
        "Keep PluginField[3] and the PluginFieldCollection as members: TensorRT reads them after the call. In createPlugin "
        "compare given->fields[i].name; the values are int32_t. The last line is REGISTER_TENSORRT_PLUGIN(FoldCreator);",
        'for (int32_t i = 0; i < given->nbFields; ++i) { std::string name = given->fields[i].name; if (name == "kernel") '
        "window.kernel = *static_cast<const int32_t*>(given->fields[i].data); … } return new (std::nothrow) Fold(window);",
    ),
)
def creator(creator: str):
    examined(
        "creator",
        creator,
        {
            "not-registered": "The class exists, and nobody knows it: the parser asks the registry.",
            "wrong-name": "The parser looks for a creator with the name of the node.",
            "wrong-version": "Name and version together find a creator; an ONNX node without plugin_version means version 1.",
            "field-missing": "The parser hands over the attributes that are named in this list, and whoever writes a node reads "
            "their types there.",
            "fields-by-position": "The fields come in the order of whoever calls, and one that was left out is not there.",
            "fields-die": "getFieldNames returns a pointer. What it points to must live as long as the creator.",
            "keeps-pointer": "Names and values of the fields are the caller's, and gone after the call.",
            "deserialize-loses": "The bytes of the plan have no names: read them as serialize wrote them.",
            "no-plugin": "nullptr means: this cannot be made.",
            "out-of-bounds": "nbFields says how many fields there are. An attribute may be missing.",
        },
    )
    return "Found by name and version; attributes by name, in any order; the plan's bytes become the same plugin."


@reference("plugin-creator")
def _creator():
    return fold.text("creator.h")


def with_kept_sizes() -> str:
    """The part `work` of a plugin that uses the sizes of configurePlugin."""
    return """static int height, width;
void Fold::configurePlugin(const DynamicPluginTensorDesc* in, int32_t, const DynamicPluginTensorDesc*, int32_t) noexcept
{
    height = int(in[0].max.d[2]);
    width = int(in[0].max.d[3]);
}
""" + "\n".join(_work().splitlines()[2:]).replace(
        "h = int(in[0].dims.d[2]), w = int(in[0].dims.d[3])", "h = height, w = width"
    )


def with_own_memory() -> str:
    """The part `work` of a plugin that takes and gives back memory in enqueue."""
    return (
        _work()
        .replace(
            "    return launchFold",
            "    void* scratch;\n    cudaMalloc(&scratch, 1 << 20);\n    int status = launchFold",
        )
        .replace("kHALF, stream);", "kHALF, stream);\n    cudaFree(scratch);\n    return status;")
    )
