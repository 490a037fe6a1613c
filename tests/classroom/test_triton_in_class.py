"""Lessons on Triton start a server in the sandbox of a notebook. It has no network to fetch one, so the grader shows its own."""

from __future__ import annotations

import io

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console
from traitlets.config import Config

from autograder.classroom import grade as grading
from autograder.classroom.gradebook import Place
from autograder.classroom.kernel import SandboxedExecute
from autograder.sandbox import bwrap
from course.serving import ServingError, environment
from tests.triton import environment_or_skip

SERVE = '''
from pathlib import Path
import numpy as np
from course.serving import Client, with_triton
(folder := Path("service/double/1")).mkdir(parents=True)
(folder.parent / "config.pbtxt").write_text("""name: "double" backend: "python"
input [ { name: "x" data_type: TYPE_FP32 dims: [ 1 ] } ] output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]""")
(folder / "model.py").write_text("""
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        arrays = [pb.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb.InferenceResponse([pb.Tensor("y", 2 * array)]) for array in arrays]
""")
print(with_triton("service", lambda server: Client(server.address).infer("double", {"x": np.float32([21])})["y"][0]))'''


@pytest.mark.slow
@pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
def test_a_server_runs_in_the_sandbox_of_a_notebook(tmp_path) -> None:
    environment_or_skip()
    notebook = new_notebook(cells=[new_code_cell(SERVE)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    execute = SandboxedExecute(timeout=100, startup_timeout=120)
    done, _ = execute.preprocess(nbformat.from_dict(notebook), {"metadata": {"path": str(tmp_path)}})
    (output,) = nbformat.from_dict(done.cells[0]).outputs
    assert output.get("text") == "42.0\n", output


@pytest.mark.parametrize(
    "text, asked", [("from course.serving import with_triton", 1), ("from course import bench", 0)]
)
def test_the_grader_sets_triton_up_for_lessons_that_serve_and_warns_where_it_cannot(tmp_path, monkeypatch, text, asked):
    config = Config()
    config.CourseDirectory.release_directory = "release"
    place = Place(tmp_path, config)
    place.release("stage4").mkdir(parents=True)
    (place.release("stage4") / "03_triton.ipynb").write_text(text)

    def not_to_be_had(tell):
        raise ServingError("It is not here [bold].", "No connection.", "Connect.")

    monkeypatch.setattr(environment, "make", not_to_be_had)
    screen = Console(file=io.StringIO(), width=200)
    grading._fetch_tools(place, "stage4", screen)
    assert screen.file.getvalue().count("cells that need it will fail: It is not here [bold]") == asked
