"""The checked program's files, functions and classes, and the variables at one point of it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from .values import join

Facts = set[tuple[str, str]]
"""(source of an expression, attribute name): this object has this attribute, a feature test said so."""


@dataclass
class State:
    """What is known at one point: the value of each local name, and what tests on the way there established.

    `answers` remembers tests whose answer is not known, by their source: after `if fp16 and not HAS_FP16:
    raise`, a TensorRT without FP16 never comes into a later `if fp16:`.
    """

    names: dict[str, object] = field(default_factory=dict)
    facts: Facts = field(default_factory=set)
    answers: dict[str, bool] = field(default_factory=dict)

    def copy(self) -> State:
        return State(dict(self.names), set(self.facts), dict(self.answers))

    def forget(self, name: str) -> None:
        """A variable or attribute of this name changes: drop what tests told about it."""
        if not (self.answers or self.facts):
            return
        word = re.compile(rf"\b{re.escape(name)}\b")
        self.answers = {test: answer for test, answer in self.answers.items() if not word.search(test)}
        self.facts = {fact for fact in self.facts if not word.search(fact[0])}


def merge(states: list[State]) -> State:
    """What is known where several ways meet."""
    if len(states) == 1:
        return states[0]
    names = {name for state in states for name in state.names}
    return State(
        {name: join(state.names[name] for state in states if name in state.names) for name in names},
        set.intersection(*(state.facts for state in states)),
        dict(set.intersection(*(set(state.answers.items()) for state in states))),
    )


@dataclass
class Module:
    """One source file. `name` is its import name, or its path for a script."""

    name: str
    path: str
    tree: ast.Module
    is_package: bool

    def __post_init__(self) -> None:
        nodes = list(ast.walk(self.tree))
        imports = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        imports += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
        self.lazy_annotations = "__future__" in imports
        self.for_rtx = any(name.partition(".")[0] == "tensorrt_rtx" for name in imports)
        self.near_tensorrt = any(_names_tensorrt(node) for node in nodes)


def _names_tensorrt(node: ast.AST) -> bool:
    fields = {
        ast.Name: "id",
        ast.alias: "name",
        ast.arg: "arg",
        ast.ImportFrom: "module",
        ast.Constant: "value",
    }  # an annotation in quotes, an argument of import_module
    name = getattr(node, fields.get(type(node), ""), None)
    return isinstance(name, str) and name.partition(".")[0] in ("trt", "tensorrt")


def text(node: ast.AST) -> str:
    """Source of a node, made once."""
    if not hasattr(node, "course_text"):
        node.course_text = ast.unparse(node)
    return node.course_text


def read_module(path: Path, root: Path) -> Module:
    """Parse one file below `root`."""
    relative = path.relative_to(root)
    parts = relative.with_suffix("").parts
    package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if package else parts)
    return Module(name, str(relative), ast.parse(path.read_text(), str(path)), package)


@dataclass
class Loop:
    """States in which `break` and `continue` leave a loop's body."""

    breaks: list[State] = field(default_factory=list)
    continues: list[State] = field(default_factory=list)


@dataclass
class Frame:
    """A running module, class body or function. `scope` names it across passes."""

    module: Module
    scope: tuple
    parent: Frame | None = None
    owner: tuple | None = None  # class whose body or method this is
    is_class: bool = False
    state: State = field(default_factory=State)
    ever: dict[str, object] = field(default_factory=dict)  # all that a name was bound to, for inner functions
    elsewhere: dict[str, tuple] = field(default_factory=dict)  # names declared global or nonlocal
    returned: list = field(default_factory=list)
    yielded: list = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)  # around the visited place


@dataclass
class Function:
    """A function that was defined in visited code."""

    node: ast.FunctionDef | ast.AsyncFunctionDef
    frame: Frame  # where it was defined
    facts: Facts
    owner: tuple | None
    defaults: dict[str, object]
    decorators: frozenset[str]

    @property
    def arguments(self) -> list[ast.arg]:
        """Parameters that can be given by position."""
        return [*self.node.args.posonlyargs, *self.node.args.args]

    @property
    def is_property(self) -> bool:
        return bool(self.decorators & {"property", "cached_property"})

    @property
    def takes_receiver(self) -> bool:
        return self.owner is not None and "staticmethod" not in self.decorators

    @property
    def is_private(self) -> bool:
        """Only code of this project calls it, so that its visited callers tell all about its parameters."""
        name = self.node.name
        local = self.frame.scope[1:] != () and not self.frame.is_class
        return local or (name.startswith("_") and not name.endswith("__"))
