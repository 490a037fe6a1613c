// kernel<<<grid, block>>>(arguments), __shared__ and __device__ variables, extern "C" functions: what rewrite.py writes
// in their place.
#pragma once
#define CUCPU_PLAIN __attribute__((no_sanitize("thread")))

namespace cucpu {
// The address of a kernel, to know its cudaFuncSetAttribute again.
template <class... P> const void* address(void (*kernel)(P...)) { return reinterpret_cast<const void*>(kernel); }

// A literal 0 among the arguments: an integer or a null pointer, as the parameter says.
struct Zero {
    template <class T, class = std::enable_if_t<std::is_pointer<T>::value || std::is_arithmetic<T>::value>>
    operator T() const
    { return T(0); }
};

class Launch {
public:
    Launch(const char* kernel, const char* file, int line, const void* function, dim3 grid, dim3 block,
           size_t sharedBytes = 0, cudaStream_t stream = nullptr)
        : spec{kernel, file, line, grid, block, sharedBytes, stream, function} {}
    template <class Kernel, class... Arguments>
    // copied, as by <<<>>>
    __attribute__((noinline, no_sanitize("thread"))) void operator()(Kernel kernel, Arguments... arguments)
    {
        auto run = [&]() CUCPU_PLAIN { kernel(arguments...); };
        launch(spec, [](void* context) CUCPU_PLAIN { (*static_cast<decltype(run)*>(context))(); }, &run);
    }
private:
    LaunchSpec spec;
};

// One variable for each declaration (and each instance of a template).
template <class T, int Id>
__attribute__((noinline, no_sanitize("thread"))) T& shared(const char* name, const char* file, int line)
{
    static SharedVariable variable(sizeof(T), alignof(T), name, file, line);
    return *static_cast<T*>(variable.address());
}
template <class T> CUCPU_PLAIN T& variable(const T& initial, const char* name, bool constant)
{
    return *static_cast<T*>(deviceVariable(&initial, sizeof(T), name, constant));
}

// The type of a launcher's parameter as a word: what it points to, or what it is.
struct Words {
    char text[4096] = "";
    size_t size = 0;
    CUCPU_PLAIN void add(const char* more)
    {
        while (*more && size + 1 < sizeof text) text[size++] = *more++;
        text[size] = 0;
    }
    CUCPU_PLAIN void add(const char* more, size_t number)
    {
        char digits[24] = "";
        std::snprintf(digits, sizeof digits, "%zu", number);
        add(more);
        add(digits);
    }
};
template <class T> CUCPU_PLAIN void addType(Words& words)
{
    using Plain = std::remove_cv_t<T>;
    if constexpr (std::is_same<Plain, cudaStream_t>::value) words.add("stream");
    else if constexpr (std::is_pointer<Plain>::value) {
        using Pointee = std::remove_pointer_t<Plain>;
        addType<Pointee>(words);
        words.add(std::is_const<Pointee>::value ? " const*" : "*");
    } else if constexpr (std::is_void<Plain>::value) words.add("void");
    else if constexpr (std::is_same<Plain, bool>::value) words.add("bool");
    else if constexpr (std::is_integral<Plain>::value)
        words.add(std::is_signed<Plain>::value ? "int" : "uint", 8 * sizeof(Plain));
    else if constexpr (std::is_enum<Plain>::value) words.add("int", 8 * sizeof(Plain));
    else if constexpr (std::is_same<Plain, float>::value) words.add("float32");
    else if constexpr (std::is_same<Plain, double>::value) words.add("float64");
    else if constexpr (std::is_same<Plain, __half>::value) words.add("float16");
    else if constexpr (std::is_same<Plain, __nv_bfloat16>::value) words.add("bfloat16");
    else words.add("struct", sizeof(Plain));
}
template <class T> T fromSlot(uint64_t slot)
{
    T value{};
    std::memcpy(&value, &slot, sizeof(T) < 8 ? sizeof(T) : 8);
    return value;
}
template <class R, class... P> struct Caller {
    CUCPU_PLAIN static const char* types()
    {
        static Words list;  // for all functions of these types
        list.size = 0;
        ((list.add(list.size ? "," : ""), addType<P>(list)), ...);
        return list.text;
    }
    template <R (*function)(P...), size_t... I> static int64_t call(const uint64_t* slots, std::index_sequence<I...>)
    {
        (void)slots;
        if constexpr (std::is_void<R>::value) { function(fromSlot<std::decay_t<P>>(slots[I])...); return 0; }
        else return int64_t(function(fromSlot<std::decay_t<P>>(slots[I])...));
    }
    template <R (*function)(P...)> static int64_t unpack(const uint64_t* slots)
    { return call<function>(slots, std::index_sequence_for<P...>()); }
    template <R (*function)(P...)> static Export::Call entry() { return &unpack<function>; }
};
template <class R, class... P> Caller<R, P...> callerOf(R (*)(P...)) { return {}; }
} // namespace cucpu

// Typed forms that NVIDIA's header has for nvcc only.
template <class... A> cudaError_t cudaFuncSetAttribute(void (*kernel)(A...), cudaFuncAttribute attribute, int value)
{
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... A> cudaError_t cudaFuncSetCacheConfig(void (*kernel)(A...), cudaFuncCache config)
{
    return cudaFuncSetCacheConfig(reinterpret_cast<const void*>(kernel), config);
}
template <class... A> cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(A...))
{
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <class T> cudaError_t cudaMemcpyToSymbol(T& symbol, const void* from, size_t bytes, size_t offset = 0,
                                                  cudaMemcpyKind kind = cudaMemcpyHostToDevice)
{
    return cudaMemcpyToSymbol(static_cast<const void*>(&symbol), from, bytes, offset, kind);
}
template <class T> cudaError_t cudaMemcpyToSymbolAsync(T& symbol, const void* from, size_t bytes, size_t offset,
                                                       cudaMemcpyKind kind, cudaStream_t stream)
{
    return cudaMemcpyToSymbolAsync(static_cast<const void*>(&symbol), from, bytes, offset, kind, stream);
}
template <class T> cudaError_t cudaMemcpyFromSymbol(void* to, T& symbol, size_t bytes, size_t offset = 0,
                                                    cudaMemcpyKind kind = cudaMemcpyDeviceToHost)
{
    return cudaMemcpyFromSymbol(to, static_cast<const void*>(&symbol), bytes, offset, kind);
}
template <class T> cudaError_t cudaGetSymbolAddress(void** pointer, T& symbol)
{ return cudaGetSymbolAddress(pointer, static_cast<const void*>(&symbol)); }
