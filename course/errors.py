"""Errors that a learner may meet. Each names the thing, the cause and the next step."""

from __future__ import annotations


class CourseError(Exception):
    """An error with a way out.

    Args:
        what: the thing that failed, named (a file, a node, a tensor).
        cause: why, in one sentence, with the numbers that matter.
        next_step: what to do now; a command where there is one.
    """

    def __init__(self, what: str, cause: str, next_step: str):
        self.what, self.cause, self.next_step = what, cause, next_step
        super().__init__(f"{what}\n  Cause: {cause}\n  Next step: {next_step}")


class MissingFileError(CourseError):
    """A file that should be there is not."""


class DamagedFileError(CourseError):
    """A file is there, but its content is not what it should be."""


class ParseError(CourseError):
    """An ONNX model could not be read or has a node that the runtime cannot take."""


class ShapeError(CourseError):
    """An array has a shape that the model or engine does not accept."""


class DtypeError(CourseError):
    """An array has a dtype that the model or engine does not accept."""


class ProfileError(CourseError):
    """An optimisation profile is wrong, or an input lies outside it."""


class BuildError(CourseError):
    """An engine could not be built."""


class EngineMismatchError(CourseError):
    """A saved engine belongs to another TensorRT, another GPU or another model."""


class ParityError(CourseError):
    """Two versions of a model do not give the same answers."""


class UnsupportedError(CourseError):
    """This machine, runtime or version cannot do what was asked."""
