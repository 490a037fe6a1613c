"""Triton for a few lines of a notebook: with it, without it, and when a model is wrong."""

from __future__ import annotations

import time

import numpy as np
import pytest

from course.serving import Model, ServingError, environment, with_triton, write
from tests.serving import networks


@pytest.fixture
def repository(tmp_path):
    return write(tmp_path / "service", [Model("net", networks.mlp(tmp_path / "net.onnx", 16, 32), 4)])


def test_without_triton_it_says_how_to_get_it(repository, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "empty"))
    assert with_triton(repository, lambda server: pytest.fail("there is no server")) is None
    said = capsys.readouterr().out
    assert "Open on this machine" in said and "course serve setup" in said


@pytest.mark.slow
def test_the_server_is_there_meanwhile_and_gone_soon_after(repository):
    if reason := environment.why_not():
        pytest.skip(reason)
    servers = []

    def use(server):
        servers.append(server)
        with server.client() as client:
            return client.infer("net", {"x": np.zeros((1, 16), np.float32)})["y"].shape

    assert with_triton(repository, use) == (1, 10)
    with pytest.raises(ZeroDivisionError):
        with_triton(repository, lambda server: servers.append(server) or 1 / 0)
    end = time.monotonic() + 20
    while any(server.processes() for server in servers) and time.monotonic() < end:
        time.sleep(0.1)
    assert [server.processes() for server in servers] == [[], []]
    (repository / "net" / "1" / "model.py").write_text("raise ValueError('no good')")
    with pytest.raises(ServingError, match="net"):
        with_triton(repository, use)
