"""Three versions of the API. One that cannot be had skips its tests with the reason; in CI it fails."""

from __future__ import annotations

import os

import pytest

from .api import Api
from .wheels import WHEELS, NeverAvailable, Unavailable, load_api


@pytest.fixture(scope="session")
def loaded() -> dict[str, Api | Unavailable]:
    """For each version its API, or why it cannot be had."""
    found: dict[str, Api | Unavailable] = {}
    for name in WHEELS:
        try:
            found[name] = Api(name, load_api(name))
        except Unavailable as problem:
            found[name] = problem
    return found


def api_or_skip(loaded: dict[str, Api | Unavailable], name: str) -> Api:
    api = loaded[name]
    if isinstance(api, Unavailable):
        if os.environ.get("CI") == "true" and not isinstance(api, NeverAvailable):
            pytest.fail(f"{api} In CI every version must be checked.")
        pytest.skip(str(api))
    return api


@pytest.fixture(params=WHEELS)
def api(request: pytest.FixtureRequest, loaded: dict[str, Api | Unavailable]) -> Api:
    """One version after the other."""
    return api_or_skip(loaded, request.param)


@pytest.fixture
def apis(loaded: dict[str, Api | Unavailable]) -> list[Api]:
    """All versions."""
    return [api_or_skip(loaded, name) for name in WHEELS]
