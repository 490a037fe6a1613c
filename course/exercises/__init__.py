"""Exercises: a check that names the misconception, three hints each, and predictions put beside measurements.

    check("open-batch")             # looks at what the cells above made; prints a verdict, returns the points
    hint("open-batch")              # the first hint; call it again for the next
    path = solved("open-batch", path)   # yours if it is right, else the course's, so that the cells below run
    choice(guess, "launch-bound", "why it is")   # a prediction beside what was measured

An exercise is a function in a module below this folder, one folder a stage and one module a lesson. Its parameters are the names in the
notebook that it looks at; what it returns says what was found right; a misconception is raised as `Wrong`.
These points are practice: the check runs in the learner's own process. Milestones are measured by `autograder`.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import functools
import importlib
import inspect
import io
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from course.errors import CourseError
from course.exercises.not_there import what_is_missing

__all__ = [
    "Exercise",
    "Wrong",
    "check",
    "choice",
    "declared",
    "exercise",
    "find",
    "hint",
    "prediction",
    "reference",
    "solved",
]


class Wrong(CourseError):
    """A wrong or unfinished answer: what it is, the misconception behind it, what to do.

    share: the part of the points that it earns all the same, 0 to 1.
    """

    def __init__(self, what: str, cause: str, next_step: str, share: float = 0.0):
        super().__init__(what, cause, next_step)
        self.share = share


@dataclass(frozen=True)
class Exercise:
    """`judge` takes the notebook's values by name and returns what is right about them, or raises `Wrong`."""

    id: str
    points: float
    hints: tuple[str, str, str]
    judge: Callable[..., str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names that must exist in the notebook."""
        return tuple(inspect.signature(self.judge).parameters)


@dataclass(frozen=True)
class Declared:
    """What the text of a module says about an exercise in it."""

    id: str
    module: str
    points: float
    hints: tuple[str, str, str]


_known: dict[str, Exercise] = {}
_hints_given: dict[str, int] = {}
_references: dict[str, Callable[[], object]] = {}
_solved: dict[str, object] = {}
"""Answers that were found right: `solved` need not judge them again."""


def exercise(id: str, *, points: float, hints: tuple[str, str, str]) -> Callable[[Callable], Callable]:
    """Declare the decorated function as the check of an exercise.

    Args:
        id: as in `check(id)`; its solution cell has this grade_id, its test cell the same with "-test".
        points: at most; as in the test cell's metadata.
        hints: three, each more direct than the one before; the last nearly says it.
    """
    if len(hints) != 3 or points <= 0:
        raise ValueError(f"exercise {id!r} needs three hints and points above 0")

    def declare(judge: Callable[..., str]) -> Callable[..., str]:
        _known[id] = Exercise(id, points, hints, judge)
        return judge

    return declare


@functools.cache
def declared() -> Mapping[str, Declared]:
    """Every exercise of the course by its id, lesson by lesson, read from the text of the modules: none is imported, so a
    hint comes at once, and a module that does not work here disturbs no other lesson.

    Raises:
        ValueError: a declaration is not written out (`@exercise("id", points=..., hints=("", "", ""))`), or an id is
            declared twice.
    """
    found: dict[str, Declared] = {}
    for path in sorted(Path(__file__).parent.glob("stage*/[!_]*.py")):
        module = f"{__name__}.{path.parent.name}.{path.stem}"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for call in getattr(node, "decorator_list", ()):
                if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "exercise"):
                    continue
                id = ast.literal_eval(call.args[0])
                if id in found:
                    raise ValueError(f"exercise {id!r} is declared in {found[id].module} and in {module}")
                found[id] = Declared(id, module, **{word.arg: ast.literal_eval(word.value) for word in call.keywords})
    return found


def reference(id: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Declare the decorated function as what makes the course's own answer: what `solved` falls back to."""

    def declare(make: Callable[[], object]) -> Callable[[], object]:
        _references[id] = make
        return make

    return declare


def solved(id: str, mine: object = None, **others: object) -> object:
    """`mine` if it solves the exercise, else the course's own answer, and says so.

    Cells below an exercise go on with it, so that an unsolved one does not break the lesson. The exercise must have a
    `reference` in its module, and look at one name, besides those whose values are given in `others`.

    Raises:
        CourseError: there is no such exercise.
        ValueError: it has no reference.
    """
    found = find(id)
    names = [name for name in found.names if name not in others]
    if id not in _references or len(names) != 1 or not set(others) <= set(found.names):
        raise ValueError(f"exercise {id!r} cannot be gone on without: it needs a reference, and one name")
    if _solved.get(id) is not mine or mine is None:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            share, _ = _judge(found, {names[0]: mine, **others})
        if share < 1:
            print(f"{id} is not solved yet: the cells below go on with the course's answer.")
            return _references[id]()
        _solved[id] = mine
    return mine


def check(id: str) -> float:
    """Judge an exercise by what the calling notebook holds; print the verdict; return the points.

    Nothing is raised for a wrong answer, so that the notebook runs on. End a graded cell with this call: its value
    is the score. Whatever libraries write to stderr is printed, since nbgrader takes stderr for a failure.

    Raises:
        CourseError: there is no such exercise.
    """
    found, held = find(id), sys._getframe(1).f_globals
    printed = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(printed):
        warnings.simplefilter("ignore")
        share, verdict = _judge(found, held)
    if printed.getvalue():
        print(printed.getvalue(), end="")
    if share == 1 and len(found.names) == 1:
        _solved[id] = held[found.names[0]]
    points = round(share * found.points, 2)
    mark = "✓" if share == 1 else "◐" if share > 0 else "✗"
    print(f"{mark} {id}: {points:g} of {found.points:g} points. {verdict}")
    if share < 1:
        print(f'  Stuck? hint("{id}") gives one of three hints.')
    return float(points)


def _judge(found: Exercise, held: Mapping[str, object]) -> tuple[float, str]:
    missing = [name for name in found.names if name not in held or held[name] is None or held[name] is ...]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        return 0.0, (
            f"Not written yet: {names} {'has' if len(missing) == 1 else 'have'} no value.\n"
            "  Next step: write the cell above this one, run it, then run this cell again."
        )
    try:
        return 1.0, found.judge(**{name: held[name] for name in found.names})
    except Wrong as wrong:
        return min(1.0, max(0.0, wrong.share)), str(wrong)
    except NotImplementedError:
        return 0.0, (
            f"Not written yet: {' and '.join(f'`{name}`' for name in found.names)}.\n"
            "  Next step: write it in the cell above this one, run it, then run this cell again."
        )
    except CourseError as error:  # the course's own checks of a file, a shape or a model: they name the next step
        return 0.0, str(error)
    except FileNotFoundError as error:
        return 0.0, what_is_missing(error)
    except Exception as error:
        return 0.0, (
            "Your answer has a form that this check cannot read.\n"
            f"  Cause: {type(error).__name__}: {error}\n"
            f"  Next step: compare the types of {', '.join(found.names)} with what the task asks for."
        )


def hint(id: str) -> None:
    """Print the next hint of an exercise; after the third the third again.

    Raises:
        CourseError: there is no such exercise.
    """
    number = min(_hints_given.get(id, 0) + 1, 3)
    print(hint_text(id, number))
    _hints_given[id] = number


def hint_text(id: str, number: int) -> str:
    """Hint 1, 2 or 3 of an exercise, as it is shown.

    Raises:
        CourseError: there is no such exercise.
    """
    return f"Hint {number} of 3: {_declaration(id).hints[number - 1]}"


def choice(guess: str | None, happened: str, because: str, options: Sequence[str] = ()) -> None:
    """Print what was expected beside what happened, and why it did.

    Args:
        guess: one of the options; None if nothing was written down.
        happened: the option that the measurement showed.
        because: one or two sentences.
        options: those that were offered.
    """
    if guess is None:
        said = "You wrote down no prediction; you learn more from a wrong one than from none."
    elif options and guess not in options:
        said = f"Your prediction {guess!r} is none of {', '.join(options)}."
    else:
        said = "As you said." if guess == happened else f"You said {guess!r}."
    print(f"It was {happened!r}. {said}\n  {because}")


def prediction(guess: float | None, measured: float, unit: str) -> None:
    """Print a prediction beside its measurement.

    Args:
        guess: what the learner expected, in `unit`; None if nothing was written down.
        measured: what came out, in `unit`.
        unit: such as "ms" or "times as fast".
    """
    shown = _shown(measured)
    if guess is None:
        print(
            f"Measured: {shown} {unit}. You wrote down no prediction; you learn more from a wrong one than from none."
        )
        return
    try:
        guess = float(guess)
    except (TypeError, ValueError):
        print(f"Measured: {shown} {unit}. Your prediction {guess!r} is no number.")
        return
    if not math.isfinite(measured) or not math.isfinite(guess):
        way = "nothing to compare"
    elif guess > 0 and measured > 0:
        off = max(guess / measured, measured / guess)
        way = "right to within a tenth" if off < 1.1 else f"{off:.3g} times too {'high' if guess > measured else 'low'}"
    else:
        way = "equal" if guess == measured else f"off by {_shown(guess - measured)} {unit}"
    print(f"Predicted {_shown(guess)} {unit}, measured {shown} {unit}: {way}.")


def _shown(value: float) -> str:
    """Whole numbers as they are, others with three significant digits."""
    from course.text import number

    if not math.isfinite(value):
        return "nothing"
    return f"{value:,.0f}".replace(",", " ") if value == round(value) else number(value)


def find(id: str) -> Exercise:
    """The exercise of this id; imports the module of its lesson.

    Raises:
        CourseError: there is none; names the nearest.
    """
    if id not in _known:
        importlib.import_module(_declaration(id).module)
    return _known[id]


def _declaration(id: str) -> Declared:
    known = declared()
    if id not in known:
        near = difflib.get_close_matches(id, known, 1)
        raise CourseError(
            f"There is no exercise {id!r}.",
            f"Known: {', '.join(known) or 'none'}.",
            f"Did you mean {near[0]!r}?" if near else "Use one of these.",
        )
    return known[id]
