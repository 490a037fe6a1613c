"""The calls of `cuda.bindings.runtime` for memory, streams and graphs, without a GPU.

Work on a stream is only queued; it is done when somebody waits for it, so whoever reads too early reads what was there
before. Between begin and end of a capture, work is recorded instead, with the addresses and sizes of that moment. What
must not be called meanwhile spoils the capture, as the CUDA Programming Guide says ("CUDA Graphs", "Prohibited and
Unhandled Operations"). Each call gives a tuple that begins with an error, as the real ones do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from course.errors import UnsupportedError
from course.serving.stand_in import words
from course.serving.stand_in.memory import BadAddress, Memory
from course.serving.stand_in.words import cudaError_t as E
from course.serving.stand_in.words import cudaMemcpyKind, cudaStreamCaptureMode, cudaStreamCaptureStatus

_PLACES = {
    cudaMemcpyKind.cudaMemcpyHostToHost: ("host", "host"),
    cudaMemcpyKind.cudaMemcpyHostToDevice: ("host", "device"),
    cudaMemcpyKind.cudaMemcpyDeviceToHost: ("device", "host"),
    cudaMemcpyKind.cudaMemcpyDeviceToDevice: ("device", "device"),
}


@dataclass(frozen=True)
class Work:
    """One thing on a stream. do: runs it; raises BadAddress for memory that is not there (any more)."""

    kind: str
    do: Callable[[], None]


@dataclass
class _Capture:
    mode: cudaStreamCaptureMode
    work: list[Work] = field(default_factory=list)
    spoiled: str = ""


class Runtime:
    """Looks like the module. `events` holds (call, words) of everything that was asked, in order."""

    cudaError_t = words.cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamCaptureStatus = cudaStreamCaptureStatus
    cudaStreamDefault, cudaStreamNonBlocking = words.cudaStreamDefault, words.cudaStreamNonBlocking
    cudaStream_t, cudaGraph_t, cudaGraphExec_t = words.cudaStream_t, words.cudaGraph_t, words.cudaGraphExec_t
    STAND_IN = True
    """Tells it from the real module."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.events: list[tuple[str, str]] = []
        self._handles = itertools.count(0x1000)
        self._order = itertools.count()
        self._queues: dict[int, list[tuple[int, Work]]] = {0: []}
        self._blocking: set[int] = set()
        self._captures: dict[int, _Capture] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._executables: dict[int, list[Work]] = {}
        self._broken = ""  # after an illegal access every call fails, until the process ends

    def __getattr__(self, name: str):
        if name.startswith("cuda"):
            known = ", ".join(sorted(one for one in dir(type(self)) if one.startswith("cuda")))
            raise UnsupportedError(f"The stand-in for CUDA has no {name}.", f"It knows {known}.", "Use one of these.")
        raise AttributeError(name)

    # ---------------------------------------------------------------- memory

    def cudaMalloc(self, size):
        return self._take("cudaMalloc", size, "device")

    def cudaMallocHost(self, size):
        return self._take("cudaMallocHost", size, "host")

    def cudaFree(self, address):
        return self._give_back("cudaFree", address, "device")

    def cudaFreeHost(self, address):
        return self._give_back("cudaFreeHost", address, "host")

    def _take(self, call: str, size: int, place: str):
        if error := self._told(call, f"{int(size)} bytes") or self._unsafe(call):
            return error, None
        return E.cudaSuccess, self.memory.take(int(size), place)

    def _give_back(self, call: str, address: int, place: str):
        if error := self._told(call, hex(int(address))) or self._unsafe(call):
            return (error,)
        self._run_all()  # cudaFree waits for the device
        try:
            self.memory.give_back(int(address), place)
        except BadAddress:
            return (E.cudaErrorInvalidValue,)
        return (E.cudaSuccess,)

    def cudaMemcpyAsync(self, target, source, count, kind, stream):
        return (self._copy("cudaMemcpyAsync", target, source, count, kind, stream),)

    def cudaMemcpy(self, target, source, count, kind):
        if error := self._unsafe("cudaMemcpy"):
            return (error,)
        error = self._copy("cudaMemcpy", target, source, count, kind, 0)
        return (error or self._run_all(),)

    def _copy(self, call: str, target, source, count, kind, stream) -> E:
        target, source, count = int(target), int(source), int(count)
        if error := self._told(call, f"{count} bytes {cudaMemcpyKind(int(kind)).name[10:]}"):
            return error
        if int(kind) not in _PLACES:
            return E.cudaErrorInvalidValue
        places = _PLACES[cudaMemcpyKind(int(kind))]

        def sides():
            return self.memory.bytes_at(target, count, places[1]), self.memory.bytes_at(source, count, places[0])

        def do() -> None:
            to, of = sides()
            to[:] = of

        try:
            sides()
        except BadAddress as error:
            self.events.append(("refused", f"{call}: {error}"))
            return E.cudaErrorInvalidValue
        return self.enqueue(stream, Work(f"copy {cudaMemcpyKind(int(kind)).name[10:]}", do))

    # ---------------------------------------------------------------- streams

    def cudaStreamCreate(self):
        return self.cudaStreamCreateWithFlags(self.cudaStreamDefault)

    def cudaStreamCreateWithFlags(self, flags):
        if error := self._told("cudaStreamCreate"):
            return error, None
        stream = words.cudaStream_t(next(self._handles))
        self._queues[stream] = []
        if int(flags) != self.cudaStreamNonBlocking:
            self._blocking.add(stream)
        return E.cudaSuccess, stream

    def cudaStreamDestroy(self, stream):
        if error := self._told("cudaStreamDestroy") or self._unknown(stream):
            return (error,)
        self._run(int(stream))
        del self._queues[int(stream)]
        self._captures.pop(int(stream), None)
        self._blocking.discard(int(stream))
        return (E.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        if error := self._told("cudaStreamSynchronize") or self._unknown(stream):
            return (error,)
        if int(stream) in self._captures:
            return (self._spoil("cudaStreamSynchronize", E.cudaErrorStreamCaptureUnsupported, [int(stream)]),)
        return (self._run(int(stream)),)

    def cudaDeviceSynchronize(self):
        return (self._told("cudaDeviceSynchronize") or self._unsafe("cudaDeviceSynchronize") or self._run_all(),)

    def enqueue(self, stream, work: Work) -> E:
        """Put work on a stream: queued, or recorded while the stream captures. The stand-in engine calls this, too."""
        stream = int(stream)
        if error := self._unknown(stream):
            return error
        if capture := self._captures.get(stream):
            if capture.spoiled:
                return E.cudaErrorStreamCaptureInvalidated
            capture.work.append(work)
            return E.cudaSuccess
        if stream == 0 and (waits := [other for other in self._captures if other in self._blocking]):
            return self._spoil("work on the legacy default stream", E.cudaErrorStreamCaptureImplicit, waits)
        self._queues[stream].append((next(self._order), work))
        return E.cudaSuccess

    def prohibited(self, call: str) -> E:
        """What a library's own call, such as an allocation, meets now: success, or the error after a spoiled capture."""
        return self._unsafe(call)

    # ---------------------------------------------------------------- capture and graphs

    def cudaStreamBeginCapture(self, stream, mode):
        if error := self._told("cudaStreamBeginCapture") or self._unknown(stream):
            return (error,)
        if int(stream) == 0:
            return (E.cudaErrorStreamCaptureUnsupported,)
        if int(stream) in self._captures:
            return (E.cudaErrorIllegalState,)
        self._captures[int(stream)] = _Capture(cudaStreamCaptureMode(int(mode)))
        return (E.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        if error := self._told("cudaStreamEndCapture") or self._unknown(stream):
            return error, None
        capture = self._captures.pop(int(stream), None)
        if capture is None:
            return E.cudaErrorIllegalState, None
        if capture.spoiled:
            return E.cudaErrorStreamCaptureInvalidated, None
        graph = words.cudaGraph_t(next(self._handles))
        self._graphs[graph] = capture.work
        return E.cudaSuccess, graph

    def cudaStreamIsCapturing(self, stream):
        capture = self._captures.get(int(stream))
        if capture is None:
            return E.cudaSuccess, cudaStreamCaptureStatus.cudaStreamCaptureStatusNone
        spoiled = cudaStreamCaptureStatus.cudaStreamCaptureStatusInvalidated
        return E.cudaSuccess, spoiled if capture.spoiled else cudaStreamCaptureStatus.cudaStreamCaptureStatusActive

    def cudaGraphGetNodes(self, graph, numNodes=0):
        if int(graph or 0) not in self._graphs:
            return E.cudaErrorInvalidValue, None, 0
        count = len(self._graphs[int(graph)])
        return E.cudaSuccess, [words.cudaGraphNode_t(index + 1) for index in range(min(count, int(numNodes)))], count

    def cudaGraphInstantiate(self, graph, flags):
        if error := self._told("cudaGraphInstantiate"):
            return error, None
        if int(graph or 0) not in self._graphs:
            return E.cudaErrorInvalidValue, None
        executable = words.cudaGraphExec_t(next(self._handles))
        self._executables[executable] = list(self._graphs[int(graph)])
        return E.cudaSuccess, executable

    def cudaGraphLaunch(self, executable, stream):
        if error := self._told("cudaGraphLaunch") or self._unknown(stream):
            return (error,)
        if int(executable or 0) not in self._executables:
            return (E.cudaErrorInvalidValue,)
        for work in self._executables[int(executable)]:
            if error := self.enqueue(stream, work):
                return (error,)
        return (E.cudaSuccess,)

    def cudaGraphDestroy(self, graph):
        return (E.cudaErrorInvalidValue if self._graphs.pop(int(graph or 0), None) is None else E.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable):
        gone = self._executables.pop(int(executable or 0), None)
        return (E.cudaErrorInvalidValue if gone is None else E.cudaSuccess,)

    # ---------------------------------------------------------------- errors

    def cudaGetErrorString(self, error):
        return E.cudaSuccess, words.STRINGS[E(int(error))].encode()

    def cudaGetErrorName(self, error):
        return E.cudaSuccess, E(int(error)).name.encode()

    def count(self, call: str) -> int:
        """How often a call was made."""
        return sum(name == call for name, _ in self.events)

    @property
    def recording(self) -> set[int]:
        """Streams whose capture has begun and not ended."""
        return set(self._captures)

    def kinds_of(self, executable) -> list[str]:
        """What an executable graph does, in order."""
        return [work.kind for work in self._executables[int(executable)]]

    @property
    def waiting(self) -> int:
        """How many things are queued and not done."""
        return sum(map(len, self._queues.values()))

    # ---------------------------------------------------------------- what the calls share

    def _told(self, call: str, detail: str = "") -> E:
        self.events.append((call, detail))
        return E.cudaErrorIllegalAddress if self._broken else E.cudaSuccess

    def _unknown(self, stream) -> E:
        return E.cudaSuccess if int(stream) in self._queues else E.cudaErrorInvalidResourceHandle

    def _unsafe(self, call: str) -> E:
        """Calls that may wait for the device spoil every capture that is not relaxed."""
        strict = [
            stream
            for stream, capture in self._captures.items()
            if capture.mode != cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        ]
        return self._spoil(call, E.cudaErrorStreamCaptureUnsupported, strict) if strict else E.cudaSuccess

    def _spoil(self, call: str, error: E, streams: list[int]) -> E:
        for stream in streams:
            self._captures[stream].spoiled = self._captures[stream].spoiled or call
        self.events.append(("spoiled", call))
        return error

    def _run(self, stream: int) -> E:
        """Do what is queued. Blocking streams and the legacy default stream keep one order; others have their own."""
        linked = {0, *self._blocking} if stream == 0 or stream in self._blocking else {stream}
        for _, work in sorted((entry for each in linked for entry in self._queues[each]), key=lambda entry: entry[0]):
            if self._broken:
                break
            try:
                work.do()
            except BadAddress as error:
                self._broken = f"{work.kind}: {error}"
                self.events.append(("illegal access", self._broken))
        for each in linked:
            self._queues[each].clear()
        return E.cudaErrorIllegalAddress if self._broken else E.cudaSuccess

    def _run_all(self) -> E:
        for stream in list(self._queues):
            self._run(stream)
        return E.cudaErrorIllegalAddress if self._broken else E.cudaSuccess
