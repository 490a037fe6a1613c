"""Errors of this package."""

from __future__ import annotations

from course.errors import CourseError


class KernelError(CourseError):
    """A CUDA C++ file could not be compiled, or a kernel could not be run as asked."""


class RefusedError(KernelError):
    """The file uses something that the CPU checker does not do. It may still be right for nvcc."""
