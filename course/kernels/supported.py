"""What CUDA C++ on a CPU does not do, by name; docs/cuda_on_cpu.md is the readable list."""

from __future__ import annotations

SYNC = {
    "__syncthreads": "syncThreads",
    "__syncthreads_count": "syncThreadsCount",
    "__syncthreads_and": "syncThreadsAnd",
    "__syncthreads_or": "syncThreadsOr",
    "__syncwarp": "syncWarp",
    "__shfl_sync": "shfl",
    "__shfl_up_sync": "shflUp",
    "__shfl_down_sync": "shflDown",
    "__shfl_xor_sync": "shflXor",
    "__ballot_sync": "ballot",
    "__any_sync": "any",
    "__all_sync": "all",
    "__activemask": "activeMask",
    "__match_any_sync": "matchAny",
    "__reduce_add_sync": "reduceAdd",
    "__reduce_min_sync": "reduceMin",
    "__reduce_max_sync": "reduceMax",
    "__reduce_and_sync": "reduceAnd",
    "__reduce_or_sync": "reduceOr",
    "__reduce_xor_sync": "reduceXor",
    "__threadfence": "fence",
    "__threadfence_block": "fence",
    "__threadfence_system": "fence",
}
"""Functions that get to know where they are called; the names in the shim's namespace."""

_PTX = "inline PTX assembly cannot run on a CPU; write it in C++, or keep that kernel for the GPU"
_OLD = "it was removed from CUDA; use the form that ends in _sync and takes a mask"
_LIBRARY = (
    "libraries of device code are not run on a CPU; write the few lines yourself, or keep that kernel for the GPU"
)
_TENSOR_CORES = "tensor cores do not exist on a CPU; use float arithmetic, or keep that kernel for the GPU"
_TEXTURE = "textures and surfaces are not simulated; read from a pointer"
_MANAGED = "managed memory is not simulated; pass the arrays as parameters"
_GRAPH = "CUDA graphs are not simulated; launch the kernels directly"
_CLOCK = "a clock of the GPU has no meaning on a CPU; measure on the GPU"

REFUSED = {
    **dict.fromkeys(("asm", "__asm__", "__asm"), _PTX),
    **dict.fromkeys(("__shfl", "__shfl_up", "__shfl_down", "__shfl_xor", "__any", "__all", "__ballot"), _OLD),
    **dict.fromkeys(("cooperative_groups", "cub", "thrust", "cuda", "curandState", "curand_init", "cutlass"), _LIBRARY),
    **dict.fromkeys(("nvcuda", "wmma"), _TENSOR_CORES),
    **dict.fromkeys(
        (
            "tex1D",
            "tex1Dfetch",
            "tex2D",
            "tex3D",
            "cudaTextureObject_t",
            "cudaSurfaceObject_t",
            "cudaCreateTextureObject",
        ),
        _TEXTURE,
    ),
    **dict.fromkeys(("__managed__", "cudaMallocManaged"), _MANAGED),
    **dict.fromkeys(("cudaStreamBeginCapture", "cudaGraphLaunch", "cudaGraphCreate", "cudaGraph_t"), _GRAPH),
    **dict.fromkeys(("clock", "clock64", "__globaltimer"), _CLOCK),
    **dict.fromkeys(
        ("__cluster_dims__", "__block_size__", "cudaLaunchKernelEx", "cudaLaunchKernelExC"),
        "clusters of blocks are not simulated",
    ),
    "cudaLaunchCooperativeKernel": "blocks run one after the other here, so none can wait for another",
    "cudaLaunchKernel": "write the launch as kernel<<<grid, block>>>(...)",
    **dict.fromkeys(("__match_all_sync", "__trap", "__brkpt", "__prof_trigger", "alloca"), "it is not simulated"),
    **dict.fromkeys(
        ("__pipeline_memcpy_async", "__pipeline_commit", "__pipeline_wait_prior"),
        "asynchronous copies to shared memory are not simulated; copy with plain loads and stores",
    ),
}
"""Names that end the compilation, and what to do instead."""

NAMESPACES = {"cuda", "cub", "thrust", "cutlass", "cooperative_groups", "nvcuda", "wmma"}
"""Those of them that a learner may use for something else: refused as namespaces only."""

ATOMIC_SCOPES = ("_block", "_system")
"""Endings of atomics with another scope than the device: refused."""

HEADERS = {
    "cuda_runtime.h",
    "cuda_runtime_api.h",
    "cuda_fp16.h",
    "cuda_fp16.hpp",
    "cuda_bf16.h",
    "cuda_bf16.hpp",
    "math_constants.h",
    "vector_types.h",
    "vector_functions.h",
    "vector_functions.hpp",
    "driver_types.h",
    "device_launch_parameters.h",
    "host_defines.h",
    "library_types.h",
    "device_types.h",
    "builtin_types.h",
    "cuComplex.h",
}
"""NVIDIA's headers that a file may include."""


def advice_for(name: str) -> str | None:
    """Why a name is refused and what to write instead; None if it is not refused."""
    if name in REFUSED:
        return REFUSED[name]
    if name.startswith("atomic") and name.endswith(ATOMIC_SCOPES):
        return "atomics of another scope are not simulated; use the form without the ending"
    return None
