"""Values of names and attributes. Every attribute of a TensorRT object is looked up in the version's API."""

from __future__ import annotations

import ast
from dataclasses import replace

from .memory import Memory
from .scope import Frame, text
from .values import (
    TENSORRT,
    TRUE,
    Blank,
    Class,
    Instance,
    Listing,
    Member,
    Method,
    OwnClass,
    OwnFunction,
    OwnInstance,
    OwnModule,
    Package,
    join,
    loosened,
    options,
    without_none,
)

STAND_IN = "tensorrt.recording"
"""What the course's recording stand-in has and TensorRT has not: code asks for it to know which of the two it has."""


class Attributes(Memory):
    def value_Name(self, node: ast.Name, frame: Frame) -> object:
        value = self.name(node, frame)
        for option in options(value):
            if isinstance(option, OwnFunction):
                self.escape(option)
        return value

    def name(self, node: ast.Name, frame: Frame) -> object:
        self.mention(node.id)
        found = self.find(node.id, frame)
        if node.id == "TYPE_CHECKING":
            return TRUE
        return Blank.FOREIGN if found is None else found

    def value_Attribute(self, node: ast.Attribute, frame: Frame) -> object:
        value = self.attribute_at(node, frame)
        for option in options(value):
            if isinstance(option, OwnFunction):
                self.escape(option)
        return value

    def attribute_at(self, node: ast.Attribute, frame: Frame) -> object:
        base = self.value(node.value, frame)
        self.findings.reached.add((frame.module.path, node.end_lineno, node.end_col_offset))
        return self.attribute(base, node.attr, node, frame)

    def attribute(self, base: object, name: str, node: ast.AST, frame: Frame) -> object:
        """`base.name` at `node`."""
        self.mention(name)
        proven = bool(frame.state.facts) and (text(getattr(node, "value", node)), name) in frame.state.facts
        return join(self._attribute(option, name, node, frame, proven) for option in options(without_none(base)))

    def _attribute(self, base: object, name: str, node: ast.AST, frame: Frame, proven: bool) -> object:
        if isinstance(base, TENSORRT):
            return self._tensorrt_attribute(base, name, node, frame, proven)
        if base is Blank.OPAQUE:
            self.leave_open(node, frame, f"`{name}` looked up in all classes")
            self.use(node, frame, f"?.{name}")
            if name not in self.api.members and not proven and not name.startswith("__"):
                self.miss(node, frame, f"?.{name}")
            return Blank.OPAQUE
        if base is Blank.UNKNOWN:
            return self._unknown_attribute(name, node, frame, proven)
        if isinstance(base, OwnModule):
            return self.own_module_attribute(base, name)
        if isinstance(base, (OwnClass, OwnInstance)):
            return self._own_attribute(base.key, name, base, node, frame)
        return blank(base)

    def _tensorrt_attribute(self, base: object, name: str, node: ast.AST, frame: Frame, proven: bool) -> object:
        if isinstance(base, (Method, Listing)):
            return Blank.FOREIGN
        if name == "__members__":
            return Listing(base)
        if name == "__class__":
            return Class(base.of) if isinstance(base, (Instance, Member)) else Blank.FOREIGN
        full = qualified(base, name)
        if full == STAND_IN and proven:
            return Blank.FOREIGN
        self.use(node, frame, full)
        found = self.api.get(base, name)
        if found is not None:
            return found
        if name in dir(object) or name in ("__name__", "__qualname__", "__file__", "__path__", "__spec__"):
            return Blank.FOREIGN
        if not proven:
            imported = isinstance(node, ast.ImportFrom)
            self.miss(node, frame, full, "ImportError" if imported else "AttributeError")
        return Blank.FOREIGN if self.settled else Blank.NEVER

    def _unknown_attribute(self, name: str, node: ast.AST, frame: Frame, proven: bool) -> object:
        """The object may be anything. A name that TensorRT has in other versions only is an error."""
        if not frame.module.near_tensorrt:
            return Blank.FOREIGN
        if name in self.names_of_any_version:
            self.leave_open(node, frame, f"`{name}` looked up in all classes")
            if name not in self.api.members and not proven:
                self.miss(node, frame, f"?.{name}")
            return Blank.UNKNOWN
        self.forgive("AttributeError", "perhaps")
        return Blank.UNKNOWN

    def _own_attribute(
        self, key: tuple, name: str, base: OwnClass | OwnInstance, node: ast.AST, frame: Frame
    ) -> object:
        """An attribute of a class of the project or of an object of it, base classes included."""
        found = self.read("names", (key, name))
        if isinstance(found, OwnFunction):
            function = self.functions[found.key]
            if isinstance(base, OwnInstance) and function.is_property:
                return self.read("results", found.key)
            on_class = isinstance(base, OwnClass) and "classmethod" not in function.decorators
            if function.takes_receiver and not on_class:
                return replace(found, receiver=base)
            return found
        value = join([found, self.read("attributes", (key, name))])
        if value is not Blank.NEVER:
            return join(map(loosened, options(value))) if name in self.stored else value
        for parent in self.bases(key):
            if isinstance(parent, OwnClass):
                value = self._own_attribute(parent.key, name, base, node, frame)
                if value is not Blank.FOREIGN:
                    return value
            elif isinstance(parent, Class):
                kind = Instance(parent.name) if isinstance(base, OwnInstance) else parent
                return self._tensorrt_attribute(kind, name, node, frame, proven=name in self.stored)
        return Blank.FOREIGN

    def bases(self, key: tuple) -> tuple:
        """Base classes of a class of the project."""
        found = self.read("bases", key)
        return () if found is Blank.NEVER else found


def qualified(base: object, name: str) -> str:
    """`BuilderFlag.FP16`, `tensorrt.Builder`."""
    if isinstance(base, Package):
        return ".".join(part for part in ("tensorrt", base.path, name) if part)
    return f"{base.name if isinstance(base, Class) else base.of}.{name}"


def blank(value: object) -> Blank:
    """What comes out of something that is neither TensorRT's nor the project's."""
    return value if isinstance(value, Blank) else Blank.FOREIGN
