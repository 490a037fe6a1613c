// What the parts of this folder share: TensorRT's side of a plugin, without TensorRT. The loader
// (course/native/plugins/inside.py) calls the functions named plug_... through ctypes.
#pragma once
#include <NvInfer.h>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// As the loader has them.
struct Tensor { int32_t rank, type, format; float scale; int64_t dims[8]; };
struct Range { Tensor tensor; int64_t min[8], opt[8], max[8]; };
struct Attribute { const char* name; int32_t type, length; const void* data; uint64_t bytes; };

// The simulated GPU, course/kernels/shim/entry.cpp.
extern "C" {
int cucpu_guarded(void (*call)(void*), void* context);
void cucpu_on_allocation(void (*allocated)(void*, size_t));
int cucpu_on_device();
}

namespace host {
using namespace nvinfer1;

// ---------------------------------------------------------------- memory.cpp
extern const char* method;                      // of the plugin or its creator that runs now; "" if none does
extern bool learnersCode;                       // it runs now: memory that is taken is its own
void remember(const void* begin, size_t bytes, const char* what);   // ours; a report of its use says what it was
void forget(const void* begin);                 // it has been given back

// Marks a call of the learner's code.
struct Inside {
    explicit Inside(const char* name) { method = name; learnersCode = true; }
    ~Inside() { learnersCode = false; method = ""; }
};

// Marks work of ours that the learner's code asked for.
struct Outside {
    Outside() : before(learnersCode) { learnersCode = false; }
    ~Outside() { learnersCode = before; }
    bool before;
};

// A call that may end in the middle: the simulated GPU ends host code that it cannot let go on. false if it did.
template <class Function> bool guarded(const char* name, Function&& function)
{
    Inside inside(name);
    return !cucpu_guarded([](void* context) { (*static_cast<std::remove_reference_t<Function>*>(context))(); },
                          &function);
}

// An array with no byte behind it, given to the plugin for one call and then given back: who reads on, or keeps the
// pointer, is seen by AddressSanitizer.
template <class T> class Given {
public:
    Given(size_t count, const char* what) : memory(static_cast<T*>(::operator new(count * sizeof(T)))), count_(count)
    {
        remember(memory, count * sizeof(T), what);
        for (size_t i = 0; i < count; ++i) new (memory + i) T();
    }
    ~Given()
    {
        forget(memory);
        ::operator delete(memory);
    }
    Given(const Given&) = delete;
    Given& operator=(const Given&) = delete;
    T& operator[](size_t i) { return memory[i]; }
    T* data() { return memory; }
    int32_t count() const { return int32_t(count_); }
private:
    T* memory;
    size_t count_;
};

// ---------------------------------------------------------------- json.cpp
struct Json {                                   // an object, written field by field
    std::string text;
    Json& raw(const char* key, const std::string& value);
    Json& str(const char* key, const std::string& value);
    Json& num(const char* key, long long value);
    std::string end() const { return "{" + text + "}"; }
};
std::string quoted(const std::string& text);
std::string text(const char* learners);         // a string of the learner's, read byte by byte; "" if it is null
void tell(const std::string& json);             // one line to the loader
[[noreturn]] void lastWords(const std::string& json);
} // namespace host
