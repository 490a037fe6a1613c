class FoldCreator : public IPluginCreator {
public:
    const char* getPluginName() const noexcept override { return "CourseFold"; }
    const char* getPluginVersion() const noexcept override { return "1"; }
    const PluginFieldCollection* getFieldNames() noexcept override
    {
        all.nbFields = 3;
        all.fields = fields;
        return &all;
    }
    IPluginV2* createPlugin(const char*, const PluginFieldCollection* given) noexcept override
    {
        Window window;
        for (int32_t i = 0; i < given->nbFields; ++i) {
            std::string name = given->fields[i].name;
            if (given->fields[i].type != PluginFieldType::kINT32) return nullptr;
            int32_t value = *static_cast<const int32_t*>(given->fields[i].data);
            if (name == "kernel") window.kernel = value;
            if (name == "stride") window.stride = value;
            if (name == "padding") window.padding = value;
        }
        return made(window);
    }
    IPluginV2* deserializePlugin(const char*, const void* data, size_t bytes) noexcept override
    {
        Window window;
        if (bytes != sizeof window) return nullptr;
        std::memcpy(&window, data, sizeof window);
        return made(window);
    }
    void setPluginNamespace(const char* name) noexcept override { space = name; }
    const char* getPluginNamespace() const noexcept override { return space.c_str(); }

private:
    IPluginV2* made(Window window) const
    {
        Fold* plugin = new (std::nothrow) Fold(window);
        if (plugin) plugin->setPluginNamespace(space.c_str());
        return plugin;
    }
    PluginField fields[3]{{"kernel", nullptr, PluginFieldType::kINT32, 1},
                          {"stride", nullptr, PluginFieldType::kINT32, 1},
                          {"padding", nullptr, PluginFieldType::kINT32, 1}};
    PluginFieldCollection all{};
    std::string space;
};
REGISTER_TENSORRT_PLUGIN(FoldCreator);
