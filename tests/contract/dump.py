"""Write the API of one bindings wheel as JSON, in a process of its own: `dump.py UNPACKED_WHEEL OUT.json`.

    {"version": "10.16.1.11",
     "modules": {"": {name: entry}, "plugin": {…}},        what `tensorrt` and `tensorrt.plugin` hold
     "classes": {"Logger.Severity": {name: entry}}}        by qualified name, members of base classes included

An entry is one of
    {"kind": "class", "name": …}                a class; look it up in "classes"
    {"kind": "member", "of": …}                 a value of an enum
    {"kind": "method", "static": bool, "signatures": […]}  a function or method, as pybind11 documents it
    {"kind": "property", "type": …}             "" where pybind11 does not tell
    {"kind": "module"}, {"kind": "value"}
"""

import importlib
import inspect
import json
import re
import sys
import types

classes = {}


def main(folder, target):
    sys.path.insert(0, folder)
    sys.modules["tensorrt_libs"] = None  # an installed TensorRT must not be loaded instead of the stubs
    tensorrt = importlib.import_module("tensorrt_bindings")
    sys.modules["tensorrt"] = tensorrt  # its plugin module wants that name
    modules = {"": {name: entry(getattr(tensorrt, name)) for name in dir(tensorrt) if public(name)}}
    try:
        plugin = importlib.import_module("tensorrt_bindings.plugin")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt_bindings.plugin":
            raise
    else:
        modules["plugin"] = {name: entry(getattr(plugin, name)) for name in dir(plugin) if public(name)}
        modules[""]["plugin"] = {"kind": "module"}
    with open(target, "w") as file:
        json.dump({"version": tensorrt.__version__, "modules": modules, "classes": classes}, file, indent=1)


def public(name):
    return not name.startswith("_") or name == "__version__"


def of_interest(name):
    if name.startswith("__"):
        return name == "__init__" or name not in dir(object)
    return not name.startswith("_")


def entry(value, owner=None):
    if inspect.isclass(value):
        name = value.__qualname__
        if name not in classes:
            classes[name] = members = {}
            members.update((key, entry(getattr(value, key), value)) for key in dir(value) if of_interest(key))
        return {"kind": "class", "name": name}
    if hasattr(type(value), "__members__"):
        entry(type(value))
        return {"kind": "member", "of": type(value).__qualname__}
    if isinstance(value, property):
        text = getattr(value.fget, "__doc__", None) or ""
        return {"kind": "property", "type": text.partition("->")[2].strip()}
    if isinstance(value, types.ModuleType):
        return {"kind": "module"}
    if callable(value):
        name = getattr(value, "__name__", "")
        line = rf"^(?:\d+\. )?{re.escape(name)}(\(.*\) -> .*)$"
        found = re.findall(line, value.__doc__ or "", re.MULTILINE)
        static = owner is not None and inspect.isbuiltin(value)
        return {"kind": "method", "static": static, "signatures": found}
    return {"kind": "value"}


main(*sys.argv[1:])
