#if NV_TENSORRT_MAJOR >= 10
using Creator = IPluginCreatorInterface;
#define ENTRY getCreators
#else
using Creator = IPluginCreator;
#define ENTRY getPluginCreators
#endif
extern "C" TENSORRTAPI Creator* const* ENTRY(int32_t& count)
{
    static FoldCreator creator;
    static Creator* const list[] = {&creator};
    count = 1;
    return list;
}
extern "C" TENSORRTAPI void setLoggerFinder(ILoggerFinder*) {}
