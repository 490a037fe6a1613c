"""An engine and its contexts with the calls of TensorRT 8.6 to 11, on the stand-in's memory; ONNX Runtime computes.

As in TensorRT, shapes and addresses are taken when a run is enqueued. The first run after a change of shapes does work
on the CPU that a capture forbids (Developer Guide, "CUDA Graphs": call enqueueV3 once before the capture). An output
whose shape depends on the data needs the CPU in every run, so it can never be captured.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from course.errors import UnsupportedError
from course.serving.stand_in.runtime import Runtime, Work


class TensorIOMode(IntEnum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class DataType(IntEnum):
    """The types that the stand-in runs, with TensorRT's numbers."""

    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


_TYPES = {
    "float": DataType.FLOAT,
    "float16": DataType.HALF,
    "int8": DataType.INT8,
    "int32": DataType.INT32,
    "bool": DataType.BOOL,
    "uint8": DataType.UINT8,
    "int64": DataType.INT64,
}
_NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
    DataType.INT64: np.int64,
}


class Engine:
    """Args:
    runtime: whose memory and streams it uses.
    model: an ONNX file or its bytes; its first dimension may be open.
    profiles: for each, (smallest, usual, largest) size of the open dimension.

    Raises:
        UnsupportedError: a type of an input or output that is not run here.
    """

    def __init__(self, runtime: Runtime, model: str | Path | bytes, profiles: Sequence[tuple[int, int, int]]):
        proto = onnx.load(io.BytesIO(model) if isinstance(model, bytes) else str(model))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.runtime, self._profiles = runtime, [tuple(map(int, sizes)) for sizes in profiles]
        self._session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        self._modes, self._shapes, self._types = {}, {}, {}
        for mode, values in (
            (TensorIOMode.INPUT, self._session.get_inputs()),
            (TensorIOMode.OUTPUT, self._session.get_outputs()),
        ):
            for value in values:
                kind = value.type.removeprefix("tensor(").removesuffix(")")
                if kind not in _TYPES:
                    raise UnsupportedError(
                        f"{value.name!r} is of type {kind}.",
                        f"The stand-in runs {', '.join(_TYPES)}.",
                        "Use a model with one of these at its ends.",
                    )
                self._modes[value.name], self._types[value.name] = mode, _TYPES[kind]
                self._shapes[value.name] = tuple(size if isinstance(size, int) else -1 for size in value.shape)

    @property
    def num_io_tensors(self) -> int:
        return len(self._modes)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def get_tensor_name(self, index: int) -> str:
        return list(self._modes)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._modes.get(name, TensorIOMode.NONE)

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._types[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [
            tuple(size if side < 0 else side for side in self._shapes[name]) for size in self._profiles[int(profile)]
        ]

    def create_execution_context(self) -> Context:
        return Context(self)

    def compute(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [name for name, mode in self._modes.items() if mode == TensorIOMode.OUTPUT]
        return dict(zip(names, self._session.run(names, dict(feeds))))

    def shapes_for(self, inputs: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """Of the outputs; -1 where the shape is not known before the run."""
        batch = next(iter(inputs.values()))[0]
        outputs = [name for name, mode in self._modes.items() if mode == TensorIOMode.OUTPUT]
        return {
            name: tuple(
                batch if place == 0 and side < 0 and not self._depends_on_data(name) else side
                for place, side in enumerate(self._shapes[name])
            )
            for name in outputs
        }

    def _depends_on_data(self, name: str) -> bool:
        """Whether the open first side of an output is another one than the inputs'."""
        ours = {value.shape[0] for value in self._session.get_inputs() if value.shape}
        (side,) = (value.shape[0] for value in self._session.get_outputs() if value.name == name)
        return not isinstance(side, int) and side not in ours


class Context:
    """An execution context. It starts with profile 0, without shapes and addresses."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.active_optimization_profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {
            name: engine.get_tensor_shape(name)
            for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
            if engine.get_tensor_mode(name) == TensorIOMode.INPUT
        }
        self._addresses: dict[str, int] = {}
        self._prepared: dict[str, tuple[int, ...]] | None = None
        self.refusal = ""
        """Why the last call gave False: what TensorRT would write into its log."""

    def set_optimization_profile_async(self, profile: int, stream) -> bool:
        if int(profile) not in range(self.engine.num_optimization_profiles):
            return self._refuse(f"profile {profile} does not exist")
        self.active_optimization_profile, self._prepared = int(profile), None
        return True

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        if name not in self._shapes:
            return self._refuse(f"{name!r} is no input")
        shape = tuple(map(int, shape))
        low, _, high = self.engine.get_tensor_profile_shape(name, self.active_optimization_profile)
        if len(shape) != len(low) or not all(a <= b <= c for a, b, c in zip(low, shape, high)):
            return self._refuse(
                f"{name} {list(shape)} is outside profile {self.active_optimization_profile}: {list(low)} to {list(high)}"
            )
        self._shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name] if name in self._shapes else self.engine.shapes_for(self._shapes)[name]

    def infer_shapes(self) -> list[str]:
        return [name for name, shape in self._shapes.items() if -1 in shape]

    def set_tensor_address(self, name: str, address: int) -> bool:
        if self.engine.get_tensor_mode(name) == TensorIOMode.NONE:
            return self._refuse(f"there is no tensor {name!r}")
        self._addresses[name] = int(address)
        return True

    def get_tensor_address(self, name: str) -> int:
        return self._addresses.get(name, 0)

    def execute_async_v3(self, stream_handle) -> bool:
        runtime, names = self.engine.runtime, [*self._shapes, *self.engine.shapes_for(self._shapes)]
        runtime.events.append(("execute_async_v3", f"{[list(shape) for shape in self._shapes.values()]}"))
        if unknown := self.infer_shapes():
            return self._refuse(f"the shape of {', '.join(unknown)} is not set")
        if missing := [name for name in names if not self._addresses.get(name)]:
            return self._refuse(f"no address is set for {', '.join(missing)}")
        outputs = self.engine.shapes_for(self._shapes)
        if self._prepared != self._shapes or any(-1 in shape for shape in outputs.values()):
            if runtime.prohibited("a call of TensorRT that waits for the GPU"):
                return self._refuse("CUDA error 900: operation not permitted when stream is capturing")
            self._prepared = dict(self._shapes)
        return not runtime.enqueue(stream_handle, self._work(dict(self._shapes), dict(self._addresses)))

    def _work(self, shapes: dict, addresses: dict) -> Work:
        """One run of the network, with the shapes and addresses of now."""
        engine = self.engine

        def view(name: str, shape: Sequence[int]) -> np.ndarray:
            dtype = np.dtype(_NUMPY[engine.get_tensor_dtype(name)])
            size = int(np.prod(shape)) * dtype.itemsize
            return engine.runtime.memory.bytes_at(addresses[name], size, "device").view(dtype).reshape(shape)

        def do() -> None:
            results = engine.compute({name: view(name, shape).copy() for name, shape in shapes.items()})
            for name, value in results.items():
                view(name, value.shape)[...] = value

        return Work("the network", do)

    def _refuse(self, why: str) -> bool:
        self.refusal = why
        self.engine.runtime.events.append(("refused", why))
        return False
