"""A library that stands for a plugin's where there is no TensorRT: for build scripts, with the course's stand-in for TensorRT 8.6."""

from __future__ import annotations

import tempfile
from pathlib import Path

from course.errors import BuildError
from course.files import atomic_write
from course.kernels import gcc, toolkit

_SOURCE = """
#include <cstdint>
static const unsigned char function[] = {%s};
extern "C" {
// TensorRT's entry points: load_library takes no library without them. There is no class behind them.
void* const* getPluginCreators(int32_t& count) { static void* none = nullptr; count = 0; return &none; }
void* const* getCreators(int32_t& count) { return getPluginCreators(count); }
void setLoggerFinder(void*) {}
// What the stand-in asks for: course/quantize/recording/tensorrt/plugins.py.
const unsigned char* course_stand_in_function(int32_t* bytes) { *bytes = sizeof function; return function; }
}
"""


def stand_in_library(function: bytes, path: str | Path) -> Path:
    """Compile a library which knows one node.

    Args:
        function: a FunctionProto, as bytes: the node, by its name, in ONNX's own operators. It allows the attributes
            plugin_version and plugin_namespace if nodes have them.
        path: of the library.

    Raises:
        KernelError: g++ is missing, or takes too long.
        BuildError: g++ refuses the source.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [toolkit.gxx(), "-x", "c++", "-", "-shared", "-fPIC", "-O0", "-o", "library.so"]
        done = gcc.run(words, folder, text=_SOURCE % ",".join(map(str, function)))
        if done.returncode:
            raise BuildError(
                "The library for the stand-in does not compile.", gcc.first_error(done.stderr), "Report this."
            )
        return atomic_write(path, (Path(folder) / "library.so").read_bytes())
