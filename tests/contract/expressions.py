"""Values of expressions, and where the tests in them lead, for one TensorRT version."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

from .attributes import Attributes, blank, qualified
from .scope import Frame, State, merge, text
from .values import (
    NONE,
    TRUE,
    Blank,
    Class,
    Const,
    Dict,
    Fact,
    Instance,
    Items,
    Listing,
    Many,
    OwnInstance,
    Table,
    each,
    from_python,
    is_none,
    join,
    options,
    to_python,
    truth,
    without_none,
)

COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, whole: item in whole,
    ast.NotIn: lambda item, whole: item not in whole,
}
LONGEST_UNROLL = 64
"""Loops over known items are followed item by item up to this many."""


class Expressions(Attributes):
    """`value(node, frame)` for every kind of expression."""

    def value(self, node: ast.expr, frame: Frame) -> object:
        return self.not_yet(getattr(self, f"value_{type(node).__name__}")(node, frame))

    def values(self, nodes: list, frame: Frame) -> list:
        return [self.value(node, frame) for node in nodes if node is not None]

    # constants and containers

    def value_Constant(self, node: ast.Constant, frame: Frame) -> object:
        return from_python(node.value)

    def value_JoinedStr(self, node: ast.JoinedStr, frame: Frame) -> object:
        parts = self.values(node.values, frame)
        known = all(isinstance(part, Const) for part in parts)
        return Const("".join(str(part.value) for part in parts)) if known else Blank.FOREIGN

    def value_FormattedValue(self, node: ast.FormattedValue, frame: Frame) -> object:
        value = self.value(node.value, frame)
        if node.format_spec is not None:
            self.value(node.format_spec, frame)
        plain = node.format_spec is None and node.conversion == -1
        return value if plain and isinstance(value, Const) else Blank.FOREIGN

    def value_Tuple(self, node: ast.Tuple | ast.List | ast.Set, frame: Frame) -> object:
        items = self.values(node.elts, frame)
        if any(isinstance(element, ast.Starred) for element in node.elts):
            return Many(join(items))
        return Items(tuple(items), fixed=isinstance(node, ast.Tuple))

    value_List = value_Set = value_Tuple

    def value_Starred(self, node: ast.Starred, frame: Frame) -> object:
        return self.element(self.value(node.value, frame))

    def value_Dict(self, node: ast.Dict, frame: Frame) -> object:
        keys, values = self.values(node.keys, frame), self.values(node.values, frame)
        if len(keys) < len(values):  # has a **part
            return Dict(join([*values, Blank.FOREIGN]))
        return Table(tuple(zip(keys, values)))

    def value_Slice(self, node: ast.Slice, frame: Frame) -> object:
        self.values([node.lower, node.upper, node.step], frame)
        return Blank.FOREIGN

    def value_Subscript(self, node: ast.Subscript, frame: Frame) -> object:
        base, key = self.value(node.value, frame), self.value(node.slice, frame)
        if isinstance(base, Listing) and isinstance(key, Const) and self.api.get(base.of, key.value) is None:
            self.miss(node, frame, qualified(base.of, key.value), "KeyError")
        is_slice = isinstance(node.slice, ast.Slice)
        return join(self._item(option, key, is_slice) for option in options(without_none(base)))

    def _item(self, base: object, key: object, is_slice: bool) -> object:
        if isinstance(base, Table):
            exact = [value for known, value in base.pairs if known == key]
            return exact[-1] if exact else join(value for _, value in base.pairs)
        if isinstance(base, Dict):
            return base.value
        if isinstance(base, Listing):
            return Instance(base.of.name) if isinstance(base.of, Class) else Blank.OPAQUE
        if is_slice:
            return Many(self.element(base)) if isinstance(base, (Items, Many)) else blank(base)
        if isinstance(base, Items) and isinstance(key, Const) and isinstance(key.value, int):
            return base.items[key.value] if -len(base.items) <= key.value < len(base.items) else Blank.FOREIGN
        return self.element(base)

    def element(self, value: object) -> object:
        """One item of what a loop over `value` gives."""
        found = []
        for option in options(without_none(value)):
            if isinstance(option, (Items, Many)):
                found += each(option) or [Blank.NEVER if option.fixed else Blank.FOREIGN]
            elif isinstance(option, Table):
                found += [key for key, _ in option.pairs] or [Blank.FOREIGN]
            elif isinstance(option, Instance):
                found.append(self.api.elements(option))
            else:
                found.append(blank(option))
        return self.not_yet(join(found))

    def unroll(self, value: object, frame: Frame) -> list | None:
        """The items of a loop one by one, if they are known and few."""
        items = [key for key, _ in value.pairs] if isinstance(value, Table) else getattr(value, "items", None)
        return list(items) if items and len(items) <= LONGEST_UNROLL and frame.module.near_tensorrt else None

    # operators

    def value_BoolOp(self, node: ast.BoolOp, frame: Frame) -> object:
        stops_at = isinstance(node.op, ast.Or)
        found, before = [], frame.state
        for operand in node.values:
            state = frame.state.copy()
            value = self.value(operand, frame)
            answer = truth(value)
            if answer is stops_at or operand is node.values[-1]:
                found.append(value)
                break
            if answer is None:
                found.append(without_none(value) if stops_at else value)
            frame.state = state
            goes_on = self.ways(operand, frame)[stops_at]
            if goes_on is None:
                break
            frame.state = goes_on
        frame.state = before
        if not stops_at and all(isinstance(value, Fact) or value == TRUE for value in found):
            facts = [value.holds for value in found if isinstance(value, Fact)]
            return Fact(frozenset().union(*facts)) if facts else TRUE
        return join(found)

    def value_UnaryOp(self, node: ast.UnaryOp, frame: Frame) -> object:
        value = self.value(node.operand, frame)
        if isinstance(node.op, ast.Not):
            answer = truth(value)
            return value if value is Blank.NEVER else Blank.FOREIGN if answer is None else Const(not answer)
        if isinstance(node.op, ast.USub) and isinstance(getattr(value, "value", None), int):
            return Const(-value.value)
        return value if value is Blank.NEVER else Blank.FOREIGN

    def value_BinOp(self, node: ast.BinOp, frame: Frame) -> object:
        left, right = self.value(node.left, frame), self.value(node.right, frame)
        sequences = isinstance(left, (Items, Many)) and isinstance(right, (Items, Many))
        if sequences and isinstance(node.op, ast.Add):
            if isinstance(left, Items) and isinstance(right, Items):
                return Items(left.items + right.items, left.fixed)
            return join([left, right])
        return Blank.NEVER if Blank.NEVER in (left, right) else Blank.FOREIGN

    def value_Compare(self, node: ast.Compare, frame: Frame) -> object:
        left, *rights = self.values([node.left, *node.comparators], frame)
        if Blank.NEVER in (left, *rights):
            return Blank.NEVER
        if len(rights) > 1:
            return Blank.FOREIGN
        test, right = node.ops[0], rights[0]
        if isinstance(test, (ast.Is, ast.IsNot)):
            answer = is_none(left) if right == NONE else None
            return Blank.FOREIGN if answer is None else Const(answer is isinstance(test, ast.Is))
        if isinstance(right, Listing) and isinstance(left, Const) and isinstance(test, (ast.In, ast.NotIn)):
            return Const((self.api.get(right.of, left.value) is not None) is isinstance(test, ast.In))
        try:
            return Const(COMPARE[type(test)](to_python(left), to_python(right)))
        except (ValueError, TypeError):
            return Blank.FOREIGN

    def value_IfExp(self, node: ast.IfExp, frame: Frame) -> object:
        found, states = [], []
        for branch, state in zip((node.body, node.orelse), self.ways(node.test, frame)):
            if state is not None:
                frame.state = state
                found.append(self.value(branch, frame))
                states.append(frame.state)
        if states:
            frame.state = merge(states)
        return join(found)

    def value_NamedExpr(self, node: ast.NamedExpr, frame: Frame) -> object:
        value = self.value(node.value, frame)
        self.bind(node.target.id, value, frame)
        return value

    def ways(self, test: ast.expr, frame: Frame) -> tuple[State | None, State | None]:
        """What is known where `test` is true, and where it is false; None for a way that is never gone."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.ways(test.operand, frame)[::-1]
        if isinstance(test, ast.BoolOp):
            stops_at = isinstance(test.op, ast.Or)
            stopped = []
            for operand in test.values:
                goes_on, stops = self.ways(operand, frame)[:: 1 if not stops_at else -1]
                stopped += [stops] if stops is not None else []
                if goes_on is None:
                    break
                frame.state = goes_on
            left = merge(stopped) if stopped else None
            return (left, goes_on) if stops_at else (goes_on, left)
        value = self.value(test, frame)
        if value is Blank.NEVER:
            return None, None
        answer = truth(value)
        if answer is None:
            source, negative = _question(test)
            known = frame.state.answers.get(source)
            answer = None if known is None else known is not negative
        yes = None if answer is False else self._narrow(frame.state.copy(), test, value, True)
        no = None if answer is True else self._narrow(frame.state.copy(), test, value, False)
        return yes, no

    def _narrow(self, state: State, test: ast.expr, value: object, answer: bool) -> State:
        """Add what the answer to a test tells: facts from `hasattr`, names that are or are not None."""
        if answer:
            for option in options(value):
                if isinstance(option, Fact):
                    state.facts |= option.holds
        if not any(isinstance(node, ast.Call) for node in ast.walk(test)):
            source, negative = _question(test)
            state.answers[source] = positive = answer is not negative
            match test:
                case ast.Compare(left, [ast.In() | ast.NotIn()], [whole]) if not positive:
                    parts = getattr(whole, "elts", ())  # not in a tuple: equal to none of its items
                    state.answers.update((f"{text(left)} == {text(part)}", False) for part in parts)
        name, none = None, False
        match test:
            case ast.Compare(ops=[ast.Is() | ast.IsNot() as op], comparators=[ast.Constant(value=None)]):
                name, none = test.left, answer is isinstance(op, ast.Is)
            case ast.Name() | ast.NamedExpr():
                name, none = test, False if answer else None
        name = name.target if isinstance(name, ast.NamedExpr) else name
        if isinstance(name, ast.Name) and name.id in state.names and none is not None:
            state.names[name.id] = NONE if none else without_none(state.names[name.id])
        return state

    # comprehensions and the rest

    def value_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, frame: Frame) -> object:
        found: list = []
        certain = self._comprehend(node.generators, frame, lambda: found.append(self.value(node.elt, frame)))
        return Items(tuple(found), fixed=False) if certain else Many(join(found))

    value_SetComp = value_GeneratorExp = value_ListComp

    def value_DictComp(self, node: ast.DictComp, frame: Frame) -> object:
        found: list = []
        certain = self._comprehend(
            node.generators, frame, lambda: found.append(tuple(self.values([node.key, node.value], frame)))
        )
        return Table(tuple(found)) if certain else Dict(join(value for _, value in found))

    def _comprehend(self, generators: list[ast.comprehension], frame: Frame, visit: Callable[[], None]) -> bool:
        """Visit a comprehension's element for each combination; True if these are exactly known."""
        if not generators:
            visit()
            return True
        first, *rest = generators
        outside, value = frame.state, self.value(first.iter, frame)
        items = self.unroll(value, frame)
        certain = items is not None
        for item in items if certain else [self.element(value)]:
            frame.state = outside.copy()
            self.assign(first.target, item, frame)
            for test in first.ifs:
                yes, no = self.ways(test, frame)
                certain = certain and (yes is None or no is None)
                if yes is None:
                    break
                frame.state = yes
            else:
                certain = self._comprehend(rest, frame, visit) and certain
        frame.state = outside
        return certain

    def value_Lambda(self, node: ast.Lambda, frame: Frame) -> object:
        outside = frame.state
        frame.state = outside.copy()
        arguments = node.args
        self.values([*arguments.defaults, *arguments.kw_defaults], frame)
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        frame.state.names.update((one.arg, Blank.UNKNOWN) for one in given if one is not None)
        if frame.is_class and given[0] is not None:  # name = property(lambda self: …)
            frame.state.names[given[0].arg] = OwnInstance(frame.owner)
        self.value(node.body, frame)
        frame.state = outside
        return Blank.FOREIGN

    def value_Yield(self, node: ast.Yield, frame: Frame) -> object:
        frame.yielded.append(self.value(node.value, frame) if node.value else NONE)
        return Blank.FOREIGN

    def value_YieldFrom(self, node: ast.YieldFrom, frame: Frame) -> object:
        frame.yielded.append(self.element(self.value(node.value, frame)))
        return Blank.FOREIGN

    def value_Await(self, node: ast.Await, frame: Frame) -> object:
        return self.value(node.value, frame)


def _question(test: ast.expr) -> tuple[str, bool]:
    """(source of a test without its negation, whether it was negated): `a != 1` asks the same as `a == 1`."""
    opposite = {ast.NotEq: ast.Eq, ast.NotIn: ast.In, ast.IsNot: ast.Is}
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in opposite:
        same = ast.Compare(test.left, [opposite[type(test.ops[0])]()], test.comparators)
        return ast.unparse(same), True
    return text(test), False
