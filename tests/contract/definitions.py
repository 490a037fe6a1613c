"""Imports, functions, classes and annotations: what names stand for, and what functions are given."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from .attributes import qualified
from .calls import Calls
from .memory import Findings
from .scope import Frame, Function, Module, text
from .values import (
    NONE,
    TENSORRT,
    Blank,
    Class,
    Dict,
    Instance,
    Items,
    Many,
    OwnClass,
    OwnFunction,
    OwnInstance,
    OwnModule,
    Package,
    join,
    options,
)

CONTAINERS = {"Collection", "Generator", "Iterable", "Iterator", "List", "Sequence", "Set", "frozenset", "list", "set"}
DICTS = {"Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict", "dict"}

CONVENTION = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "layer": "ILayer",
    "inspector": "EngineInspector",
    "tensor": "ITensor",
    "profile": "IOptimizationProfile",
    "registry": "IPluginRegistry",
}
"""The course's names for TensorRT's objects, used for parameters of files that mention TensorRT."""


@dataclass
class Visit:
    """One visit of a function or of a module's top level: what it found, and what it built on."""

    findings: Findings
    reads: dict[tuple, object]
    defined: dict[tuple, Function]  # functions within
    settled: bool
    function: Function | None = None

    def holds(self, known: dict[str, dict], settled: bool, function: Function) -> bool:
        """Whether another visit would find the same."""
        return (
            settled == self.settled
            and function.defaults == self.function.defaults
            and function.facts == self.function.facts
            and all(known[store].get(key) == value for (store, key), value in self.reads.items())
        )


class Definitions(Calls):
    def __init__(self, *given: object):
        super().__init__(*given)
        self.visits: dict[tuple, Visit] = {}

    # imports

    def visit_Import(self, node: ast.Import, frame: Frame) -> bool:
        for alias in node.names:
            value = self.import_named(alias.name, node, frame)
            if alias.asname is None and "." in alias.name:
                value = self.import_named(alias.name.partition(".")[0], node, frame)
            self.bind(alias.asname or alias.name.partition(".")[0], value, frame)
        return True

    def import_named(self, name: str, node: ast.AST, frame: Frame) -> object:
        """The module `name`."""
        top, _, path = name.partition(".")
        if top == "tensorrt":
            if path and path not in self.api.modules:
                self.miss(node, frame, name, "ModuleNotFoundError")
                return Blank.FOREIGN
            return Package(path)
        if name in self.modules:
            self.run_module(self.modules[name])
            return OwnModule(name)
        return Blank.FOREIGN

    def visit_ImportFrom(self, node: ast.ImportFrom, frame: Frame) -> bool:
        source = _absolute(node, frame.module)
        module = self.import_named(source, node, frame)
        for alias in node.names:
            self.mention(alias.name)
            if isinstance(module, Package):
                self.use(node, frame, qualified(module, alias.name))
                value = self.attribute(module, alias.name, node, frame)
            elif f"{source}.{alias.name}" in self.modules:
                value = self.import_named(f"{source}.{alias.name}", node, frame)
            elif isinstance(module, OwnModule):
                value = self.own_module_attribute(module, alias.name)
            else:
                value = module
            self.bind(alias.asname or alias.name, value, frame)
        return True

    def own_module_attribute(self, module: OwnModule, name: str) -> object:
        if f"{module.name}.{name}" in self.modules:
            self.run_module(self.modules[f"{module.name}.{name}"])
            return OwnModule(f"{module.name}.{name}")
        place = ((module.name,), name)
        return join([self.read("names", place), self.read("shared", place)])

    def run_module(self, module: Module) -> None:
        """Visit a file's top level, once per pass."""
        if module.name not in self.frames:
            self.frames[module.name] = frame = Frame(module, (module.name,))
            outside = self.findings, self.reads, self.defined, self.tries, self.in_annotation
            self.start_visit()
            self.block(module.tree.body, frame)
            self.publish(frame, frame.state.names)
            self.visits[frame.scope] = Visit(self.findings, self.reads, self.defined, self.settled)
            self.findings, self.reads, self.defined, self.tries, self.in_annotation = outside

    # functions and classes

    def visit_FunctionDef(self, node: ast.FunctionDef, frame: Frame) -> bool:
        key = (*frame.scope, f"{node.name}:{node.lineno}")
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = [*zip(positional[::-1], arguments.defaults[::-1]), *zip(arguments.kwonlyargs, arguments.kw_defaults)]
        defaults = {one.arg: self.value(default, frame) for one, default in pairs if default is not None}
        decorators = last_names(one.func if isinstance(one, ast.Call) else one for one in node.decorator_list)
        self.values(node.decorator_list, frame)
        owner = frame.owner if frame.is_class else None
        function = Function(node, frame, set(frame.state.facts), owner, defaults, decorators)
        self.functions[key] = self.defined[key] = function
        self.present.add(key)
        if "setter" not in decorators:
            self.bind(node.name, OwnFunction(key), frame)
        return True

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef, frame: Frame) -> bool:
        key = (*frame.scope, f"{node.name}:{node.lineno}")
        bases = tuple(option for base in self.values(node.bases, frame) for option in options(base))
        self.values([*node.decorator_list, *(one.value for one in node.keywords)], frame)
        body = Frame(frame.module, key, frame, key, is_class=True)
        body.state.facts = set(frame.state.facts)
        self.class_nodes[key] = node
        self.write("bases", key, bases)
        self.block(node.body, body)
        self.publish(body, body.state.names)
        self.bind(node.name, OwnClass(key), frame)
        return True

    def run_function(self, key: tuple, function: Function) -> None:
        """Visit a function's body with what its callers give it, unless nothing changed since last time."""
        last = self.visits.get(key)
        if last is not None and last.holds(self.known, self.settled, function):
            self.functions.update(last.defined)
            self.present.update(last.defined)
            return
        self.start_visit()
        node, outer = function.node, function.frame
        frame = Frame(outer.module, key, outer, function.owner)
        frame.state.facts = set(function.facts)
        arguments = node.args
        for argument in [*function.arguments, *arguments.kwonlyargs]:
            self.bind(argument.arg, self._parameter(key, function, argument), frame)
        for argument, value in ((arguments.vararg, Many(Blank.UNKNOWN)), (arguments.kwarg, Blank.FOREIGN)):
            if argument is not None:
                if argument.annotation is not None:
                    self.annotated(argument.annotation, outer)
                self.bind(argument.arg, value, frame)
        if function.takes_receiver and function.arguments:
            receiver = OwnClass if "classmethod" in function.decorators else OwnInstance
            self.bind(function.arguments[0].arg, receiver(function.owner), frame)
        if self.block(node.body, frame):
            frame.returned.append(NONE)
        self.publish(frame, frame.ever)
        result = Many(join(frame.yielded)) if frame.yielded else join(frame.returned)
        declared = self.annotated(node.returns, outer) if node.returns is not None else None
        self.update("results", key, result if declared is None or isinstance(result, TENSORRT) else declared)
        self.visits[key] = Visit(self.findings, self.reads, self.defined, self.settled, function)

    def _parameter(self, key: tuple, function: Function, argument: ast.arg) -> object:
        declared = None
        if argument.annotation is not None:
            declared = self.annotated(argument.annotation, function.frame)
        default = function.defaults.get(argument.arg, Blank.NEVER)
        if declared is not None:
            return join([declared, default if default == NONE else Blank.NEVER])
        anything = Blank.UNKNOWN if argument.annotation is None else Blank.FOREIGN
        value = join(
            [self.read("parameters", (key, argument.arg)), default, Blank.NEVER if function.is_private else anything]
        )
        if self.settled and value in (Blank.NEVER, Blank.UNKNOWN):
            return self.by_convention(argument, function.frame.module)
        return value

    def by_convention(self, argument: ast.arg, module: Module) -> object:
        """A parameter that no caller and no annotation tells about: some names always mean the same thing."""
        if argument.annotation is None and module.near_tensorrt and not module.for_rtx:
            if argument.arg in ("trt", "tensorrt"):
                return Package()
            if (name := CONVENTION.get(argument.arg)) in self.api.classes:
                return Instance(name)
        return Blank.UNKNOWN

    # annotations

    def annotated(self, node: ast.expr, frame: Frame) -> object | None:
        """What an annotation says about a value; None if it names nothing of TensorRT or of the project."""
        runs = not (frame.module.lazy_annotations or self._in_string(node))
        if runs and frame.module.near_tensorrt and not self.in_annotation:
            self.value(node, frame)
        before, self.in_annotation = self.in_annotation, True
        found = self._annotated(node, frame)
        self.in_annotation = before
        useful = (Instance, OwnInstance, Items, Many, Dict)
        return found if any(isinstance(option, useful) for option in options(found)) else None

    def _in_string(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Constant) and isinstance(node.value, str)

    def _annotated(self, node: ast.expr, frame: Frame) -> object:
        match node:
            case ast.Constant(value=None):
                return NONE
            case ast.Constant(value=str() as source):
                try:
                    inner = ast.parse(source, mode="eval").body
                except SyntaxError:
                    return Blank.FOREIGN
                for one in ast.walk(inner):
                    ast.copy_location(one, node)
                return self._annotated(inner, frame)
            case ast.BinOp(left=left, right=right):
                return join([self._annotated(left, frame), self._annotated(right, frame)])
            case ast.Subscript(value=outer, slice=inner):
                name = text(outer).rpartition(".")[2]
                parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
                if name in CONTAINERS:
                    item = self._annotated(parts[0], frame)
                    return Many(item) if self._is_known(item) else Blank.FOREIGN
                if name in DICTS and len(parts) == 2:
                    self._annotated(parts[0], frame)
                    item = self._annotated(parts[1], frame)
                    return Dict(item) if self._is_known(item) else Blank.FOREIGN
                if name == "tuple" and any(self._is_known(self._annotated(part, frame)) for part in parts):
                    if len(parts) == 2 and text(parts[1]) == "...":
                        return Many(self._annotated(parts[0], frame))
                    return Items(tuple(self._annotated(part, frame) for part in parts))
                found = [self._annotated(part, frame) for part in parts]
                if name in ("Optional", "Union"):
                    return join([*found, *([NONE] if name == "Optional" else [])])
            case ast.List(elts=parts):
                for part in parts:
                    self._annotated(part, frame)
            case ast.Name() | ast.Attribute():
                found = []
                for option in options(self.value(node, frame)):
                    if isinstance(option, Class):
                        found.append(Instance(option.name))
                    elif isinstance(option, OwnClass):
                        found.append(OwnInstance(option.key))
                return join(found) if found else Blank.FOREIGN
        return Blank.FOREIGN

    def _is_known(self, value: object) -> bool:
        return any(isinstance(option, (Instance, OwnInstance)) for option in options(value))


def last_names(nodes: Iterable[ast.expr]) -> frozenset[str]:
    """Last parts of names and of tuples of names: `functools.cache` -> cache."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Tuple):
            found |= last_names(node.elts)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            found.add(text(node).rpartition(".")[2])
        else:
            found.add("?")
    return frozenset(found)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    """Full name of the module that `from … import` names."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])
