"""Faults that learners make, each as a change of the right plugin in swish/: what to replace by what, and the kind found."""

from __future__ import annotations

NEW = "auto* copy = new (std::nothrow) Swish(beta);"
SERIALIZE = "void serialize(void* buffer) const noexcept override { std::memcpy(buffer, &beta, sizeof beta); }"
SIZE = "size_t getSerializationSize() const noexcept override { return sizeof beta; }"
COUNT = "for (int32_t d = 0; d < in[0].dims.nbDims; ++d) count *= size_t(in[0].dims.d[d]);"
RETURN = "return launchSwish(inputs[0], outputs[0], count, beta, in[0].type == DataType::kHALF, stream);"
INITIALIZE = "int32_t initialize() noexcept override { return 0; }"
TERMINATE = "void terminate() noexcept override {}"
WORKSPACE = """const noexcept override
    {
        return 0;
    }"""
CONFIGURE = """    void configurePlugin(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*, int32_t) noexcept override
    {
    }"""
CONFIGURED = """    void configurePlugin(const DynamicPluginTensorDesc* in, int32_t, const DynamicPluginTensorDesc*, int32_t) noexcept override
    {
        %s
    }"""
BUILD = "return made(beta);\n    }\n    IPluginV2* deserializePlugin"

Change = tuple[str, str]
"""Text in the class (or, if it begins with cu:, in the .cu file) -> another text."""

FAULTS: dict[str, tuple[str, list[Change]]] = {
    # the creator
    "not registered": ("not-registered", [("REGISTER_TENSORRT_PLUGIN(SwishCreator);", "")]),
    "name differs": ("wrong-name", [('"CourseSwish"', '"courseSwish"')]),
    "version differs": ("wrong-version", [('kVersion = "1"', 'kVersion = "1.0"')]),
    "namespace of its own": (
        "wrong-namespace",
        [
            ("fields.fields = &field;", 'fields.fields = &field;\n        space = "mine";'),
        ],
    ),
    "fields on the stack": (
        "fields-die",
        [
            (
                "getFieldNames() noexcept override { return &fields; }",
                "getFieldNames() noexcept override\n    {\n        PluginField* local = new PluginField(field);\n"
                "        fields.fields = local;\n        delete local;\n        return &fields;\n    }",
            )
        ],
    ),
    "no fields": ("field-missing", [("fields.nbFields = 1;", "fields.nbFields = 0;")]),
    "field of another type": (
        "field-missing",
        [('"beta", nullptr, PluginFieldType::kFLOAT32', '"beta", nullptr, PluginFieldType::kFLOAT64')],
    ),
    "creates nothing": ("no-plugin", [(BUILD, BUILD.replace("return made(beta)", "return nullptr"))]),
    "attribute ignored": ("wrong-output", [(BUILD, BUILD.replace("made(beta)", "made(beta > 0 ? 1.0f : 1.0f)"))]),
    "first field without a look": (
        "crash",
        [
            (
                "for (int32_t i = 0; i < given->nbFields; ++i)\n"
                '            if (!std::strcmp(given->fields[i].name, "beta")) beta = *static_cast<const float*>(given->fields[i].data);',
                "beta = *static_cast<const float*>(given->fields[0].data);",
            )
        ],
    ),
    "keeps the field's memory": (
        "keeps-pointer",
        [
            (
                "    float beta;\n    std::string space;",
                "    float beta;\n    std::string space;\n\npublic:\n    const float* where = nullptr;",
            ),
            ("count, beta, in[0]", "count, where ? *where : beta, in[0]"),
            (
                BUILD,
                "auto* plugin = static_cast<Swish*>(made(beta));\n"
                "        if (given->nbFields) plugin->where = static_cast<const float*>(given->fields[0].data);\n"
                "        return plugin;\n    }\n    IPluginV2* deserializePlugin",
            ),
        ],
    ),
    # names
    "type of the plugin": (
        "identity",
        [
            (
                "getPluginType() const noexcept override { return kName; }",
                'getPluginType() const noexcept override { return "Swish"; }',
            )
        ],
    ),
    "namespace thrown away": (
        "namespace-lost",
        [
            (
                "space = name; }\n    const char* getPluginNamespace() const noexcept override { return space.c_str(); }\n\nprivate:\n    float beta",
                "(void)name; }\n    const char* getPluginNamespace() const noexcept override { return space.c_str(); }\n\nprivate:\n    float beta",
            )
        ],
    ),
    "two outputs said": (
        "output-count",
        [
            (
                "getNbOutputs() const noexcept override { return 1; }",
                "getNbOutputs() const noexcept override { return 2; }",
            )
        ],
    ),
    # shapes and formats
    "rank 1": (
        "output-rank",
        [("return inputs[0];", "DimsExprs flat = inputs[0];\n        flat.nbDims = 1;\n        return flat;")],
    ),
    "side not set": (
        "output-rank",
        [("return inputs[0];", "DimsExprs made{};\n        made.nbDims = inputs[0].nbDims;\n        return made;")],
    ),
    "side as a number": (
        "unknown-side",
        [
            (
                "int32_t, IExprBuilder&) noexcept override\n    {",
                "int32_t, IExprBuilder& builder) noexcept override\n    {",
            ),
            (
                "return inputs[0];",
                "DimsExprs made = inputs[0];\n        made.d[0] = builder.constant(inputs[0].d[0]->getConstantValue());\n        return made;",
            ),
        ],
    ),
    "one more": (
        "output-shape",
        [
            (
                "int32_t, IExprBuilder&) noexcept override\n    {",
                "int32_t, IExprBuilder& builder) noexcept override\n    {",
            ),
            (
                "return inputs[0];",
                "DimsExprs made = inputs[0];\n        made.d[0] = builder.operation(DimensionOperation::kSUM, *made.d[0], *builder.constant(1));\n        return made;",
            ),
        ],
    ),
    "always float": (
        "output-type",
        [
            (
                "DataType* types, int32_t) const noexcept override { return types[0]; }",
                "DataType*, int32_t) const noexcept override { return DataType::kFLOAT; }",
            )
        ],
    ),
    "every format": ("format-too-wide", [("if (tensor.format != TensorFormat::kLINEAR) return false;", "")]),
    "every type": (
        "format-too-wide",
        [
            (
                "if (position == 0) return tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;",
                "if (position == 0) return true;",
            )
        ],
    ),
    "output of any type": (
        "format-too-wide",
        [
            (
                "return tensor.type == tensors[0].type;",
                "return tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;",
            )
        ],
    ),
    "looks at the output": (
        "format-looks-ahead",
        [
            (
                "if (position == 0) return tensor.type",
                "if (position == 0) return tensors[1].type == tensor.type && tensor.type",
            )
        ],
    ),
    "no half": (
        "format-missing",
        [("tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF", "tensor.type == DataType::kFLOAT")],
    ),
    "behind the list": (
        "out-of-bounds",
        [
            (
                "return tensor.type == tensors[0].type;",
                "return tensor.type == tensors[0].type && tensors[position + 1].type != DataType::kBOOL;",
            )
        ],
    ),
    # running
    "half as float": ("half-ignored", [("in[0].type == DataType::kHALF, stream", "false, stream")]),
    "half as float, too short": (
        "half-ignored",
        [("in[0].type == DataType::kHALF, stream", "false && in[0].type == DataType::kHALF, stream")],
    ),
    "largest shape": (
        "stale-shape",
        [
            (
                CONFIGURE,
                CONFIGURED
                % "most = 1;\n        for (int32_t d = 0; d < in[0].desc.dims.nbDims; ++d) most *= size_t(in[0].max.d[d]);",
            ),
            (COUNT, "count = most;"),
            (
                "    float beta;\n    std::string space;",
                "    float beta;\n    size_t most = 0;\n    std::string space;",
            ),
        ],
    ),
    "first dimension only": ("wrong-output", [(COUNT, "count = size_t(in[0].dims.d[0]);")]),
    "default stream": ("stream-ignored", [("kHALF, stream)", "kHALF, nullptr)")]),
    "kernel without a stream": (
        "stream-ignored",
        [("cu:<<<grid, block, 0, stream>>>(static_cast<const float*>", "<<<grid, block>>>(static_cast<const float*>")],
    ),
    "waits for the device": (
        "enqueue-blocks",
        [
            (
                RETURN,
                RETURN.replace("return", "int status =") + "\n        cudaDeviceSynchronize();\n        return status;",
            )
        ],
    ),
    "takes memory": (
        "enqueue-blocks",
        [
            (
                RETURN,
                "void* scratch = nullptr;\n        cudaMalloc(&scratch, 64);\n        cudaFree(scratch);\n        "
                + RETURN,
            )
        ],
    ),
    "returns 1": ("enqueue-status", [(RETURN, RETURN.replace("return ", "return 1 + "))]),
    "error thrown away": ("error-hidden", [(RETURN, RETURN.replace("return ", "") + "\n        return 0;")]),
    "reads device memory": (
        "host-access",
        [
            (
                RETURN,
                "if (*static_cast<const float*>(inputs[0]) != *static_cast<const float*>(inputs[0])) return 1;\n        "
                + RETURN,
            )
        ],
    ),
    "workspace in elements": (
        "workspace-overrun",
        [
            (WORKSPACE, "const noexcept override\n    {\n        return 16;\n    }"),
            ("void*, cudaStream_t stream) noexcept", "void* workspace, cudaStream_t stream) noexcept"),
            (
                RETURN,
                "launchSwish(inputs[0], workspace, count, beta, in[0].type == DataType::kHALF, stream);\n        "
                + RETURN,
            ),
        ],
    ),
    "tail not written": ("wrong-output", [("cu:i < count; i += stride", "i + 1 < count; i += stride")]),
    "one too far": ("kernel", [("cu:i < count; i += stride", "i <= count; i += stride")]),
    "static attribute": (
        "shared-state",
        [
            ("    float beta;\n    std::string space;", "    static float beta;\n    std::string space;"),
            ("explicit Swish(float beta) : beta(beta) {}", "explicit Swish(float given) { beta = given; }"),
            ("class SwishCreator :", "float Swish::beta = 1.0f;\n\nclass SwishCreator :"),
        ],
    ),
    "initialize fails": ("initialize-status", [(INITIALIZE, INITIALIZE.replace("0", "1"))]),
    # the plan
    "size of two floats": (
        "serialize-short",
        [
            (SIZE, SIZE.replace("sizeof beta", "2 * sizeof beta")),
            ("if (bytes != sizeof beta)", "if (bytes < sizeof beta)"),
        ],
    ),
    "size of no float": ("serialize-overrun", [(SIZE, SIZE.replace("sizeof beta", "1"))]),
    "attribute not in the plan": (
        "deserialize-loses",
        [
            (SERIALIZE, SERIALIZE.replace("&beta", "&kOne")),
            ("class Swish :", "const float kOne = 1.0f;\n\nclass Swish :"),
        ],
    ),
    "plan not read": ("deserialize-loses", [("std::memcpy(&beta, data, sizeof beta);", "beta = data ? 1.0f : 0.0f;")]),
    "reads behind the plan": (
        "deserialize-overrun",
        [
            (
                "float beta;\n        if (bytes != sizeof beta) return nullptr;",
                "float beta, more;\n        if (bytes == 0) return nullptr;\n        std::memcpy(&more, static_cast<const char*>(data) + 4, sizeof more);",
            )
        ],
    ),
    "clone with defaults": ("clone-loses", [(NEW, NEW.replace("(beta)", "(1.0f)"))]),
    "clone without namespace": ("clone-namespace", [("if (copy) copy->setPluginNamespace(space.c_str());", "")]),
    # memory
    "destroy does nothing": (
        "leak",
        [("void destroy() noexcept override { delete this; }", "void destroy() noexcept override {}")],
    ),
    "freed by both copies": (
        "double-free",
        [
            (
                "explicit Swish(float beta) : beta(beta) {}",
                "explicit Swish(float beta) : beta(beta), table(new float[4]) {}\n    ~Swish() override { delete[] table; }",
            ),
            (NEW, "auto* copy = new (std::nothrow) Swish(*this);"),
            ("    float beta;\n    std::string space;", "    float beta;\n    float* table;\n    std::string space;"),
        ],
    ),
    "terminate deletes": ("use-after-free", [(TERMINATE, TERMINATE.replace("{}", "{ delete this; }"))]),
    "device memory stays": (
        "device-leak",
        [
            (INITIALIZE, "int32_t initialize() noexcept override { return cudaMalloc(&table, 64); }"),
            (
                "    float beta;\n    std::string space;",
                "    float beta;\n    void* table = nullptr;\n    std::string space;",
            ),
        ],
    ),
    "exception in enqueue": (
        "exception",
        [
            (RETURN, 'if (count != 1 || beta > 0) throw std::runtime_error("too many");\n        ' + RETURN),
            ("#include <string>", "#include <stdexcept>\n#include <string>"),
        ],
    ),
    "assertion": (
        "assert",
        [
            ("return inputs[0];", "assert(inputs[0].nbDims == 3);\n        return inputs[0];"),
            ("#include <cstring>", "#include <cassert>\n#include <cstring>"),
        ],
    ),
    "null pointer": (
        "crash",
        [
            ("fields.fields = &field;", "fields.fields = &field;\n        nothing = nullptr;"),
            ("PluginField field;", "PluginField field;\n    volatile int* nothing;"),
            ("float beta = 1.0f;\n        for", "float beta = 1.0f + float(*nothing);\n        for"),
        ],
    ),
    "endless": ("timeout", [(COUNT, COUNT + "\n        for (volatile int i = 1; i;) {}")]),
}

VARIANTS: dict[str, list[Change]] = {
    "peeks at the error": [("cu:cudaGetLastError", "cudaPeekAtLastError")],
    "copied by its copy constructor": [(NEW, "auto* copy = new (std::nothrow) Swish(*this);")],
    "shape kept from configurePlugin": [
        (
            CONFIGURE,
            CONFIGURED
            % "now = 1;\n        for (int32_t d = 0; d < in[0].desc.dims.nbDims; ++d) now *= size_t(in[0].desc.dims.d[d]);",
        ),
        (COUNT, "count = now;"),
        ("    float beta;\n    std::string space;", "    float beta;\n    size_t now = 0;\n    std::string space;"),
    ],
    "vectors of channels": [
        (
            "if (tensor.format != TensorFormat::kLINEAR) return false;",
            "if (position > 0 && tensor.format != tensors[0].format) return false;",
        ),
        (
            COUNT,
            "const size_t vectors[] = {1, 2, 8, 4, 16, 32};\n"
            "        size_t vector = vectors[int32_t(in[0].format)];\n"
            "        for (int32_t d = 0; d < in[0].dims.nbDims; ++d) {\n"
            "            size_t side = size_t(in[0].dims.d[d]);\n"
            "            count *= d == in[0].dims.nbDims - 3 ? (side + vector - 1) / vector * vector : side;\n"
            "        }",
        ),
    ],
    "takes memory in initialize": [
        (INITIALIZE, "int32_t initialize() noexcept override { return cudaMalloc(&table, 64); }"),
        (
            TERMINATE,
            "void terminate() noexcept override\n    {\n        cudaFree(table);\n        table = nullptr;\n    }",
        ),
        (
            "    float beta;\n    std::string space;",
            "    float beta;\n    void* table = nullptr;\n    std::string space;",
        ),
    ],
}
"""Changes of the right plugin that leave it right."""
