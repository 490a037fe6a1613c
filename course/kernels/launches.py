"""kernel<<<grid, block, bytes, stream>>>(arguments) as C++:

::cucpu::Launch("kernel", file, line, address, grid, block, bytes, stream)([&](auto... a) { kernel(a...); },
arguments)
"""

from __future__ import annotations

from course.kernels.source import Source, quoted, refuse
from course.kernels.tokens import OPENERS, Token, angle_opening, close, opening, spelled, split

_PLAIN = '__attribute__((no_sanitize("thread")))'


def begins(tokens: list[Token], index: int) -> bool:
    """Whether `<<<` stands at `index`."""
    return _triple(tokens, index, "<")


def launch(source: Source, index: int) -> None:
    """Rewrite the launch whose `<<<` stands at `index`."""
    tokens = source.tokens
    token = tokens[index]
    start, end = _kernel_begins(tokens, index), _configuration_ends(tokens, index)
    last = close(tokens, end + 3)
    kernel, arguments = tokens[start:index], tokens[end + 4 : last]
    expression = spelled(kernel)
    address = f"::cucpu::address({expression})" if _has_address(source, kernel) else "nullptr"
    for part in split(arguments):
        if part[0].text == "{":
            refuse(token, "{...} as a kernel's argument", "name its type: Type{...}")
        if len(part) == 1 and part[0].text in ("0", "__null", "nullptr") and address != "nullptr":
            part[0].out = "::cucpu::Zero()"  # an int or a null pointer, as the parameter says
    source.replace(
        start,
        index - 1,
        f"::cucpu::Launch({quoted(expression.replace(' ', ''))}, {quoted(token.file)}, {token.line}, {address}, ",
    )
    source.blank(index, index + 3)
    source.replace(
        end, end + 3, f")([&](auto... cucpu_a) {_PLAIN} {{ {expression}(cucpu_a...); }}" + (", " if arguments else "")
    )


def _triple(tokens: list[Token], index: int, mark: str) -> bool:
    words = tokens[index : index + 3]
    return len(words) == 3 and all(word.text == mark for word in words) and not words[1].before and not words[2].before


def _configuration_ends(tokens: list[Token], index: int) -> int:
    """Index of the `>>>(` that belongs to the `<<<` at `index`."""
    at = index + 3
    while at < len(tokens) and not _triple(tokens, at, ">"):
        at = close(tokens, at) if tokens[at].text in OPENERS else at
        if tokens[min(at, len(tokens) - 1)].text in (";", "}"):
            break
        at += 1
    if not (at + 3 < len(tokens) and _triple(tokens, at, ">") and tokens[at + 3].text == "("):
        refuse(tokens[index], "this <<<", "write the launch as kernel<<<grid, block>>>(...) in one statement")
    return at


def _kernel_begins(tokens: list[Token], index: int) -> int:
    """Index of the first token of what stands in front of `<<<`: a name, perhaps with :: and template arguments, an
    element of an array, or an expression in brackets."""
    at = index - 1
    while True:
        text = tokens[at].text if at >= 0 else ""
        if text == ">":
            at = angle_opening(tokens, at) - 1
        elif text in (")", "]"):
            at = opening(tokens, at) - 1
            if not (
                at >= 0
                and (tokens[at].text == ">" or tokens[at].kind == "name" and tokens[at].text not in ("else", "do"))
            ):
                at += 1
                break
        elif at < 0 or tokens[at].kind != "name":
            refuse(tokens[index], "this <<<", "a launch begins with a kernel's name")
        else:
            at -= tokens[at - 1].text == "template"
            if tokens[at - 1].text in (".", "->"):
                at -= 2
            elif tokens[at - 1].text != "::":
                break
            elif tokens[at - 2].kind == "name" or tokens[at - 2].text == ">":
                at -= 2
            else:
                at -= 1
                break
    front = tokens[at - 1].text if at else ";"
    if front not in (";", "{", "}", ")", "else", "do", ":"):
        refuse(tokens[index], f"a launch behind `{front}`", "write each launch as a statement of its own")
    return at


def _has_address(source: Source, kernel: list[Token]) -> bool:
    """Whether C++ can take the kernel's address: not of an overloaded one, nor where template arguments are deduced."""
    name, given = kernel[-1].text, 0
    if name == ">":
        opens = angle_opening(kernel, len(kernel) - 1)
        name, given = kernel[opens - 1].text, len(split(kernel[opens + 1 : -1]))
    return given >= source.templates.get(name, 0) and name not in source.overloaded
