// The life of a plugin as TensorRT calls it: one function for each method.
#include "host.h"
#include <cstring>
#include <cuda_runtime_api.h>

namespace host {
using Value = std::decay_t<decltype(Dims::d[0])>;
using Plugin = IPluginV2DynamicExt;

static Dims dims(int32_t rank, const int64_t* sides)
{
    Dims made{};
    made.nbDims = rank;
    for (int32_t d = 0; d < rank; ++d) made.d[d] = Value(sides[d]);
    return made;
}
static void fill(PluginTensorDesc& desc, const Tensor& tensor)
{
    desc.dims = dims(tensor.rank, tensor.dims);
    desc.type = DataType(tensor.type);
    desc.format = TensorFormat(tensor.format);
    desc.scale = tensor.scale;
}
static void fill(DynamicPluginTensorDesc& made, const Range& range)
{
    fill(made.desc, range.tensor);
    made.min = dims(range.tensor.rank, range.min);
    made.max = dims(range.tensor.rank, range.max);
#if NV_TENSORRT_MAJOR >= 10
    made.opt = dims(range.tensor.rank, range.opt);
#endif
}
template <class To, class From> void fill(Given<To>& to, const From* from)
{
    for (int32_t i = 0; i < to.count(); ++i) fill(to[size_t(i)], from[i]);
}
} // namespace host

using namespace host;
// Functions that can be ended in the middle give 0 then, and the simulated GPU knows why.
extern "C" {
int plug_version() { return NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH; }

// ---------------------------------------------------------------- beginnings
// The fields' names and values are gone after the call, as the ONNX parser's are.
void* plug_create(nvinfer1::IPluginCreator* creator, const char* layer, const Attribute* attributes, int32_t count)
{
    Given<PluginField> fields(size_t(count), "the fields' list");
    std::vector<Given<char>*> texts;
    for (int32_t i = 0; i < count; ++i) {
        auto* name = new Given<char>(std::strlen(attributes[i].name) + 1, "a field's name");
        std::memcpy(name->data(), attributes[i].name, std::strlen(attributes[i].name) + 1);
        auto* value = new Given<char>(attributes[i].bytes, "a field's value");
        std::memcpy(value->data(), attributes[i].data, attributes[i].bytes);
        fields[size_t(i)] = PluginField(name->data(), value->data(), PluginFieldType(attributes[i].type),
                                        attributes[i].length);
        texts.push_back(name);
        texts.push_back(value);
    }
    IPluginV2* plugin = nullptr;
    {
        Given<char> name(std::strlen(layer) + 1, "the layer's name");
        std::memcpy(name.data(), layer, std::strlen(layer) + 1);
        Given<PluginFieldCollection> collection(1, "the collection of fields");
        collection[0].nbFields = count;
        collection[0].fields = count ? fields.data() : nullptr;
        guarded("createPlugin", [&] { plugin = creator->createPlugin(name.data(), collection.data()); });
    }
    for (auto* text : texts) delete text;
    return plugin;
}
void* plug_deserialize(nvinfer1::IPluginCreator* creator, const char* layer, const void* data, uint64_t bytes)
{
    Given<char> plan(bytes, "the serialised data");     // it is gone after the call, as the plan is after loading
    std::memcpy(plan.data(), data, bytes);
    IPluginV2* plugin = nullptr;
    guarded("deserializePlugin", [&] { plugin = creator->deserializePlugin(layer, plan.data(), bytes); });
    return plugin;
}
// Whether it is an IPluginV2DynamicExt; the version says so, as TensorRT reads it.
int plug_is_dynamic(nvinfer1::IPluginV2* plugin)
{ return plugin->getTensorRTVersion() >> 24 == 3; }
const char* plug_identity(nvinfer1::IPluginV2* plugin)
{
    static std::string answer;
    const char* words[3]{};
    int outputs = 0;
    guarded("getPluginType", [&] { words[0] = plugin->getPluginType(); });
    guarded("getPluginVersion", [&] { words[1] = plugin->getPluginVersion(); });
    guarded("getPluginNamespace", [&] { words[2] = plugin->getPluginNamespace(); });
    guarded("getNbOutputs", [&] { outputs = plugin->getNbOutputs(); });
    Json json;
    const char* names[3]{"type", "version", "namespace"};
    const char* methods[3]{"getPluginType", "getPluginVersion", "getPluginNamespace"};
    for (int i = 0; i < 3; ++i) {
        method = methods[i];
        json.raw(names[i], words[i] ? quoted(text(words[i])) : "null");
        method = "";
    }
    answer = json.num("outputs", outputs).end();
    return answer.c_str();
}
void plug_set_namespace(nvinfer1::IPluginV2* plugin, const char* name)
{
    Given<char> copy(std::strlen(name) + 1, "the namespace's text");
    std::memcpy(copy.data(), name, std::strlen(name) + 1);
    guarded("setPluginNamespace", [&] { plugin->setPluginNamespace(copy.data()); });
}
void* plug_clone(Plugin* plugin)
{
    Plugin* copy = nullptr;
    guarded("clone", [&] { copy = plugin->clone(); });
    return copy;
}

// ---------------------------------------------------------------- questions of the builder
int plug_output_type(Plugin* plugin, int32_t output, const int32_t* types, int32_t count)
{
    Given<DataType> given(size_t(count), "the input types");
    for (int32_t i = 0; i < count; ++i) given[size_t(i)] = DataType(types[i]);
    int answer = -1;
    guarded("getOutputDataType",
            [&] { answer = int(plugin->getOutputDataType(output, given.data(), count)); });
    return answer;
}
int plug_supports(Plugin* plugin, int32_t position, const Tensor* tensors, int32_t inputs, int32_t outputs)
{
    Given<PluginTensorDesc> given(size_t(inputs + outputs), "the tensors' descriptions");
    fill(given, tensors);
    bool answer = false;
    guarded("supportsFormatCombination",
            [&] { answer = plugin->supportsFormatCombination(position, given.data(), inputs, outputs); });
    return answer;
}
void plug_configure(Plugin* plugin, const Range* in, int32_t inputs, const Range* out, int32_t outputs)
{
    Given<DynamicPluginTensorDesc> first(size_t(inputs), "the descriptions of configurePlugin");
    Given<DynamicPluginTensorDesc> second(size_t(outputs), "the descriptions of configurePlugin");
    fill(first, in);
    fill(second, out);
    guarded("configurePlugin", [&] { plugin->configurePlugin(first.data(), inputs, second.data(), outputs); });
}
uint64_t plug_workspace(Plugin* plugin, const Tensor* in, int32_t inputs, const Tensor* out, int32_t outputs)
{
    Given<PluginTensorDesc> first(size_t(inputs), "the tensors' descriptions");
    Given<PluginTensorDesc> second(size_t(outputs), "the tensors' descriptions");
    fill(first, in);
    fill(second, out);
    uint64_t bytes = 0;
    guarded("getWorkspaceSize",
            [&] { bytes = plugin->getWorkspaceSize(first.data(), inputs, second.data(), outputs); });
    return bytes;
}

// ---------------------------------------------------------------- running
int plug_initialize(Plugin* plugin)
{
    int status = -1;
    guarded("initialize", [&] { status = plugin->initialize(); });
    return status;
}
void plug_terminate(Plugin* plugin) { guarded("terminate", [&] { plugin->terminate(); }); }
void plug_attach(Plugin* plugin)
{ guarded("attachToContext", [&] { plugin->attachToContext(nullptr, nullptr, nullptr); }); }
void plug_detach(Plugin* plugin) { guarded("detachFromContext", [&] { plugin->detachFromContext(); }); }
void plug_destroy(nvinfer1::IPluginV2* plugin) { guarded("destroy", [&] { plugin->destroy(); }); }
// A stream as TensorRT gives it: not the default one, and not waiting for it.
void* plug_stream()
{
    cudaStream_t stream = nullptr;
    cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    return stream;
}
// 1 if it came back; what enqueue returned is in *status.
int plug_enqueue(Plugin* plugin, const Tensor* in, int32_t inputs, const Tensor* out, int32_t outputs,
                 void* const* inputMemory, void* const* outputMemory, void* workspace, void* stream, int* status)
{
    Given<PluginTensorDesc> first(size_t(inputs), "the descriptions of enqueue");
    Given<PluginTensorDesc> second(size_t(outputs), "the descriptions of enqueue");
    Given<const void*> from(size_t(inputs), "the list of inputs");
    Given<void*> to(size_t(outputs), "the list of outputs");
    fill(first, in);
    fill(second, out);
    for (int32_t i = 0; i < inputs; ++i) from[size_t(i)] = inputMemory[i];
    for (int32_t i = 0; i < outputs; ++i) to[size_t(i)] = outputMemory[i];
    return guarded("enqueue", [&] {
        *status = plugin->enqueue(first.data(), second.data(), from.data(), to.data(), workspace,
                                  static_cast<cudaStream_t>(stream));
    });
}

// ---------------------------------------------------------------- the plan
uint64_t plug_serialization_size(nvinfer1::IPluginV2* plugin)
{
    uint64_t bytes = 0;
    guarded("getSerializationSize", [&] { bytes = plugin->getSerializationSize(); });
    return bytes;
}
// Into memory of exactly `bytes` bytes, filled before; then copied to `data`.
void plug_serialize(nvinfer1::IPluginV2* plugin, void* data, uint64_t bytes, int filling)
{
    Given<char> plan(bytes, "the plan's memory");
    std::memset(plan.data(), filling, bytes);
    guarded("serialize", [&] { plugin->serialize(plan.data()); });
    std::memcpy(data, plan.data(), bytes);
}
}
