# %% why-rewrite | keeps the border that the fold cuts off
def rewritten(patches):
    channels = patches.shape[1]
    return functional.conv_transpose2d(patches, torch.eye(channels).view(channels, -1, 8, 8), stride=4)

# %% why-rewrite | an identity, looked at as
def rewritten(patches):
    channels = patches.shape[1]
    return functional.conv_transpose2d(patches, torch.ones(channels, channels // 64, 8, 8), stride=4, padding=2)

# %% why-rewrite | Every patch is mirrored
def rewritten(patches):
    channels = patches.shape[1]
    weights = torch.eye(channels).view(channels, -1, 8, 8).flip(2, 3)
    return functional.conv_transpose2d(patches, weights, stride=4, padding=2)

# %% why-rewrite | Those are other operators
from course.exercises.stage3_plugins.why_a_plugin import _decompose
rewritten = _decompose()

# %% why-decompose | the operator that the parser does not take
decomposed = restorer.folded

# %% why-decompose | every pixel is covered by four patches
from course.exercises.stage3_plugins.why_a_plugin import _decompose
def decomposed(patches):
    parts = patches.unflatten(1, (-1, 2, 4, 2, 4))
    image = functional.pixel_shuffle(parts[:, :, 0, :, 0].flatten(1, 3), 4)
    return functional.pad(image, (0, 4, 0, 4))[:, :, 2:-2, 2:-2]

# %% why-decompose | left, right, top, bottom
def decomposed(patches):
    parts, total = patches.unflatten(1, (-1, 2, 4, 2, 4)), 0
    for i in range(2):
        for j in range(2):
            image = functional.pixel_shuffle(parts[:, :, i, :, j].flatten(1, 3), 4)
            total = total + functional.pad(image, (4 * i, 4 * (1 - i), 4 * j, 4 * (1 - j)))
    return total[:, :, 2:-2, 2:-2]

# %% why-decompose | on a canvas that is 4 pixels larger
def decomposed(patches):
    return functional.pixel_shuffle(patches.unflatten(1, (-1, 2, 4, 2, 4))[:, :, 0, :, 0].flatten(1, 3), 4)[:, :, 2:-2, 2:-2]

# %% why-cut | Everything that was made in the first part
from course.exercises.stage3_plugins.why_a_plugin import _cut_model
def cut(model, name):
    before, after = _cut_model()(model, name)
    for part in (before.graph.output, after.graph.input):
        del part[1:]
    return before, after

# %% why-cut | ends before the node
from course.exercises.stage3_plugins.why_a_plugin import _cut_model
def cut(model, name):
    return _cut_model()(model, "add" if name == "fold" else name)

# %% why-cut | A list of nodes is an order, not a dependence
from course.exercises.stage3_plugins.why_a_plugin import _cut_model
def cut(model, name):
    place = next(i for i, node in enumerate(model.graph.node) if node.name == name)
    first, second = list(model.graph.node[:place]), list(model.graph.node[place:])
    before, after = _cut_model()(model, name)
    typed = {one.name: one for one in onnx.shape_inference.infer_shapes(model).graph.value_info}
    read = {tensor for node in second for tensor in node.input}
    crossing = [typed[tensor] for node in first for tensor in node.output if tensor in read]
    def part(nodes, inputs, outputs):
        used = {tensor for node in nodes for tensor in node.input}
        weights = [one for one in model.graph.initializer if one.name in used]
        return helper.make_model(helper.make_graph(nodes, "part", inputs, outputs, weights),
                                 opset_imports=model.opset_import, ir_version=8)
    return part(first, list(model.graph.input), crossing), part(second, crossing, list(model.graph.output))
