# %% accuracy-levels | steps of its own scale
def levels(model, largest):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    q = {node.input[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    rounded = {node.output[0]: tensor for tensor, node in q.items()}
    behind = {node.output[0]: rounded[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Concat" and node.output[0] in q:
            tensors = [behind.get(name, name) for name in node.input]
            found[node.name] = {one: round(largest[one] / (largest[one] / 127)) for one in tensors}
    return found

# %% accuracy-levels | Nobody rounds its result
def levels(model, largest):
    q = {node.input[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    rounded = {node.output[0]: tensor for tensor, node in q.items()}
    behind = {node.output[0]: rounded[node.input[0]] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Concat":
            tensors = [behind.get(name, name) for name in node.input]
            step = max(largest[one] for one in tensors) / 127
            found[node.name] = {one: round(largest[one] / step) for one in tensors}
    return found

# %% accuracy-levels | mostly reads a DQ's result
def levels(model, largest):
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    q = {node.input[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    found = {}
    for node in model.graph.node:
        if node.op_type == "Concat" and node.output[0] in q:
            scale = float(numpy_helper.to_array(constants[q[node.output[0]].input[1]]))
            found[node.name] = {one: round(largest.get(one, 0) / scale) for one in node.input}
    return found

# %% accuracy-off | Other tensors of the decoding are still rounded
off = {"detections_QuantizeLinear_Input"}

# %% accuracy-off | do not run in INT8 any more
off = set(paired)

# %% accuracy-off | every score is still 0
off = set(heads)

# %% accuracy-off | No pair is taken off
off = [node.name for node in plain.graph.node if node.op_type == "Concat"]

# %% accuracy-obey | the builder may ignore them
def keep_in_fp16(trt, network, config, nodes):
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        if network.get_layer(index).name in nodes:
            network.get_layer(index).precision = trt.float16

# %% accuracy-obey | may still run in INT8
def keep_in_fp16(trt, network, config, nodes):
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)

# %% accuracy-obey | more layers are kept in FP16
def keep_in_fp16(trt, network, config, nodes):
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        network.get_layer(index).precision = trt.float16

# %% accuracy-obey | FP16 is not allowed in this build
def keep_in_fp16(trt, network, config, nodes):
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in nodes:
            layer.precision = trt.float16
            layer.set_output_type(0, trt.float16)

# %% accuracy-kept | carry noise that others made
kept = [layer.node for layer in sorted(noise, key=lambda layer: layer.gathered)[:6]]

# %% accuracy-kept | as slow as before
kept = [layer.node for layer in noise]

# %% accuracy-kept | is no convolution of the detector
kept = [layer.tensor for layer in sorted(noise, key=lambda layer: layer.alone)[:6]]
