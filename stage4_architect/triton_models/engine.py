"""A model.py for Triton's Python backend that takes time as an engine does: 20 ms, and 1 ms for each row of the batch."""

import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        parts = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        time.sleep(0.020 + 0.001 * sum(map(len, parts)))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", part)]) for part in parts]
