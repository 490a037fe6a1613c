// Run a TensorRT plan on one raw float32 file.
//
//     infer PLAN INPUT SHAPE OUTPUT [SAMPLES CALLS TIMES]
//     infer stem.plan image.f32 4x3x224x224 features.f32
//
// PLAN: from Engine.save_plan or trtexec --saveEngine, with one input and one output. With SAMPLES, CALLS and TIMES it
// also takes that many samples with CUDA events, each over CALLS runs, and writes ms per run as raw float32.
// The same source compiles with TensorRT 8.6, 10 and 11. Exit status: 0, or 1 after a message on stderr.
//
// Three places are yours to write. Each says in its comment what it must do; the calls are those of lesson 02.

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "tensor_file.h"

namespace {

// ---- 1. TensorRT's log ---------------------------------------------------------------------------------------------

class Logger : public nvinfer1::ILogger {
public:
    // TensorRT calls this for each message. It must not throw: it is noexcept.
    // Lower severities are worse: kINTERNAL_ERROR < kERROR < kWARNING < kINFO < kVERBOSE.
    // YOURS: keep the text of an error (kERROR or worse) in last_error; print warnings and errors to std::cerr; drop
    // the rest.
    void log(Severity severity, const char* text) noexcept override {
        // YOUR CODE HERE
    }

    std::string last_error = "TensorRT gave no reason.";
};

// ---- 2. CUDA: no status unread, no memory without an owner ----------------------------------------------------------

void check(cudaError_t status, const std::string& what) {
    if (status != cudaSuccess)
        throw Failure("CUDA: " + what + " failed: " + cudaGetErrorString(status) +
                      ". Check that nvidia-smi shows a GPU with free memory and a driver as new as this CUDA.");
}

struct StreamDeleter {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDeleter>;

struct EventDeleter {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDeleter>;

struct DeviceDeleter {  // memory of the GPU; given back when the stream comes to this point
    cudaStream_t stream;
    void operator()(void* memory) const { cudaFreeAsync(memory, stream); }
};
using DeviceBuffer = std::unique_ptr<void, DeviceDeleter>;

struct HostDeleter {  // page-locked memory, so that copies can run beside the program
    void operator()(float* memory) const { cudaFreeHost(memory); }
};
using HostBuffer = std::unique_ptr<float, HostDeleter>;

Stream new_stream() {
    cudaStream_t stream{};
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
    return Stream(stream);
}

Event new_event() {
    cudaEvent_t event{};
    check(cudaEventCreate(&event), "making an event");
    return Event(event);
}

DeviceBuffer new_device_buffer(std::size_t bytes, cudaStream_t stream) {
    void* memory = nullptr;
    check(cudaMallocAsync(&memory, bytes ? bytes : 1, stream), "allocating " + std::to_string(bytes) + " bytes");
    return DeviceBuffer(memory, DeviceDeleter{stream});
}

HostBuffer new_host_buffer(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMallocHost(&memory, bytes ? bytes : 1), "page-locking " + std::to_string(bytes) + " bytes");
    return HostBuffer(static_cast<float*>(memory));
}

// ---- 3. Shapes: a side is int32_t in TensorRT 8.6 and int64_t from 10 on -------------------------------------------

nvinfer1::Dims to_dims(const Shape& shape) {
    nvinfer1::Dims dims{};
    if (shape.size() > static_cast<std::size_t>(nvinfer1::Dims::MAX_DIMS))
        throw Failure("The shape " + to_text(shape) + " has more sides than TensorRT takes. Check it.");
    dims.nbDims = static_cast<int32_t>(shape.size());
    for (std::size_t i = 0; i < shape.size(); ++i) {
        using Side = std::remove_reference_t<decltype(dims.d[i])>;
        dims.d[i] = static_cast<Side>(shape[i]);
        if (dims.d[i] != shape[i]) throw Failure("The shape " + to_text(shape) + " has too large a side. Check it.");
    }
    return dims;
}

Shape to_shape(const nvinfer1::Dims& dims) {
    if (dims.nbDims < 0) throw Failure("TensorRT does not know a shape: it refused the input's shape.");
    return Shape(dims.d, dims.d + dims.nbDims);
}

// ---- 4. The engine -------------------------------------------------------------------------------------------------

struct Names {
    std::string input, output;
};

Names io_names(const nvinfer1::ICudaEngine& engine) {
    Names names;
    for (int32_t i = 0; i < engine.getNbIOTensors(); ++i) {
        const char* name = engine.getIOTensorName(i);
        if (engine.getTensorDataType(name) != nvinfer1::DataType::kFLOAT)
            throw Failure(std::string("Tensor ") + name + " is not float32. Build the plan with float32 ends.");
        const bool is_input = engine.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        std::string& place = is_input ? names.input : names.output;
        if (!place.empty()) throw Failure("The plan has several inputs or outputs. This program takes one of each.");
        place = name;
    }
    if (names.input.empty() || names.output.empty()) throw Failure("The plan has no input or no output.");
    return names;
}

// YOURS: tell the context the shape of the input. setInputShape gives false for a shape outside the profile: then
// throw a Failure that names the shape (to_text(shape)) and holds logger.last_error.
void set_shape(nvinfer1::IExecutionContext& context, const Names& names, const Shape& shape, const Logger& logger) {
    // YOUR CODE HERE
}

struct Buffers {
    float *host_in, *host_out;      // page-locked
    void *device_in, *device_out;   // on the GPU
    std::size_t bytes_in, bytes_out;
};

// YOURS: one run on the stream, and wait until its answer is in host_out. In order:
//   setTensorAddress for input and output (false: throw); cudaMemcpyAsync host_in to device_in; enqueueV3 (false:
//   throw, with logger.last_error); cudaMemcpyAsync device_out to host_out; cudaStreamSynchronize.
//   Every CUDA call goes through check(..., "what it did").
void run_once(nvinfer1::IExecutionContext& context, const Names& names, const Buffers& buffers, cudaStream_t stream,
              const Logger& logger) {
    // YOUR CODE HERE
}

// ms per run: `samples` times `calls` runs between two CUDA events. Input and output stay on the GPU.
std::vector<float> time_runs(nvinfer1::IExecutionContext& context, cudaStream_t stream, int samples, int calls,
                             const Logger& logger) {
    const Event begin = new_event(), end = new_event();
    std::vector<float> times;
    for (int sample = -20; sample < samples; ++sample) {  // the first twenty warm up
        check(cudaEventRecord(begin.get(), stream), "recording an event");
        for (int call = 0; call < calls; ++call)
            if (!context.enqueueV3(stream)) throw Failure("TensorRT could not run the engine. " + logger.last_error);
        check(cudaEventRecord(end.get(), stream), "recording an event");
        check(cudaEventSynchronize(end.get()), "a timed run");
        float milliseconds = 0;
        check(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()), "reading the time");
        if (sample >= 0) times.push_back(milliseconds / static_cast<float>(calls));
    }
    return times;
}

// ---- 5. The program ------------------------------------------------------------------------------------------------

int to_count(const std::string& text) {
    if (text.empty() || text.size() > 6 || text.find_first_not_of("0123456789") != std::string::npos || text == "0")
        throw Failure("'" + text + "' is no number from 1 to 999999.");
    return std::stoi(text);
}

void infer(const std::vector<std::string>& arguments) {
    if (arguments.size() != 4 && arguments.size() != 7)
        throw Failure("Usage: infer PLAN INPUT SHAPE OUTPUT [SAMPLES CALLS TIMES], with a SHAPE like 4x3x224x224.");
    const Shape shape = parse_shape(arguments[2]);
    const std::vector<char> plan = read_bytes(arguments[0]);
    const std::vector<float> input = read_floats(arguments[1], shape);

    int devices = 0;
    check(cudaGetDeviceCount(&devices), "looking for a GPU");
    if (devices == 0) throw Failure("There is no NVIDIA GPU. Run this program where nvidia-smi shows one.");

    // The order matters: what is declared last is destroyed first.
    Logger logger;
    const std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
    if (!runtime) throw Failure("TensorRT does not start. " + logger.last_error);
    const std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine)
        throw Failure(arguments[0] + " is no plan of this TensorRT (" + std::to_string(getInferLibVersion()) +
                      ") and this GPU. Build it again here. " + logger.last_error);
    const std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
    if (!context) throw Failure("There is no execution context: GPU memory is short. " + logger.last_error);

    const Names names = io_names(*engine);
    set_shape(*context, names, shape, logger);
    const Shape output_shape = to_shape(context->getTensorShape(names.output.c_str()));  // known only now

    const Stream stream = new_stream();
    Buffers buffers{};
    buffers.bytes_in = volume(shape) * sizeof(float);
    buffers.bytes_out = volume(output_shape) * sizeof(float);
    const HostBuffer host_in = new_host_buffer(buffers.bytes_in), host_out = new_host_buffer(buffers.bytes_out);
    const DeviceBuffer device_in = new_device_buffer(buffers.bytes_in, stream.get());
    const DeviceBuffer device_out = new_device_buffer(buffers.bytes_out, stream.get());
    buffers.host_in = host_in.get();
    buffers.host_out = host_out.get();
    buffers.device_in = device_in.get();
    buffers.device_out = device_out.get();
    std::copy(input.begin(), input.end(), buffers.host_in);

    run_once(*context, names, buffers, stream.get(), logger);
    write_floats(arguments[3], buffers.host_out, volume(output_shape));
    std::cout << names.input << " " << to_text(shape) << " -> " << names.output << " " << to_text(output_shape) << "\n";

    if (arguments.size() == 7) {
        const std::vector<float> times =
            time_runs(*context, stream.get(), to_count(arguments[4]), to_count(arguments[5]), logger);
        write_floats(arguments[6], times.data(), times.size());
    }
}

}  // namespace

int main(int count, char** words) {
    try {
        infer(std::vector<std::string>(words + 1, words + count));
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "infer: " << error.what() << "\n";
        return 1;
    }
}
