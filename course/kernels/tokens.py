"""C++ after the preprocessor, cut into tokens: enough to rewrite some of them and leave the rest byte for byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s|//[^\n]*|/\*.*?\*/)+)
  | (?P<string>(?:u8|u|U|L)?(?:R"(?P<mark>[^()\s\\"]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"))
  | (?P<char>(?:u8|u|U|L)?'(?:\\.|[^'\\\n])+')
  | (?P<name>[A-Za-z_]\w*)
  | (?P<number>\.?\d(?:'?[\w.]|[eEpP][+-])*)
  | (?P<other>::|->|.)
""",
    re.X | re.S,
)
_MARKER = re.compile(r'#\s+(\d+)\s+"((?:\\.|[^"\\])*)"((?:\s+\d)*)\s*$')
OPENERS, CLOSERS = {"(": ")", "[": "]", "{": "}"}, {")": "(", "]": "[", "}": "{"}


@dataclass
class Token:
    """A word of the learner's source, and what is written in its place.

    kind: name, number, string, char, other, or end (one, with no text).
    before: what stands in front: white space, directives, and whole headers of others.
    """

    kind: str
    text: str
    before: str = ""
    file: str = ""
    line: int = 0
    out: str | None = None


def cut(preprocessed: str, foreign: Callable[[str, bool], bool]) -> list[Token]:
    """Tokens of what `g++ -E` wrote.

    Args:
        foreign: told a file's name and whether the compiler takes it as a system header; True leaves its text as it is.
    """
    tokens: list[Token] = []
    own: list[str] = []
    known: dict[str, bool] = {}
    skipped: list[
        str
    ] = []  # in front of the next token: joined when it comes, for headers have tens of thousands of lines
    start = ("", 1)
    file, line, is_foreign = "", 1, True
    for text in preprocessed.splitlines(keepends=True):
        marker = _MARKER.match(text)
        if marker or is_foreign or text.lstrip().startswith("#"):  # the last: a pragma
            if own:
                skipped = [_words("".join(own), *start, tokens, "".join(skipped))]
                own.clear()
            skipped.append(text)
        else:
            if not own:
                start = (file, line)
            own.append(text)
        line += 1
        if marker:
            line, file = int(marker[1]), marker[2]
            # The first marker of a file decides: later ones also carry the flag where a system's macro is expanded.
            is_foreign = known.setdefault(file, foreign(file, "3" in marker[3].split()))
    tokens.append(Token("end", "", _words("".join(own), *start, tokens, "".join(skipped))))
    return tokens


def joined(tokens: list[Token]) -> str:
    """The source again, with what was replaced."""
    return "".join(token.before + (token.text if token.out is None else token.out) for token in tokens)


def close(tokens: list[Token], index: int) -> int:
    """Index of the bracket that closes the one at `index`; the number of tokens if there is none."""
    depth = 0
    for at in range(index, len(tokens)):
        text = tokens[at].text
        depth += (text in OPENERS) - (text in CLOSERS)
        if depth == 0:
            return at
    return len(tokens)


def opening(tokens: list[Token], index: int) -> int:
    """Index of the bracket that opens the one at `index`; -1 if there is none."""
    depth = 0
    for at in range(index, -1, -1):
        text = tokens[at].text
        depth += (text in CLOSERS) - (text in OPENERS)
        if depth == 0:
            return at
    return -1


def angle_opening(tokens: list[Token], index: int) -> int:
    """Index of the `<` that opens the template arguments closed by the `>` at `index`; -1 if there is none."""
    depth, at = 0, index
    while at >= 0:
        text = tokens[at].text
        if text in CLOSERS:
            at = opening(tokens, at)
        elif text == ">":
            depth += 1
        elif text == "<":
            depth -= 1
            if depth == 0:
                return at
        elif text in (";", "{"):
            return -1
        at -= 1
    return -1


def split(tokens: list[Token]) -> list[list[Token]]:
    """Parts between the commas that stand in no bracket and in no template arguments."""
    parts: list[list[Token]] = [[]]
    depth = angle = 0
    for index, token in enumerate(tokens):
        if token.text in OPENERS:
            depth += 1
        elif token.text in CLOSERS:
            depth -= 1
        elif depth == 0 and token.text == "<" and index and tokens[index - 1].kind == "name":
            angle += 1
        elif depth == 0 and token.text == ">" and angle:
            angle -= 1
        elif token.text == "," and depth == angle == 0:
            parts.append([])
            continue
        parts[-1].append(token)
    return [part for part in parts if part]


def spelled(tokens: list[Token]) -> str:
    """The tokens in one line."""
    return " ".join(token.text for token in tokens)


def _words(text: str, file: str, line: int, tokens: list[Token], before: str) -> str:
    for match in _TOKEN.finditer(text):
        word = match[0]
        if match.lastgroup == "space":
            before += word
        else:
            kind = "string" if match["string"] is not None else match.lastgroup
            tokens.append(Token(str(kind), word, before, file, line))
            before = ""
        line += word.count("\n")
    return before
