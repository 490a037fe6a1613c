"""A service on a GPU as it should be, but for CUDA graphs: decoding on the CPU, preprocessing on the GPU, each launch by itself.

`model.plan` lies beside this file. Milestone 4a times services with graphs against it, with one client, so a batch is no more than
one image here.
"""

import io
import os

import numpy as np
import tensorrt as trt
import torch
import torch.nn.functional as F
import triton_python_backend_utils as pb_utils
from PIL import Image

MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
SIDE = 32


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.plan")
        self.runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
        with open(path, "rb") as file:
            self.engine = self.runtime.deserialize_cuda_engine(file.read())
        self.context, self.stream = self.engine.create_execution_context(), torch.cuda.Stream()
        self.mean, self.std = (torch.tensor(three, device="cuda").view(1, 3, 1, 1) for three in (MEAN, STD))
        self.host, self.answers = (
            torch.zeros(shape, dtype=dtype, pin_memory=True)
            for shape, dtype in (((1, SIDE, SIDE, 3), torch.uint8), ((1, 10), torch.float32))
        )
        self.image = torch.zeros(self.host.shape, dtype=torch.uint8, device="cuda")
        self.pixels, self.logits = torch.empty(1, 3, 224, 224, device="cuda"), torch.empty(1, 10, device="cuda")
        for index in range(2):
            name = self.engine.get_tensor_name(index)
            taken = self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            if taken:
                self.context.set_input_shape(name, (1, 3, 224, 224))
            self.context.set_tensor_address(name, (self.pixels if taken else self.logits).data_ptr())
        self.run(np.zeros((SIDE, SIDE, 3), np.uint8))

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        file = pb_utils.get_input_tensor_by_name(request, "file").as_numpy()
        try:
            image = Image.open(io.BytesIO(file.tobytes())).convert("RGB")
            if image.size != (SIDE, SIDE):
                raise ValueError(f"it is {image.width} x {image.height}")
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"The file is no image: {error}"))
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", self.run(np.asarray(image)))])

    def run(self, image):
        """uint8 [32, 32, 3] -> float32 [1, 10]."""
        self.host.numpy()[0] = image
        with torch.inference_mode(), torch.cuda.stream(self.stream):
            self.image.copy_(self.host, non_blocking=True)
            small = self.image.permute(0, 3, 1, 2).float()
            large = F.interpolate(small, size=(224, 224), mode="bilinear", align_corners=False)
            self.pixels.copy_((large - self.mean) / self.std)
            if not self.context.execute_async_v3(self.stream.cuda_stream):
                raise RuntimeError("TensorRT could not run the image; its reason is in the server's log")
            self.answers.copy_(self.logits, non_blocking=True)
        self.stream.synchronize()
        return self.answers.numpy().copy()
