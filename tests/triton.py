"""The real Triton, for tests that need it."""

from __future__ import annotations

import pytest

from course.serving import ServingError, environment


def environment_or_skip() -> environment.Environment:
    """Triton's environment, made if it is not there; where this machine cannot have it, the test is skipped and says why."""
    try:
        return environment.make(lambda line: None)
    except ServingError as error:
        pytest.skip(f"Triton's environment cannot be made: {error}")
