"""A classifier of image files. You hand this file in; `model.onnx`, which the notebook writes, lies beside it.

A request holds one file, uint8 [1, bytes]; its answer is `logits`, float32 [1, 10].

Where the repository is served on a GPU, `model.plan` lies beside `model.onnx`: an engine that was built there from it. Then
`on_gpu.py` does the work.
"""

import io
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from PIL import Image

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)


class TritonPythonModel:
    def initialize(self, args):
        """Load the network once. args: strings, "model_repository" and "model_version" among them."""
        ### BEGIN SOLUTION
        folder = os.path.join(args["model_repository"], args["model_version"])
        plan = os.path.join(folder, "model.plan")
        if os.path.exists(plan):
            from on_gpu import OnGpu

            self.network, self.prepare = OnGpu(plan), OnGpu.prepare
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(folder, "model.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.network, self.prepare = lambda images: session.run(None, {"image": images})[0], self.normalised
        ### END SOLUTION

    def execute(self, requests):
        """A response for each request, in their order. A file that is no image is an error of its own request."""
        ### BEGIN SOLUTION
        images = [self.decode(request) for request in requests]
        good = [image for image in images if isinstance(image, np.ndarray)]
        logits = iter(self.network(np.stack(good)) if good else [])
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("logits", next(logits)[None])])
            if isinstance(image, np.ndarray)
            else pb_utils.InferenceResponse(error=pb_utils.TritonError(f"The file is no image: {image}"))
            for image in images
        ]
        ### END SOLUTION

    ### BEGIN SOLUTION
    def decode(self, request):
        """What the network takes of one image, or the exception that says why there is none."""
        file = pb_utils.get_input_tensor_by_name(request, "file").as_numpy()
        try:
            return self.prepare(Image.open(io.BytesIO(file.tobytes())).convert("RGB"))
        except Exception as error:
            return error

    def normalised(self, image):
        """float32 [3, 224, 224]."""
        image = image.resize((224, 224), Image.Resampling.BILINEAR)
        return ((np.asarray(image, np.float32) - MEAN) / STD).transpose(2, 0, 1)

    ### END SOLUTION
