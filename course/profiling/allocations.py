"""Memory that is taken while a model runs: from the operating system on a CPU, from the GPU under TensorRT."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from course.engine.base import Engine
from course.errors import CourseError, UnsupportedError

PAGE = resource.getpagesize()


def fresh_megabytes(fn: Callable[[], object], runs: int = 10) -> float:
    """MB that the operating system had to hand to this process per call of `fn`, after two calls that are not counted.

    Counted are page faults: each is one page of memory (mostly 4 kB) that the process touches for the first time since
    it asked for it. Memory that a runtime keeps and uses again causes none. Where Linux hands out huge pages (2 MB), a
    fault is more than is counted here: then the number is a lower limit.
    """
    if runs < 1:
        raise CourseError(f"{runs} runs were asked for.", "A mean needs at least one.", "Use runs=10.")
    fn(), fn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(runs):
        fn()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * PAGE / 1e6 / runs


@dataclass(frozen=True)
class Phase:
    """What TensorRT asked its allocator for: number of requests, and their bytes together."""

    requests: int
    bytes: int


@dataclass(frozen=True)
class GpuTrace:
    """Requests to TensorRT's GPU allocator in each phase, and free GPU memory before and after the runs, in bytes."""

    loading: Phase
    context: Phase
    first_run: Phase
    runs: Phase
    count: int
    free_before: int
    free_after: int


def trace(engine: Engine, feeds: Mapping[str, Any], runs: int = 100) -> GpuTrace:
    """Load the engine's plan once more under an allocator that counts, and run it `runs` times on fixed buffers.

    Inputs and outputs are allocated here, before the runs; TensorRT's own memory goes through the counting allocator.

    Raises:
        UnsupportedError: the engine does not run on TensorRT, or an output has no fixed shape.
    """
    if engine.runtime != "tensorrt":
        raise UnsupportedError(
            f"This engine runs on {engine.runtime}.",
            "The hook for GPU memory (IGpuAllocator) is TensorRT's.",
            "Use fresh_megabytes() on a CPU, and trace() on a GPU with TensorRT.",
        )
    import tensorrt as trt
    import torch

    from course.engine import log

    counter = _counting_allocator(trt, torch)
    runtime = trt.Runtime(log.trt_logger(trt))
    runtime.gpu_allocator = counter
    loaded = runtime.deserialize_cuda_engine(engine.plan)
    loading = counter.phase()
    context = loaded.create_execution_context()
    in_context = counter.phase()
    stream = torch.cuda.Stream()
    buffers = {name: value.cuda().contiguous().clone() for name, value in _tensors(torch, feeds).items()}
    for name, value in buffers.items():
        context.set_input_shape(name, tuple(value.shape))
    for spec in engine.outputs:
        shape = tuple(context.get_tensor_shape(spec.name))
        if -1 in shape:
            raise UnsupportedError(
                f"Output {spec.name!r} has no fixed shape.",
                "It depends on the data.",
                "Trace a model whose outputs have shapes known before the run.",
            )
        buffers[spec.name] = torch.empty(shape, dtype=getattr(torch, str(spec.dtype)), device="cuda")
    for name, value in buffers.items():
        context.set_tensor_address(name, value.data_ptr())
    torch.cuda.synchronize()
    counter.phase()  # what belongs to setting up
    context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    first_run = counter.phase()
    free_before = torch.cuda.mem_get_info()[0]
    for _ in range(runs):
        context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    free_after = torch.cuda.mem_get_info()[0]
    result = GpuTrace(loading, in_context, first_run, counter.phase(), runs, free_before, free_after)
    del context, loaded, runtime  # in this order, while the allocator lives
    return result


def _tensors(torch, feeds: Mapping[str, Any]) -> dict:
    return {
        name: value if isinstance(value, torch.Tensor) else torch.from_numpy(value) for name, value in feeds.items()
    }


def _counting_allocator(trt, torch):
    """An `IGpuAllocator` that takes memory from torch and counts. Which methods are called is up to the version."""

    class Counting(trt.IGpuAllocator):
        def __init__(self):
            trt.IGpuAllocator.__init__(self)
            self.requests, self.total, self.sizes = 0, 0, {}

        def phase(self) -> Phase:
            """What was asked for since the last call."""
            seen = Phase(self.requests, self.total)
            self.requests = self.total = 0
            return seen

        def allocate(self, size, alignment, flags):
            if size == 0:
                return 0
            try:
                address = torch.cuda.caching_allocator_alloc(size)
            except Exception:  # must not unwind through TensorRT, which takes 0 for "no memory"
                return 0
            self.requests, self.total = self.requests + 1, self.total + size
            return address

        def deallocate(self, memory):
            torch.cuda.caching_allocator_delete(memory)
            return True

        def free(self, memory):
            self.deallocate(memory)

        def reallocate(self, address, alignment, new_size):
            return 0  # cannot: TensorRT allocates anew

        def allocate_async(self, size, alignment, flags, stream):
            return self.allocate(size, alignment, flags)

        def deallocate_async(self, memory, stream):
            return self.deallocate(memory)

    return Counting()
