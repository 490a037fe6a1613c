"""TensorRT's registry and network, as far as a plugin put in by hand needs them: for a CPU.

They answer as the bindings do: a creator that is not there is None; `PluginField` is TensorRT-RTX's own.
What was put in is kept in `Network.layers`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_DEFAULTS = {"kernel": 1, "stride": 1, "padding": 0}  # the attributes and their defaults, as creator.h has them


@dataclass
class Tensor:
    """name; shape: -1 for a side that is open; dtype: in words."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


@dataclass
class Plugin:
    """What CourseFold's creator made: window = kernel, stride, padding."""

    layer: str
    window: dict[str, int]


def _first_int32(data: object) -> int:
    """Of a field's data: an array in TensorRT 10, 11 and RTX, a bare pointer in a PyCapsule in 8.6 (seen on an H200)."""
    if type(data).__name__ != "PyCapsule":
        return int(data[0])
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.cast(pointer_of(data, name_of(data)), ctypes.POINTER(ctypes.c_int32))[0]


class Creator:
    """CourseFold's."""

    name, plugin_version, plugin_namespace = "CourseFold", "1", ""

    def create_plugin(self, name: str, fields: Iterable) -> Plugin:
        """fields: a PluginFieldCollection."""
        window = dict(_DEFAULTS)
        for one in fields:
            if one.name in window and one.type.name == "INT32":  # the bindings read the array's bytes as this type
                window[one.name] = _first_int32(one.data)
        return Plugin(name, window)


class Registry:
    """Holds CourseFold's creator, if its library was loaded.

    version: 8 has get_plugin_creator, 11 get_creator, 10 both. asked: names, versions and namespaces so far.
    """

    def __init__(self, version: int, loaded: bool = True):
        self.loaded, self.asked = loaded, []
        if version < 11:
            self.get_plugin_creator = self._creator
        if version >= 10:
            self.get_creator = self._creator

    def _creator(self, type: str, version: str, plugin_namespace: str = "") -> Creator | None:
        self.asked.append((type, version, plugin_namespace))
        return Creator() if self.loaded and self.asked[-1] == ("CourseFold", "1", "") else None


class Layer:
    """One plugin layer."""

    def __init__(self, inputs: Sequence[Tensor], plugin: Plugin):
        self.inputs, self.plugin, self.name = list(inputs), plugin, plugin.layer
        n, channels, *sides = inputs[0].shape
        k, s, p = (plugin.window[name] for name in ("kernel", "stride", "padding"))
        grown = [-1 if side < 0 else (side - 1) * s + k - 2 * p for side in sides]
        self._output = Tensor("(Unnamed Layer* 0) [PluginV2DynamicExt]_output_0", (n, channels // k**2, *grown))

    def get_output(self, index: int) -> Tensor | None:
        return self._output if index == 0 else None


class Network:
    """A network with one input `patches`; layers and outputs that were added."""

    def __init__(self, shape: tuple[int, ...]):
        self.inputs, self.layers, self.outputs = [Tensor("patches", shape)], [], []

    def add_plugin_v2(self, inputs: Sequence[Tensor], plugin: Plugin) -> Layer:
        if not isinstance(plugin, Plugin):
            raise TypeError("add_plugin_v2(): incompatible function arguments: plugin is no IPluginV2")
        self.layers.append(Layer(inputs, plugin))
        return self.layers[-1]

    def mark_output(self, tensor: Tensor) -> None:
        self.outputs.append(tensor)
