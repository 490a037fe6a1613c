"""What TensorRT's runtimes share: building, features of a version, the inspector."""
