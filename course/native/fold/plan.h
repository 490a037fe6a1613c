size_t Fold::getSerializationSize() const noexcept { return sizeof window; }
void Fold::serialize(void* buffer) const noexcept { std::memcpy(buffer, &window, sizeof window); }
IPluginV2DynamicExt* Fold::clone() const noexcept
{
    Fold* copy = new (std::nothrow) Fold(window);
    if (copy) copy->setPluginNamespace(space.c_str());
    return copy;
}
void Fold::destroy() noexcept { delete this; }
const char* Fold::getPluginType() const noexcept { return "CourseFold"; }
const char* Fold::getPluginVersion() const noexcept { return "1"; }
void Fold::setPluginNamespace(const char* name) noexcept { space = name; }
const char* Fold::getPluginNamespace() const noexcept { return space.c_str(); }
