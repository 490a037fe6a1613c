"""CUDA and a TensorRT engine on a machine without a GPU: they behave as the real ones do, and compute with ONNX Runtime.

`runtime` has the calls of `cuda.bindings.runtime` that copies, streams and graphs need; `engine` the calls of an
`ICudaEngine` and an `IExecutionContext`. What they show is order: a copy arrives late, a graph holds the addresses that
it was recorded with, a capture fails where CUDA refuses. What they cannot show is time.
"""

from course.serving.stand_in.engine import Engine
from course.serving.stand_in.runtime import Runtime

__all__ = ["Engine", "Runtime"]
