// CourseSigns: two outputs of two types, and memory of the device from initialize to terminate.
#include "base.h"
#include <cuda_runtime_api.h>
extern "C" int launchSigns(const void* x, void* part, void* positive, size_t count, float scale, bool half,
                           cudaStream_t stream);
namespace {
using namespace nvinfer1;
struct Members { float scale; };
class Signs : public course::Base<Signs, Members> {
public:
    static constexpr const char* kName = "CourseSigns";
    static constexpr const char* kVersion = "2";
    using Base::Base;
    static std::vector<PluginField> fields() { return {PluginField("scale", nullptr, PluginFieldType::kFLOAT32, 1)}; }
    static void read(const PluginField& field, Members& members)
    {
        if (!std::strcmp(field.name, "scale")) members.scale = *static_cast<const float*>(field.data);
    }
    int32_t getNbOutputs() const noexcept override { return 2; }
    DataType getOutputDataType(int32_t index, const DataType* types, int32_t) const noexcept override
    {
        return index == 0 ? types[0] : DataType::kINT32;
    }
    bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors, int32_t inputs,
                                   int32_t outputs) noexcept override
    {
        if (position < 2) return Base::supportsFormatCombination(position, tensors, inputs, outputs);
        return tensors[2].type == DataType::kINT32 && tensors[2].format == TensorFormat::kLINEAR;
    }
    int32_t initialize() noexcept override { return cudaMalloc(&table, 256); }
    void terminate() noexcept override
    {
        cudaFree(table);
        table = nullptr;
    }
    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                    void*, cudaStream_t stream) noexcept override
    {
        return launchSigns(inputs[0], outputs[0], outputs[1], count(in[0].dims), members.scale,
                           in[0].type == DataType::kHALF, stream);
    }

private:
    void* table = nullptr;                      // taken and given back in the right places
};
using SignsCreator = course::Creator<Signs, Members>;
REGISTER_TENSORRT_PLUGIN(SignsCreator);
} // namespace
