"""The same launchers on a real GPU: built by nvcc, timed in turns with a device copy of as many bytes.

    shares = on_gpu.shares({"mine": ("swish.cu", "launchSwish")}, x, kernels.out(x.shape), 1.5, x.size, None)

A memory-bound kernel can be no faster than a copy that moves the same bytes, so the share of the copy's speed says how
much is left. Where there is no GPU, `shares` prints that this stays open.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from course import bench
from course.kernels import nvcc
from course.kernels.arguments import Buffer, prepared
from course.kernels.words import KernelError

if TYPE_CHECKING:
    import torch

Step = tuple[str | Path, str]
"""A .cu file and the name of a launcher in it."""


def why_not() -> str | None:
    """Why nothing can be timed here, or None."""
    import torch

    return None if torch.cuda.is_available() else "PyTorch sees no NVIDIA GPU on this machine."


def shares(steps: Mapping[str, Step], *arguments: object, **how: object) -> dict[str, bench.Comparison] | None:
    """`against_copy`, printed as shares of the copy's speed; without a GPU a line that says it is open, and None."""
    if reason := why_not():
        print(f"Open: speed needs a GPU. {reason}")
        return None
    found = against_copy(steps, *arguments, **how)
    for label, comparison in found.items():
        print(f"{label}: {comparison.ratio:.2f} of the copy's speed ({comparison.low:.2f} to {comparison.high:.2f})")
    return found


def against_copy(
    steps: Mapping[str, Step], *arguments: object, graph: bool = False, rounds: int = 200, max_seconds: float = 20.0
) -> dict[str, bench.Comparison]:
    """Time launchers in turns with a device-to-device copy that moves the same number of bytes.

    Args:
        steps: label -> step. All take the same arguments.
        arguments: as for `Module.check`: arrays are inputs, `kernels.out` outputs, numbers, and None for the stream. A
            launcher on a GPU takes an int as C int and a float as C float.
        graph: time each step a second time, replayed from a CUDA graph, as "LABEL, graph".
        rounds, max_seconds: see `bench.compare_many`.

    Returns: label -> Comparison with the copy; its ratio is the share of the copy's speed.

    Raises:
        KernelError: a file does not compile, a launcher is missing or returned an error.
        UnsupportedError: there is no GPU.
    """
    import torch

    placed = [_on_device(argument, number) for number, argument in enumerate(arguments, 1)]
    moved = sum(tensor.numel() * tensor.element_size() for tensor in placed if isinstance(tensor, torch.Tensor))
    source = torch.empty(moved // 2, dtype=torch.uint8, device="cuda")  # a copy reads and writes each byte
    target = torch.empty_like(source)
    calls: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(source)}
    for label, step in steps.items():
        calls[label] = call(step, placed)
        if graph:
            calls[f"{label}, graph"] = captured(calls[label])
    return bench.compare_many(calls, device="cuda", rounds=rounds, max_seconds=max_seconds)


def outputs(step: Step, *arguments: object) -> tuple[np.ndarray, ...]:
    """Run a launcher once on the GPU and give back its outputs, in the order of the arguments.

    Raises: as `against_copy`.
    """
    import torch

    placed = [_on_device(argument, number) for number, argument in enumerate(arguments, 1)]
    call(step, placed)()
    torch.cuda.synchronize()
    kinds = [prepared(argument, number) for number, argument in enumerate(arguments, 1)]
    written = [tensor for tensor, kind in zip(placed, kinds) if isinstance(kind, Buffer) and kind.flags & 2]
    return tuple(tensor.cpu().numpy() for tensor in written)


def call(step: Step, placed: list[object]) -> Callable[[], None]:
    """A function that enqueues the launcher on PyTorch's current stream. placed: tensors on the GPU, numbers, None."""
    import torch

    path, launcher = step
    capability = torch.cuda.get_device_capability()
    built = nvcc.build(path, "shared", architecture=f"sm_{capability[0]}{capability[1]}", flags=("-O3",))
    try:
        function = getattr(ctypes.CDLL(str(built)), launcher)
    except AttributeError:
        raise KernelError(
            f"{Path(path).name} has no launcher {launcher}.",
            "The library that nvcc built does not export this name.",
            'Write it as extern "C", and check the spelling.',
        ) from None
    function.restype = ctypes.c_int
    given = [_plain(value) for value in placed]

    def enqueue() -> None:
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        if status := function(*(stream if value is None else value for value in given)):
            raise KernelError(
                f"{launcher} returned CUDA error {status}.",
                "The launch was refused: an empty grid, too many threads, or too much shared memory.",
                "Print the grid and the block for these sizes.",
            )

    return enqueue


def captured(function: Callable[[], None]) -> Callable[[], None]:
    """The function's work as a CUDA graph: what is returned replays it."""
    import torch

    function()  # once before, so that nothing is loaded while the graph is captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def _on_device(argument: object, number: int) -> torch.Tensor | int | float | None:
    import torch

    item = prepared(argument, number)
    if not isinstance(item, Buffer):
        return item.value
    if item.array is not None:
        return torch.from_numpy(item.array.copy()).cuda()
    return torch.empty(item.shape, dtype=getattr(torch, item.dtype.name), device="cuda")


def _plain(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, float):
        return ctypes.c_float(value)
    if isinstance(value, int):
        return ctypes.c_int(value)
    return ctypes.c_void_p(value.data_ptr())
