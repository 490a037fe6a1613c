"""Questions to the API of one TensorRT version, as `dump.py` wrote it down."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from .values import NONE, Blank, Class, Const, Instance, Items, Many, Member, Method, Package, join

UNDOCUMENTED = {"get_plugin_registry": "IPluginRegistry"}
"""Return types that pybind11 documents as an inner type of its own in 10 and 11; 8.6 says the real one."""


@dataclass(frozen=True)
class Parameter:
    name: str
    required: bool


@dataclass(frozen=True)
class Signature:
    parameters: tuple[Parameter, ...]
    star: bool  # takes any further arguments
    returns: str


class Api:
    """The API of one version: `name` is short ("8.6"), `version` full ("8.6.1")."""

    def __init__(self, name: str, dump: dict):
        self.name, self.version = name, dump["version"]
        self.modules, self.classes = dump["modules"], dump["classes"]
        own = {entry["name"] for entry in self.modules[""].values() if entry["kind"] == "class"}
        self.members = frozenset(
            member for name, members in self.classes.items() if name.partition(".")[0] in own for member in members
        )

    def get(self, value: object, name: str) -> object | None:
        """What attribute `name` of a TensorRT value is; None if there is no such attribute."""
        if isinstance(value, Package):
            return self._entry(self.modules[value.path].get(name), "", name, bound=False)
        if isinstance(value, (Class, Instance, Member)):
            owner = value.name if isinstance(value, Class) else value.of
            bound = not isinstance(value, Class)
            return self._entry(self.classes.get(owner, {}).get(name), owner, name, bound)
        return None

    def _entry(self, entry: dict | None, owner: str, name: str, bound: bool) -> object | None:
        if entry is None:
            return None
        match entry["kind"]:
            case "class":
                return Class(entry["name"])
            case "member":
                return Member(entry["of"], name)
            case "method":
                return Method(owner, name, bound and not entry["static"])
            case "property":
                return self.type(entry["type"]) if bound else Blank.FOREIGN
            case "module":
                return Package(name) if name in self.modules else Blank.FOREIGN
        return Const(self.version) if name == "__version__" else Blank.FOREIGN

    def signatures(self, method: Method) -> tuple[Signature, ...]:
        """Ways to call it; empty if the bindings do not document them. Without `self` for a bound method."""
        entry = (self.classes[method.owner] if method.owner else self.modules[""]).get(method.name, {})
        found = tuple(parse_signature(text) for text in entry.get("signatures", ()))
        if not method.bound:
            return found
        return tuple(Signature(one.parameters[1:], one.star, one.returns) for one in found)

    def returns(self, method: Method) -> object:
        """What a call gives."""
        if method.name in UNDOCUMENTED:
            return Instance(UNDOCUMENTED[method.name])
        signatures = self.signatures(method)
        return join(self.type(one.returns) for one in signatures) if signatures else Blank.OPAQUE

    def elements(self, value: Instance) -> object:
        """What a loop over a TensorRT object gives."""
        members = self.classes.get(value.of, {})
        for name in ("__getitem__", "__iter__"):
            if name in members:
                one = self.returns(Method(value.of, name, True))
                return one.item if isinstance(one, Many) else one
        return Blank.OPAQUE

    def type(self, text: str) -> object:
        """The value that a type in a signature stands for, such as `List[int]`."""
        text = text.strip()
        inner = re.fullmatch(r"(?:[\w.]+\.)?(?:[Ll]ist|Iterator|Iterable|Sequence)\[(.*)\]", text)
        if inner:
            return Many(self.type(inner[1]))
        inner = re.fullmatch(r"(?:[\w.]+\.)?Optional\[(.*)\]", text)
        if inner:
            return join([self.type(inner[1]), NONE])
        inner = re.fullmatch(r"[Tt]uple\[(.*)\]", text)
        if inner:
            return Items(tuple(self.type(part) for part in _split(inner[1])))
        name = re.sub(r"^tensorrt_bindings\.tensorrt\.|^nv\w+::(v_\d_\d::)?", "", text)
        for candidate in (name, name.removeprefix("I")):  # nvonnxparser::IParserError: ParserError
            if candidate in self.classes:
                return Instance(candidate)
        if text == "None":
            return NONE
        return Blank.OPAQUE if text in ("", "object") or "::" in text else Blank.FOREIGN


@functools.cache
def parse_signature(text: str) -> Signature:
    """`(self: Builder, flags: int = 0) -> INetworkDefinition` in parts."""
    arguments, _, returns = text.rpartition(") -> ")
    parameters, star = [], False
    for part in _split(arguments.removeprefix("(")):
        if part.startswith("*") and part != "*":
            star = True
        elif part not in ("*", "/", ""):
            parameters.append(Parameter(part.partition(":")[0].strip(), required=" = " not in part))
    return Signature(tuple(parameters), star, returns)


def _split(text: str) -> list[str]:
    """Parts between the commas that stand outside brackets."""
    parts, depth = [""], 0
    for before, character in zip(" " + text, text):
        depth += (character in "([{<") - (character in ")]}" or (character == ">" and before != "-"))
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def misfit(signatures: tuple[Signature, ...], positional: int, keywords: list[str]) -> str | None:
    """Why a call with so many positional arguments and these keywords fits none; None if it fits one."""
    problems = []
    for signature in signatures:
        names = [parameter.name for parameter in signature.parameters]
        given = {*names[:positional], *keywords}
        unknown = [name for name in keywords if name not in names[positional:]]
        lacking = [one.name for one in signature.parameters if one.required and one.name not in given]
        if signature.star:
            return None
        if positional > len(names):
            problems.append(f"takes {len(names)} arguments, not {positional}")
        elif unknown:
            problems.append(f"has no argument {unknown[0]!r}")
        elif lacking:
            problems.append(f"needs the argument {lacking[0]!r}")
        else:
            return None
    return problems[0] if problems else None
