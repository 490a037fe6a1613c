"""TensorRT, and PyTorch's part of CUDA, on a CPU: for programs that were written for a GPU. A plan is an ONNX file, run by ONNX Runtime.

CUDA graphs are recorded and replayed as the real ones are: a replay runs the same operations on the same memory, and nothing else.
Each launch is told to the CUPTI of these tests (`fake_cupti.cpp`), if the library that counts was named as a real driver would find
it. Memory "on the GPU" is the CPU's own.
"""

import contextlib
import ctypes
import os
import sys

import numpy as np
import onnxruntime

sys.path.append(os.environ["FAKE_GPU_PACKAGES"])  # behind the environment's own: PyTorch, and not its NumPy

import torch
from torch.utils._python_dispatch import TorchDispatchMode

KERNEL, GRAPH = b"cudaLaunchKernel", b"cudaGraphLaunch"
NETWORK_KERNELS = 50
VIEWS = ("aten.view", "aten.permute", "aten.detach", "aten.select", "aten.slice", "aten.alias", "aten.empty", "aten.t.")


def launch(name, times=1):
    if CUPTI is not None:
        for _ in range(times):
            CUPTI.fake_call(name, None)


def injected():
    """The fake CUPTI, when the library that counts has been loaded, as the driver does at its start."""
    if not (path := os.environ.get("CUDA_INJECTION64_PATH")):
        return None
    ctypes.CDLL(path).InitializeInjection()
    return ctypes.CDLL(os.environ["LAUNCH_COUNTS_CUPTI"])


CUPTI = injected()


class Device(TorchDispatchMode):
    """Counts what would be launches, and writes down what a graph records."""

    recording = None
    replaying = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not self.replaying and not str(func).startswith(VIEWS):
            if self.recording is not None:
                self.recording.append(lambda: again(func, args, kwargs or {}, result))
            launch(KERNEL)
        return result


def again(func, args, kwargs, before):
    result = func(*args, **kwargs)
    if isinstance(before, torch.Tensor) and result.data_ptr() != before.data_ptr():
        before.copy_(result)


DEVICE = Device()
DEVICE.__enter__()


class Graph:
    def __init__(self):
        self.steps = []

    def replay(self):
        launch(GRAPH)
        DEVICE.replaying = True
        try:
            with torch.inference_mode():
                for step in self.steps:
                    step()
        finally:
            DEVICE.replaying = False


@contextlib.contextmanager
def graph(made, stream=None, capture_error_mode="global"):
    assert stream is not None
    DEVICE.recording = made.steps
    try:
        yield
    finally:
        DEVICE.recording = None


class Stream:
    cuda_stream = 7

    def synchronize(self):
        pass


def without_device(function):
    def called(*args, device=None, pin_memory=None, **kwargs):
        return function(*args, **kwargs)

    return called


for name in ("tensor", "zeros", "empty", "zeros_like", "empty_like", "ones"):
    setattr(torch, name, without_device(getattr(torch, name)))
torch.Tensor.cuda = lambda self, *args, **kwargs: self
torch.cuda.Stream, torch.cuda.CUDAGraph, torch.cuda.graph = Stream, Graph, graph
torch.cuda.stream = lambda stream: contextlib.nullcontext()
torch.cuda.set_device, torch.cuda.synchronize = (lambda *args: None), (lambda *args: None)


class TensorIOMode:
    INPUT, OUTPUT = "INPUT", "OUTPUT"


class Logger:
    WARNING = ERROR = 0

    def __init__(self, level):
        pass


class Runtime:
    def __init__(self, logger):
        pass

    def deserialize_cuda_engine(self, plan):
        return Engine(plan)


class Engine:
    def __init__(self, plan):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(plan, options, providers=["CPUExecutionProvider"])
        self.names = [self.session.get_inputs()[0].name, self.session.get_outputs()[0].name]
        self.num_io_tensors = len(self.names)

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == self.names[0] else TensorIOMode.OUTPUT

    def create_execution_context(self):
        return Context(self)


class Context:
    def __init__(self, engine):
        self.engine, self.shape, self.addresses = engine, None, {}

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        return name == self.engine.names[0]

    def set_tensor_address(self, name, address):
        if name not in self.engine.names:
            raise ValueError(name)
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        assert stream == Stream.cuda_stream
        source, target = (self.addresses[name] for name in self.engine.names)
        size = int(np.prod(self.shape))

        def run(shape=self.shape):
            given = np.ctypeslib.as_array((ctypes.c_float * size).from_address(source)).reshape(shape)
            (logits,) = self.engine.session.run(None, {self.engine.names[0]: given})
            ctypes.memmove(target, np.ascontiguousarray(logits).ctypes.data, logits.nbytes)

        if DEVICE.recording is not None:
            DEVICE.recording.append(run)
        launch(KERNEL, NETWORK_KERNELS)
        run()
        return True
