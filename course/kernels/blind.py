"""Accesses that GCC's instrumentation does not see, found in the compiler's own listing of the functions.

-fsanitize=thread looks at assignments, not at structs that a call takes from memory or returns into it. Inlining turns
those into assignments; where a function cannot be inlined (it is called through a pointer), one is left. Such a file is
refused: a check that misses accesses would say "nothing found" of a kernel with a bug.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence, Set

from course.kernels.words import RefusedError

_FUNCTION = re.compile(r"^;; Function (.*) \((\S+), funcdef_no=", re.M)
_PLACE = re.compile(r"\[([^\[\]\s]+):(\d+):\d+\] ?")
_CALL = re.compile(r"^\s*(?:(?P<result>\S.*?) = )?(?P<called>[\w.:~<>$ ]+?) \((?P<arguments>.*)\);")
_MEMORY = re.compile(r"^\*|^MEM\b|->|\]$|^[^\"(]*\bMEM\b")


def refuse_hidden_accesses(listing: str, own: Set[str], names: Sequence[str]) -> None:
    """Raise for the first call in device code whose struct argument or result lies in memory.

    Args:
        listing: of -fdump-tree-tsan-lineno. own: the learner's files. names: of kernels and device functions.
    """
    starts = [*_FUNCTION.finditer(listing), None]
    wanted = set(names)
    for match, following in zip(starts, starts[1:]):
        if match is None or _base_name(match[1]) not in wanted:
            continue
        for line in listing[match.end() : following.start() if following else len(listing)].splitlines():
            places = [
                (os.path.normpath(file), number)
                for file, number in _PLACE.findall(line)
                if os.path.normpath(file) in own
            ]
            call = _CALL.match(_PLACE.sub("", line)) if places else None
            if not call or call["called"] in ("if", "switch") or call["called"].startswith(("__builtin_", ".")):
                continue
            parts = [call["result"] or "", *re.split(r", (?![^\[<(]*[\])>])", call["arguments"])]
            if any(_MEMORY.search(part.strip()) for part in parts if not part.strip().startswith(("&", '"'))):
                file, number = places[0]
                raise RefusedError(
                    f"{file}:{number}: a struct that travels between memory and a function that cannot be inlined is "
                    "not supported by the CPU checker.",
                    "The function is called through a pointer, is virtual or calls "
                    "itself; its accesses could not be checked.",
                    "Copy the struct into a local variable before and "
                    "after the call, or call the function by its name.",
                )


def _base_name(function: str) -> str:
    """`twice` of `ns::twice<4>`."""
    depth, plain = 0, ""
    for letter in function.replace("operator()", "operator\0"):
        depth += letter == "<"
        plain += letter if depth == 0 else ""
        depth -= letter == ">"
    return plain.split("::")[-1].replace("\0", "()").strip()
