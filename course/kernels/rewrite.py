"""CUDA C++ as C++: the words that need more than a declaration, replaced after the preprocessor.

The preprocessor has run, so macros are expanded and comments are gone; each token knows its file and line. Every line
stays where it was. What cannot be rewritten is refused with its line.
"""

from __future__ import annotations

from dataclasses import dataclass

from course.kernels import launches, supported, variables
from course.kernels.source import Source, read, refuse
from course.kernels.tokens import Token, close, spelled, split

VARIANT = "cucpu_variant"
"""Stands in the epilogue for the number of the variant (see `compiler.py`)."""


@dataclass
class Rewritten:
    """What is known of a file after `rewrite`.

    kernels, device_functions: names of the __global__ and the __device__ functions. exports: name -> parameter names of
    each
    extern "C" function. prologue, epilogue: C++ for in front of the first token and behind the last.
    """

    kernels: list[str]
    device_functions: list[str]
    exports: dict[str, list[str]]
    prologue: str
    epilogue: str


def rewrite(tokens: list[Token], checked: bool) -> Rewritten:
    """Say for each token what is written in its place.

    Args:
        checked: the file will be compiled with the checker's instrumentation.

    Raises:
        RefusedError: names the word, its file and line, and what to do instead.
    """
    source = read(tokens)
    _refuse_names(tokens)
    for index, token in enumerate(tokens):
        if token.out is None:  # else it is a part of what was rewritten before
            _rewrite_at(source, index)
    return Rewritten(
        source.kernels,
        source.device_functions,
        source.exports,
        "extern const ::cucpu::Where cucpu_where[];\n",
        _epilogue(source, checked),
    )


def _refuse_names(tokens: list[Token]) -> None:
    for index, token in enumerate(tokens):
        if token.kind != "name" or (index and tokens[index - 1].text in (".", "->")):
            continue
        following = tokens[index + 1].text
        advice = supported.advice_for(token.text)
        qualified = following == "::" or (index > 0 and tokens[index - 1].text in ("namespace", "=", "::"))
        if advice is None or (token.text in supported.NAMESPACES and not qualified):
            continue
        if token.text == "clock" and following != "(":
            continue
        refuse(token, token.text, advice)


def _rewrite_at(source: Source, index: int) -> None:
    token, following = source.tokens[index], source.tokens[min(index + 1, len(source.tokens) - 1)].text
    text = token.text
    if text in supported.SYNC and following == "(":
        _synchronisation(source, index)
    elif text == "__global__":
        _kernel(source, index)
    elif text == "__shared__":
        variables.shared(source, index)
    elif text in ("__device__", "__constant__"):
        variables.device(source, index)
    elif text in ("__host__", "__noinline__", "__grid_constant__"):
        token.out = ""
    elif text == "__forceinline__":
        token.out = "inline __attribute__((always_inline))"
    elif text in ("__launch_bounds__", "__maxnreg__"):
        source.blank(index, close(source.tokens, index + 1) + 1)
    elif launches.begins(source.tokens, index):
        launches.launch(source, index)
    elif text == "[" and following == "=":
        variables.lambda_capture(source, index)


def _synchronisation(source: Source, index: int) -> None:
    """A call that gets to know where it stands."""
    token, bracket = source.tokens[index], source.tokens[index + 1]
    token.out = f"::cucpu::{supported.SYNC[token.text]}"
    bracket.out = f"({source.site(token)}" + ("" if source.tokens[index + 2].text == ")" else ", ")


def _kernel(source: Source, index: int) -> None:
    """`__global__`: a function of its own. __launch_bounds__ is looked at when a thread begins."""
    tokens = source.tokens
    tokens[index].out = "__attribute__((noinline))"
    at, bound = index, ""
    while tokens[at].text not in ("{", ";") and at + 1 < len(tokens):
        if tokens[at].text == "__launch_bounds__":
            bound = spelled(split(tokens[at + 2 : close(tokens, at + 1)])[0])
        at = close(tokens, at) if tokens[at].text in ("(", "[") else at + 1
    if bound and tokens[at].text == "{":
        tokens[at].out = f"{{ ::cucpu::launchBounds({source.site(tokens[index])}, {bound});"


def _epilogue(source: Source, checked: bool) -> str:
    table = ",\n".join(source.sites) or '{"", "", 0, 0}'
    exports = "".join(
        f'\nstatic ::cucpu::Export cucpu_export_{number}("{name}", "{",".join(names)}", '
        f"::cucpu::callerOf(&{name}).types(), ::cucpu::callerOf(&{name}).entry<&{name}>(), {VARIANT});"
        for number, (name, names) in enumerate(source.exports.items())
    )
    return (
        f"\nconst ::cucpu::Where cucpu_where[] = {{{table}}};\n"
        f"namespace cucpu {{ bool checked = {'true' if checked else 'false'}; }}{exports}\n"
    )
