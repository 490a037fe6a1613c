"""The naive service on a GPU: each request is decoded and preprocessed on the CPU, copied, and run alone.

`model.plan` lies beside this file.
"""

import io
import os

import numpy as np
import tensorrt as trt
import torch
import triton_python_backend_utils as pb_utils
from PIL import Image

MEAN = np.array([123.675, 116.28, 103.53])
STD = np.array([58.395, 57.12, 57.375])


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.plan")
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        with open(path, "rb") as file:
            self.engine = self.runtime.deserialize_cuda_engine(file.read())
        self.context = self.engine.create_execution_context()
        names = [self.engine.get_tensor_name(index) for index in range(2)]
        self.input, self.output = sorted(
            names, key=lambda name: self.engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT
        )
        self.stream = torch.cuda.Stream()
        self.context.set_input_shape(self.input, (1, 3, 224, 224))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        file = pb_utils.get_input_tensor_by_name(request, "file").as_numpy()
        try:
            image = Image.open(io.BytesIO(file.tobytes())).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"The file is no image: {error}"))
        pixels = ((np.asarray(image) - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
        with torch.cuda.stream(self.stream):
            given, logits = torch.from_numpy(np.ascontiguousarray(pixels)).cuda(), torch.empty(1, 10, device="cuda")
            self.context.set_tensor_address(self.input, given.data_ptr())
            self.context.set_tensor_address(self.output, logits.data_ptr())
            if not self.context.execute_async_v3(self.stream.cuda_stream):
                raise RuntimeError("TensorRT could not run the image; its reason is in the server's log")
            return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits.cpu().numpy())])
