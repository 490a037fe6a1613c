// Atomics. One CPU thread runs all CUDA threads, so a plain read, compute and write is atomic. The checker is told
// first.
#pragma once
#define CUCPU_INLINE __attribute__((noinline, no_sanitize("thread"))) static
namespace cucpu {
template <class T> struct Same { using type = T; };     // keeps the value's type out of the deduction
template <class T> using Value = typename Same<T>::type;
using ull = unsigned long long;
} // namespace cucpu

#define CUCPU_ATOMIC(NAME, TYPES, EXPRESSION) \
    template <class T> CUCPU_INLINE T NAME(T* address, cucpu::Value<T> value) \
    { \
        static_assert(cucpu::oneOf<T, TYPES>, #NAME " does not take a pointer of this type (allowed: " #TYPES ")"); \
        cucpu::beforeAtomic(address, sizeof(T), __builtin_return_address(0)); \
        T old = *address; \
        *address = EXPRESSION; \
        return old; \
    }
#define CUCPU_TYPES(...) __VA_ARGS__
CUCPU_ATOMIC(atomicAdd,
             CUCPU_TYPES(int, unsigned, cucpu::ull, float, double, __half, __half2, __nv_bfloat16, __nv_bfloat162),
             T(old + value))
CUCPU_ATOMIC(atomicSub, CUCPU_TYPES(int, unsigned), T(old - value))
CUCPU_ATOMIC(atomicExch, CUCPU_TYPES(int, unsigned, cucpu::ull, float), value)
CUCPU_ATOMIC(atomicMin, CUCPU_TYPES(int, unsigned, cucpu::ull, long long), value < old ? value : old)
CUCPU_ATOMIC(atomicMax, CUCPU_TYPES(int, unsigned, cucpu::ull, long long), old < value ? value : old)
CUCPU_ATOMIC(atomicAnd, CUCPU_TYPES(int, unsigned, cucpu::ull), T(old & value))
CUCPU_ATOMIC(atomicOr, CUCPU_TYPES(int, unsigned, cucpu::ull), T(old | value))
CUCPU_ATOMIC(atomicXor, CUCPU_TYPES(int, unsigned, cucpu::ull), T(old ^ value))
CUCPU_ATOMIC(atomicInc, CUCPU_TYPES(unsigned), old >= value ? 0u : old + 1)
CUCPU_ATOMIC(atomicDec, CUCPU_TYPES(unsigned), old == 0 || old > value ? value : old - 1)
#undef CUCPU_ATOMIC
#undef CUCPU_TYPES
template <class T> CUCPU_INLINE T atomicCAS(T* address, cucpu::Value<T> compare, cucpu::Value<T> value)
{
    static_assert(
        cucpu::oneOf<T, int, unsigned, cucpu::ull, unsigned short>,
        "atomicCAS does not take a pointer of this type (allowed: int, unsigned, unsigned long long, unsigned short)");
    cucpu::beforeAtomic(address, sizeof(T), __builtin_return_address(0));
    T old = *address;
    if (old == compare) *address = value;
    return old;
}
