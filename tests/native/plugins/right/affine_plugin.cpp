// CourseAffine in the namespace "course", listed by the library's entry point: TensorRT 8 calls getPluginCreators, 10 and 11
// call getCreators. FP32 only.
#include "base.h"
#include <cuda_runtime_api.h>
extern "C" int launchAffine(const float* x, float* y, size_t count, float a, float b, cudaStream_t stream);
namespace {
using namespace nvinfer1;
struct Members { float a = 1.0f, b = 0.0f; };
class Affine : public course::Base<Affine, Members> {
public:
    static constexpr const char* kName = "CourseAffine";
    static constexpr const char* kVersion = "1";
    using Base::Base;
    static std::vector<PluginField> fields()
    {
        return {PluginField("a", nullptr, PluginFieldType::kFLOAT32, 1),
                PluginField("b", nullptr, PluginFieldType::kFLOAT32, 1)};
    }
    static void read(const PluginField& field, Members& members)
    {
        if (!std::strcmp(field.name, "a")) members.a = *static_cast<const float*>(field.data);
        if (!std::strcmp(field.name, "b")) members.b = *static_cast<const float*>(field.data);
    }
    bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors, int32_t, int32_t) noexcept override
    {
        return tensors[position].type == DataType::kFLOAT && tensors[position].format == TensorFormat::kLINEAR;
    }
    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                    void*, cudaStream_t stream) noexcept override
    {
        return launchAffine(static_cast<const float*>(inputs[0]), static_cast<float*>(outputs[0]), count(in[0].dims),
                            members.a, members.b, stream);
    }
};
class AffineCreator : public course::Creator<Affine, Members> {
public:
    AffineCreator() { space = "course"; }
};
#if NV_TENSORRT_MAJOR >= 10
using Listed = IPluginCreatorInterface;
#else
using Listed = IPluginCreator;
#endif
Listed* const* list(int32_t& count)
{
    static AffineCreator creator;
    static Listed* const creators[] = {&creator};
    count = 1;
    return creators;
}
} // namespace
extern "C" TENSORRTAPI Listed* const* getCreators(int32_t& count) { return list(count); }
extern "C" TENSORRTAPI Listed* const* getPluginCreators(int32_t& count) { return list(count); }
extern "C" TENSORRTAPI void setLoggerFinder(nvinfer1::ILoggerFinder*) {}
