// A stand-in for TensorRT's runtime, for examining cpp/infer.cpp without a GPU. Nothing here is NVIDIA's; names and
// signatures are those of the calls that the program makes (NvInferRuntime.h of 10.16).
//
// The engine has the input "image" [-1, 3, 4, 4], batch 1 to 8, and the output "features" [-1, 2, 4, 4]:
// features[n][c] = (c + 1) * image[n][c] - image[n][2]. It is queued on the stream and computed when somebody waits.
#pragma once

#include <cuda_runtime_api.h>

namespace nvinfer1 {
enum class DataType : int32_t { kFLOAT = 0 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };

struct Dims {
    static constexpr int32_t MAX_DIMS = 8;
    int32_t nbDims = 0;
    int64_t d[MAX_DIMS] = {};
};

class ILogger {
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, const char* text) noexcept = 0;
    virtual ~ILogger() = default;
};

class IExecutionContext {
public:
    explicit IExecutionContext(ILogger& logger) : logger_(logger) {}
    bool setInputShape(const char* name, const Dims& dims) noexcept {
        if (std::string(name) != "image") return say("setInputShape: there is no input of this name.");
        if (dims.nbDims != 4 || dims.d[0] < 1 || dims.d[0] > 8 || dims.d[1] != 3 || dims.d[2] != 4 || dims.d[3] != 4)
            return say("Runtime dimension does not satisfy any optimization profile (stand-in).");
        batch_ = dims.d[0];
        return true;
    }
    Dims getTensorShape(const char* name) const noexcept {
        Dims dims{4, {batch_, std::string(name) == "image" ? 3 : 2, 4, 4}};
        if (batch_ < 0) dims.nbDims = -1;
        return dims;
    }
    bool setTensorAddress(const char* name, void* place) noexcept {
        if (std::string(name) != "image" && std::string(name) != "features") return say("setTensorAddress: no such tensor.");
        if (stand_in::fail == "setTensorAddress") return say("setTensorAddress was refused (stand-in).");
        addresses_[name] = static_cast<float*>(place);
        return true;
    }
    bool enqueueV3(cudaStream_t stream) noexcept {
        if (stand_in::fail == "enqueueV3") return say("enqueueV3 was refused (stand-in).");
        if (batch_ < 0) return say("enqueueV3: the shape of image is not set.");
        for (const char* name : {"image", "features"})
            if (!addresses_.count(name)) return say("enqueueV3: a tensor has no address.");
        float *image = addresses_["image"], *features = addresses_["features"];
        const int64_t batch = batch_;
        (stream ? stream : stand_in::default_stream())->queue.push_back([=] {
            if (!stand_in::inside(stand_in::on_gpu, image, batch * 48 * sizeof(float)) ||
                !stand_in::inside(stand_in::on_gpu, features, batch * 32 * sizeof(float)))
                return cudaErrorIllegalAddress;
            for (int64_t n = 0; n < batch; ++n)
                for (int64_t c = 0; c < 2; ++c)
                    for (int64_t i = 0; i < 16; ++i)
                        features[(n * 2 + c) * 16 + i] = static_cast<float>(c + 1) * image[(n * 3 + c) * 16 + i] - image[(n * 3 + 2) * 16 + i];
            return cudaSuccess;
        });
        return true;
    }

private:
    bool say(const char* text) const noexcept {
        logger_.log(ILogger::Severity::kERROR, text);
        return false;
    }
    ILogger& logger_;
    int64_t batch_ = -1;
    std::map<std::string, float*> addresses_;
};

class ICudaEngine {
public:
    explicit ICudaEngine(ILogger& logger) : logger_(logger) {}
    int32_t getNbIOTensors() const noexcept { return 2; }
    const char* getIOTensorName(int32_t index) const noexcept { return index ? "features" : "image"; }
    DataType getTensorDataType(const char*) const noexcept { return DataType::kFLOAT; }
    TensorIOMode getTensorIOMode(const char* name) const noexcept {
        return std::string(name) == "image" ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext(logger_); }

private:
    ILogger& logger_;
};

class IRuntime {
public:
    explicit IRuntime(ILogger& logger) : logger_(logger) {}
    ICudaEngine* deserializeCudaEngine(const void* plan, std::size_t bytes) noexcept {
        const std::string text(static_cast<const char*>(plan), bytes);
        logger_.log(ILogger::Severity::kVERBOSE, "stand-in verbose");
        logger_.log(ILogger::Severity::kINFO, "stand-in info");
        logger_.log(ILogger::Severity::kWARNING, "stand-in warning");
        if (text.rfind("stand-in plan", 0) != 0) {
            logger_.log(ILogger::Severity::kINTERNAL_ERROR, "stand-in: this is no plan");
            return nullptr;
        }
        if (const auto at = text.find("fail="); at != std::string::npos) stand_in::fail = text.substr(at + 5);
        return new ICudaEngine(logger_);
    }

private:
    ILogger& logger_;
};

inline IRuntime* createInferRuntime(ILogger& logger) { return new IRuntime(logger); }
}  // namespace nvinfer1

inline int32_t getInferLibVersion() noexcept { return 101600; }
