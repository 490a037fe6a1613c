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

# %% by-hand | Nobody waited after the copy back
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    context.execute_async_v3(stream.handle)
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    return host_out.copy()

# %% by-hand | Nobody waited after the copy back
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    context.execute_async_v3(stream.handle)
    stream.synchronize()
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    return host_out.copy()

# %% by-hand | copied to the GPU only after the run
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    context.execute_async_v3(stream.handle)
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    stream.synchronize()
    return host_out.copy()

# %% by-hand | the features were never copied back
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    context.execute_async_v3(stream.handle)
    stream.synchronize()
    return host_out.copy()

# %% by-hand | An illegal memory access
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", 0)
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    context.execute_async_v3(stream.handle)
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    stream.synchronize()
    return host_out.copy()

# %% by-hand | nobody has computed
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    context.execute_async_v3(stream.handle)
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    stream.synchronize()
    return host_out.copy()

# %% by-hand | never called
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    context.set_tensor_address("image", int(gpu_in))
    context.set_tensor_address("features", int(gpu_out))
    cuda.memcpy_htod_async(gpu_in, host_in, stream)
    cuda.memcpy_dtoh_async(host_out, gpu_out, stream)
    stream.synchronize()
    return host_out.copy()

# %% by-hand | is not written yet
def run_by_hand(cuda, context, image):
    context.set_input_shape("image", image.shape)
    shape = tuple(context.get_tensor_shape("features"))
    host_in, host_out = cuda.pagelocked_empty(image.shape, np.float32), cuda.pagelocked_empty(shape, np.float32)
    gpu_in, gpu_out = cuda.mem_alloc(host_in.nbytes), cuda.mem_alloc(host_out.nbytes)
    stream = cuda.Stream()
    host_in[...] = image
    raise NotImplementedError
