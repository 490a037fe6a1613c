"""A model.py for Triton's Python backend: 5 ms a request, and once every two seconds it stands still for 0.4 s.

So do real ones: a garbage collector, a reload, a neighbour on the same card. x [n, 1] -> y [n, 1].
"""

import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.next_pause = time.monotonic() + 2

    def execute(self, requests):
        responses = []
        for request in requests:
            late = time.monotonic() > self.next_pause
            time.sleep(0.4 if late else 0.005)
            if late:
                self.next_pause = time.monotonic() + 1.6
            x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", x)]))
        return responses
