"""A network definition with what 8.6 has on top of TensorRT-RTX's: precisions of layers, ranges of tensors.

Everything else is the real object's. A wrapper goes where the bindings of TensorRT-RTX would not take these settings.
"""

from __future__ import annotations

from typing import Any

import tensorrt_rtx as rtx

from .recording import record


def real(value: Any) -> Any:
    """The object of TensorRT-RTX behind a wrapper, also in lists."""
    if isinstance(value, Wrapper):
        return value._real
    if isinstance(value, (list, tuple)):
        return type(value)(real(one) for one in value)
    return value


class Wrapper:
    """Passes on what it does not know."""

    _real: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = getattr(self._real, name)
        if not callable(found):
            return self._wrap(found)
        return lambda *arguments, **words: self._wrap(
            found(*map(real, arguments), **{key: real(value) for key, value in words.items()})
        )

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        else:
            setattr(self._real, name, real(value))

    def _wrap(self, value: Any) -> Any:
        return value


class Network(Wrapper):
    """`INetworkDefinition`. onnx: what the parser read, None before it did."""

    def __init__(self, network: rtx.INetworkDefinition, explicit_batch: bool):
        self._real, self._explicit_batch = network, explicit_batch
        self._onnx: bytes | None = None
        self._asked: dict[str, dict] = {}

    @property
    def has_implicit_batch_dimension(self) -> bool:
        return not self._explicit_batch

    @property
    def has_explicit_precision(self) -> bool:
        return False

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, rtx.ILayer):
            return Layer(value, self)
        if isinstance(value, rtx.ITensor):
            return Tensor(value, self)
        return value

    def _layers(self) -> list[rtx.ILayer]:
        return [self._real.get_layer(index) for index in range(self._real.num_layers)]

    def _quantised(self) -> bool:
        return any(layer.type in (rtx.LayerType.QUANTIZE, rtx.LayerType.DEQUANTIZE) for layer in self._layers())

    def _tensors(self) -> list[str]:
        """Activations that ONNX has a name for: inputs, then what each layer makes. The parser adds others of its own."""
        inputs = [self._real.get_input(index).name for index in range(self._real.num_inputs)]
        made = [
            tensor.name
            for layer in self._layers()
            for tensor in (layer.get_output(index) for index in range(layer.num_outputs))
            if tensor is not None and tensor.dtype == rtx.DataType.FLOAT and layer.type != rtx.LayerType.CONSTANT
        ]
        known = None if self._onnx is None else _onnx_names(self._onnx)
        return [name for name in dict.fromkeys([*inputs, *made]) if known is None or name in known]

    def _ranged(self) -> list[str]:
        """Tensors whose range the script set."""
        return [name for name, asked in self._asked.items() if "range" in asked]


class _Part(Wrapper):
    def __init__(self, part: Any, network: Network):
        self._real, self._network = part, network

    def _wrap(self, value: Any) -> Any:
        return self._network._wrap(value)

    @property
    def _asked(self) -> dict:
        return self._network._asked.setdefault(self._real.name, {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and other._real.name == self._real.name

    def __hash__(self) -> int:
        return hash(self._real.name)


class Layer(_Part):
    """`ILayer` with the precision that a script asks for; OBEY_PRECISION_CONSTRAINTS makes TensorRT keep to it."""

    @property
    def precision(self) -> Any:
        return self._asked.get("precision", rtx.DataType.FLOAT)

    @precision.setter
    def precision(self, value: Any) -> None:
        self._asked["precision"] = _data_type(value)
        record("ILayer.precision", layer=self._real.name, precision=value.name)

    @property
    def precision_is_set(self) -> bool:
        return "precision" in self._asked

    def reset_precision(self) -> None:
        self._asked.pop("precision", None)
        record("ILayer.reset_precision", layer=self._real.name)

    def set_output_type(self, index: int, dtype: Any) -> None:
        self._asked.setdefault("outputs", {})[index] = _data_type(dtype)
        record("ILayer.set_output_type", layer=self._real.name, index=index, dtype=dtype.name)

    def get_output_type(self, index: int) -> Any:
        return self._asked.get("outputs", {}).get(index, self._real.get_output_type(index))

    def output_type_is_set(self, index: int) -> bool:
        return index in self._asked.get("outputs", {})

    def reset_output_type(self, index: int) -> None:
        self._asked.get("outputs", {}).pop(index, None)
        record("ILayer.reset_output_type", layer=self._real.name, index=index)


class Tensor(_Part):
    """`ITensor` with the range that a script gives it instead of a calibrator."""

    @property
    def dynamic_range(self) -> tuple[float, float] | None:
        return self._asked.get("range")

    @dynamic_range.setter
    def dynamic_range(self, value: tuple[float, float]) -> None:
        self.set_dynamic_range(*value)

    def set_dynamic_range(self, low: float, high: float) -> bool:
        self._asked["range"] = (float(low), float(high))
        record("ITensor.set_dynamic_range", tensor=self._real.name, low=float(low), high=float(high))
        return True

    def reset_dynamic_range(self) -> None:
        self._asked.pop("range", None)
        record("ITensor.reset_dynamic_range", tensor=self._real.name)


def _onnx_names(data: bytes) -> set[str]:
    """Inputs of the graph and results of its nodes."""
    import onnx  # it takes longer than all else here, and most scripts get by without

    graph = onnx.load_model_from_string(data).graph
    return {value.name for value in graph.input} | {name for node in graph.node for name in node.output}


def _data_type(value: Any) -> Any:
    if not isinstance(value, rtx.DataType):
        raise TypeError(f"incompatible function arguments. It takes a tensorrt.DataType, not {value!r}.")
    return value
