"""A recording stand-in for PyCUDA and an execution context: a run by hand is really run, on a CPU, and as late as a GPU.

What is put on a stream is done when somebody waits for it, and not before; memory is full of NaN until something was
copied there; an address that was never given, or whose memory is gone, is refused. So a forgotten wait, copy or address
shows in the answer or in an error, as it would on a GPU (there only sometimes).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from course.errors import CourseError


class Fault(CourseError):
    """What CUDA or TensorRT would answer to a wrong call."""


class Memory:
    """GPU memory: int(memory) is its address. `values` is None once it was freed."""

    _next = 0x7F0000000000

    def __init__(self, size: int):
        self.size, self.address = int(size), Memory._next
        Memory._next += (self.size + 511) // 256 * 256
        self.values: np.ndarray | None = np.full((self.size + 3) // 4, np.nan, np.float32)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.values = None


class Stream:
    """A queue of work. `handle` is what execute_async_v3 takes."""

    def __init__(self, driver: Driver, handle: int):
        self._driver, self.handle, self.queue = driver, handle, []

    def synchronize(self) -> None:
        """Do what was queued, in order."""
        self._driver.calls.append("synchronize")
        queue, self.queue = self.queue, []
        for work in queue:
            work()


class Driver:
    """Stands for `pycuda.driver`: the functions that the lesson uses. calls: what was called, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.memory: list[Memory] = []
        self.streams: dict[int, Stream] = {0: Stream(self, 0)}

    def pagelocked_empty(self, shape: Sequence[int], dtype: type) -> np.ndarray:
        return np.full(shape, np.nan, dtype)

    def mem_alloc(self, size: int) -> Memory:
        self.calls.append("mem_alloc")
        self.memory.append(Memory(size))
        return self.memory[-1]

    def Stream(self) -> Stream:  # named as in PyCUDA
        handle = 0x1000 + len(self.streams)
        self.streams[handle] = Stream(self, handle)
        return self.streams[handle]

    def memcpy_htod_async(self, to: Memory, array: np.ndarray, stream: Stream | None = None) -> None:
        self.calls.append("memcpy_htod_async")
        self._queue(stream).append(lambda: self._write(to, array))

    def memcpy_dtoh_async(self, array: np.ndarray, source: Memory, stream: Stream | None = None) -> None:
        self.calls.append("memcpy_dtoh_async")
        self._queue(stream).append(lambda: self._read(array, source))

    def memcpy_htod(self, to: Memory, array: np.ndarray) -> None:
        """The blocking copy: done at once. It does not wait for other streams."""
        self.calls.append("memcpy_htod")
        self._write(to, array)

    def memcpy_dtoh(self, array: np.ndarray, source: Memory) -> None:
        self.calls.append("memcpy_dtoh")
        self._read(array, source)

    def at(self, address: int) -> Memory:
        """The memory that begins at an address.

        Raises:
            Fault: there is none (any more).
        """
        for memory in self.memory:
            if memory.address == address and memory.values is not None:
                return memory
        raise Fault(
            "An illegal memory access was encountered.",
            f"No GPU memory begins at address {address:#x}, or it was freed.",
            "Give int(buffer) of memory from mem_alloc, and keep it until the stream is done.",
        )

    def _queue(self, stream: Stream | None) -> list[Callable[[], None]]:
        return self.streams[0].queue if stream is None else stream.queue

    def _write(self, to: Memory, array: np.ndarray) -> None:
        values, given = self._sized(to, array), np.ascontiguousarray(array, np.float32).ravel()
        values[: given.size] = given

    def _read(self, array: np.ndarray, source: Memory) -> None:
        array[...] = self._sized(source, array)[: array.size].reshape(array.shape)

    def _sized(self, memory: Memory, array: np.ndarray) -> np.ndarray:
        values = self.at(int(memory)).values
        if array.nbytes > memory.size:
            raise Fault(
                "A copy is larger than the GPU memory that it goes to or comes from.",
                f"It has {array.nbytes} bytes, the memory {memory.size}.",
                "Use the buffer that belongs to this array.",
            )
        return values


class Context:
    """Stands for IExecutionContext of an engine with one input and one output, both float32.

    Args:
        compute: the network, float32 array -> float32 array.
        shape_of: input's shape -> output's shape.
        largest: the largest batch of the profile.
    """

    def __init__(
        self,
        driver: Driver,
        names: tuple[str, str],
        compute: Callable[[np.ndarray], np.ndarray],
        shape_of: Callable[[tuple[int, ...]], tuple[int, ...]],
        largest: int,
    ):
        self._driver, self._names, self._compute, self._shape_of = driver, names, compute, shape_of
        self._largest, self._shape, self._addresses = largest, None, {}

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        self._driver.calls.append(f"set_input_shape {name}")
        if name != self._names[0] or not 1 <= shape[0] <= self._largest:
            return False
        self._shape = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._shape is None:
            return (-1,)
        return self._shape if name == self._names[0] else self._shape_of(self._shape)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._driver.calls.append(f"set_tensor_address {name}")
        if name not in self._names:
            return False
        self._addresses[name] = int(address)
        return True

    def execute_async_v3(self, handle: int) -> bool:
        """False, as TensorRT says it, where the shape or an address is missing."""
        self._driver.calls.append("execute_async_v3")
        stream = self._driver.streams.get(int(handle))
        if self._shape is None or stream is None or set(self._addresses) != set(self._names):
            return False
        shape, places = self._shape, [self._addresses[name] for name in self._names]

        def work() -> None:
            source, target = (self._driver.at(place) for place in places)
            given = source.values[: int(np.prod(shape))].reshape(shape)
            answer = self._compute(given).ravel()
            if answer.size * 4 > target.size:
                raise Fault("An illegal memory access was encountered.", "The output's buffer is too small.",
                            "Give each tensor its own buffer.")  # fmt: skip
            target.values[: answer.size] = answer

        stream.queue.append(work)
        return True
