"""The naive service: each request is decoded, preprocessed and run alone, on one thread.

`model.onnx` lies beside this file.
"""

import io
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from PIL import Image

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        file = pb_utils.get_input_tensor_by_name(request, "file").as_numpy()
        try:
            image = Image.open(io.BytesIO(file.tobytes())).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"The file is no image: {error}"))
        pixels = ((np.asarray(image) - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
        (logits,) = self.session.run(None, {self.session.get_inputs()[0].name: pixels})
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
