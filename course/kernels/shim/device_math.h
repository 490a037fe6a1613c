// Arithmetic that nvcc has built in. Fast approximations (__expf ...) are computed exactly here: a GPU's answers differ
// in the last bits.
#pragma once
template <class A, class B> constexpr auto min(A a, B b)
    -> std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value, std::common_type_t<A, B>>
{
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point<T>::value) return std::fmin(T(a), T(b)); else return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B> constexpr auto max(A a, B b)
    -> std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value, std::common_type_t<A, B>>
{
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point<T>::value) return std::fmax(T(a), T(b)); else return T(a) < T(b) ? T(b) : T(a);
}

inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __log10f(float x) { return std::log10(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __tanf(float x) { return std::tan(x); }
inline float __tanhf(float x) { return std::tanh(x); }
inline void __sincosf(float x, float* s, float* c) { *s = std::sin(x); *c = std::cos(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return x > 0 ? (x > 1 ? 1.0f : x) : 0.0f; }   // NaN becomes 0, as on the GPU
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float normcdff(float x) { return 0.5f * std::erfc(-x * 0.70710678118654752f); }
inline double normcdf(double x) { return 0.5 * std::erfc(-x * 0.70710678118654752); }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }

namespace cucpu {
template <class To, class From> To bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
// Float to integer as the GPU does it: rounded, cut off at the ends of the range, NaN becomes 0.
template <class To> To toInteger(double rounded)
{
    if (std::isnan(rounded)) return 0;
    if (rounded <= double(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
    if (rounded >= double(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
    return To(rounded);
}
} // namespace cucpu
inline int __float_as_int(float f) { return cucpu::bits<int>(f); }
inline unsigned __float_as_uint(float f) { return cucpu::bits<unsigned>(f); }
inline float __int_as_float(int i) { return cucpu::bits<float>(i); }
inline float __uint_as_float(unsigned i) { return cucpu::bits<float>(i); }
inline long long __double_as_longlong(double d) { return cucpu::bits<long long>(d); }
inline double __longlong_as_double(long long i) { return cucpu::bits<double>(i); }
inline int __float2int_rn(float f) { return cucpu::toInteger<int>(std::nearbyint(f)); }
inline int __float2int_rz(float f) { return cucpu::toInteger<int>(std::trunc(f)); }
inline int __float2int_rd(float f) { return cucpu::toInteger<int>(std::floor(f)); }
inline int __float2int_ru(float f) { return cucpu::toInteger<int>(std::ceil(f)); }
inline unsigned __float2uint_rn(float f) { return cucpu::toInteger<unsigned>(std::nearbyint(f)); }
inline unsigned __float2uint_rz(float f) { return cucpu::toInteger<unsigned>(std::trunc(f)); }
inline float __int2float_rn(int i) { return float(i); }
inline float __uint2float_rn(unsigned i) { return float(i); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; ++i) r |= (x >> i & 1u) << (31 - i);
    return r;
}
inline int __mul24(int a, int b) { return ((a << 8) >> 8) * ((b << 8) >> 8); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; ++i) c += int((signed char)(a >> 8 * i)) * int((signed char)(b >> 8 * i));
    return c;
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s)
{
    unsigned long long both = (unsigned long long)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; ++i) r |= unsigned(both >> 8 * (s >> 4 * i & 7) & 0xff) << 8 * i;
    return r;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift)
{
    return shift & 31 ? high << (shift & 31) | low >> (32 - (shift & 31)) : high;
}

// Loads and stores with a cache hint: the hint changes nothing here.
#define CUCPU_LOAD(NAME)                                                                                               \
    template <class T> __attribute__((always_inline)) inline T NAME(const T* address) { return *address; }
#define CUCPU_STORE(NAME)                                                                                              \
    template <class T> __attribute__((always_inline)) inline void NAME(T* address, std::decay_t<T> value)              \
    { *address = value; }
CUCPU_LOAD(__ldg) CUCPU_LOAD(__ldca) CUCPU_LOAD(__ldcg) CUCPU_LOAD(__ldcs) CUCPU_LOAD(__ldlu) CUCPU_LOAD(__ldcv)
CUCPU_STORE(__stwb) CUCPU_STORE(__stcg) CUCPU_STORE(__stcs) CUCPU_STORE(__stwt)
#undef CUCPU_LOAD
#undef CUCPU_STORE
