"""The process in which TensorRT uses a learner's plugin on a GPU; and, without the plugin, the one it is compared with.

    load: the library. build: an engine of an ONNX file, kept as a plan. plan: its bytes. open: an engine from a plan. run: it.
    fill, go, sample, inputs: runs that are timed from outside; see `autograder.checks.plugin_speed`.

The library shares this process with everything here, so no time that it could touch is taken here, and the judge looks at
outputs only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from autograder.sandbox.serve import Refused, limit, serve

TYPES = ("float32", "float16")


class Gpu:
    """engines: key -> (engine, context). slots: inputs and outputs of timed runs."""

    def __init__(self):
        self.plans: dict[str, bytes] = {}
        self.engines: dict[str, tuple] = {}
        self.inputs_: list = []
        self.outputs: list = []
        self.extra: dict[str, object] = {}

    def load(self, library: np.ndarray):
        """Load the plugin into this process, after a look at its version."""
        import tensorrt as trt

        from course.native.plugins import building

        path = Path.cwd() / "plugin.so"
        path.write_bytes(library.tobytes())
        building.load(path, trt.__version__)
        return {"tensorrt": trt.__version__}, []

    def build(self, onnx: np.ndarray, *, key: str, half: bool, shapes: list, level: int):
        """shapes: smallest, usual and largest of the input. Answers: seconds are the judge's; "layers" as the inspector says."""
        import tensorrt as trt

        logger = trt.Logger(trt.Logger.ERROR)
        builder = trt.Builder(logger)
        flags = trt.NetworkDefinitionCreationFlag
        network = builder.create_network(1 << int(flags.EXPLICIT_BATCH) if hasattr(flags, "EXPLICIT_BATCH") else 0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(onnx.tobytes()):
            errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
            raise Refused(
                "TensorRT cannot parse the network with the plugin.",
                errors[:600],
                "Compare name, version and namespace of the creator with the node's.",
            )
        config = builder.create_builder_config()
        config.builder_optimization_level = level
        config.set_tactic_sources(0)  # cuBLAS and cuDNN are not on every machine
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        if half and hasattr(trt.BuilderFlag, "FP16"):
            config.set_flag(trt.BuilderFlag.FP16)
        profile = builder.create_optimization_profile()
        profile.set_shape(network.get_input(0).name, *map(tuple, shapes))
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise Refused(
                "TensorRT builds no engine with the plugin.",
                "build_serialized_network returned None; its log names the layer.",
                "Look at supportsFormatCombination and configurePlugin.",
            )
        self.plans[key] = bytes(plan)
        return {"bytes": len(self.plans[key])}, []

    def plan(self, *, key: str):
        return {}, [np.frombuffer(self.plans[key], np.uint8)]

    def open(self, plan: np.ndarray, *, key: str):
        """Answers: "layers", each with "name" and "kind"."""
        import tensorrt as trt

        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        engine = runtime.deserialize_cuda_engine(plan.tobytes())
        if engine is None:
            raise Refused(
                "The saved engine cannot be read again.",
                "deserialize_cuda_engine returned None in a new process.",
                "Look at serialize, getSerializationSize and deserializePlugin.",
            )
        self.engines[key] = (engine, engine.create_execution_context(), runtime)
        text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
        layers = json.loads(text, strict=False).get("Layers", [])
        shown = [
            {"name": one.get("Name", ""), "kind": one.get("LayerType", "")}
            if isinstance(one, dict)
            else {"name": one, "kind": ""}
            for one in layers
        ]
        return {"layers": shown}, []

    def run(self, x: np.ndarray, *, key: str):
        """Answers: the outputs, of one input."""
        import torch

        given = torch.from_numpy(x.copy()).cuda()
        outputs = self._enqueue(key, given)
        torch.cuda.synchronize()
        return {}, [one.cpu().numpy() for one in outputs]

    def _enqueue(self, key: str, given, made=None) -> list:
        import torch

        engine, context, _ = self.engines[key]
        outputs = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_mode(name).name == "INPUT":
                context.set_input_shape(name, tuple(given.shape))
                context.set_tensor_address(name, given.data_ptr())
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            if engine.get_tensor_mode(name).name == "INPUT":
                continue
            if made is not None and name == "y":
                one = made
            else:
                shape = tuple(context.get_tensor_shape(name))
                kind = {"FLOAT": torch.float32, "HALF": torch.float16}[engine.get_tensor_dtype(name).name]
                if made is None:
                    one = torch.full(shape, float("nan"), dtype=kind, device="cuda")
                else:  # an intermediate that is an output too: one buffer for all runs
                    one = self.extra.setdefault(f"{key} {name}", torch.empty(shape, dtype=kind, device="cuda"))
            context.set_tensor_address(name, one.data_ptr())
            outputs.append(one)
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise Refused(
                "The engine did not run.", "execute_async_v3 returned False.", "Look at what enqueue returns."
            )
        return outputs

    # ---------------------------------------------------------------- timed from outside
    def fill(self, *, seed: int, count: int, slots: int, half: bool):
        """Fresh inputs, and outputs that hold NaN. The same seed gives the same inputs in every process on this GPU."""
        import torch

        kind = torch.float16 if half else torch.float32
        generator = torch.Generator("cuda").manual_seed(seed)
        if len(self.inputs_) != slots or self.inputs_[0].numel() != count:
            self.inputs_ = [torch.empty(count, dtype=kind, device="cuda") for _ in range(slots)]
            self.outputs = [torch.empty_like(one) for one in self.inputs_]
        for x, y in zip(self.inputs_, self.outputs):
            x.normal_(0, 4, generator=generator)
            y.fill_(float("nan"))
        torch.cuda.synchronize()
        return {}, []

    def go(self, *, what: str, runs: int, beta: float):
        """`runs` runs, slot after slot. what: key of an engine; or copy, framework (PyTorch's operators) or cpu."""
        import torch

        def formula(x):
            return x * torch.tanh(torch.nn.functional.softplus(beta * x))

        with torch.inference_mode(), torch.cuda.stream(self.extra.setdefault("stream", torch.cuda.Stream())):
            for number in range(runs):
                x, y = (many[number % len(self.inputs_)] for many in (self.inputs_, self.outputs))
                if what == "copy":
                    y.copy_(x)
                elif what == "framework":
                    y.copy_(formula(x))
                elif what == "cpu":
                    y.copy_(formula(x.cpu().float()).to(x.dtype))
                else:
                    self._enqueue(what, x, y)
        torch.cuda.synchronize()
        return {}, []

    def sample(self, places: np.ndarray, *, of: str):
        """Elements at these places of all "outputs" or "inputs": [slots, places]."""
        import torch

        chosen = torch.from_numpy(places.copy()).cuda()
        many = self.outputs if of == "outputs" else self.inputs_
        return {}, [torch.stack([one[chosen] for one in many]).cpu().numpy()]


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int) -> None:
    limit(memory_bytes, cpu_seconds)
    gpu = Gpu()
    names = ("load", "build", "plan", "open", "run", "fill", "go", "sample")
    commands = {name: getattr(gpu, name) for name in names}
    serve(commands, read_fd, write_fd, memory_bytes, "Look for memory that is taken at every call.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]))
    os._exit(0)  # destructors of the learner's library could hang
