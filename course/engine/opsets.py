"""Which opsets the runtimes read, apart from `course.export`: who reads a file needs no PyTorch."""

TARGET_OPSET = {"8.6": (17, 17), "10": (18, 20), "11": (18, 25), "onnxruntime": (18, 21)}
"""Target -> (opset that we write, newest opset that it reads).

Read: docs/operators.md of onnx-tensorrt ("TensorRT 8.5 supports operators up to Opset 17", unchanged in 8.6;
"10.0 ... opset 9 to opset 20"), NVIDIA's ONNX Opset Guide for 11.x (25), ONNX Runtime 1.20's compatibility
table (21).
Written: 18 is the opset that PyTorch's dynamo exporter is written for; others go through a converter, which
fails for some models. The torchscript exporter writes 17 by itself.
"""
