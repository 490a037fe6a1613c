"""The word for what cannot be measured."""

from __future__ import annotations

from course.errors import CourseError


class Rejected(CourseError):
    """What was handed in cannot be measured. The learner reads why; the check gives no points."""
