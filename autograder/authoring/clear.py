"""The stub in place of a solution: nbgrader's, but one outside of functions raises nothing, and one in C++ is a comment.

So an untouched notebook runs to its end, and the check says what is not written yet.
"""

from __future__ import annotations

import re

from nbgrader.preprocessors import ClearSolutions

_STUB = re.compile(r"(?m)^([ \t]*)# YOUR CODE HERE\n\1raise NotImplementedError\(\)$")
_BEGIN = re.compile(r"(?m)^[ \t]*(#+|//+) *BEGIN SOLUTION")


class QuietStubs(ClearSolutions):
    """nbgrader's `ClearSolutions` with `...` for a stub that would stop the notebook, and `// YOUR CODE HERE` for a
    region whose marker is a C++ comment: it stands in C++ that the cell holds as a Python string.
    """

    def _replace_solution_region(self, cell, language):
        markers = iter(_BEGIN.findall(cell.source))
        replaced = super()._replace_solution_region(cell, language)
        if cell.cell_type == "code" and replaced:
            cell.source = _STUB.sub(lambda stub: _quiet(stub[1], next(markers)), cell.source)
        return replaced


def _quiet(indent: str, marker: str) -> str:
    if marker.startswith("//"):
        return f"{indent}// YOUR CODE HERE"
    return f"{indent}# YOUR CODE HERE\n{indent}{'raise NotImplementedError()' if indent else '...'}"
