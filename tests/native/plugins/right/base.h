// What the plugins of this folder have in common. Members is a struct that can be copied byte by byte: all attributes.
#pragma once
#include <NvInfer.h>
#include <cstring>
#include <new>
#include <string>
#include <vector>

namespace course {
using namespace nvinfer1;

template <class Own, class Members> class Base : public IPluginV2DynamicExt {
public:
    explicit Base(const Members& members) : members(members) {}
    IPluginV2DynamicExt* clone() const noexcept override
    {
        auto* copy = new (std::nothrow) Own(members);
        if (copy) copy->setPluginNamespace(space.c_str());
        return copy;
    }
    bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors, int32_t, int32_t) noexcept override
    {
        const PluginTensorDesc& tensor = tensors[position];
        bool floating = tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
        return floating && tensor.format == TensorFormat::kLINEAR && tensor.type == tensors[0].type;
    }
    void configurePlugin(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*, int32_t) noexcept override
    {
    }
    size_t getWorkspaceSize(const PluginTensorDesc*, int32_t, const PluginTensorDesc*, int32_t) const noexcept override
    {
        return 0;
    }
    DimsExprs getOutputDimensions(int32_t, const DimsExprs* inputs, int32_t, IExprBuilder&) noexcept override
    {
        return inputs[0];
    }
    DataType getOutputDataType(int32_t, const DataType* types, int32_t) const noexcept override { return types[0]; }
    const char* getPluginType() const noexcept override { return Own::kName; }
    const char* getPluginVersion() const noexcept override { return Own::kVersion; }
    int32_t getNbOutputs() const noexcept override { return 1; }
    int32_t initialize() noexcept override { return 0; }
    void terminate() noexcept override {}
    size_t getSerializationSize() const noexcept override { return sizeof members; }
    void serialize(void* buffer) const noexcept override { std::memcpy(buffer, &members, sizeof members); }
    void destroy() noexcept override { delete this; }
    void setPluginNamespace(const char* name) noexcept override { space = name; }
    const char* getPluginNamespace() const noexcept override { return space.c_str(); }

protected:
    static size_t count(const Dims& dims)
    {
        size_t product = 1;
        for (int32_t d = 0; d < dims.nbDims; ++d) product *= size_t(dims.d[d]);
        return product;
    }
    Members members;
    std::string space;
};

// Own::fields() lists the attributes; Own::read(field, members) takes one.
template <class Own, class Members> class Creator : public IPluginCreator {
public:
    Creator() : list(Own::fields())
    {
        fields.nbFields = int32_t(list.size());
        fields.fields = list.data();
    }
    const char* getPluginName() const noexcept override { return Own::kName; }
    const char* getPluginVersion() const noexcept override { return Own::kVersion; }
    const PluginFieldCollection* getFieldNames() noexcept override { return &fields; }
    IPluginV2* createPlugin(const char*, const PluginFieldCollection* given) noexcept override
    {
        Members members{};
        for (int32_t i = 0; i < given->nbFields; ++i) Own::read(given->fields[i], members);
        return made(members);
    }
    IPluginV2* deserializePlugin(const char*, const void* data, size_t bytes) noexcept override
    {
        Members members{};
        if (bytes != sizeof members) return nullptr;
        std::memcpy(&members, data, sizeof members);
        return made(members);
    }
    void setPluginNamespace(const char* name) noexcept override { space = name; }
    const char* getPluginNamespace() const noexcept override { return space.c_str(); }

protected:
    IPluginV2* made(const Members& members) const
    {
        auto* plugin = new (std::nothrow) Own(members);
        if (plugin) plugin->setPluginNamespace(space.c_str());
        return plugin;
    }
    std::vector<PluginField> list;
    PluginFieldCollection fields{};
    std::string space;
};
} // namespace course
