# %% plugin-questions | has no value then, only a name
questions = fold.text("questions.h").replace(
    "build.operation(DimensionOperation::kFLOOR_DIV, *in[0].d[1], area)",
    "build.constant(in[0].d[1]->getConstantValue() / (window.kernel * window.kernel))").replace(
    "    const IDimensionExpr& area = *build.constant(window.kernel * window.kernel);\n", "")

# %% plugin-questions | The input's sides are not the output's
questions = fold.text("questions.h").replace("return out;", "return in[0];")

# %% plugin-questions | the descriptions behind it are not filled in
questions = fold.text("questions.h").replace("tensor.type == inOut[0].type", "inOut[0].type == inOut[1].type")

# %% plugin-questions | as if it were plain rows of numbers
questions = fold.text("questions.h").replace("tensor.format == TensorFormat::kLINEAR && ", "")

# %% plugin-work | Work on another stream does not wait
work = fold.text("work.h").replace("stream);\n}", "nullptr);\n}")

# %% plugin-work | only enqueue knows which one now
work = with_kept_sizes()

# %% plugin-work | The pointers say nothing about the type
work = fold.text("work.h").replace("in[0].type == DataType::kHALF", "false")

# %% plugin-work | Only your return value tells TensorRT
work = fold.text("work.h").replace("    return launchFold", "    launchFold").replace("stream);\n}", "stream);\n    return 0;\n}")

# %% plugin-plan | three whole numbers, 12 bytes
plan = fold.text("plan.h").replace("sizeof window", "sizeof window.kernel")

# %% plugin-plan | whatever lay there
plan = fold.text("plan.h").replace("&window, sizeof window", "&window, 8")

# %% plugin-plan | forgotten the third
plan = fold.text("plan.h").replace("    if (copy) copy->setPluginNamespace(space.c_str());\n", "")

# %% plugin-plan | TensorRT works with copies
plan = fold.text("plan.h").replace("Fold(window)", "Fold(Window{})")

# %% plugin-creator | The fields come in the order of whoever calls
creator = fold.text("creator.h").replace('name == "kernel"', "i == 0").replace('name == "stride"', "i == 1").replace(
    'name == "padding"', "i == 2")

# %% plugin-creator | hands over the attributes that are named in this list
creator = fold.text("creator.h").replace("PluginFieldType::kINT32", "PluginFieldType::kFLOAT32")

# %% plugin-creator | nobody knows it
creator = fold.text("creator.h").replace("REGISTER_TENSORRT_PLUGIN(FoldCreator);", "")

# %% plugin-creator | must live as long as the creator
creator = fold.text("creator.h").replace("        all.fields = fields;\n", """        PluginField* listed = new PluginField[3]{fields[0], fields[1], fields[2]};
        all.fields = listed;
        delete[] listed;
""")
