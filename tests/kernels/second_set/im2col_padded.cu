// im2col for 3x3 filters, into half. The rows are padded to a multiple of eight, as the tensor cores want them.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

constexpr int kSide = 3;
constexpr int kTaps = kSide * kSide;

__global__ void im2col(const float* image, __half* columns, int channels, int height, int width, int out_height,
                       int out_width, int stride, int pad) {
    const int pixel = blockIdx.x * blockDim.x + threadIdx.x;
    const int pixels = out_height * out_width;
    if (pixel >= pixels) {
        return;
    }
    const int k = blockIdx.y;
    const int c = k / kTaps;
    const int r = k % kTaps / kSide;
    const int s = k % kSide;
    const int y = pixel / out_width * stride - pad + r;
    const int x = pixel % out_width * stride - pad + s;
    float value = 0.0f;
    if (c < channels && y >= 0 && y < height && x >= 0 && x < width) {
        value = image[(c * height + y) * width + x];
    }
    columns[k * pixels + pixel] = __float2half(value);
}

extern "C" cudaError_t launch_im2col(const float* image, __half* columns, int channels, int height, int width,
                                     int stride, int pad, int padded_rows, cudaStream_t stream) {
    const int rows = channels * kTaps;
    if (padded_rows < rows || padded_rows % 8 != 0) {
        return cudaErrorInvalidValue;
    }
    const int out_height = (height + 2 * pad - kSide) / stride + 1;
    const int out_width = (width + 2 * pad - kSide) / stride + 1;
    const dim3 grid((out_height * out_width + 63) / 64, rows);
    im2col<<<grid, 64, 0, stream>>>(image, columns, channels, height, width, out_height, out_width, stride, pad);
    return cudaGetLastError();
}
