"""Tables as plain text: numbers to the right, words to the left."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDEST = 60
"""A longer cell is cut: a kernel's name has up to 200 letters."""


def text_table(headers: Sequence[str], rows: Sequence[Sequence[object]], widest: int = WIDEST) -> str:
    """Rows under their headers. Floats get three digits, None becomes a dash, a cell beyond `widest` letters is cut."""
    cells = [[_text(value, widest) for value in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(headers), *cells]) for i in range(len(headers))]
    right = [
        bool(rows) and all(isinstance(row[i], (int, float, type(None))) for row in rows) for i in range(len(headers))
    ]

    def line(row: Sequence[str]) -> str:
        padded = (text.rjust(w) if r else text.ljust(w) for text, w, r in zip(row, widths, right))
        return "  ".join(padded).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])


def _text(value: object, widest: int) -> str:
    if value is None:
        return "-"
    text = number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= widest else text[: widest - 1] + "…"


def number(value: float) -> str:
    """Three significant digits, no exponent: 0.612, 21.3, 1 972. Zero is 0."""
    if value <= 0:
        return "0" if value == 0 else f"-{number(-value)}"
    digits = 2 - int(math.floor(math.log10(value)))
    value = round(value, digits) if value < 1000 else round(value)
    digits = 2 - int(math.floor(math.log10(value)))  # rounding may have made 9.999 a 10.0
    return f"{value:,.{max(0, digits)}f}".replace(",", " ")
