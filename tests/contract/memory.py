"""What the checker remembers while it visits a program for one TensorRT version, from pass to pass."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .api import Api
from .scope import Frame, Function, Module, text
from .values import Blank, OwnFunction, depth, join, options

DEEPEST = 8
"""Containers nested deeper than this count as foreign, so that the visits come to an end."""


@dataclass
class Try:
    """A `try` around the visited place: the errors that it catches by name, and what raised one of them."""

    catches: frozenset[str]
    missed: list[str] = field(default_factory=list)  # "surely" or "perhaps"


@dataclass(frozen=True)
class Finding:
    """A place in the source, and the TensorRT name there. `detail` is empty for a name that is missing."""

    path: str
    line: int
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.name}{': ' * bool(self.detail)}{self.detail}"


@dataclass
class Findings:
    """What one visit of a function, or of a module's top level, found."""

    missing: set[Finding] = field(default_factory=set)
    missing_in_annotations: set[Finding] = field(default_factory=set)
    misfits: set[Finding] = field(default_factory=set)
    unresolved: set[Finding] = field(default_factory=set)
    used: set[Finding] = field(default_factory=set)
    reached: set[tuple[str, int, int]] = field(default_factory=set)  # (path, line, column) of visited code:
    # where a statement begins and where an attribute ends


class Memory:
    """What is known of the whole program: joins over all visits, in `known`.

        "parameters"  (function, name) -> what callers give
        "results"     function         -> what it returns
        "attributes"  (class, name)    -> what `object.name = …` stores
        "shared"      (scope, name)    -> what inner functions store by `global` and `nonlocal`
        "names"       (scope, name)    -> a finished module's, class body's or function's variables
        "bases"       class            -> its base classes

    A program is visited again and again until nothing of this changes. `settled` is False while a value that
    is not there yet may still come; then, what is still not there counts as unknown.
    """

    def __init__(self, api: Api, names_of_any_version: frozenset[str], modules: Mapping[str, Module]):
        self.api, self.names_of_any_version, self.modules = api, names_of_any_version, modules
        self.known: dict[str, dict] = {
            "parameters": {},
            "results": {},
            "attributes": {},
            "shared": {},
            "names": {},
            "bases": {},
        }
        self.vague: dict[tuple, set] = {}  # (store, key) -> what was joined into it that is not TensorRT's
        self.functions: dict[tuple, Function] = {}
        self.present: set[tuple] = set()  # functions that this pass came to
        self.class_nodes: dict[tuple, ast.ClassDef] = {}
        self.live: set[str] = set()  # every name that visited code mentions
        self.stored = _stored_attributes(modules.values())
        self.settled = self.changed = False
        self.frames: dict[str, Frame] = {}  # modules of this pass
        self.start_visit()

    def start_visit(self) -> None:
        """Forget what belongs to the visit of one function or module."""
        self.findings = Findings()
        self.reads: dict[tuple, object] = {}  # what the visit took from `known`
        self.defined: dict[tuple, Function] = {}
        self.tries: list[Try] = []  # around the place that is visited
        self.in_annotation = False

    def read(self, store: str, key: tuple) -> object:
        """What is known under a key; NEVER if nothing is."""
        value = self._recall(store, key)
        return Blank.NEVER if value is None else value

    def _recall(self, store: str, key: tuple) -> object | None:
        self.reads[store, key] = value = self.known[store].get(key)
        return value

    def write(self, store: str, key: tuple, value: object) -> None:
        if self.known[store].get(key) != value:
            self.known[store][key], self.changed = value, True

    def update(self, store: str, key: tuple, value: object) -> None:
        """Join `value` into what is known.

        What absorbed an object of another library once (see `join`) does so from then on: else two callers, one with
        such an object, would change the value to and fro for ever.
        """
        vague = {Blank.FOREIGN}.intersection(options(value)) | self.vague.get((store, key), set())
        if vague:
            self.vague[store, key] = vague
        joined = join([self.known[store].get(key, Blank.NEVER), value, *vague])
        if joined is not Blank.NEVER:
            self.write(store, key, Blank.FOREIGN if depth(joined) > DEEPEST else joined)

    def publish(self, frame: Frame, names: Mapping[str, object]) -> None:
        """Make the variables of a finished scope known to other scopes."""
        for name, value in names.items():
            self.write("names", (frame.scope, name), value)

    def mention(self, name: str) -> None:
        if name not in self.live:
            self.live.add(name)
            self.changed = True

    def not_yet(self, value: object) -> object:
        """`value`, or "unknown" for one that is not there and will not come any more."""
        return Blank.UNKNOWN if self.settled and value is Blank.NEVER else value

    def miss(self, node: ast.AST, frame: Frame, name: str, error: str = "AttributeError") -> None:
        """A name that this version lacks is used here, which raises `error`."""
        finding = Finding(frame.module.path, node.lineno, name)
        if self.in_annotation:
            self.findings.missing_in_annotations.add(finding)
        elif not self.forgive(error, "surely"):
            self.findings.missing.add(finding)

    def misfit(self, node: ast.AST, frame: Frame, name: str, problem: str) -> None:
        """A call here does not fit the signature of this version, which raises TypeError."""
        if not self.in_annotation and not self.forgive("TypeError", "surely"):
            self.findings.misfits.add(Finding(frame.module.path, node.lineno, name, problem))

    def forgive(self, error: str, certainty: str) -> bool:
        """Whether a `try` around catches this error by name: then it is a feature test, not a mistake."""
        for one in reversed(self.tries):
            if error in one.catches or (error == "ModuleNotFoundError" and "ImportError" in one.catches):
                one.missed.append(certainty)
                return True
        return False

    def use(self, node: ast.AST, frame: Frame, name: str) -> None:
        self.findings.used.add(Finding(frame.module.path, node.lineno, name))

    def leave_open(self, node: ast.AST, frame: Frame, why: str) -> None:
        self.findings.unresolved.add(Finding(frame.module.path, node.lineno, text(node), why))

    def escape(self, function: OwnFunction) -> None:
        """A function is handed around: anybody may call it with anything."""
        info = self.functions.get(function.key)
        for argument in info.arguments[info.takes_receiver :] if info else ():
            self.update("parameters", (function.key, argument.arg), Blank.UNKNOWN)

    def find(self, name: str, frame: Frame) -> object | None:
        """Value of a variable; None if it is no variable of the program."""
        at, running = frame, True  # whether `at` is still being visited: a class body runs within its parent
        if name in frame.elsewhere:
            while at.parent is not None and at.scope != frame.elsewhere[name]:
                at, running = at.parent, False
        while at is not None:
            found = [self._recall("shared", (at.scope, name))]
            if running and name in at.state.names and (at is frame or not at.is_class):
                found.append(at.state.names[name])
            elif not at.is_class and (not running or at.parent is None):  # import cycle: last pass
                found.append(self._recall("names", (at.scope, name)))
            found = [value for value in found if value is not None]
            if found:
                return join(found)
            at, running = at.parent, running and at.is_class
        return None

    def bind(self, name: str, value: object, frame: Frame) -> None:
        """`name = value` in this frame."""
        if name in frame.elsewhere:
            self.update("shared", (frame.elsewhere[name], name), value)
        else:
            frame.state.forget(name)
            frame.state.names[name] = value
            frame.ever[name] = join([frame.ever.get(name, Blank.NEVER), value])


def _stored_attributes(modules: Iterable[Module]) -> frozenset[str]:
    """Names of attributes that are written outside an `__init__`: their value may change at any time."""
    stored = set()

    def visit(node: ast.AST, in_init: bool) -> None:
        in_init = node.name == "__init__" if isinstance(node, ast.FunctionDef) else in_init
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and not in_init:
            stored.add(node.attr)
        for child in ast.iter_child_nodes(node):
            visit(child, in_init)

    for module in modules:
        visit(module.tree, False)
    return frozenset(stored)
