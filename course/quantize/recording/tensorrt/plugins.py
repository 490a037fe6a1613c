"""Plugin libraries: found as TensorRT finds them, their nodes built as what they are made of.

A real plugin needs libnvinfer, and TensorRT-RTX 1.7 ends the process that builds a plugin layer. So a library for the stand-in
(`course.native.plugin.stand_in_library` makes one) has TensorRT's entry points, and one function more, which gives the node
as a FunctionProto of ONNX's own operators. While such a library is open in this process, by whatever opened it, the parser
puts the function in the node's place: `REGISTER_TENSORRT_PLUGIN` registers as the library is opened, and so does this. If it
is not, TensorRT-RTX's parser finds no plugin, in TensorRT's words.

A node is found by its name, plugin_version "1" and an empty plugin_namespace; its domain plays no part.
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
from pathlib import Path
from typing import Any

import tensorrt_rtx as rtx

from .recording import record

ENTRIES = ("getPluginCreators", "setLoggerFinder")
"""What `load_library` of 8.6 asks a library for."""
FUNCTION = "course_stand_in_function"
loggers: list[Any] = []
"""Held for good: TensorRT-RTX goes on using the first one of a process, whoever forgets it."""


class PluginCreator:
    """`IPluginCreator`, to be looked at."""

    plugin_version, plugin_namespace = "1", ""

    def __init__(self, name: str):
        self.name = name


class IPluginRegistry:
    """`IPluginRegistry` of 8.6."""

    error_recorder = None
    parent_search_enabled = True

    def load_library(self, plugin_path: str) -> Any:
        """A handle; None, with the reason in the log, for what is no plugin library."""
        library, reason = None, ""
        try:
            library = ctypes.CDLL(str(plugin_path))
        except OSError as error:
            reason = f"Unable to load library: {error}"
        else:
            if missing := [name for name in ENTRIES if not hasattr(library, name)]:
                reason = (
                    f"SymbolAddress for {missing[0]} could not be loaded, check function name against library symbol"
                )
        record("IPluginRegistry.load_library", path=str(plugin_path), good=not reason)
        if not reason:
            return library
        if library is not None:
            _ctypes.dlclose(library._handle)
        if loggers:
            loggers[0].log(rtx.ILogger.ERROR, f"IPluginRegistry::loadLibrary: {reason}")
        return None

    def deregister_library(self, handle: Any) -> None:
        record("IPluginRegistry.deregister_library")
        _ctypes.dlclose(handle._handle)

    @property
    def plugin_creator_list(self) -> list[PluginCreator]:
        return list(map(PluginCreator, functions()))

    def get_plugin_creator(self, type: str, version: str, plugin_namespace: str = "") -> PluginCreator | None:
        return PluginCreator(type) if (version, plugin_namespace) == ("1", "") and type in functions() else None

    def register_creator(self, creator: Any, plugin_namespace: str = "") -> bool:
        return _registry().register_creator(creator, plugin_namespace)

    def deregister_creator(self, creator: Any) -> bool:
        return _registry().deregister_creator(creator)


_only = IPluginRegistry()


def get_plugin_registry() -> IPluginRegistry:
    return _only


def _registry() -> Any:
    return rtx.get_plugin_registry()


def functions() -> dict[str, bytes]:
    """Node -> FunctionProto, of all libraries that are open in this process now."""
    paths = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    found: dict[str, bytes] = {}
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            continue  # a file, or the program itself
        if hasattr(library, FUNCTION):
            size, function = ctypes.c_int32(), library[FUNCTION]
            function.restype = ctypes.c_void_p
            address = function(ctypes.byref(size))
            data = ctypes.string_at(address, size.value)
            found[_named(data)] = data
        _ctypes.dlclose(library._handle)  # else nobody could close it any more
    return found


def _named(function: bytes) -> str:
    import onnx  # it takes longer than all else here, and most scripts get by without

    return onnx.FunctionProto.FromString(function).name


def in_standard_operators(data: bytes) -> bytes:
    """A model, with each node that an open library knows as what it is made of. What is no model stays as it is."""
    known = functions()
    if not known:
        return data
    import onnx
    import onnx.inliner

    try:
        model = onnx.load_model_from_string(data)
    except Exception:  # protobuf's, of several kinds: the parser says what is wrong
        return data
    used: dict[str, Any] = {}
    for node in model.graph.node:
        words = {one.name: one.s.decode(errors="replace") for one in node.attribute if one.name.startswith("plugin_")}
        if node.op_type in known and words.get("plugin_version", "1") == "1" and not words.get("plugin_namespace"):
            used[node.op_type] = function = onnx.FunctionProto.FromString(known[node.op_type])
            node.domain = function.domain
    if not used:
        return data
    model.functions.extend(used.values())
    domains = {one.domain for one in model.opset_import}
    model.opset_import.extend(
        onnx.helper.make_opsetid(domain, 1) for domain in {one.domain for one in used.values()} - domains
    )
    return onnx.inliner.inline_local_functions(model).SerializeToString()
