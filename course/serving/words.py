"""The word for what goes wrong while serving."""

from __future__ import annotations

from course.errors import CourseError


class ServingError(CourseError):
    """A server cannot be set up, does not start, refuses a request or is gone; or a model repository is wrong."""


class RefusedError(ServingError):
    """A server answered a request with an error; `status` is HTTP's: from 400 a wrong request, from 500 a failure."""

    def __init__(self, what: str, cause: str, next_step: str, status: int):
        super().__init__(what, cause, next_step)
        self.status = status
