"""One finding of the checker, from its JSON to a `Finding`."""

from __future__ import annotations

from collections.abc import Mapping

from course.kernels import lines, sentences
from course.kernels.compiler import Notes
from course.kernels.report import Finding, Index, Place


def explained(found: Mapping, notes: Notes, order: int, sizes: Mapping[str, int]) -> Finding:
    """The finding in words.

    Args:
        found: as the checker wrote it. notes: of the library that ran. order: the thread order.
        sizes: bytes of an element, for each buffer whose dtype is known.
    """
    file, line = _where(found, notes)
    other = _other(found, notes)
    same_line = other is not None and (other.file, other.line) == (file, line)
    message, advice = sentences.of({**found, "same_line": same_line}, sizes)
    return Finding(
        found["kind"],
        message,
        advice,
        file,
        line,
        found.get("kernel", ""),
        _index(found.get("thread")),
        _index(found.get("block")),
        found.get("buffer", ""),
        found.get("offset"),
        other,
        (order,),
        dict(found),
    )


def _where(found: Mapping, notes: Notes) -> tuple[str, int]:
    if "line" in found:
        return found["file"], found["line"]
    for key in ("pc", "last_pc"):
        if found.get(key):
            file, line = lines.look_up(notes.files, notes.lines, found[key])
            if line:
                return file, line
    if "last" in found:
        return found["last"]["file"], found["last"]["line"]
    return "", 0


def _other(found: Mapping, notes: Notes) -> Place | None:
    """The access that a race is with, or the second place where threads wait."""
    if other := found.get("other"):
        file, line = lines.look_up(notes.files, notes.lines, other["pc"])
        return Place(file, line, _index(other.get("thread")), _index(other.get("block")), other["access"])
    for place in found.get("places", []):
        if place["thread"] != found["thread"]:
            return Place(place["file"], place["line"], _index(place["thread"]), _index(found["block"]), place["what"])
    return None


def _index(value: object) -> Index | None:
    return tuple(value) if value is not None else None
