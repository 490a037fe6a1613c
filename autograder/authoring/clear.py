"""The stub in place of a solution: nbgrader's, but one outside of functions raises nothing.

So an untouched notebook runs to its end, and the check says what is not written yet.
"""

from __future__ import annotations

import re

from nbgrader.preprocessors import ClearSolutions

_RAISES = re.compile(r"(?m)^(# YOUR CODE HERE\n)raise NotImplementedError\(\)$")


class QuietStubs(ClearSolutions):
    """nbgrader's `ClearSolutions` with `...` for a stub that would stop the notebook."""

    def _replace_solution_region(self, cell, language):
        replaced = super()._replace_solution_region(cell, language)
        if cell.cell_type == "code" and replaced:
            cell.source = _RAISES.sub(r"\1...", cell.source)
        return replaced
