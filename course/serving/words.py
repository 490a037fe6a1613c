"""The word for what goes wrong while serving."""

from __future__ import annotations

from course.errors import CourseError


class ServingError(CourseError):
    """A server cannot be set up, does not start, refuses a request or is gone; or a model repository is wrong."""
