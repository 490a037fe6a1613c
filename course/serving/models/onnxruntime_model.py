"""An ONNX model on a CPU: joins the requests that Triton hands over into one batch and runs it once.

Parameters in config.pbtxt: `threads`, how many ONNX Runtime uses for one run.
"""

import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("threads", "1"))
        options.inter_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batches = config.get("max_batch_size", 0) > 0

    def execute(self, requests):
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            for request in requests
        ]
        if len(feeds) == 1 or not self.batches:
            return [self.alone(feed) for feed in feeds]
        rows = [len(feed[self.inputs[0]]) for feed in feeds]
        try:
            joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self.inputs}
            outputs = self.session.run(self.outputs, joined)
        except Exception:  # one request spoils its batch: alone, only that one fails
            return [self.alone(feed) for feed in feeds]
        parts = [np.split(output, np.cumsum(rows)[:-1]) for output in outputs]
        return [self.response(each) for each in zip(*parts)]

    def alone(self, feed):
        try:
            return self.response(self.session.run(self.outputs, feed))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def response(self, outputs):
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in zip(self.outputs, outputs)])
