"""A model.py for Triton's Python backend that answers request by request: x [n, 784] -> y [n, 10], by model.onnx."""

import os

import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(pb_utils.get_input_tensor_by_name(each, "x").as_numpy()) for each in requests]

    def answer(self, x):
        (y,) = self.session.run(None, {"x": x})
        return pb_utils.InferenceResponse([pb_utils.Tensor("y", y)])
