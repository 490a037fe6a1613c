// C = A B + bias with two buffers in dynamic shared memory, so that one barrier per tile is enough.
#include <cuda_runtime.h>

template <int TM, int TN, int TK, int REG>
struct Tiles {
    static constexpr int threads = (TM / REG) * (TN / REG);
    static constexpr size_t bytes = 2 * (TM * TK + TK * TN) * sizeof(float);
};

template <int TM, int TN, int TK, int REG>
__global__ void gemm(const float* __restrict__ a, const float* __restrict__ b, const float* __restrict__ bias,
                     float* __restrict__ c, int m, int n, int k) {
    constexpr int threads = Tiles<TM, TN, TK, REG>::threads;
    extern __shared__ float buffers[];
    float* as = buffers;                // [2][TM][TK]
    float* bs = buffers + 2 * TM * TK;  // [2][TK][TN]
    const int m0 = blockIdx.y * TM;
    const int n0 = blockIdx.x * TN;
    const int tr = threadIdx.x / (TN / REG) * REG;
    const int tc = threadIdx.x % (TN / REG) * REG;

    auto load = [&](int tile, int which) {
        const int k0 = tile * TK;
        for (int i = threadIdx.x; i < TM * TK; i += threads) {
            const int row = m0 + i / TK;
            const int col = k0 + i % TK;
            as[which * TM * TK + i] = row < m && col < k ? a[row * k + col] : 0.0f;
        }
        for (int i = threadIdx.x; i < TK * TN; i += threads) {
            const int row = k0 + i / TN;
            const int col = n0 + i % TN;
            bs[which * TK * TN + i] = row < k && col < n ? b[row * n + col] : 0.0f;
        }
    };

    float acc[REG][REG] = {};
    const int tiles = (k + TK - 1) / TK;
    load(0, 0);
    __syncthreads();
    for (int t = 0; t < tiles; ++t) {
        const int now = t & 1;
        if (t + 1 < tiles) {
            load(t + 1, now ^ 1);
        }
        const float* at = as + now * TM * TK;
        const float* bt = bs + now * TK * TN;
        for (int kk = 0; kk < TK; ++kk) {
#pragma unroll
            for (int i = 0; i < REG; ++i) {
#pragma unroll
                for (int j = 0; j < REG; ++j) {
                    acc[i][j] = fmaf(at[(tr + i) * TK + kk], bt[kk * TN + tc + j], acc[i][j]);
                }
            }
        }
        __syncthreads();
    }
    for (int i = 0; i < REG; ++i) {
        for (int j = 0; j < REG; ++j) {
            const int row = m0 + tr + i;
            const int col = n0 + tc + j;
            if (row < m && col < n) {
                c[row * n + col] = acc[i][j] + bias[col];
            }
        }
    }
}

extern "C" cudaError_t launch_gemm(const float* a, const float* b, const float* bias, float* c, int m, int n, int k,
                                   cudaStream_t stream) {
    using T = Tiles<32, 32, 16, 4>;
    auto kernel = gemm<32, 32, 16, 4>;
    cudaError_t status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(T::bytes));
    if (status != cudaSuccess) {
        return status;
    }
    const dim3 grid((n + 31) / 32, (m + 31) / 32);
    kernel<<<grid, T::threads, T::bytes, stream>>>(a, b, bias, c, m, n, k);
    return cudaGetLastError();
}
