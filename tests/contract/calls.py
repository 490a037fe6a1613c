"""Values of calls: TensorRT's functions against their signatures, the project's own, built-in ones."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from .api import misfit
from .attributes import STAND_IN, blank
from .expressions import Expressions
from .scope import Frame, text
from .values import (
    FALSE,
    NONE,
    TENSORRT,
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
    Member,
    Method,
    OwnClass,
    OwnFunction,
    OwnInstance,
    Package,
    Table,
    from_python,
    join,
    loosened,
    options,
    to_python,
    truth,
    without_none,
)

PURE = {
    function.__name__: function for function in (abs, bool, int, len, list, max, min, round, sorted, str, sum, tuple)
}
"""Built-in functions that are computed where all arguments are known."""
ITERATES = {"all", "any", "enumerate", "frozenset", "iter", "next", "reversed", "set", "zip"}
TEXT_METHODS = {
    "capitalize",
    "endswith",
    "format",
    "join",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rpartition",
    "rstrip",
    "split",
    "startswith",
    "strip",
    "title",
    "upper",
}


@dataclass
class Arguments:
    """Of one call. `open`: it has *args or **kwargs, so that names and number are not known."""

    positional: list
    keywords: dict[str, object]
    open: bool


GIVES_BACK = {("course.exercises", "solved"): "mine"}
"""Functions of the course that give back an argument, or something of the same form: known for each call by itself.

Without this all answers of all lessons would be one value, and each would have the others' methods."""


class Calls(Expressions):
    def value_Call(self, node: ast.Call, frame: Frame) -> object:
        special = self._special(node, frame)
        if special is not None:
            return special
        base, function = self._callee(node.func, frame)
        arguments = Arguments(
            self.values(node.args, frame),
            {one.arg: self.value(one.value, frame) for one in node.keywords},
            any(isinstance(one, ast.Starred) for one in node.args) or any(one.arg is None for one in node.keywords),
        )
        if isinstance(node.func, ast.Attribute):
            found = self._container_method(node.func, base, arguments, frame)
            if found is not None:
                return found
        return join(self.call(option, node, arguments, frame) for option in options(without_none(function)))

    def _callee(self, node: ast.expr, frame: Frame) -> tuple[object, object]:
        """(object whose method it is, what is called); a function that is only called does not escape."""
        if isinstance(node, ast.Name):
            return None, self.name(node, frame)
        if isinstance(node, ast.Attribute):
            base = self.value(node.value, frame)
            self.findings.reached.add((frame.module.path, node.end_lineno, node.end_col_offset))
            return base, self.attribute(base, node.attr, node, frame)
        return None, self.value(node, frame)

    def call(self, function: object, node: ast.Call, arguments: Arguments, frame: Frame) -> object:
        match function:
            case Blank():
                return function
            case Class(name):
                self._check_call(Method(name, "__init__", True), name, node, arguments, frame)
                return Instance(name)
            case Method(owner, name):
                self._check_call(function, f"{owner or 'tensorrt'}.{name}", node, arguments, frame)
                return self.api.returns(function)
            case OwnClass(key):
                return self._construct(key, node, arguments, frame)
            case OwnFunction():
                return self._call_own(function, arguments)
        return Blank.FOREIGN

    def _check_call(self, method: Method, name: str, node: ast.Call, arguments: Arguments, frame: Frame) -> None:
        if method.owner and method.name not in self.api.classes[method.owner]:
            return
        signatures = self.api.signatures(method)
        problem = misfit(signatures, len(arguments.positional), list(arguments.keywords))
        if problem is not None and not arguments.open:
            self.misfit(node, frame, f"{name}()", problem)

    def _call_own(self, function: OwnFunction, arguments: Arguments) -> object:
        info = self.functions.get(function.key)
        if info is None:
            return Blank.NEVER
        receiver = [function.receiver] if function.receiver is not None else []
        given = dict(zip((argument.arg for argument in info.arguments), [*receiver, *arguments.positional]))
        given.update((name, value) for name, value in arguments.keywords.items() if name is not None)
        if passed := GIVES_BACK.get((function.key[0], function.key[-1].partition(":")[0])):
            self.update("parameters", (function.key, passed), Blank.FOREIGN)
            return given.get(passed, Blank.FOREIGN)
        for name, value in given.items():
            self.update("parameters", (function.key, name), value)
        if arguments.open:
            self.escape(function)
        return self.read("results", function.key)

    def _construct(self, key: tuple, node: ast.Call, arguments: Arguments, frame: Frame) -> object:
        """Call `__init__`, or fill the fields of a dataclass."""
        new = OwnInstance(key)
        start = self._own_attribute(key, "__init__", new, node, frame)
        if isinstance(start, OwnFunction):
            self._call_own(start, arguments)
        else:
            fields = [
                one.target.id
                for one in self.class_nodes[key].body
                if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
            ]
            given = {**dict(zip(fields, arguments.positional)), **arguments.keywords}
            for name, value in given.items():
                if name in fields:
                    self.update("attributes", (key, name), value)
        return new

    def _container_method(self, func: ast.Attribute, base: object, arguments: Arguments, frame: Frame) -> object | None:
        """Methods of constants, lists and dicts of which the content is known."""
        if isinstance(base, Const) and func.attr in TEXT_METHODS:
            try:
                given = [to_python(value) for value in arguments.positional]
                return from_python(getattr(base.value, func.attr)(*given))
            except (ValueError, TypeError, AttributeError, LookupError):
                return Blank.FOREIGN
        if isinstance(base, (Items, Many)) and func.attr in ("append", "add", "extend", "update", "insert"):
            new = arguments.positional[-1:] or [Blank.FOREIGN]
            new = [self.element(new[0])] if func.attr in ("extend", "update") else new
            grown = Many(join([self.element(base), *new]))
            self.assign(func.value, grown, frame)
            return NONE
        if isinstance(base, (Table, Dict)):
            return self._dict_method(func, base, arguments.positional, frame)
        if isinstance(base, Listing):
            if func.attr == "values" and isinstance(base.of, Class):
                return Many(Instance(base.of.name))
            if func.attr == "items" and isinstance(base.of, Class):
                return Many(Items((Blank.FOREIGN, Instance(base.of.name))))
            if func.attr == "get" and isinstance(base.of, Class):
                name, *default = arguments.positional
                if not isinstance(name, Const):
                    return Instance(base.of.name)
                found = self.api.get(base.of, name.value)
                return found if found is not None else (default or [NONE])[0]
        return None

    def _dict_method(self, func: ast.Attribute, base: Table | Dict, given: list, frame: Frame) -> object:
        every = loosened(base).value
        pairs = base.pairs if isinstance(base, Table) else None
        match func.attr, given:
            case "items", []:
                if pairs is None:
                    return Many(Items((Blank.FOREIGN, every)))
                return Items(tuple(Items(pair) for pair in pairs), fixed=False)
            case "values", []:
                if pairs is None:
                    return Many(every)
                return Items(tuple(value for _, value in pairs), fixed=False)
            case "keys", [] if pairs is not None:
                return Items(tuple(key for key, _ in pairs), fixed=False)
            case "get", [key, *default]:
                return join([self._item(base, key, False), *(default or [NONE])])
            case (("pop" | "setdefault" | "update" | "clear"), [*_]):
                new = [self._item(one, NONE, False) for one in given if isinstance(one, (Table, Dict))]
                self.assign(func.value, Dict(join([every, *given[1:], *new])), frame)
                return join([every, *given[1:]])
        return Blank.FOREIGN

    # built-in functions

    def _special(self, node: ast.Call, frame: Frame) -> object | None:
        """Value of a call that is understood by its name; None for any other."""
        name = getattr(node.func, "id", "")  # empty for an attribute
        if isinstance(node.func, ast.Name) and self.find(name, frame) not in (None, Blank.FOREIGN):
            return None  # the program's own function of that name
        short = name or getattr(node.func, "attr", "")
        plain = not node.keywords and not any(isinstance(argument, ast.Starred) for argument in node.args)
        count = len(node.args)
        if name == "hasattr" and count == 2:
            return self._hasattr(node, frame)
        if name == "getattr" and count in (2, 3):
            return self._getattr(node, frame)
        if name == "setattr" and count == 3:
            base, attribute, value = self.values(node.args, frame)
            if isinstance(attribute, Const):
                self.store_attribute(base, attribute.value, value, node, frame)
            else:
                self._dynamic(node, base, frame)
            return NONE
        if name == "super" and not node.args:
            return self._super(frame)
        if short == "import_module" and count == 1:
            wanted = self.value(node.args[0], frame)
            known = isinstance(wanted, Const)
            return self.import_named(wanted.value, node, frame) if known else Blank.FOREIGN
        if short == "cast" and count == 2:
            kind, value = self.values(node.args, frame)
            return self.annotated(node.args[0], frame) or value
        if name in ("dir", "type") and count == 1:
            value = self.value(node.args[0], frame)
            if name == "dir":
                return Listing(value) if isinstance(value, (Package, Class, Instance)) else Blank.FOREIGN
            return Class(value.of) if isinstance(value, (Instance, Member)) else Blank.FOREIGN
        if plain and name in ITERATES | set(PURE):
            return self._builtin(name, self.values(node.args, frame))
        return None

    def _builtin(self, name: str, given: list) -> object:
        if Blank.NEVER in given:
            return Blank.NEVER
        first = given[0] if given else Items(())
        if name in ("all", "any"):
            answers = {truth(item) for item in first.items} if isinstance(first, Items) else {None}
            if name == "all":
                return FALSE if False in answers else Blank.FOREIGN if None in answers else TRUE
            return TRUE if True in answers else Blank.FOREIGN if None in answers else FALSE
        if name == "next":
            return join([self.element(first), *given[1:]])
        if name == "enumerate":
            if isinstance(first, Items):
                return Items(tuple(Items((Const(number), item)) for number, item in enumerate(first.items)))
            return Many(Items((Blank.FOREIGN, self.element(first))))
        if name == "zip":
            if all(isinstance(one, Items) for one in given):
                return Items(tuple(Items(together) for together in zip(*(one.items for one in given))))
            return Many(Items(tuple(self.element(one) for one in given)))
        try:
            if name in PURE:
                return from_python(PURE[name](*(to_python(value) for value in given)))
        except (ValueError, TypeError, OverflowError):
            pass
        if name in ("iter", "list", "reversed", "set", "frozenset", "sorted", "tuple"):
            if name in ("list", "tuple", "iter") and isinstance(first, Items):
                return Items(first.items, fixed=name == "tuple")
            return Many(self.element(first))
        return Blank.FOREIGN

    def _hasattr(self, node: ast.Call, frame: Frame) -> object:
        """The feature test: its real answer for this version, or a fact to hold where it is true."""
        base, name = self.values(node.args, frame)
        if not isinstance(name, Const):
            self._dynamic(node, base, frame)
            return Blank.FOREIGN
        if base is Blank.NEVER:
            return Blank.NEVER
        answers = set()
        for option in options(without_none(base)):
            if option == Package("") and name.value == STAND_IN.rpartition(".")[2]:
                answers.add(None)  # either, in each version
            elif isinstance(option, TENSORRT):
                answers.add(self.api.get(option, name.value) is not None)
            elif isinstance(option, OwnInstance) and (found := self._tensorrt_base(option.key)):
                answers.add(True if self.api.get(found, name.value) is not None else None)
            else:
                answers.add(None)
        if len(answers) == 1 and None not in answers:
            return Const(answers.pop())
        return Fact(frozenset({(text(node.args[0]), name.value)}))

    def _tensorrt_base(self, key: tuple) -> Instance | None:
        for base in self.bases(key):
            found = (
                Instance(base.name)
                if isinstance(base, Class)
                else self._tensorrt_base(base.key)
                if isinstance(base, OwnClass)
                else None
            )
            if found is not None:
                return found
        return None

    def _getattr(self, node: ast.Call, frame: Frame) -> object:
        base, name, *default = self.values(node.args, frame)
        names = [option.value for option in options(name) if isinstance(option, Const)]
        if len(names) < len(options(name)):
            self._dynamic(node, base, frame)
            return join([self._any_of(base), *default])
        if not default:
            return join(self.attribute(base, one, _at(node, node.args[0]), frame) for one in names)
        return join(self._attribute_or(base, one, default[0], node, frame) for one in names)

    def _attribute_or(self, base: object, name: str, default: object, node: ast.Call, frame: Frame) -> object:
        found = []
        for option in options(without_none(base)):
            if isinstance(option, TENSORRT):
                value = self.api.get(option, name)
                found.append(default if value is None else value)
            elif option in (Blank.UNKNOWN, Blank.OPAQUE):
                found += [option, default]
            else:
                found += [self._attribute(option, name, node, frame, proven=True), default]
        return join(found)

    def _any_of(self, base: object) -> object:
        if isinstance(base, Class):
            return Instance(base.name)
        return Blank.OPAQUE if isinstance(base, TENSORRT) else blank(base)

    def _dynamic(self, node: ast.Call, base: object, frame: Frame) -> None:
        if any(isinstance(option, TENSORRT) for option in options(base)):
            self.leave_open(node, frame, "the name is made at run time")

    def _super(self, frame: Frame) -> object:
        at = frame
        while at is not None and at.owner is None:
            at = at.parent
        for base in self.bases(at.owner) if at is not None else ():
            if isinstance(base, Class):
                return Instance(base.name)
            if isinstance(base, OwnClass):
                return OwnInstance(base.key)
        return Blank.FOREIGN


def _at(node: ast.Call, base: ast.expr) -> ast.Attribute:
    """`getattr(base, name)` as an attribute node, for facts about `base`."""
    return ast.copy_location(ast.Attribute(value=base, attr="", ctx=ast.Load()), node)
