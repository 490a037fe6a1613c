# %% makers | "plan": 'Builder.build' is no call
makers = {"network": "Builder.create_network", "config": "Builder.create_builder_config",
          "profile": "Builder.create_optimization_profile", "plan": "Builder.build",
          "engine": "Runtime.deserialize_cuda_engine", "context": "ICudaEngine.create_execution_context"}

# %% makers | gives back IHostMemory, not ICudaEngine
makers = {"network": "Builder.create_network", "config": "Builder.create_builder_config",
          "profile": "Builder.create_optimization_profile", "plan": "Builder.build_serialized_network",
          "engine": "Builder.build_serialized_network", "context": "ICudaEngine.create_execution_context"}

# %% makers | gives back IBuilderConfig, not IOptimizationProfile
makers = {"network": "Builder.create_network", "config": "Builder.create_builder_config",
          "profile": "Builder.create_builder_config", "plan": "Builder.build_serialized_network",
          "engine": "Runtime.deserialize_cuda_engine", "context": "ICudaEngine.create_execution_context"}

# %% define | No output is marked
def define(network):
    image = network.add_input("image", trt.float32, (-1, 3, 224, 224))
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel), trt.Weights(bias))
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.get_output(0).name = "features"

# %% define | Your features are 64 x 110 x 110, PyTorch's 64 x 56 x 56
def define(network):
    image = network.add_input("image", trt.float32, (-1, 3, 224, 224))
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel), trt.Weights(bias))
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.get_output(0).name = "features"
    network.mark_output(layer.get_output(0))

# %% define | The bias is missing
def define(network):
    image = network.add_input("image", trt.float32, (-1, 3, 224, 224))
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel), trt.Weights())
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.get_output(0).name = "features"
    network.mark_output(layer.get_output(0))

# %% define | The batch size is fixed
def define(network):
    image = network.add_input("image", trt.float32, (8, 3, 224, 224))
    layer = network.add_convolution_nd(image, 64, (7, 7), trt.Weights(kernel), trt.Weights(bias))
    layer.stride_nd, layer.padding_nd = (2, 2), (3, 3)
    layer = network.add_activation(layer.get_output(0), trt.ActivationType.RELU)
    layer = network.add_pooling_nd(layer.get_output(0), trt.PoolingType.MAX, (3, 3))
    layer.stride_nd, layer.padding_nd = (2, 2), (1, 1)
    layer.get_output(0).name = "features"
    network.mark_output(layer.get_output(0))

# %% configure | The config holds no profile
def configure(builder):
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 256 << 20)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))
    return config, profile

# %% configure | The profile takes batch 4, usually 4, at most 4
def configure(builder):
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 256 << 20)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (4, 3, 224, 224), (4, 3, 224, 224), (4, 3, 224, 224))
    config.add_optimization_profile(profile)
    return config, profile

# %% configure | The workspace limit is 256 bytes
def configure(builder):
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 256)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", (1, 3, 224, 224), (4, 3, 224, 224), (8, 3, 224, 224))
    config.add_optimization_profile(profile)
    return config, profile

# %% repair | Network must have at least one output
repaired = broken

# %% repair | The first error is now
def repaired(builder):
    network, config = broken(builder)
    network.mark_output(network.get_layer(2).get_output(0))
    return network, config

# %% repair | one output
def repaired(builder):
    network = empty_network(builder)
    config, profile = configure(builder)
    return network, config

# %% bytes | That is the number of values
def buffer_bytes(tensor, batch):
    return batch * math.prod(tensor.shape[1:])

# %% bytes | The open dimension is -1
def buffer_bytes(tensor, batch):
    return math.prod(tensor.shape) * tensor.dtype.itemsize

# %% bytes | That counts 4 bytes for each value
def buffer_bytes(tensor, batch):
    return 4 * batch * math.prod(tensor.shape[1:])

# %% by-hand | There is no "wait" between "copy_to_host features" and "read features"
steps = ["set_shape image", "allocate image", "allocate features", "set_address image", "set_address features",
         "copy_to_gpu image", "execute", "copy_to_host features", "read features"]
run_by_hand = print

# %% by-hand | "set_address features" is missing
steps = ["set_shape image", "allocate image", "allocate features", "set_address image", "copy_to_gpu image",
         "execute", "copy_to_host features", "wait", "read features"]
run_by_hand = print

# %% by-hand | "set_shape image" is missing
steps = ["allocate image", "allocate features", "set_address image", "set_address features", "copy_to_gpu image",
         "execute", "copy_to_host features", "wait", "read features"]
run_by_hand = print

# %% by-hand | There is no "wait" between "copy_to_host features" and "read features"
steps = ["set_shape image", "allocate image", "allocate features", "set_address image", "set_address features",
         "copy_to_gpu image", "execute", "wait", "copy_to_host features", "read features"]
run_by_hand = print
