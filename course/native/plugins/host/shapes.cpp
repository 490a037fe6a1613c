// getOutputDimensions as the builder calls it: sides that are not known yet are expressions without a value. What the
// plugin makes of them is told as a tree, and worked out for real shapes outside.
#include "host.h"
#include <deque>
#include <limits>

namespace host {
using Value = std::decay_t<decltype(Dims::d[0])>;

struct Node final : IDimensionExpr, apiv::VDimensionExpr {
    std::string tree;                           // JSON
    bool constant_ = false;
    Value value = std::numeric_limits<int32_t>::min();      // what TensorRT gives for a side that is not known
    Node() { mImpl = this; }
    bool isConstant() const override { return constant_; }
    Value getConstantValue() const override
    {
        if (!constant_) ++asked;
        return value;
    }
#if NV_TENSORRT_MAJOR >= 10
    bool isSizeTensor() const override { return false; }
#endif
    static int asked;                           // how often the value of an unknown side was asked for
};
int Node::asked = 0;
static std::deque<Node> nodes;                  // they must not move

static bool known(const IDimensionExpr* expression)
{
    for (auto& node : nodes) if (&node == expression) return true;
    return false;
}
static const Node& made(const std::string& tree, bool constant, Value value)
{
    Outside ours;
    nodes.emplace_back();
    nodes.back().tree = tree;
    nodes.back().constant_ = constant;
    if (constant) nodes.back().value = value;
    return nodes.back();
}
static bool worked(DimensionOperation operation, int64_t a, int64_t b, int64_t& result)
{
    switch (operation) {
    case DimensionOperation::kSUM: result = a + b; return true;
    case DimensionOperation::kPROD: result = a * b; return true;
    case DimensionOperation::kMAX: result = a > b ? a : b; return true;
    case DimensionOperation::kMIN: result = a < b ? a : b; return true;
    case DimensionOperation::kSUB: result = a - b; return true;
    case DimensionOperation::kEQUAL: result = a == b; return true;
    case DimensionOperation::kLESS: result = a < b; return true;
    case DimensionOperation::kFLOOR_DIV: if (b) result = a / b; return b != 0;
    case DimensionOperation::kCEIL_DIV: if (b) result = (a + b - 1) / b; return b != 0;
    }
    return false;
}

struct Builder final : IExprBuilder, apiv::VExprBuilder {
    Builder() { mImpl = this; }
    IDimensionExpr const* constant(Value value) override
    {
        Outside ours;
        return &made(std::to_string(value), true, value);
    }
    IDimensionExpr const* operation(DimensionOperation operation, IDimensionExpr const& first,
                                    IDimensionExpr const& second) override
    {
        if (!known(&first) || !known(&second)) return &made("[\"foreign\"]", false, 0);
        auto& a = static_cast<const Node&>(first);
        auto& b = static_cast<const Node&>(second);
        Outside ours;
        int64_t result = 0;
        if (a.constant_ && b.constant_ && worked(operation, a.value, b.value, result))
            return &made(std::to_string(result), true, Value(result));
        return &made("[" + std::to_string(int(operation)) + "," + a.tree + "," + b.tree + "]", false, 0);
    }
#if NV_TENSORRT_MAJOR >= 10
    IDimensionExpr const* declareSizeTensor(int32_t, IDimensionExpr const&, IDimensionExpr const& upper) override
    { return &upper; }
#endif
    // The bases' functions of these names call the ones above.
};
} // namespace host

using namespace host;
extern "C" {
// dims: -1 for a side that is not known. The answer: {asked, dims}; a side is a number, ["input", i, d] or
// [operation, a, b]; null stands for no pointer, ["foreign"] for one that is not the builder's.
const char* plug_shape(nvinfer1::IPluginV2DynamicExt* plugin, int32_t output, const Tensor* inputs, int32_t count)
{
    static std::string answer;
    Builder builder;
    Given<DimsExprs> given(size_t(count), "the inputs of getOutputDimensions");
    for (int32_t i = 0; i < count; ++i) {
        given[size_t(i)].nbDims = inputs[i].rank;
        for (int32_t d = 0; d < inputs[i].rank; ++d) {
            int64_t side = inputs[i].dims[d];
            std::string name = "[\"input\"," + std::to_string(i) + "," + std::to_string(d) + "]";
            given[size_t(i)].d[d] = &(side < 0 ? made(name, false, 0) : made(std::to_string(side), true, Value(side)));
        }
    }
    Node::asked = 0;
    DimsExprs made{};
    made.nbDims = -1;
    guarded("getOutputDimensions",
            [&] { made = plugin->getOutputDimensions(output, given.data(), count, builder); });
    std::string sides;
    for (int32_t d = 0; d < made.nbDims && d < Dims::MAX_DIMS; ++d)
        sides += (d ? "," : "")
                 + (!made.d[d] ? "null" : known(made.d[d]) ? static_cast<const Node*>(made.d[d])->tree : "[\"foreign\"]");
    answer = Json().num("asked", Node::asked).num("rank", made.nbDims).raw("dims", "[" + sides + "]").end();
    return answer.c_str();
}
}
