"""A learner's file as tokens, what it declares, and the marks that rewriting leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from course.kernels.tokens import Token, close, split
from course.kernels.words import RefusedError

ATTRIBUTES = {"__attribute__", "alignas", "__align__", "__launch_bounds__", "__maxnreg__"}
"""Words whose brackets are no parameters."""
STORAGE = {"static", "extern", "inline", "__inline__", "__inline"}
MARKS = {"__shared__", "__device__", "__constant__", "__host__", "__global__"}


@dataclass
class Source:
    """The tokens, and what `read` found in them.

    kernels, device_functions: names. templates: kernel -> number of its template parameters. overloaded: kernels with
    two
    definitions. exports: extern "C" function with a body -> names of its parameters. in_namespace, in_class: indices of
    tokens
    that stand in no function. sites: calls of barriers and the like, as C++. shared_names: of __shared__ variables.
    """

    tokens: list[Token]
    kernels: list[str] = field(default_factory=list)
    device_functions: list[str] = field(default_factory=lambda: ["operator()"])
    templates: dict[str, int] = field(default_factory=dict)
    overloaded: set[str] = field(default_factory=set)
    exports: dict[str, list[str]] = field(default_factory=dict)
    in_namespace: set[int] = field(default_factory=set)
    in_class: set[int] = field(default_factory=set)
    sites: list[str] = field(default_factory=list)
    shared_names: set[str] = field(default_factory=set)
    variables: int = 0

    def site(self, token: Token) -> str:
        """A place in the table of calls that the runtime reads."""
        self.sites.append(f'{{"{token.text}", {quoted(token.file)}, {token.line}, {len(self.sites)}}}')
        return f"&cucpu_where[{len(self.sites) - 1}]"

    def number(self) -> int:
        """Another number for a variable."""
        self.variables += 1
        return self.variables

    def replace(self, start: int, end: int, text: str) -> None:
        """One text in place of the tokens from `start` to `end`; their line breaks stay, behind it."""
        self.blank(start, end + 1)
        self.tokens[start].out = text

    def blank(self, start: int, end: int) -> None:
        """Nothing in place of the tokens in front of `end`."""
        for token in self.tokens[start:end]:
            token.out = ""


def refuse(token: Token, what: str, advice: str) -> None:
    """End with what is not supported, and where.

    Raises:
        RefusedError: always.
    """
    raise RefusedError(
        f"{token.file}:{token.line}: {what} is not supported by the CPU checker.",
        f"{advice[0].upper()}{advice[1:]}.",
        "docs/cuda_on_cpu.md lists what is supported.",
    )


def read(tokens: list[Token]) -> Source:
    """Find scopes, kernels, device functions, and the extern "C" functions that can be called from outside."""
    source = Source(tokens)
    scopes: list[str] = []
    c_names: set[str] = set()
    definitions: list[tuple[list[Token], bool]] = []
    start = 0
    for index, token in enumerate(tokens):
        scope = scopes[-1] if scopes else "namespace"
        outside = scope in ("namespace", "C")
        if outside:
            source.in_namespace.add(index)
        if scope == "class":
            source.in_class.add(index)
        if token.text not in (";", "{", "}"):
            continue
        head, start = tokens[start:index], index + 1
        if token.text == "{":
            scopes.append(_scope(head, scope))
            if scopes[-1] == "function" and outside:
                definitions.append((head, _is_c(head) or scope == "C"))
        elif token.text == "}" and scopes:
            scopes.pop()
        elif token.text == ";" and outside and (_is_c(head) or scope == "C") and (named := _function(head)):
            c_names.add(named[0])
    for head, is_c in definitions:
        if named := _function(head):
            _sort_in(source, head, *named, is_c or named[0] in c_names)
    return source


def without_attributes(words: list[Token]) -> list[Token]:
    """A declaration without alignment and the like: the simulated GPU gives every variable at least 16 bytes of it."""
    kept, at = [], 0
    while at < len(words):
        if words[at].text in ATTRIBUTES and at + 1 < len(words) and words[at + 1].text == "(":
            at = close(words, at + 1)
        else:
            kept.append(words[at])
        at += 1
    return kept


def quoted(text: str) -> str:
    """As a C++ string."""
    return json.dumps(text)


def _sort_in(source: Source, head: list[Token], name: str, parameters: list[str], is_c: bool) -> None:
    words = {token.text for token in head}
    if "__global__" in words:
        if name in source.kernels:
            source.overloaded.add(name)
        source.kernels.append(name)
        if head[0].text == "template":
            source.templates[name] = len(split(head[2 : _template_end(head)]))
    elif "__device__" in words:
        source.device_functions.append(name)
    elif is_c and "static" not in words:
        source.exports[name] = parameters


def _is_c(head: list[Token]) -> bool:
    return any(a.text == "extern" and b.text == '"C"' for a, b in zip(head, head[1:]))


def _scope(head: list[Token], outer: str) -> str:
    """What the brace behind `head` opens: a namespace, C (extern "C"), a class, a function or a block."""
    words = without_attributes(head)
    if words and words[0].text == "template":
        words = words[_template_end(words) + 1 :]
    texts = [word.text for word in words]
    while texts and texts[0] in ("typedef", "static", "const", "constexpr", "inline"):
        texts = texts[1:]
    if outer in ("function", "block") or "=" in _outside_brackets(texts):
        return "block"
    if "namespace" in texts:
        return "namespace"
    if texts == ["extern", '"C"']:
        return "C"
    if texts and texts[0] in ("class", "struct", "union", "enum") and "(" not in texts:
        return "class"
    return "function" if ")" in texts else "block"


def _function(head: list[Token]) -> tuple[str, list[str]] | None:
    """The name in front of the parameters, and the parameters' names ("" where one has none)."""
    angle = index = 0
    while index < len(head):
        text = head[index].text
        if text in ATTRIBUTES | {"decltype"} and index + 1 < len(head) and head[index + 1].text == "(":
            index = close(head, index + 1)
        elif text == "<" and index and head[index - 1].kind == "name":
            angle += 1
        elif text == ">" and angle:
            angle -= 1
        elif text == "=" and not angle:
            return None
        elif text == "(" and not angle:
            if not index or head[index - 1].kind != "name":
                return None
            return head[index - 1].text, [_parameter(part) for part in split(head[index + 1 : close(head, index)])]
        index += 1
    return None


def _parameter(words: list[Token]) -> str:
    texts = [word.text for word in words]
    names = [word.text for word in words[: texts.index("=") if "=" in texts else None] if word.kind == "name"]
    return names[-1] if len(names) > 1 else ""


def _template_end(words: list[Token]) -> int:
    """Index of the `>` behind `template <...`."""
    depth = 0
    for at in range(1, len(words)):
        depth += (words[at].text == "<") - (words[at].text == ">")
        if depth == 0:
            return at
    return len(words)


def _outside_brackets(texts: list[str]) -> list[str]:
    kept, depth = [], 0
    for text in texts:
        depth += (text in ("(", "[")) - (text in (")", "]"))
        if depth == 0:
            kept.append(text)
    return kept
