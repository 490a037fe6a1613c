// The functions of cuda_fp16.h and cuda_bf16.h that exist for nvcc only. Each is computed in float and rounded once.
#pragma once
namespace cucpu {
inline __half half(double x) { return __double2half(x); }
inline double wide(__half x) { return double(__half2float(x)); }
inline double wide(__nv_bfloat16 x) { return double(__bfloat162float(x)); }
} // namespace cucpu

inline __half __hfma(__half a, __half b, __half c)
{ return cucpu::half(cucpu::wide(a) * cucpu::wide(b) + cucpu::wide(c)); }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{ return __halves2half2(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)); }
inline __half __hfma_relu(__half a, __half b, __half c) { return __hmax(__hfma(a, b, c), __half(__half_raw{0})); }
inline __half2 __hfma2_relu(__half2 a, __half2 b, __half2 c)
{ return __halves2half2(__hfma_relu(a.x, b.x, c.x), __hfma_relu(a.y, b.y, c.y)); }
inline __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c)
{ return __double2bfloat16(cucpu::wide(a) * cucpu::wide(b) + cucpu::wide(c)); }
inline __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c)
{
    return __halves2bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}

#define CUCPU_HALF(NAME, EXPRESSION)                                                                                   \
    inline __half h##NAME(__half a)                                                                                    \
    {                                                                                                                  \
        const float x = __half2float(a);                                                                               \
        return __float2half(EXPRESSION);                                                                               \
    }                                                                                                                  \
    inline __half2 h2##NAME(__half2 a) { return __halves2half2(h##NAME(a.x), h##NAME(a.y)); }                          \
    inline __nv_bfloat16 h##NAME(__nv_bfloat16 a)                                                                      \
    {                                                                                                                  \
        const float x = __bfloat162float(a);                                                                           \
        return __float2bfloat16(EXPRESSION);                                                                           \
    }                                                                                                                  \
    inline __nv_bfloat162 h2##NAME(__nv_bfloat162 a) { return __halves2bfloat162(h##NAME(a.x), h##NAME(a.y)); }
CUCPU_HALF(exp, std::exp(x))
CUCPU_HALF(exp2, std::exp2(x)) CUCPU_HALF(exp10, std::pow(10.0f, x)) CUCPU_HALF(log, std::log(x))
    CUCPU_HALF(log2, std::log2(x)) CUCPU_HALF(log10, std::log10(x)) CUCPU_HALF(sqrt, std::sqrt(x))
        CUCPU_HALF(rsqrt, 1.0f / std::sqrt(x)) CUCPU_HALF(rcp, 1.0f / x) CUCPU_HALF(sin, std::sin(x))
            CUCPU_HALF(cos, std::cos(x)) CUCPU_HALF(tanh, std::tanh(x)) CUCPU_HALF(tanh_approx, std::tanh(x))
                CUCPU_HALF(trunc, std::trunc(x)) CUCPU_HALF(ceil, std::ceil(x)) CUCPU_HALF(floor, std::floor(x))
                    CUCPU_HALF(rint, std::nearbyint(x))
#undef CUCPU_HALF

                        inline int __half2int_rn(__half h) { return __float2int_rn(__half2float(h)); }
inline int __half2int_rd(__half h) { return __float2int_rd(__half2float(h)); }
inline int __half2int_ru(__half h) { return __float2int_ru(__half2float(h)); }
inline unsigned __half2uint_rn(__half h) { return __float2uint_rn(__half2float(h)); }
