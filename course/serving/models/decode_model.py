"""JPEG and PNG files on a CPU: decoded, resized and normalised, one after the other.

Parameters in config.pbtxt: `mean` and `std` of red, green and blue, on the scale 0 to 255, with commas between them.
"""

import io
import json

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        numbers = {
            key: np.array([float(part) for part in value["string_value"].split(",")], np.float32)
            for key, value in config["parameters"].items()
            if key in ("mean", "std")
        }
        self.mean, self.std = numbers["mean"], numbers["std"]
        self.file, self.pixels = config["input"][0]["name"], config["output"][0]["name"]
        _, self.height, self.width = (int(dim) for dim in config["output"][0]["dims"])

    def execute(self, requests):
        return [self.alone(pb_utils.get_input_tensor_by_name(request, self.file).as_numpy()) for request in requests]

    def alone(self, files):
        """The response for one request: uint8 [N, bytes] in, float32 [N, 3, height, width] out."""
        try:
            array = np.stack([self.decoded(file.tobytes()) for file in files])
        except Exception as error:  # a file that is no image fails its own request only
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"The image cannot be decoded: {error}"))
        return pb_utils.InferenceResponse([pb_utils.Tensor(self.pixels, array)])

    def decoded(self, file):
        image = Image.open(io.BytesIO(file)).convert("RGB").resize((self.width, self.height), Image.Resampling.BILINEAR)
        return ((np.asarray(image, np.float32) - self.mean) / self.std).transpose(2, 0, 1)
