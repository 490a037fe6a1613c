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
        # YOUR CODE HERE
        raise NotImplementedError()

    def execute(self, requests):
        """A response for each request, in their order. A file that is no image is an error of its own request."""
        # YOUR CODE HERE
        raise NotImplementedError()

    # YOUR CODE HERE
    pass
