"""Serving with the real Triton on this machine: `environment.make`, `repository.write`, `Server`, and loads on it.

from course.serving import Model, Server, closed_loop, write

with Server(write("service", [Model("classifier", "classifier.onnx", max_batch=8)])) as server:
    print(closed_loop(server.address, "classifier", {"x": images}, clients=4))
"""

from course.serving.client import Client
from course.serving.load import closed_loop, open_loop, overhead, sweep
from course.serving.notebook import with_triton
from course.serving.repository import Batching, Decode, Model, write
from course.serving.result import Load, save
from course.serving.server import Server
from course.serving.words import ServingError

__all__ = [
    "Batching",
    "Client",
    "Decode",
    "Load",
    "Model",
    "Server",
    "ServingError",
    "closed_loop",
    "open_loop",
    "overhead",
    "save",
    "sweep",
    "with_triton",
    "write",
]
