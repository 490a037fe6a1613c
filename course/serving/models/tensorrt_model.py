"""A TensorRT engine on a GPU, with CUDA graphs: one batch, one copy to the GPU, one replay, one copy back.

Parameters in config.pbtxt: `graphs`, batch sizes with commas between them. A batch of another size goes into the next
larger graph, and its last rows are computed and thrown away; one that is larger than every graph runs without.

PyTorch gives memory, streams and graphs. It and TensorRT must be importable in Triton's environment
(`course serve setup --see-system-packages`). It is written for TensorRT 8.6 to 11 and has run
with 8.6.0 on an H200 (docs/results/h200/serving).
"""

import json
import os

import numpy as np
import tensorrt as trt
import torch
import triton_python_backend_utils as pb_utils

DTYPES = {
    "TYPE_FP32": torch.float32,
    "TYPE_FP16": torch.float16,
    "TYPE_INT8": torch.int8,
    "TYPE_UINT8": torch.uint8,
    "TYPE_INT32": torch.int32,
    "TYPE_INT64": torch.int64,
    "TYPE_BOOL": torch.bool,
}


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        torch.cuda.set_device(int(args["model_instance_device_id"]))
        self.max_batch = config["max_batch_size"]
        path = os.path.join(args["model_repository"], args["model_version"], "model.plan")
        logger = trt.Logger(trt.Logger.WARNING)
        trt.init_libnvinfer_plugins(logger, "")
        self.runtime = trt.Runtime(logger)
        with open(path, "rb") as file:
            self.loaded = self.runtime.deserialize_cuda_engine(file.read())
        if self.loaded is None:
            raise RuntimeError(f"{path} was built for another GPU or another TensorRT than {trt.__version__}")
        self.stream = torch.cuda.Stream()  # capture is not allowed on the default stream
        self.inputs = {tensor["name"]: self.buffers(tensor) for tensor in config["input"]}
        self.outputs = {tensor["name"]: self.buffers(tensor) for tensor in config["output"]}
        self.plain = self.loaded.create_execution_context()
        sizes = sorted(int(size) for size in parameters.get("graphs", "").split(",") if size)
        self.graphs = {size: self.capture(size) for size in sizes}

    def buffers(self, tensor):
        """The largest batch's memory, pinned on the host and on the GPU. Addresses never change: graphs hold them."""
        shape = (self.max_batch, *(int(dim) for dim in tensor["dims"]))
        dtype = DTYPES[tensor["data_type"]]
        return torch.zeros(shape, dtype=dtype, pin_memory=True), torch.zeros(shape, dtype=dtype, device="cuda")

    def ready(self, context, size):
        """Tell a context its shapes and addresses."""
        for name, (_, device) in {**self.inputs, **self.outputs}.items():
            if name in self.inputs and not context.set_input_shape(name, (size, *device.shape[1:])):
                raise RuntimeError(f"batch {size} lies outside the engine's profile")
            context.set_tensor_address(name, device.data_ptr())
        return context

    def enqueue(self, context):
        if not context.execute_async_v3(self.stream.cuda_stream):
            raise RuntimeError("TensorRT could not run the batch; its reason is in the server's log")

    def capture(self, size):
        """A graph for one batch size, and the context whose memory it uses: one context for each graph."""
        context = self.ready(self.loaded.create_execution_context(), size)
        self.enqueue(context)  # the first run after a change of shape does work that must not be captured
        self.stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.enqueue(context)
        return graph, context

    def execute(self, requests):
        try:
            return self.run(requests)
        except Exception as error:
            if len(requests) > 1:  # one request spoils its batch: alone, only that one fails
                return [self.execute([request])[0] for request in requests]
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))]

    def run(self, requests):
        rows = []
        with torch.cuda.stream(self.stream):
            for name, (host, device) in self.inputs.items():
                tensors = [pb_utils.get_input_tensor_by_name(request, name) for request in requests]
                rows = self.fill(tensors, host, device)
            size = sum(rows)
            larger = next((known for known in self.graphs if known >= size), None)
            if larger:
                self.graphs[larger][0].replay()
            else:
                self.enqueue(self.ready(self.plain, size))
            for host, device in self.outputs.values():
                host[:size].copy_(device[:size], non_blocking=True)
        self.stream.synchronize()
        ends = np.cumsum(rows)
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, host[end - n : end].numpy().copy()) for name, (host, _) in self.outputs.items()]
            )
            for n, end in zip(rows, ends)
        ]

    def fill(self, tensors, host, device):
        """Put one input of every request into the batch on the GPU; the rows of each request."""
        if all(tensor.is_cpu() for tensor in tensors):
            arrays = [tensor.as_numpy() for tensor in tensors]
            total = sum(len(array) for array in arrays)
            np.concatenate(arrays, out=np.asarray(host[:total]))
            device[:total].copy_(host[:total], non_blocking=True)
            return [len(array) for array in arrays]
        # From CUDA shared memory the bytes are on the GPU already.
        parts = [torch.from_dlpack(tensor.to_dlpack()) for tensor in tensors]
        place = 0
        for part in parts:
            device[place : place + len(part)].copy_(part, non_blocking=True)
            place += len(part)
        return [len(part) for part in parts]

    def finalize(self):
        self.stream.synchronize()
        self.graphs.clear()
