"""A TensorRT plugin without TensorRT: its class compiled, driven as TensorRT drives it, and judged. `course.native.plugin`
is the door."""
