// What the instrumented code calls: the entry points of -fsanitize=thread, bounds and integer-divide-by-zero, whose
// runtime libraries are not linked, and the C library's functions that touch memory.
#include "state.h"
#include <cstring>

using namespace cucpu;
#define RETURN __builtin_return_address(0)
#define HOOKS(N)                                                                                                       \
    extern "C" void __tsan_read##N(void* p) { access(uptr(p), N, kRead, RETURN); }                                     \
    extern "C" void __tsan_write##N(void* p) { access(uptr(p), N, kWrite, RETURN); }                                   \
    extern "C" void __tsan_unaligned_read##N(void* p) { access(uptr(p), N, kRead | kUnaligned, RETURN); }              \
    extern "C" void __tsan_unaligned_write##N(void* p) { access(uptr(p), N, kWrite | kUnaligned, RETURN); }            \
    extern "C" void __tsan_volatile_read##N(void* p) { access(uptr(p), N, kRead | kVolatile, RETURN); }                \
    extern "C" void __tsan_volatile_write##N(void* p) { access(uptr(p), N, kWrite | kVolatile, RETURN); }              \
    extern "C" void __tsan_unaligned_volatile_read##N(void* p)                                                         \
    { access(uptr(p), N, kRead | kVolatile | kUnaligned, RETURN); }                                                    \
    extern "C" void __tsan_unaligned_volatile_write##N(void* p)                                                        \
    { access(uptr(p), N, kWrite | kVolatile | kUnaligned, RETURN); }
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void*) {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_read_range(void* p, unsigned long n) { access(uptr(p), u32(n), kRead | kUnaligned, RETURN); }
void __tsan_write_range(void* p, unsigned long n) { access(uptr(p), u32(n), kWrite | kUnaligned, RETURN); }

// The learner's object file calls these instead of the C library's (objcopy --redefine-sym).
void* cucpu_memcpy(void* to, const void* from, size_t n)
{
    if (checked && n) {
        access(uptr(from), u32(n), kRead | kUnaligned, RETURN);
        access(uptr(to), u32(n), kWrite | kUnaligned, RETURN);
    }
    return std::memcpy(to, from, n);
}
void* cucpu_memmove(void* to, const void* from, size_t n)
{
    if (checked && n) {
        access(uptr(from), u32(n), kRead | kUnaligned, RETURN);
        access(uptr(to), u32(n), kWrite | kUnaligned, RETURN);
    }
    return std::memmove(to, from, n);
}
void* cucpu_memset(void* to, int value, size_t n)
{
    if (checked && n) access(uptr(to), u32(n), kWrite | kUnaligned, RETURN);
    return std::memset(to, value, n);
}

// -fsanitize=bounds, integer-divide-by-zero: only the handlers that those two call.
struct SourceLocation { const char* file; u32 line, column; };
struct TypeDescriptor { u16 kind, info; char name[1]; };
struct OutOfBoundsData { SourceLocation where; TypeDescriptor* array; TypeDescriptor* index; };
struct OverflowData { SourceLocation where; TypeDescriptor* type; };
void __ubsan_handle_out_of_bounds(OutOfBoundsData* data, uptr index)
{
    int bits = 1 << (data->index->info >> 1);
    long long value =
        data->index->info & 1 && bits < 64 ? (long long)(index << (64 - bits)) >> (64 - bits) : (long long)index;
    if (firstTime("array" + std::to_string(data->where.line) + "/" + std::to_string(data->where.column))) {
        Json json;
        json.str("kind", "array-index")
            .str("file", data->where.file)
            .num("line", data->where.line)
            .str("array", data->array->name)
            .num("index", value);
        if (R.current) json.here();
        add(json.end());
    }
    if (R.current) abortLaunch(cudaErrorIllegalAddress);
    abortHost();
}
void __ubsan_handle_divrem_overflow(OverflowData* data, uptr, uptr)
{
    if (firstTime("division" + std::to_string(data->where.line))) {
        Json json;
        json.str("kind", "division-by-zero").str("file", data->where.file).num("line", data->where.line);
        if (R.current) json.here();
        add(json.end());
    }
    if (R.current) abortLaunch(cudaErrorLaunchFailure);
    abortHost();
}
void cucpu_assert_fail(const char* expression, const char* file, unsigned line, const char*)
{
    if (firstTime(std::string("assert") + file + std::to_string(line))) {
        Json json;
        json.str("kind", "assert").str("file", file).num("line", line).str("expression", expression);
        if (R.current) json.here();
        add(json.end());
    }
    if (R.current) abortLaunch(cudaErrorAssert);
    abortHost();
}
}
