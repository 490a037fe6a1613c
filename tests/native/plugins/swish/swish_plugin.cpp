// CourseSwish: one input, one output of the same shape and type, the attribute beta.
#include "swish.cuh"
#include <NvInfer.h>
#include <cstring>
#include <new>
#include <string>
using namespace nvinfer1;

namespace {
const char* const kName = "CourseSwish";
const char* const kVersion = "1";

class Swish : public IPluginV2DynamicExt {
public:
    explicit Swish(float beta) : beta(beta) {}

    // IPluginV2DynamicExt
    Swish* clone() const noexcept override
    {
        auto* copy = new (std::nothrow) Swish(beta);
        if (copy) copy->setPluginNamespace(space.c_str());
        return copy;
    }
    DimsExprs getOutputDimensions(int32_t, const DimsExprs* inputs, int32_t, IExprBuilder&) noexcept override
    {
        return inputs[0];
    }
    bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors, int32_t, int32_t) noexcept override
    {
        const PluginTensorDesc& tensor = tensors[position];
        if (tensor.format != TensorFormat::kLINEAR) return false;
        if (position == 0) return tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
        return tensor.type == tensors[0].type;
    }
    void configurePlugin(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*, int32_t) noexcept override
    {
    }
    size_t getWorkspaceSize(const PluginTensorDesc*, int32_t, const PluginTensorDesc*, int32_t) const noexcept override
    {
        return 0;
    }
    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                    void*, cudaStream_t stream) noexcept override
    {
        size_t count = 1;
        for (int32_t d = 0; d < in[0].dims.nbDims; ++d) count *= size_t(in[0].dims.d[d]);
        return launchSwish(inputs[0], outputs[0], count, beta, in[0].type == DataType::kHALF, stream);
    }

    // IPluginV2Ext and IPluginV2
    DataType getOutputDataType(int32_t, const DataType* types, int32_t) const noexcept override { return types[0]; }
    const char* getPluginType() const noexcept override { return kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    int32_t getNbOutputs() const noexcept override { return 1; }
    int32_t initialize() noexcept override { return 0; }
    void terminate() noexcept override {}
    size_t getSerializationSize() const noexcept override { return sizeof beta; }
    void serialize(void* buffer) const noexcept override { std::memcpy(buffer, &beta, sizeof beta); }
    void destroy() noexcept override { delete this; }
    void setPluginNamespace(const char* name) noexcept override { space = name; }
    const char* getPluginNamespace() const noexcept override { return space.c_str(); }

private:
    float beta;
    std::string space;
};

class SwishCreator : public IPluginCreator {
public:
    SwishCreator() : field("beta", nullptr, PluginFieldType::kFLOAT32, 1)
    {
        fields.nbFields = 1;
        fields.fields = &field;
    }
    const char* getPluginName() const noexcept override { return kName; }
    const char* getPluginVersion() const noexcept override { return kVersion; }
    const PluginFieldCollection* getFieldNames() noexcept override { return &fields; }
    IPluginV2* createPlugin(const char*, const PluginFieldCollection* given) noexcept override
    {
        float beta = 1.0f;
        for (int32_t i = 0; i < given->nbFields; ++i)
            if (!std::strcmp(given->fields[i].name, "beta")) beta = *static_cast<const float*>(given->fields[i].data);
        return made(beta);
    }
    IPluginV2* deserializePlugin(const char*, const void* data, size_t bytes) noexcept override
    {
        float beta;
        if (bytes != sizeof beta) return nullptr;
        std::memcpy(&beta, data, sizeof beta);
        return made(beta);
    }
    void setPluginNamespace(const char* name) noexcept override { space = name; }
    const char* getPluginNamespace() const noexcept override { return space.c_str(); }

private:
    IPluginV2* made(float beta) const
    {
        auto* plugin = new (std::nothrow) Swish(beta);
        if (plugin) plugin->setPluginNamespace(space.c_str());
        return plugin;
    }
    PluginField field;
    PluginFieldCollection fields{};
    std::string space;
};
REGISTER_TENSORRT_PLUGIN(SwishCreator);
} // namespace
