# %% placement-outside | is no ONNX addition
def outside(layers):
    return {layer["name"] for layer in layers if layer["kind"] == "PointWiseV2"}

# %% placement-outside | The names of the additions were asked for
def outside(layers):
    return sum("PWN" in layer["name"] for layer in layers)

# %% placement-outside | is computed in a convolution's layer
def outside(layers):
    return {name for layer in layers for name in re.findall(r"/layer[^ ,()]*/Add", layer["name"])}

# %% placement-outside | only carries data
def outside(layers):
    return [name for layer in layers if "/Conv" not in layer["name"]
            for name in re.findall(r"/layer[^ ,()]*/Add", layer["name"])]

# %% placement-remove | changes the model that it is given
def without_pairs(model, tensors):
    rounded = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            for dq in model.graph.node:
                if dq.op_type == "DequantizeLinear" and dq.output[0] == name and rounded.get(dq.input[0]) in tensors:
                    node.input[place] = rounded[dq.input[0]]
    return model

# %% placement-remove | though nobody reads it
def without_pairs(model, tensors):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    rounded = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    behind = {n.output[0]: rounded[n.input[0]] for n in model.graph.node
              if n.op_type == "DequantizeLinear" and rounded[n.input[0]] in tensors}
    for node in model.graph.node:
        node.input[:] = [behind.get(name, name) for name in node.input]
    return model

# %% placement-remove | Nothing makes the graph's output
def without_pairs(model, tensors):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    rounded = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    behind = {n.output[0]: rounded[n.input[0]] for n in model.graph.node
              if n.op_type == "DequantizeLinear" and rounded[n.input[0]] in tensors}
    gone = set(behind) | {q for q, tensor in rounded.items() if tensor in tensors}
    kept = [node for node in model.graph.node if node.output[0] not in gone]
    for node in kept:
        node.input[:] = [behind.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model

# %% placement-remove | is gone, too
def without_pairs(model, tensors):
    from course.quantize import Network
    from course.quantize.pairs import strip
    return strip(Network(onnx.ModelProto.FromString(model.SerializeToString()))).proto

# %% placement-remove | which nothing makes any more
def without_pairs(model, tensors):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    rounded = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    kept = [n for n in model.graph.node if not (n.op_type == "QuantizeLinear" and n.input[0] in tensors)
            and not (n.op_type == "DequantizeLinear" and rounded[n.input[0]] in tensors)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model

# %% placement-add | the pair's integers are not int8
def with_pair(model, name, slot, scale):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    place, node = next((place, node) for place, node in enumerate(graph.node) if node.name == name)
    tensor = node.input[slot]
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), tensor + "_scale"))
    graph.node.insert(place, helper.make_node("QuantizeLinear", [tensor, tensor + "_scale"], ["q"], "new_q"))
    graph.node.insert(place + 1, helper.make_node("DequantizeLinear", ["q", tensor + "_scale"], ["dq"], "new_dq"))
    node.input[slot] = "dq"
    return model

# %% placement-add | there is a pair at conv1[0], too
def with_pair(model, name, slot, scale):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    tensor = next(node for node in graph.node if node.name == name).input[slot]
    place = next(place for place, node in enumerate(graph.node) if tensor in node.input)
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), tensor + "_s"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), tensor + "_z"))
    for node in graph.node:
        node.input[:] = ["dq" if one == tensor else one for one in node.input]
    graph.node.insert(place, helper.make_node("QuantizeLinear", [tensor, tensor + "_s", tensor + "_z"], ["q"], "new_q"))
    graph.node.insert(place + 1, helper.make_node("DequantizeLinear", ["q", tensor + "_s", tensor + "_z"], ["dq"], "new_dq"))
    return model

# %% placement-add | which is made only after it
def with_pair(model, name, slot, scale):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    node = next(node for node in graph.node if node.name == name)
    tensor = node.input[slot]
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), tensor + "_s"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), tensor + "_z"))
    node.input[slot] = "dq"
    graph.node.append(helper.make_node("QuantizeLinear", [tensor, tensor + "_s", tensor + "_z"], ["q"], "new_q"))
    graph.node.append(helper.make_node("DequantizeLinear", ["q", tensor + "_s", tensor + "_z"], ["dq"], "new_dq"))
    return model

# %% placement-add | The skip's tensor now has two pairs
def with_pair(model, name, slot, scale):
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    place, node = next((place, node) for place, node in enumerate(graph.node) if node.name == name)
    tensor = node.input[slot]
    graph.initializer.append(numpy_helper.from_array(np.float32(scale), "new_s"))
    graph.initializer.append(numpy_helper.from_array(np.int8(0), "new_z"))
    graph.node.insert(place, helper.make_node("QuantizeLinear", [tensor, "new_s", "new_z"], ["new_q"], "new_Q"))
    graph.node.insert(place + 1, helper.make_node("DequantizeLinear", ["new_q", "new_s", "new_z"], ["new_dq"], "new_DQ"))
    node.input[slot] = "new_dq"
    return model

# %% placement-best | have a pair on both sides
best = both

# %% placement-best | have no pair
best = inputs

# %% placement-best | on the convolution's side
best = inputs
for node in plain.graph.node:
    if node.op_type == "Add":
        slot = next(slot for slot in (0, 1) if "conv3" in node.input[slot])
        best = with_pair(best, node.name, slot, scales.scales[node.input[slot]])

# %% placement-best | convolutions are not in INT8
best = plain
