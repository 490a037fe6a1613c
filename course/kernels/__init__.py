"""CUDA C++ on a CPU: the learner's own .cu file runs without a GPU, and every access to memory is checked.

    relu = kernels.load("relu.cu")
    report = relu.check("launchRelu", x, kernels.out(x.shape), x.size, None)
    print(report)

`load` compiles with g++ over NVIDIA's headers; the same file compiles with nvcc. `docs/cuda_on_cpu.md` lists what is
supported and what is refused.
"""

from __future__ import annotations

from course.kernels.arguments import inout, out
from course.kernels.compiler import compile_cu
from course.kernels.module import ORDERS, Module, Run, check, load
from course.kernels.report import Finding, Place, Report
from course.kernels.trace import Pattern, Trace, patterns
from course.kernels.words import KernelError, RefusedError

__all__ = [
    "ORDERS",
    "Finding",
    "KernelError",
    "Module",
    "Pattern",
    "Place",
    "RefusedError",
    "Report",
    "Run",
    "Trace",
    "check",
    "compile_cu",
    "inout",
    "load",
    "out",
    "patterns",
]
