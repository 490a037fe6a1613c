"""C++ programs around TensorRT: the tools to build them, and running them."""
