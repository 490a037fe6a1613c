// Ways to write CUDA C++ that nvcc accepts; every launch adds its number to y. /* <<< */
#include "common.cuh"
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <cstdint>
#include <vector>

#define LAUNCH(kernel, grid, block, ...) do { kernel<<<(grid), (block)>>>(__VA_ARGS__); } while (0)
#define TILE 8
#define SYNC() __syncthreads()
#if !defined(__CUDACC__)
#error nvcc defines __CUDACC__
#endif

namespace shapes {
namespace detail { __global__ void put(float* y, int at, float v) { y[at] = v; } }
template <class T, int N> struct Box {
    T value[N];
    __host__ __device__ T sum() const
    {
        T s = 0;
        for (int i = 0; i < N; ++i) s += value[i];
        return s;
    }
};
template <typename T, int N = 2> __global__ void boxed(float* y, int at, Box<T, N> box) { y[at] = float(box.sum()); }
}

__global__ void overloaded(float* y, int at) { y[at] = 7; }
__global__ void overloaded(float* y, int at, float v) { y[at] = v; }
__global__ void prototype(float* y, int at, const float* maybe);
template <typename T> __global__ void deduced(float* y, int at, T v) { y[at] = float(v); }
template <typename T> __global__ void specialised(float* y, int at) { y[at] = 1; }
template <> __global__ void specialised<int>(float* y, int at) { y[at] = 12; }

__device__ int counter = 3, table[2][2] = {{1, 2}, {3, 4}};
__device__ const float kHalf = 0.5f;
struct Settings { float scale; int shift; };
__constant__ Settings settings;
__constant__ float poly[] = {1.f, 2.f, 3.f};
static constexpr int kSize = 1'000;
__shared__ float fileScope[TILE];

struct __align__(16) Quad { float a, b, c, d; };
union Both { float f[4]; int i[4]; };
template <typename T> __device__ T* sharedBytes()
{
    extern __shared__ __align__(16) unsigned char raw[];
    return reinterpret_cast<T*>(raw);
}

template <typename T, int BLOCK>
__global__ __launch_bounds__(BLOCK, 2) void sharedForms(float* y, int at, int n)
{
    static __shared__ T s[BLOCK];
    __shared__ float a[TILE][TILE + 1], b;
    __shared__ Quad quads[2];
    __shared__ Both both;
    __shared__ alignas(16) volatile int flags[4];
    __shared__ shapes::Box<int, 3> box;
    T* dynamic = sharedBytes<T>();
    int const t = threadIdx.x;
    s[t] = T(t);
    if (t < TILE) { for (int j = 0; j < TILE; ++j) a[t][j] = 1.f; fileScope[t] = 1.f; }
    if (t == 0) {
        b = 2.f;
        quads[0] = quads[1] = Quad{1, 2, 3, 4};
        both.i[0] = 5;
        flags[0] = 1;
        for (int i = 0; i < 3; ++i) box.value[i] = i;
    }
    dynamic[t] = T(1);
    SYNC();
    if (t == 0)
    {
        float sum = b + a[1][2] + quads[1].d + both.i[0] + flags[0] + box.sum() + fileScope[TILE - 1];
        for (int i = 0; i < BLOCK; ++i) sum += float(dynamic[i]) * (i < 2);
        y[at] = sum + float(s[BLOCK - 1]) * 0 + n;  // 2 + 1 + 4 + 5 + 1 + 3 + 1 + 2 + n = 19 + n
    }
}
__global__ void variables(float* y, int at)
{
    atomicAdd(&counter, 1);
    y[at] = counter + table[1][0] + kHalf * 2 + settings.scale + settings.shift + poly[2];     // 4 + 3 + 1 + 2 + 1 + 3
}
__global__ void prototype(float* y, int at, const float* maybe) { y[at] = maybe ? *maybe : 10; }
template <class F> __global__ void apply(float* y, int at, F f) { y[at] = f(at); }
struct Plus { int by; __device__ float operator()(int v) const { return v + by; } };

class Launcher {
public:
    explicit Launcher(float* y) : y_(y) {}
    void go(int at) const { shapes::detail::put<<<1, 1>>>(this->y_, at, 14.f); }
private:
    float* y_;
};
template <typename T> static void generic(float* y, int at, T v) { deduced<T><<<dim3(1), dim3(1)>>>(y, at, v); }

extern "C" int launchSyntax(float* y, cudaStream_t stream)
{
    const char* text = "kernel<<<1, 1>>>(y); // no comment";
    const char* raw = R"cuda(also <<<no>>> launch ")cuda";
    char const quote = '"';
    int n = 0;
    shapes::detail::put<<<1, 1, 0, stream>>>(y, n++, float(text[6] == '<' && raw[5] == '<' && quote == '"'));   // 0: 1
    LAUNCH(shapes::detail::put, 1, dim3(1, 1, 1), y, n++, 2.f);                 // 1: 2
    shapes::boxed<float><<<1, 1>>>(y, n++, shapes::Box<float, 2>{{1.f, 2.f}});  // 2: 3
    shapes::boxed<int, (1 > 0 ? 4 : 2)><<<1, 1>>>(y, n++, shapes::Box<int, 4>{{1, 1, 1, 1}});   // 3: 4
    shapes::boxed<<<1, 1>>>(y, n++, shapes::Box<int, 5>{{1, 1, 1, 1, 1}});      // 4: 5
    if (n == 5) deduced<<<1, 1>>>(y, n, 6); else deduced<<<1, 1>>>(y, n, 0.0);  // 5: 6
    n++;
    overloaded<<<1, 1>>>(y, n++);                                               // 6: 7
    overloaded<<<1, 1>>>(y, n++, 8.f);                                          // 7: 8
    for (int i = 0; i < 1; ++i)
        prototype
            <<<
                /* grid */ (kSize >> 3) > 0 ? 1 : 2,
                /* block */ 1
            >>>
            (y, n++, 0);                                                        // 8: 10
    specialised<int><<<1, 1>>>(y, n++);                                         // 9: 12
    auto* pointer = &shapes::detail::put;
    pointer<<<1, 1>>>(y, n++, 13.f);                                            // 10: 13
    Launcher(y).go(n++);                                                        // 11: 14
    void (*both[])(float*, int) = {specialised<int>, specialised<float>};
    both[1]<<<1, 1>>>(y, n++);                                                  // 12: 1
    (n > 0 ? specialised<int> : specialised<float>)<<<1, 1>>>(y, n++);          // 13: 12
    generic(y, n++, __half(17.f));                                              // 14: 17
    generic<long long>(y, n++, 18);                                             // 15: 18
    cudaFuncSetAttribute(sharedForms<float, 64>, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10);
    sharedForms<float, 64><<<1, 64, 60 << 10, stream>>>(y, n++, 1);             // 16: 20
    sharedForms<__half, 32><<<1, 32, 32 * sizeof(__half)>>>(y, n++, 2);         // 17: 21
    Settings const given{2.f, 1};
    cudaMemcpyToSymbol(settings, &given, sizeof given);
    variables<<<1, 1>>>(y, n++);                                                // 18: 14
    apply<<<1, 1>>>(y, n++, Plus{4});                                           // 19: 23
    switch (n) { case 20: apply<Plus><<<1, 1>>>(y, n++, Plus{4}); break; default: break; }      // 20: 24
    auto later = [&](int at) { shapes::detail::put<<<1, 1>>>(y, at, 25.f); };
    later(n++);                                                                 // 21: 25
    std::vector<float*> outputs{y};
    shapes::detail::put<<<1, 1>>>(outputs[0], n++, 26.f);                       // 22: 26
    launchFromHeader(y + n, 13.5f);                                             // 23..26: 27
    return cudaGetLastError();
}
