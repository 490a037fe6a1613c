"""Checks, hints and predictions of the lessons."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest

from course import exercises
from course.errors import CourseError, MissingFileError
from course.exercises import Wrong, check, exercise, hint, prediction
from course.paths import ASSETS


@pytest.fixture
def demo(monkeypatch):
    """One exercise: `answer` must be 42; 41 earns half."""
    monkeypatch.setattr(exercises, "_known", {})
    monkeypatch.setattr(exercises, "_hints_given", {})

    @exercise("demo", points=3, hints=("first", "second", "third"))
    def judge(answer):
        if answer == "file":
            raise MissingFileError("x.onnx is not there.", "Nothing wrote it.", "Export it.")
        if answer == "no file":
            open("artifacts/never.onnx")
        if callable(answer):
            return answer()
        if answer == "noise":
            warnings.warn("deprecated", stacklevel=2)
            print("library talk", file=sys.stderr)
            return "fine"
        if answer + 0 == 41:
            raise Wrong("41 is close.", "You forgot one.", "Add one.", share=0.5)
        if answer != 42:
            raise Wrong(f"{answer} is wrong.", "A reason.", "A step.")
        return "42 it is."

    monkeypatch.setattr(exercises, "declared", lambda: exercises._known)


def judged(value, capsys) -> tuple[float, str]:
    names = {"check": check, "answer": value}
    points = eval('check("demo")', names)
    out, err = capsys.readouterr()
    assert err == ""
    return points, out


@pytest.mark.parametrize(
    "value, points, words",
    [
        (42, 3.0, "42 it is."),
        (41, 1.5, "You forgot one."),
        (7, 0.0, "7 is wrong."),
        (None, 0.0, "Not written yet: `answer` has no value"),
        (..., 0.0, "Not written yet: `answer` has no value"),
        ("file", 0.0, "x.onnx is not there."),
        ("no file", 0.0, "artifacts/never.onnx is missing"),
        ([], 0.0, "TypeError"),
        ("noise", 3.0, "library talk"),
    ],
)
def test_verdicts(demo, capsys, value, points, words):
    earned, said = judged(value, capsys)
    assert earned == points and isinstance(earned, float) and words in said
    assert ("Next step" in said) == (points < 3)


def _raise_by_hand():
    raise FileNotFoundError("no calibration images")


def _in_a_folder_that_is_gone():
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    open("weights.pt")


@pytest.mark.parametrize(
    "answer, name, written",
    [
        (lambda: open("artifacts/never.onnx"), "artifacts/never.onnx", True),
        (lambda: open(os.path.abspath("models/never/config.pbtxt")), "models/never/config.pbtxt", True),
        (lambda: os.listdir(b"artifacts"), "artifacts", True),
        (lambda: open("/nowhere/weights.pt"), "/nowhere/weights.pt", False),
        (lambda: open("../other/weights.pt"), "../other/weights.pt", False),
        (lambda: open(ASSETS / "never.onnx"), str(ASSETS / "never.onnx"), False),
        (lambda: subprocess.run(["no-such-compiler"]), "no-such-compiler", False),
        (_raise_by_hand, "no calibration images", False),
        (_in_a_folder_that_is_gone, "weights.pt", False),
    ],
)
def test_only_a_file_of_the_notebooks_folder_is_one_that_a_cell_writes(
    demo, capsys, tmp_path, monkeypatch, answer, name, written
):
    monkeypatch.chdir(tmp_path)
    earned, said = judged(answer, capsys)
    assert earned == 0 and name in said and "Cause: " in said and "Next step: " in said
    assert ("an earlier cell writes" in said) == ("from the top down" in said) == written
    assert ("a program of this name" in said) == (name == "no-such-compiler")


def test_a_name_that_is_not_there(demo, capsys):
    assert eval('check("demo")', {"check": check}) == 0.0
    assert "run it, then run this cell again" in capsys.readouterr().out


def test_hints_come_one_at_a_time(demo, capsys):
    for words in ("Hint 1 of 3: first", "Hint 2 of 3: second", "Hint 3 of 3: third", "Hint 3 of 3: third"):
        hint("demo")
        assert words in capsys.readouterr().out


def test_unknown_exercises_are_named(demo):
    with pytest.raises(CourseError, match="Did you mean 'demo'"):
        check("demoo")


def test_a_share_outside_0_to_1_earns_no_more(demo, capsys, monkeypatch):
    @exercise("generous", points=2, hints=("a", "b", "c"))
    def judge(answer):
        raise Wrong("Too kind.", "x", "y", share=7.0)

    assert eval('check("generous")', {"check": check, "answer": 1}) == 2.0


@pytest.mark.parametrize(
    "guess, measured, words",
    [
        (2.0, 2.1, "within a tenth"),
        (10, 2, "5 times too high"),
        (1, 3, "3 times too low"),
        (0, 0, "equal"),
        (0, 3, "off by -3"),
        (60, 58, "measured 58 ms"),
        (1, 12345.0, "measured 12 345 ms"),
        (1, 0.5, "measured 0.500 ms"),
        (None, 3, "no prediction"),
        ("many", 3, "is no number"),
        (2, float("nan"), "measured nothing ms: nothing to compare"),
        (float("inf"), 3, "nothing to compare"),
    ],
)
def test_predictions(capsys, guess, measured, words):
    prediction(guess, measured, "ms")
    said = capsys.readouterr().out
    assert words in said and "ms" in said


def test_every_exercise_has_three_different_hints_and_names():
    for id in exercises.declared():
        one = exercises.find(id)
        assert len(set(one.hints)) == 3 and all(len(text) > 20 for text in one.hints), id
        assert one.names, f"{id} looks at nothing"


def test_a_stub_that_was_not_touched_is_not_written_yet(capsys):
    @exercise("stub", points=1, hints=("first hint to it", "second hint to it", "third hint to it"))
    def judge(function):
        return f"{function()}"

    def function():
        raise NotImplementedError()

    eval('check("stub")', {"check": check, "function": function})
    said = capsys.readouterr().out
    assert "Not written yet: `function`" in said and "Next step" in said and "NotImplementedError" not in said


def test_an_unsolved_exercise_goes_on_with_the_courses_answer_and_says_so(capsys):
    judged = []

    @exercise("double", points=1, hints=("first hint to it", "second hint to it", "third hint to it"))
    def judge(double):
        judged.append(double)
        if double(2) != 4:
            raise Wrong("Not twice.", "It is not.", "Double it.")
        return "Right."

    @exercises.reference("double")
    def make():
        return lambda x: 2 * x

    def mine(x):
        return x + x

    for wrong in (None, ..., 7, lambda x: x, lambda x: 1 / 0):
        assert exercises.solved("double", wrong)(5) == 10
        assert "not solved yet: the cells below go on with the course's answer" in capsys.readouterr().out
    assert exercises.solved("double", mine) is mine and capsys.readouterr().out == ""
    count = len(judged)
    assert exercises.solved("double", mine) is mine and len(judged) == count, "what was right is not judged again"
    exercises._references.pop("double")
    with pytest.raises(ValueError, match="reference"):
        exercises.solved("double", mine)


def test_a_choice_is_put_beside_what_happened(capsys):
    for guess, words in (("b", "As you said."), ("a", "You said 'a'."), ("z", "none of a, b"), (None, "no prediction")):
        exercises.choice(guess, "b", "Since it is.", ("a", "b"))
        said = capsys.readouterr().out
        assert said.startswith("It was 'b'.") and words in said and "Since it is." in said


def test_an_exercise_of_two_names_goes_on_if_the_other_one_is_given(capsys, monkeypatch):
    def judge(answer, data):
        if answer != sum(data):
            raise Wrong("no", "no", "no")
        return "yes"

    monkeypatch.setitem(exercises._known, "two", exercises.Exercise("two", 1, ("a", "b", "c"), judge))
    monkeypatch.setitem(exercises._references, "two", lambda: "the course's")
    assert exercises.solved("two", 6, data=[1, 2, 3]) == 6 and capsys.readouterr().out == ""
    assert exercises.solved("two", 5, data=[1, 2, 3]) == "the course's"
    assert "not solved yet" in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs a reference, and one name"):
        exercises.solved("two", 6)
    with pytest.raises(ValueError, match="needs a reference, and one name"):
        exercises.solved("two", 6, data=[], other=1)
