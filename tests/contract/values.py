"""What the checker can know about a value in a program that uses TensorRT."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Blank(enum.Enum):
    """A value of which nothing more is known."""

    NEVER = "no value yet: the code that makes it was not visited, or never returns"
    FOREIGN = "not TensorRT's: NumPy, PyTorch, the standard library, a plain Python object"
    UNKNOWN = "a parameter that nothing tells about: may or may not be TensorRT's"
    OPAQUE = "came out of TensorRT, but its documentation does not tell the class"


@dataclass(frozen=True)
class Const:
    """A Python constant: whole number, string, bytes, None, True, False."""

    value: object


@dataclass(frozen=True)
class Items:
    """A tuple or list of which every item is known. `fixed`: it cannot grow (a tuple)."""

    items: tuple
    fixed: bool = True


@dataclass(frozen=True)
class Many:
    """Any number of items of one kind: a list, a generator, a set."""

    item: object


@dataclass(frozen=True)
class Table:
    """A dict of which every key and value is known."""

    pairs: tuple[tuple, ...]


@dataclass(frozen=True)
class Dict:
    """A dict with any keys and values of one kind."""

    value: object


@dataclass(frozen=True)
class Fact:
    """True if certain objects have certain attributes: a `hasattr` on an object of unknown class."""

    holds: frozenset[tuple[str, str]]


# TensorRT's own


@dataclass(frozen=True)
class Package:
    """The module `tensorrt`, or `tensorrt.plugin`."""

    path: str = ""


@dataclass(frozen=True)
class Class:
    name: str


@dataclass(frozen=True)
class Instance:
    """An object of a TensorRT class, or None where TensorRT may return None."""

    of: str


@dataclass(frozen=True)
class Member:
    """A value of an enum."""

    of: str
    name: str


@dataclass(frozen=True)
class Method:
    """A function, or a method of class `owner`; `bound` if it was taken from an object."""

    owner: str
    name: str
    bound: bool


@dataclass(frozen=True)
class Listing:
    """The names that a TensorRT module or class holds: `dir(x)` or `x.__members__`."""

    of: Package | Class | Instance


TENSORRT = (Package, Class, Instance, Member, Method, Listing)


# The project's own


@dataclass(frozen=True)
class OwnModule:
    name: str


@dataclass(frozen=True)
class OwnFunction:
    """A function of the project, by its place; `receiver` is what its first parameter is bound to."""

    key: tuple
    receiver: object = None


@dataclass(frozen=True)
class OwnClass:
    key: tuple


@dataclass(frozen=True)
class OwnInstance:
    key: tuple


OWN = (OwnModule, OwnFunction, OwnClass, OwnInstance)


@dataclass(frozen=True)
class Union:
    """One of several values."""

    options: frozenset


NONE, TRUE, FALSE = Const(None), Const(True), Const(False)
LARGEST_UNION = 8


def options(value: object) -> tuple:
    """The values that `value` may be."""
    return tuple(value.options) if isinstance(value, Union) else (value,)


def join(values: Iterable) -> object:
    """One value that stands for all of them.

    A TensorRT object absorbs objects of other libraries: the proof is about what happens to TensorRT's.
    """
    found = set(values) - {Blank.NEVER}
    if len(found) < 2:
        return found.pop() if found else Blank.NEVER
    found = {option for value in found for option in options(value)}
    known = {value for value in found if isinstance(value, (*TENSORRT, *OWN))}
    if Blank.OPAQUE in found:
        return Union(frozenset({*known, Blank.OPAQUE})) if known else Blank.OPAQUE
    vague = found & {Blank.FOREIGN, Blank.UNKNOWN}
    if vague and known:
        found -= vague
        found = {value if value in known else NONE for value in found}
        return Union(frozenset(found)) if len(found) > 1 else found.pop()
    if vague:
        return Blank.UNKNOWN if Blank.UNKNOWN in vague else Blank.FOREIGN
    if not known and all(isinstance(value, (Items, Many)) for value in found):
        lengths = {len(value.items) if isinstance(value, Items) and value.fixed else None for value in found}
        if len(lengths) == 1 and None not in lengths:  # tuples of one length, such as results of one function
            return Items(tuple(join(items) for items in zip(*(value.items for value in found))))
        return Many(join(item for value in found for item in each(value)))
    if not known and all(isinstance(value, (Table, Dict)) for value in found):
        return Dict(join(loosened(value).value for value in found))
    if len(found) > LARGEST_UNION:
        return join([*known, Blank.FOREIGN])
    return Union(frozenset(found))


def loosened(value: object) -> object:
    """What is left of exact knowledge when a value may have changed meanwhile."""
    if isinstance(value, Const):
        return Blank.FOREIGN
    if isinstance(value, Items):
        return Many(join(value.items or [Blank.FOREIGN]))
    if isinstance(value, Table):
        return Dict(join([item for _, item in value.pairs] or [Blank.FOREIGN]))
    return value


def each(value: Items | Many) -> tuple:
    return value.items if isinstance(value, Items) else (value.item,)


def without_none(value: object) -> object:
    return join(option for option in options(value) if option != NONE)


def truth(value: object) -> bool | None:
    """Whether `value` is true in an `if`; None if that is open."""
    answers = {_truth(option) for option in options(value)}
    return answers.pop() if len(answers) == 1 else None


def _truth(value: object) -> bool | None:
    if isinstance(value, Const):
        return bool(value.value)
    if isinstance(value, Items) and value.fixed:
        return bool(value.items)
    if isinstance(value, (Package, Class, Member, Method, OwnModule, OwnFunction, OwnClass)):
        return True
    return None


def is_none(value: object) -> bool | None:
    """Whether `value is None`; None if that is open."""
    answers = set()
    for option in options(value):
        if isinstance(option, Const):
            answers.add(option.value is None)
        elif isinstance(option, (Package, Class, Member, Method, Items, Many, Table, Dict, *OWN)):
            answers.add(False)
        else:
            answers.add(None)
    return answers.pop() if len(answers) == 1 else None


def to_python(value: object) -> object:
    """The Python object that a known value stands for.

    Raises:
        ValueError: it is not wholly known.
    """
    if isinstance(value, Const):
        return value.value
    if isinstance(value, Items) and value.fixed:
        return tuple(to_python(item) for item in value.items)
    raise ValueError(value)


def from_python(thing: object) -> object:
    """The opposite of `to_python`; FOREIGN for what it does not cover, such as numbers with a fraction."""
    if thing is None or isinstance(thing, (bool, int, str, bytes)):
        return Const(thing)
    if isinstance(thing, (tuple, list)):
        return Items(tuple(from_python(item) for item in thing), fixed=isinstance(thing, tuple))
    return Blank.FOREIGN


def depth(value: object) -> int:
    """How deep containers are nested in a value."""
    match value:
        case Union():
            inner = options(value)
        case Items(items):
            inner = items
        case Table(pairs):
            inner = [part for pair in pairs for part in pair]
        case Many(one) | Dict(one):
            inner = [one]
        case _:
            return 1
    return 1 + max((depth(part) for part in inner), default=0)
