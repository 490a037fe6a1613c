// The registry, as far as a plugin needs it: creators that the macro REGISTER_TENSORRT_PLUGIN or the learner's own code
// registers, and those that the library's entry point lists.
#include "host.h"
#include <dlfcn.h>

#if NV_TENSORRT_MAJOR >= 10
using AnyCreator = nvinfer1::IPluginCreatorInterface;
constexpr const char* kEntryPoint = "getCreators";
#else
using AnyCreator = nvinfer1::IPluginCreator;
constexpr const char* kEntryPoint = "getPluginCreators";
#endif

namespace host {
struct Entry { AnyCreator* creator; std::string libraryNamespace, from; };
static std::vector<Entry>& entries()            // the learner's file registers before main, perhaps before ours
{
    static std::vector<Entry> list;
    return list;
}

class Registry : public IPluginRegistry {
public:
    ~Registry() noexcept override = default;
#if NV_TENSORRT_MAJOR >= 10
    bool registerCreator(IPluginCreatorInterface& creator, AsciiChar const* libraryNamespace) noexcept override
    { return add(creator, libraryNamespace); }
    IPluginCreatorInterface* const* getAllCreators(int32_t* count) const noexcept override { return all(count); }
    IPluginCreatorInterface* getCreator(AsciiChar const*, AsciiChar const*, AsciiChar const*) noexcept override
    { return nullptr; }
    bool deregisterCreator(IPluginCreatorInterface const&) noexcept override { return true; }
    IPluginResource* acquirePluginResource(AsciiChar const*, IPluginResource*) noexcept override { return nullptr; }
    int32_t releasePluginResource(AsciiChar const*) noexcept override { return 0; }
    IPluginCreatorInterface* const* getAllCreatorsRecursive(int32_t* count) noexcept override { return all(count); }
#endif
#if NV_TENSORRT_MAJOR < 11
    bool registerCreator(IPluginCreator& creator, AsciiChar const* libraryNamespace) noexcept override
    { return add(creator, libraryNamespace); }
    IPluginCreator* const* getPluginCreatorList(int32_t* count) const noexcept override { *count = 0; return nullptr; }
    IPluginCreator* getPluginCreator(AsciiChar const*, AsciiChar const*, AsciiChar const*) noexcept override
    { return nullptr; }
    bool deregisterCreator(IPluginCreator const&) noexcept override { return true; }
#endif
    void setErrorRecorder(IErrorRecorder*) noexcept override {}
    IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
    bool isParentSearchEnabled() const override { return true; }
    void setParentSearchEnabled(bool) override {}
    PluginLibraryHandle loadLibrary(AsciiChar const*) noexcept override { return nullptr; }
    void deregisterLibrary(PluginLibraryHandle) noexcept override {}
private:
    static bool add(AnyCreator& creator, AsciiChar const* libraryNamespace)
    {
        entries().push_back({&creator, text(libraryNamespace), "registry"});
        return true;
    }
#if NV_TENSORRT_MAJOR >= 10
    static IPluginCreatorInterface* const* all(int32_t* count) { *count = 0; return nullptr; }
#endif
};
class Logger : public ILogger {
    void log(Severity, AsciiChar const*) noexcept override {}
};

// What the entry point lists, once.
static void askEntryPoint(void* library)
{
    static bool asked = false;
    auto entry = reinterpret_cast<AnyCreator* const* (*)(int32_t&)>(dlsym(library, kEntryPoint));
    if (asked || !entry) return;
    asked = true;
    int32_t count = 0;
    AnyCreator* const* list = nullptr;
    guarded(kEntryPoint, [&] { list = entry(count); });
    for (int32_t i = 0; i < count && list; ++i) entries().push_back({list[i], "", "entry point"});
}
static IPluginCreator* asV2(AnyCreator* creator)
{
#if NV_TENSORRT_MAJOR >= 10
    if (std::string(creator->getInterfaceInfo().kind) != "PLUGIN CREATOR_V1") return nullptr;
#endif
    return static_cast<IPluginCreator*>(creator);
}
} // namespace host

using namespace host;
extern "C" nvinfer1::IPluginRegistry* getPluginRegistry() noexcept
{
    static Registry registry;
    return &registry;
}
extern "C" nvinfer1::ILogger* getLogger() noexcept
{
    static Logger logger;
    return &logger;
}
extern "C" {
// A list of {creator, from, generation, name, version, namespace, library_namespace}. entry_point: "" if there is none.
const char* plug_creators(void* library)
{
    askEntryPoint(library);
    static std::string answer;
    answer.clear();
    for (auto& entry : entries()) {
        Json json;
        json.num("creator", (long long)(uintptr_t(entry.creator)))
            .str("from", entry.from)
            .str("library_namespace", entry.libraryNamespace);
        IPluginCreator* creator = entry.creator ? asV2(entry.creator) : nullptr;
        json.num("generation", creator ? 2 : 3);
        if (creator) {
            const char* words[3]{};
            guarded("getPluginName", [&] { words[0] = creator->getPluginName(); });
            guarded("getPluginVersion", [&] { words[1] = creator->getPluginVersion(); });
            guarded("getPluginNamespace", [&] { words[2] = creator->getPluginNamespace(); });
            json.num("v2", (long long)(uintptr_t(creator)));
            const char* names[3]{"name", "version", "namespace"};
            const char* methods[3]{"getPluginName", "getPluginVersion", "getPluginNamespace"};
            for (int i = 0; i < 3; ++i) {
                method = methods[i];                    // reading what it returned is part of the call
                json.raw(names[i], words[i] ? quoted(text(words[i])) : "null");
                method = "";
            }
        }
        answer += (answer.empty() ? "" : ",") + json.end();
    }
    answer = "{\"entry_point\":" + quoted(dlsym(library, kEntryPoint) ? kEntryPoint : "")
             + ",\"logger_finder\":" + (dlsym(library, "setLoggerFinder") ? "true" : "false") + ",\"creators\":[" + answer
             + "]}";
    return answer.c_str();
}
// Two calls of getFieldNames: what each says, read after the second, so that memory that is gone shows.
const char* plug_fields(nvinfer1::IPluginCreator* creator)
{
    static std::string answer;
    const PluginFieldCollection* lists[2]{};
    for (auto& list : lists) guarded("getFieldNames", [&] { list = creator->getFieldNames(); });
    answer.clear();
    method = "getFieldNames";
    for (auto* list : lists) {
        std::string fields;
        for (int32_t i = 0; list && i < list->nbFields && list->fields; ++i) {
            const PluginField& field = list->fields[i];
            fields += (fields.empty() ? "" : ",")
                      + Json()
                            .raw("name", field.name ? quoted(text(field.name)) : "null")
                            .num("type", (long long)field.type)
                            .num("length", field.length)
                            .end();
        }
        Json json;
        json.num("null", !list).num("count", list ? list->nbFields : 0).raw("fields", "[" + fields + "]");
        answer += (answer.empty() ? "" : ",") + json.end();
    }
    method = "";
    answer = "[" + answer + "]";
    return answer.c_str();
}
}
