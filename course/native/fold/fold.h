#pragma once
#include <NvInfer.h>
#include <string>
using namespace nvinfer1;
struct Window { int32_t kernel = 1, stride = 1, padding = 0; };

class Fold : public IPluginV2DynamicExt {
public:
    explicit Fold(Window window) : window(window) {}
    int32_t getNbOutputs() const noexcept override;
    DataType getOutputDataType(int32_t index, const DataType* types, int32_t inputs) const noexcept override;
    DimsExprs getOutputDimensions(int32_t index, const DimsExprs* in, int32_t inputs, IExprBuilder& build) noexcept override;
    bool supportsFormatCombination(int32_t pos, const PluginTensorDesc* inOut, int32_t inputs, int32_t outputs) noexcept override;
    void configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs, const DynamicPluginTensorDesc* out,
                         int32_t outputs) noexcept override;
    size_t getWorkspaceSize(const PluginTensorDesc* in, int32_t inputs, const PluginTensorDesc* out,
                            int32_t outputs) const noexcept override;
    int32_t initialize() noexcept override;
    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out, const void* const* x, void* const* y,
                    void* workspace, cudaStream_t stream) noexcept override;
    void terminate() noexcept override;
    size_t getSerializationSize() const noexcept override;
    void serialize(void* buffer) const noexcept override;
    IPluginV2DynamicExt* clone() const noexcept override;
    void destroy() noexcept override;
    const char* getPluginType() const noexcept override;
    const char* getPluginVersion() const noexcept override;
    void setPluginNamespace(const char* name) noexcept override;
    const char* getPluginNamespace() const noexcept override;

private:
    Window window;
    std::string space;
};
