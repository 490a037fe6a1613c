"""`course serve`, run as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from course.paths import ROOT
from course.serving import Client, Model, ServingError, environment, write
from tests.serving import networks


def serve(*arguments: object, **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "course", "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **variables},
    )


def test_a_wrong_repository_is_refused_before_a_server_is_looked_for(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.pbtxt").write_text('backend: "onnxruntime"')
    process = serve("run", tmp_path, COURSE_CACHE=str(tmp_path / "cache"))
    out, error = process.communicate(timeout=60)
    assert process.returncode == 1 and "config.pbtxt: input" in error and "Next step" in error and not out


def test_without_the_environment_it_says_how_to_get_it(tmp_path):
    repository = write(tmp_path / "s", [Model("net", networks.mlp(tmp_path / "net.onnx", 16, 32), 4)])
    process = serve("run", repository, COURSE_CACHE=str(tmp_path / "cache"))
    assert "course serve setup" in process.communicate(timeout=60)[1] and process.returncode == 1


@pytest.mark.slow
def test_it_serves_until_ctrl_c(tmp_path):
    try:
        environment.make(lambda line: None)
    except ServingError as error:
        pytest.skip(f"Triton's environment cannot be made: {error}")
    repository = write(tmp_path / "s", [Model("net", networks.mlp(tmp_path / "net.onnx", 16, 32), 4)])
    process = serve("run", repository)
    assert process.stdout.readline() == "Loading net\n"
    address = process.stdout.readline().split("http://")[1].split("/")[0]
    with Client(address) as client:
        assert client.ready("net")
    assert "Ctrl-C stops it" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130 and "Stopped." in error
    with Client(address) as client:
        assert not client.ready()
