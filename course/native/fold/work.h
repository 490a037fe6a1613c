void Fold::configurePlugin(const DynamicPluginTensorDesc*, int32_t,
                           const DynamicPluginTensorDesc*, int32_t) noexcept {}
size_t Fold::getWorkspaceSize(const PluginTensorDesc*, int32_t, const PluginTensorDesc*,
                              int32_t) const noexcept
{
    return 0;
}
int32_t Fold::initialize() noexcept { return 0; }
int32_t Fold::enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out,
                      const void* const* x, void* const* y, void*, cudaStream_t stream) noexcept
{
    int planes = int(out[0].dims.d[0] * out[0].dims.d[1]);
    int h = int(in[0].dims.d[2]), w = int(in[0].dims.d[3]);
    return launchFold(x[0], y[0], planes, h, w, window.kernel, window.stride, window.padding,
                      in[0].type == DataType::kHALF, stream);
}
void Fold::terminate() noexcept {}
