# %% cpp-names | execute_async_v3 is not executeAsyncV3
cpp_names = {"Runtime": "createInferRuntime", "Runtime.deserialize_cuda_engine": "deserializeCudaEngine",
             "ICudaEngine.create_execution_context": "createExecutionContext",
             "ICudaEngine.num_io_tensors": "getNbIOTensors", "ICudaEngine.get_tensor_name": "getIOTensorName",
             "IExecutionContext.set_input_shape": "setInputShape",
             "IExecutionContext.get_tensor_shape": "getTensorShape",
             "IExecutionContext.set_tensor_address": "setTensorAddress",
             "IExecutionContext.execute_async_v3": "executeAsyncV3"}

# %% cpp-names | have no underscores
cpp_names = {"Runtime": "createInferRuntime", "Runtime.deserialize_cuda_engine": "deserialize_cuda_engine"}

# %% cpp-names | num_io_tensors is not numIOTensors
cpp_names = {"Runtime": "createInferRuntime", "Runtime.deserialize_cuda_engine": "deserializeCudaEngine",
             "ICudaEngine.create_execution_context": "createExecutionContext",
             "ICudaEngine.num_io_tensors": "numIOTensors"}

# %% cpp-lifetime | logger before
declared = ["context", "engine", "runtime", "logger", "buffer", "stream"]

# %% cpp-lifetime | runtime before engine
declared = ["logger", "engine", "runtime", "context", "stream", "buffer"]

# %% cpp-lifetime | stream before buffer
declared = ["logger", "runtime", "engine", "context", "buffer", "stream"]

# %% cpp-owner | 2 piece(s) of memory were taken and 0 given back
owner = """
class Buffer {
public:
    explicit Buffer(std::size_t bytes) : memory_(allocate(bytes)) {}
    void* get() const { return memory_; }
private:
    void* memory_;
};
"""

# %% cpp-owner | With a copy of a Buffer, 1 piece(s) of memory were taken, and release() was called 1 time(s)
owner = """
class Buffer {
public:
    explicit Buffer(std::size_t bytes) : memory_(allocate(bytes)) {}
    void* get() const { return memory_; }
    ~Buffer() { release(memory_); }
private:
    void* memory_;
};
"""

# %% cpp-owner | With a Buffer that was assigned to another
owner = """
class Buffer {
public:
    explicit Buffer(std::size_t bytes) : memory_(allocate(bytes)) {}
    void* get() const { return memory_; }
    ~Buffer() { release(memory_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = default;
private:
    void* memory_;
};
"""

# %% cpp-owner | Your C++ does not compile
owner = """
class Buffer {
public:
    explicit Buffer(std::size_t bytes) : memory_(allocate(bytes)) {}
    void* get() const { return memory_; }
    ~Buffer() { release(memory_) }
private:
    void* memory_;
};
"""

# %% cpp-preprocess | channel last
preprocess = """
std::vector<float> preprocess(const std::uint8_t* pixels, int height, int width) {
    std::vector<float> result(static_cast<std::size_t>(3) * height * width);
    for (int i = 0; i < 3 * height * width; ++i) result[i] = (pixels[i] / 255.0f - MEAN[i % 3]) / STD[i % 3];
    return result;
}
"""

# %% cpp-preprocess | made with whole numbers
preprocess = """
std::vector<float> preprocess(const std::uint8_t* pixels, int height, int width) {
    std::vector<float> result(static_cast<std::size_t>(3) * height * width);
    for (int c = 0; c < 3; ++c)
        for (int i = 0; i < height * width; ++i)
            result[c * height * width + i] = (pixels[i * 3 + c] / 255 - MEAN[c]) / STD[c];
    return result;
}
"""

# %% cpp-preprocess | Rows and columns are swapped
preprocess = """
std::vector<float> preprocess(const std::uint8_t* pixels, int height, int width) {
    std::vector<float> result(static_cast<std::size_t>(3) * height * width);
    for (int c = 0; c < 3; ++c)
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                result[(c * width + x) * height + y] = (pixels[(y * width + x) * 3 + c] / 255.0f - MEAN[c]) / STD[c];
    return result;
}
"""

# %% cpp-preprocess | crashed with signal
preprocess = """
std::vector<float> preprocess(const std::uint8_t* pixels, int height, int width) {
    std::vector<float> result;
    for (int i = 0; i < 3 * height * width; ++i) result.data()[i] = pixels[i] / 255.0f;
    return result;
}
"""

# %% cpp-infer | values were never written
infer_cpp = Path("cpp/infer.cpp").read_text().replace('check(cudaStreamSynchronize(stream), "the run");', "")
# %% cpp-infer | Batch 9 lies outside the profile, and infer went on
infer_cpp = Path("cpp/infer.cpp").read_text().replace("if (!context.setInputShape(names.input.c_str(), to_dims(shape)))",
                                                      "if (Shape used = shape; used[0] = std::min<decltype(used[0] + 0)>(used[0], 8), "
                                                      "!context.setInputShape(names.input.c_str(), to_dims(used)))")
# %% cpp-infer | The reason is missing
infer_cpp = Path("cpp/infer.cpp").read_text().replace("last_error = text;", ";")
# %% cpp-infer | enqueueV3 failed, and infer went on
infer_cpp = Path("cpp/infer.cpp").read_text().replace("if (!context.enqueueV3(stream)) throw Failure(\"TensorRT could not run the engine. \" + logger.last_error);\n    check(cudaMemcpyAsync(buffers.host_out", "context.enqueueV3(stream);\n    check(cudaMemcpyAsync(buffers.host_out")
# %% cpp-infer | cudaStreamSynchronize failed, and infer went on
infer_cpp = Path("cpp/infer.cpp").read_text().replace('check(cudaStreamSynchronize(stream), "the run");', "cudaStreamSynchronize(stream);")
# %% cpp-infer | too much
infer_cpp = Path("cpp/infer.cpp").read_text().replace("if (severity > Severity::kWARNING) return;", "")
# %% cpp-infer | does not compile
infer_cpp = Path("cpp/infer.cpp").read_text().replace("check(cudaStreamSynchronize(stream)", "todo; check(cudaStreamSynchronize(stream)")
# %% cpp-infer | still has 3 of 3 places
infer_cpp = "// YOUR CODE HERE\n" * 3 + "int main() {}"
