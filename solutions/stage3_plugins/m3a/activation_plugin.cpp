// CourseMish, version "1": one input, one output of the same shape and type, the attribute beta (FLOAT32, 1 if not given).
// FP32 and FP16, plain layout (kLINEAR). You hand this file in.
#include "activation.cuh"
#include <NvInfer.h>
#include <cstring>
#include <new>
#include <string>
using namespace nvinfer1;

class Mish : public IPluginV2DynamicExt
{
    // BEGIN SOLUTION
public:
    explicit Mish(float beta) : beta(beta) {}

    Mish* clone() const noexcept override
    {
        auto* copy = new (std::nothrow) Mish(beta);
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
        return launchMish(inputs[0], outputs[0], count, beta, in[0].type == DataType::kHALF, stream);
    }

    DataType getOutputDataType(int32_t, const DataType* types, int32_t) const noexcept override { return types[0]; }
    const char* getPluginType() const noexcept override { return "CourseMish"; }
    const char* getPluginVersion() const noexcept override { return "1"; }
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
    // END SOLUTION
};

class MishCreator : public IPluginCreator
{
    // BEGIN SOLUTION
public:
    MishCreator() : field("beta", nullptr, PluginFieldType::kFLOAT32, 1)
    {
        fields.nbFields = 1;
        fields.fields = &field;
    }
    const char* getPluginName() const noexcept override { return "CourseMish"; }
    const char* getPluginVersion() const noexcept override { return "1"; }
    const PluginFieldCollection* getFieldNames() noexcept override { return &fields; }
    IPluginV2* createPlugin(const char*, const PluginFieldCollection* given) noexcept override
    {
        float beta = 1.0f;
        for (int32_t i = 0; i < given->nbFields; ++i)
            if (!std::strcmp(given->fields[i].name, "beta")) std::memcpy(&beta, given->fields[i].data, sizeof beta);
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
        auto* plugin = new (std::nothrow) Mish(beta);
        if (plugin) plugin->setPluginNamespace(space.c_str());
        return plugin;
    }
    PluginField field;
    PluginFieldCollection fields{};
    std::string space;
    // END SOLUTION
};
REGISTER_TENSORRT_PLUGIN(MishCreator);
