"""The library behind the TensorRT course: what its notebooks import."""

__version__ = "0.1.0"
