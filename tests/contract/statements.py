"""Statements, for one TensorRT version: which branches run, what names are bound, what a `try` forgives."""

from __future__ import annotations

import ast

from .attributes import blank
from .definitions import Definitions, last_names
from .memory import Try
from .scope import Frame, Loop, State, merge, text
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
    Package,
    Table,
    join,
    loosened,
    options,
    without_none,
)

MISSING_NAME = {"AttributeError", "ImportError", "ModuleNotFoundError"}
"""What a missing TensorRT name raises. A handler for these is a feature test; one for Exception is not."""


class Statements(Definitions):
    def block(self, body: list[ast.stmt], frame: Frame) -> bool:
        """Visit statements in order; False if the end is never reached."""
        for statement in body:
            self.findings.reached.add((frame.module.path, statement.lineno, statement.col_offset))
            if not getattr(self, f"visit_{type(statement).__name__}")(statement, frame):
                return False
        return True

    def _excuse(self, body: list[ast.stmt], frame: Frame) -> None:
        """This code is for a machine without TensorRT, or for a type checker: no version need come here."""
        inside = [node for statement in body for node in ast.walk(statement)]
        self.findings.reached |= {
            (frame.module.path, node.lineno, node.col_offset) for node in inside if isinstance(node, ast.stmt)
        }
        self.findings.reached |= {
            (frame.module.path, node.end_lineno, node.end_col_offset)
            for node in inside
            if isinstance(node, ast.Attribute)
        }

    def _join_ways(self, frame: Frame, states: list[State]) -> bool:
        if states:
            frame.state = merge(states)
        return bool(states)

    # simple statements

    def visit_Expr(self, node: ast.Expr, frame: Frame) -> bool:
        self.value(node.value, frame)
        return True

    def visit_Pass(self, node: ast.stmt, frame: Frame) -> bool:
        return True

    def visit_Assign(self, node: ast.Assign, frame: Frame) -> bool:
        value = self.value(node.value, frame)
        for target in node.targets:
            self.assign(target, value, frame)
        return True

    def visit_AnnAssign(self, node: ast.AnnAssign, frame: Frame) -> bool:
        kind = self.annotated(node.annotation, frame)
        value = kind if node.value is None else self.value(node.value, frame)
        if kind is not None and not isinstance(value, TENSORRT):
            value = kind if isinstance(value, Blank) else join([kind, value])
        if frame.is_class:  # a field of a dataclass: anybody may give it a value
            value = join([value or Blank.FOREIGN, Blank.FOREIGN])
        if value is not None:
            self.assign(node.target, value, frame)
        return True

    def visit_AugAssign(self, node: ast.AugAssign, frame: Frame) -> bool:
        read = ast.copy_location(ast.BinOp(left=_as_load(node.target), op=node.op, right=node.value), node)
        self.assign(node.target, self.value(read, frame), frame)
        return True

    def visit_Delete(self, node: ast.Delete, frame: Frame) -> bool:
        return True

    def visit_Assert(self, node: ast.Assert, frame: Frame) -> bool:
        yes, no = self.ways(node.test, frame)
        if no is not None and node.msg is not None:
            frame.state = no
            self.value(node.msg, frame)
        return self._join_ways(frame, [yes] if yes is not None else [])

    def visit_Return(self, node: ast.Return, frame: Frame) -> bool:
        frame.returned.append(self.value(node.value, frame) if node.value else NONE)
        return False

    def visit_Raise(self, node: ast.Raise, frame: Frame) -> bool:
        self.values([node.exc, node.cause], frame)
        return False

    def visit_Break(self, node: ast.Break, frame: Frame) -> bool:
        frame.loops[-1].breaks.append(frame.state.copy())
        return False

    def visit_Continue(self, node: ast.Continue, frame: Frame) -> bool:
        frame.loops[-1].continues.append(frame.state.copy())
        return False

    def visit_Global(self, node: ast.Global, frame: Frame) -> bool:
        frame.elsewhere.update((name, (frame.module.name,)) for name in node.names)
        return True

    def visit_Nonlocal(self, node: ast.Nonlocal, frame: Frame) -> bool:
        for name in node.names:
            at = frame.parent
            while at is not None and at.parent is not None and (at.is_class or name not in at.ever):
                at = at.parent
            frame.elsewhere[name] = at.scope
        return True

    def assign(self, target: ast.expr, value: object, frame: Frame) -> None:
        """`target = value`."""
        match target:
            case ast.Name(id=name):
                self.bind(name, value, frame)
            case ast.Attribute(attr="__class__", value=ast.Name(id=name)):  # a downcast
                self.value(target.value, frame)
                self.bind(name, Instance(value.name) if isinstance(value, Class) else Blank.FOREIGN, frame)
            case ast.Attribute():
                base = self.value(target.value, frame)
                self.findings.reached.add((frame.module.path, target.end_lineno, target.end_col_offset))
                self.store_attribute(base, target.attr, value, target, frame)
            case ast.Starred():
                self.assign(target.value, Many(value), frame)
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                for position, one in enumerate(targets):
                    self.assign(one, self._part(value, position, targets), frame)
            case _:  # a subscript
                self.values([target.value, target.slice], frame)
                if isinstance(target.value, (ast.Name, ast.Attribute)):
                    self._fill(target.value, value, frame)

    def _part(self, value: object, position: int, targets: list[ast.expr]) -> object:
        starred = any(isinstance(one, ast.Starred) for one in targets)
        found = []
        for option in options(without_none(value)):
            exact = isinstance(option, Items) and len(option.items) == len(targets) and not starred
            found.append(option.items[position] if exact else self.element(option))
        return join(found)

    def _fill(self, container: ast.Name | ast.Attribute, value: object, frame: Frame) -> None:
        """`container[key] = value`: its content is no longer exactly known."""
        found = self.value(container, frame)
        if isinstance(found, (Items, Many)):
            self.assign(container, Many(join([self.element(found), value])), frame)
        elif isinstance(found, (Table, Dict)):
            self.assign(container, Dict(join([loosened(found).value, value])), frame)

    def store_attribute(self, base: object, name: str, value: object, node: ast.AST, frame: Frame) -> None:
        """`base.name = value`: on a TensorRT object, the name must exist."""
        frame.state.forget(name)
        for option in options(without_none(base)):
            if isinstance(option, (OwnInstance, OwnClass)):
                self.update("attributes", (option.key, name), value)
            elif isinstance(option, (*TENSORRT, Blank)):
                self.attribute(option, name, node, frame)

    # branches and loops

    def visit_If(self, node: ast.If, frame: Frame) -> bool:
        left = []
        for body, state in zip((node.body, node.orelse), self.ways(node.test, frame)):
            if state is not None:
                frame.state = state
                if self.block(body, frame):
                    left.append(frame.state)
            elif self._asks_for_tensorrt(node.test, frame):
                self._excuse(body, frame)
        return self._join_ways(frame, left)

    def _asks_for_tensorrt(self, test: ast.expr, frame: Frame) -> bool:
        """`if TYPE_CHECKING`, `if trt is None`, `if not trt`."""
        match test:
            case (
                ast.UnaryOp(op=ast.Not(), operand=inner)
                | ast.Compare(left=inner, comparators=[ast.Constant(value=None)])
            ):
                return self._asks_for_tensorrt(inner, frame)
            case ast.Name(id=name):
                return name == "TYPE_CHECKING" or isinstance(self.find(name, frame), Package)
        return False

    def visit_While(self, node: ast.While, frame: Frame) -> bool:
        frame.loops.append(Loop())
        ends = []
        for visit in range(3):  # the second time with what the first one left; the third time only the test
            before = frame.state.copy()
            yes, no = self.ways(node.test, frame)
            ends += [no] if no is not None else []
            if visit == 2 or yes is None:
                break
            frame.state = yes
            if not self._loop_body(node.body, frame):
                break
            frame.state = merge([before, frame.state])
        return self._after_loop(node.orelse, ends, frame)

    def visit_For(self, node: ast.For, frame: Frame) -> bool:
        value = self.value(node.iter, frame)
        items = self.unroll(value, frame)
        element = self.element(value)
        frame.loops.append(Loop())
        if items is not None:
            for item in items:
                self.assign(node.target, item, frame)
                if not self._loop_body(node.body, frame):
                    return self._after_loop([], [], frame)
        elif element is not Blank.NEVER:
            for _ in range(2):  # the second time with what the first one left
                before = frame.state.copy()
                self.assign(node.target, element, frame)
                frame.state = merge([before, frame.state] if self._loop_body(node.body, frame) else [before])
        return self._after_loop(node.orelse, [frame.state], frame)

    visit_AsyncFor = visit_For

    def _loop_body(self, body: list[ast.stmt], frame: Frame) -> bool:
        """One round of a loop; False if there is no next one."""
        loop = frame.loops[-1]
        ends = self.block(body, frame)
        next_round = [*loop.continues, *([frame.state] if ends else [])]
        loop.continues.clear()
        return self._join_ways(frame, next_round)

    def _after_loop(self, otherwise: list[ast.stmt], ends: list[State], frame: Frame) -> bool:
        breaks = frame.loops.pop().breaks
        if self._join_ways(frame, ends) and otherwise:
            ends = [frame.state] if self.block(otherwise, frame) else []
        return self._join_ways(frame, [*ends, *breaks])

    def visit_Match(self, node: ast.Match, frame: Frame) -> bool:
        self.value(node.subject, frame)
        before = frame.state
        left, certain = [], False
        for case in node.cases:
            frame.state = before.copy()
            for pattern in ast.walk(case.pattern):
                if isinstance(pattern, ast.MatchValue):
                    self.value(pattern.value, frame)
                elif isinstance(pattern, ast.MatchClass):
                    self.value(pattern.cls, frame)
                name = getattr(pattern, "name", None) or getattr(pattern, "rest", None)
                if isinstance(name, str):
                    self.bind(name, Blank.UNKNOWN, frame)
            catches_all = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
            certain = certain or (catches_all and not case.guard)
            if case.guard is not None:
                yes, _ = self.ways(case.guard, frame)
                if yes is None:
                    continue
                frame.state = yes
            if self.block(case.body, frame):
                left.append(frame.state)
        return self._join_ways(frame, left if certain else [*left, before])

    def visit_With(self, node: ast.With, frame: Frame) -> bool:
        suppressed: frozenset[str] = frozenset()
        for item in node.items:
            value = self.value(item.context_expr, frame)
            if isinstance(item.context_expr, ast.Call) and text(item.context_expr.func).endswith("suppress"):
                suppressed |= last_names(item.context_expr.args)
            entered = join(self._entered(option, item.context_expr, frame) for option in options(value))
            if item.optional_vars is not None:
                self.assign(item.optional_vars, entered, frame)
        if not suppressed:
            return self.block(node.body, frame)
        before = frame.state.copy()
        self.tries.append(Try(suppressed))
        ends = self.block(node.body, frame)
        self.tries.pop()
        return self._join_ways(frame, [before, *([frame.state] if ends else [])])

    visit_AsyncWith = visit_With

    def _entered(self, value: object, node: ast.expr, frame: Frame) -> object:
        """What `with value as x` binds."""
        if isinstance(value, Instance):
            self.attribute(value, "__enter__", node, frame)
            return value
        if isinstance(value, Many):  # a generator function under @contextmanager
            return value.item
        if isinstance(value, OwnInstance):
            method = self._own_attribute(value.key, "__enter__", value, node, frame)
            return self.read("results", method.key) if isinstance(method, OwnFunction) else Blank.FOREIGN
        return blank(value)

    def visit_Try(self, node: ast.Try, frame: Frame) -> bool:
        caught = [last_names([handler.type] if handler.type is not None else []) for handler in node.handlers]
        before = frame.state.copy()
        self.tries.append(Try(frozenset().union(*caught)))
        ends = self.block(node.body, frame)
        missed = self.tries.pop().missed
        inside = merge([before, frame.state])
        if ends:
            ends = self.block(node.orelse, frame)
        left = [frame.state] if ends and "surely" not in missed else []
        for handler, names in zip(node.handlers, caught):
            if names and names <= MISSING_NAME and not missed:
                self._excuse(handler.body, frame)  # no name is missing here, so this handler never runs
                continue
            frame.state = inside.copy()
            if handler.name:
                self.bind(handler.name, Blank.FOREIGN, frame)
            if self.block(handler.body, frame):
                left.append(frame.state)
        ends = self._join_ways(frame, left)
        if not ends:
            frame.state = inside
        return self.block(node.finalbody, frame) and ends

    visit_TryStar = visit_Try


def _as_load(node: ast.expr) -> ast.expr:
    """A target read as a value."""
    match node:
        case ast.Name():
            fresh = ast.Name(node.id, ast.Load())
        case ast.Attribute():
            fresh = ast.Attribute(node.value, node.attr, ast.Load())
        case _:
            fresh = ast.Subscript(node.value, node.slice, ast.Load())
    return ast.copy_location(fresh, node)
