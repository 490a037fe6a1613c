// CourseRepeat: two inputs, an output of another shape, an attribute that is a whole number.
#include "base.h"
#include <cuda_runtime_api.h>
extern "C" int launchRepeat(const void* a, const void* b, void* y, int rows, int left, int right, int times, bool half,
                            cudaStream_t stream);
namespace {
using namespace nvinfer1;
struct Members { int32_t times = 1; };
class Repeat : public course::Base<Repeat, Members> {
public:
    static constexpr const char* kName = "CourseRepeat";
    static constexpr const char* kVersion = "1";
    using Base::Base;
    static std::vector<PluginField> fields() { return {PluginField("times", nullptr, PluginFieldType::kINT32, 1)}; }
    static void read(const PluginField& field, Members& members)
    {
        if (!std::strcmp(field.name, "times")) members.times = *static_cast<const int32_t*>(field.data);
    }
    DimsExprs getOutputDimensions(int32_t, const DimsExprs* inputs, int32_t, IExprBuilder& builder) noexcept override
    {
        DimsExprs made = inputs[0];
        int32_t last = made.nbDims - 1;
        auto* repeated = builder.operation(DimensionOperation::kPROD, *made.d[last], *builder.constant(members.times));
        made.d[last] = builder.operation(DimensionOperation::kSUM, *repeated, *inputs[1].d[last]);
        return made;
    }
    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                    void*, cudaStream_t stream) noexcept override
    {
        int32_t last = in[0].dims.nbDims - 1;
        int left = int(in[0].dims.d[last]), right = int(in[1].dims.d[last]);
        return launchRepeat(inputs[0], inputs[1], outputs[0], int(count(in[0].dims)) / left, left, right, members.times,
                            in[0].type == DataType::kHALF, stream);
    }
};
using RepeatCreator = course::Creator<Repeat, Members>;
REGISTER_TENSORRT_PLUGIN(RepeatCreator);
} // namespace
