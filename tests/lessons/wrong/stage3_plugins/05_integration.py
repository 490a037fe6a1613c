# %% integration-export | gives a tensor without values
from course.exercises.stage3_plugins.integration import _export_node
class FoldNode(_export_node()):
    def forward(self, patches):
        k, s, p = self.kernel, self.stride, self.padding
        n, c, h, w = patches.shape
        shape = (n, c // k**2, (h - 1) * s + k - 2 * p, (w - 1) * s + k - 2 * p)
        return torch.onnx.ops.symbolic("course::CourseFold", (patches,), {"kernel": k, "stride": s, "padding": p},
                                       dtype=patches.dtype, shape=shape, version=1)

# %% integration-export | what it knows of the output is the shape that you give
from course.exercises.stage3_plugins.integration import _export_node
class FoldNode(_export_node()):
    def forward(self, patches):
        if not torch.onnx.is_in_onnx_export():
            return super().forward(patches)
        k, s, p = self.kernel, self.stride, self.padding
        n, c, h, w = patches.shape
        shape = (2, c // k**2, (h - 1) * s + k - 2 * p, (w - 1) * s + k - 2 * p)
        return torch.onnx.ops.symbolic("course::CourseFold", (patches,), {"kernel": k, "stride": s, "padding": p},
                                       dtype=patches.dtype, shape=shape, version=1)

# %% integration-export | is no error for the parser
from course.exercises.stage3_plugins.integration import _export_node
class FoldNode(_export_node()):
    def forward(self, patches):
        if not torch.onnx.is_in_onnx_export():
            return super().forward(patches)
        k, s, p = self.kernel, self.stride, self.padding
        n, c, h, w = patches.shape
        shape = (n, c // k**2, (h - 1) * s + k - 2 * p, (w - 1) * s + k - 2 * p)
        words = {"kernel_size": k, "stride": s, "padding": p}
        return torch.onnx.ops.symbolic("course::CourseFold", (patches,), words, dtype=patches.dtype, shape=shape,
                                       version=1)

# %% integration-surgery | takes [n, c * k * k, h, w] and nothing else
def with_node(model):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    node = next(one for one in model.graph.node if one.op_type == "Col2Im")
    node.op_type, node.domain = "CourseFold", "course"
    model.opset_import.append(helper.make_opsetid("course", 1))
    return model

# %% integration-surgery | The numbers belong to this one fold
from course.exercises.stage3_plugins.integration import _surgery
def with_node(model):
    model = _surgery()(model)
    node = next(one for one in model.graph.node if one.op_type == "CourseFold")
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value)
                          for name, value in {"kernel": 8, "stride": 4, "padding": 2}.items())
    return model

# %% integration-surgery | make_opsetid("course", 1)
from course.exercises.stage3_plugins.integration import _surgery
def with_node(model):
    model = _surgery()(model)
    del model.opset_import[-1]
    return model

# %% integration-surgery | in the type that the node gives it
from course.exercises.stage3_plugins.integration import _surgery
def with_node(model):
    model = _surgery()(model)
    node = next(one for one in model.graph.node if one.op_type == "CourseFold")
    stride = next(one for one in node.attribute if one.name == "stride")
    stride.CopyFrom(helper.make_attribute("stride", float(stride.i)))
    return model

# %% integration-by-hand | the domain of an
def add_fold(trt, registry, network, patches, kernel, stride, padding):
    find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator
    creator = find("CourseFold", "1", "course")
    network.mark_output(network.add_plugin_v2([patches], creator.create_plugin("fold", None)).get_output(0))

# %% integration-by-hand | 8.6 has get_plugin_creator, 11 has get_creator
from course.exercises.stage3_plugins.integration import _by_hand_network
def add_fold(trt, registry, *rest):
    registry.get_plugin_creator
    return _by_hand_network()(trt, registry, *rest)

# %% integration-by-hand | read as an int32 is 1077936128
def add_fold(trt, registry, network, patches, kernel, stride, padding):
    find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator
    creator = find("CourseFold", "1", "")
    fields = [trt.PluginField(name, np.array([value], np.float32), trt.PluginFieldType.FLOAT32)
              for name, value in {"kernel": kernel, "stride": stride, "padding": padding}.items()]
    plugin = creator.create_plugin("fold", trt.PluginFieldCollection(fields))
    network.mark_output(network.add_plugin_v2([patches], plugin).get_output(0))

# %% integration-by-hand | What no output needs is removed
def add_fold(trt, registry, network, patches, kernel, stride, padding):
    find = registry.get_creator if hasattr(registry, "get_creator") else registry.get_plugin_creator
    creator = find("CourseFold", "1", "")
    fields = [trt.PluginField(name, np.array([value], np.int32), trt.PluginFieldType.INT32)
              for name, value in {"kernel": kernel, "stride": stride, "padding": padding}.items()]
    return network.add_plugin_v2([patches], creator.create_plugin("fold", trt.PluginFieldCollection(fields)))

# %% integration-entry | came with TensorRT 10
entry = fold.text("entry.h").replace("#if NV_TENSORRT_MAJOR >= 10", "#if 1")

# %% integration-entry | TensorRT 10 finds no getCreators
entry = fold.text("entry.h").replace("#if NV_TENSORRT_MAJOR >= 10", "#if 0")

# %% integration-entry | Without extern "C"
entry = fold.text("entry.h").replace('extern "C" TENSORRTAPI Creator', "TENSORRTAPI Creator")

# %% integration-entry | TensorRT reads as many entries as it says
entry = fold.text("entry.h").replace("    count = 1;\n", "    count = 0;\n")
