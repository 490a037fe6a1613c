// CourseRowMean, with a workspace that depends on the shape.
#include "base.h"
#include <cuda_runtime_api.h>
extern "C" int launchRowMean(const void* x, void* y, void* workspace, int rows, int columns, float shift, bool half,
                             cudaStream_t stream);
namespace {
using namespace nvinfer1;
struct Members { float shift; };
class RowMean : public course::Base<RowMean, Members> {
public:
    static constexpr const char* kName = "CourseRowMean";
    static constexpr const char* kVersion = "1";
    using Base::Base;
    static std::vector<PluginField> fields() { return {PluginField("shift", nullptr, PluginFieldType::kFLOAT32, 1)}; }
    static void read(const PluginField& field, Members& members)
    {
        if (!std::strcmp(field.name, "shift")) members.shift = *static_cast<const float*>(field.data);
    }
    size_t getWorkspaceSize(const PluginTensorDesc* in, int32_t, const PluginTensorDesc*, int32_t) const noexcept override
    {
        return rows(in[0].dims) * sizeof(float);
    }
    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                    void* workspace, cudaStream_t stream) noexcept override
    {
        const Dims& dims = in[0].dims;
        return launchRowMean(inputs[0], outputs[0], workspace, int(rows(dims)), int(dims.d[dims.nbDims - 1]), members.shift,
                             in[0].type == DataType::kHALF, stream);
    }

private:
    static size_t rows(const Dims& dims) { return count(dims) / size_t(dims.d[dims.nbDims - 1]); }
};
using RowMeanCreator = course::Creator<RowMean, Members>;
REGISTER_TENSORRT_PLUGIN(RowMeanCreator);
} // namespace
