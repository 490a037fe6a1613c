"""Milestones as data. A file `stageN.py` in this folder holds a tuple `MILESTONES`; it is found by its name.

Adding a milestone needs no change elsewhere. A new kind of check is a class in `autograder.checks`, a new kind of
artifact one in `autograder.artifacts`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable

from autograder.milestones.declare import LANES, Check, Milestone
from course.errors import CourseError

__all__ = ["LANES", "Check", "Milestone", "all_milestones", "check_unique", "for_notebook", "get"]


def check_unique(milestones: Iterable[Milestone]) -> tuple[Milestone, ...]:
    """The milestones, if no two share an id or a grade cell.

    Raises:
        CourseError: two do.
    """
    milestones = tuple(milestones)
    for what, key in (("id", lambda m: m.id), ("grade cell", lambda m: (m.stage, m.notebook, m.grade_id))):
        seen = set()
        for milestone in milestones:
            if key(milestone) in seen:
                raise CourseError(
                    f"Milestone {milestone.id!r} is declared wrongly.",
                    f"Another one has the same {what}, {key(milestone)}.",
                    "Change one of the two.",
                )
            seen.add(key(milestone))
    return milestones


def all_milestones() -> tuple[Milestone, ...]:
    """Every milestone, stage by stage."""
    names = sorted(info.name for info in pkgutil.iter_modules(__path__) if re.fullmatch(r"stage\d+", info.name))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return check_unique(milestone for module in modules for milestone in module.MILESTONES)


def get(milestone_id: str) -> Milestone:
    """Raises:
    CourseError: there is no such milestone; lists those there are.
    """
    known = {milestone.id: milestone for milestone in all_milestones()}
    if milestone_id not in known:
        raise CourseError(
            f"There is no milestone {milestone_id!r}.",
            f"Known: {', '.join(known) or 'none'}.",
            "Use one of these.",
        )
    return known[milestone_id]


def for_notebook(stage: str, notebook: str) -> tuple[Milestone, ...]:
    """The milestones graded in one notebook (name without ending)."""
    return tuple(m for m in all_milestones() if (m.stage, m.notebook) == (stage, notebook))


def main(argv: list[str] | None = None) -> int:
    """`python -m autograder milestones`: a table of all milestones and their checks."""
    for milestone in all_milestones():
        print(f"{milestone.id}  {milestone.title}  ({milestone.points:g} points)")
        print(
            f"    {milestone.stage}/{milestone.notebook}.ipynb, cell {milestone.grade_id}; "
            f"hands in {', '.join(artifact.path for artifact in milestone.artifacts)}"
        )
        for check in milestone.checks:
            print(f"    {check.points:4g}  {check.id:15} {check.title}  [{', '.join(check.lanes)}]")
    return 0
