"""The command `course`, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from course import __version__, bench
from course.build_command import parse_profile
from course.engine import load
from course.errors import CourseError, ProfileError
from course.paths import ROOT
from course.profiling import trtexec


def course(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "course", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """y = x W on any batch: x float32 [batch, 4], y float32 [batch, 2]."""
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "W")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [weights],
    )
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def three_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a learner sees of an error: exactly what, cause and next step, and no traceback."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 3, done.stderr
    assert lines[1].startswith("  Cause: ") and lines[2].startswith("  Next step: ")
    return lines


def test_version_and_help():
    assert course("--version").stdout.strip() == f"course {__version__}"
    done = course("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("doctor", "first", "build", "lab", "data"))


def test_help_imports_no_heavy_library():
    code = (
        "import sys, course.cli; heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'matplotlib', 'nbformat'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_subcommand_explains_itself():
    for command in (["doctor"], ["first"], ["build"], ["lab"], ["hint"], ["data"], ["data", "fetch"]):
        done = course(*command, "--help")
        assert done.returncode == 0 and "Usage" in done.stdout, command


def test_doctor_in_json_and_in_words():
    done = course("doctor", "--json")
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads(done.stdout)["ready"] is True
    assert "ONNX Runtime" in course("doctor").stdout


def test_doctor_fails_where_the_course_cannot_run(tmp_path):
    broken = tmp_path / "onnxruntime"
    broken.mkdir()
    (broken / "__init__.py").write_text("import os; os.abort()")
    done = course("doctor", PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 1 and "crashed with SIGABRT" in done.stdout and "cannot run yet" in done.stdout


def test_build_writes_an_engine_and_reports(model, tmp_path):
    done = course(
        "build",
        model,
        "-o",
        tmp_path / "tiny.engine",
        "--runtime",
        "onnxruntime",
        "--batch",
        "1,4,8",
        "--plan",
        tmp_path / "plan",
    )
    assert done.returncode == 0, done.stderr
    assert "x float32 ?×4" in done.stdout and "after fusion" in done.stdout and "median" in done.stdout
    with load(tmp_path / "tiny.engine") as engine:
        x = np.ones((8, 4), np.float32)
        assert np.array_equal(engine.run({"x": x})["y"], x @ np.arange(8, dtype=np.float32).reshape(4, 2))
    assert onnx.load(tmp_path / "plan").graph.node[0].op_type == "MatMul"


def test_build_times_every_profile_at_its_usual_shape(model, tmp_path):
    done = course(
        "build",
        model,
        "--runtime",
        "onnxruntime",
        "--profile",
        "x:1x4,2x4,4x4",
        "--profile",
        "x:4x4,6x4,8x4",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "At 2×4:" in done.stdout and "At 6×4:" in done.stdout
    assert (tmp_path / "tiny.engine").is_file()


def test_build_writes_times_and_layers(model, tmp_path):
    done = course(
        "build",
        model,
        "--runtime",
        "onnxruntime",
        "--batch",
        "1,4,8",
        "--times",
        "times.json",
        "--layer-profile",
        "layers.json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    times = bench.load(tmp_path / "times.json").result
    assert times.items == 4 and f"{len(times.milliseconds)} samples" in done.stdout
    assert trtexec.read_profile(tmp_path / "layers.json")


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["nothere.onnx"], "nothere.onnx"),
        (["MODEL", "--batch", "1,4"], "--batch 1,4"),
        (["MODEL", "--batch", "1,many"], "--batch 1,many"),
        (["MODEL", "--batch", "1,2,4", "--profile", "x:1x4,2x4,4x4"], "--batch"),
        (["MODEL", "--profile", "x=1x4"], "x=1x4"),
        (["MODEL", "--profile", "z:1x4,2x4,4x4"], "x"),
        (["MODEL", "--batch", "1,2,4", "--precision", "fp7"], "fp7"),
        (["MODEL", "--batch", "1,2,4", "--level", "9"], "9"),
    ],
)
def test_build_errors_have_a_way_out_and_leave_no_file(model, tmp_path, arguments, word):
    arguments = [str(model) if argument == "MODEL" else argument for argument in arguments]
    done = course("build", *arguments, "--runtime", "onnxruntime", cwd=tmp_path)
    assert word in " ".join(three_lines(done)[:2])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--batch", "1,8,32"]])
def test_a_missing_profile_is_said_as_an_option_that_can_be_pasted(tmp_path, more):
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("frames", "y")
    ]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["frames"], ["y"])], "g", ends[:1], ends[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    lines = three_lines(course("build", "m.onnx", *more, "--runtime", "onnxruntime", cwd=tmp_path))
    (pasted,) = re.findall(r"--profile '([^']+)'", lines[2])
    assert list(parse_profile(pasted).shapes) == ["frames"]
    assert "Profile(" not in " ".join(lines) and "Profile." not in " ".join(lines)


def test_debug_shows_the_traceback():
    done = course("data", "fetch", "--source", "nowhere", COURSE_DEBUG="1")
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert "nowhere" in three_lines(course("data", "fetch", "--source", "nowhere"))[0]


def test_first_takes_only_numbers_as_batch_sizes():
    assert "--batch one" in three_lines(course("first", "--batch", "one"))[0]


def test_an_unknown_error_has_a_way_out_too():
    code = "from course.cli import guarded\n@guarded\ndef f(): 1 / 0\nf()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ZeroDivisionError" in three_lines(done)[1]


def test_ctrl_c_ends_with_one_line():
    code = "import time\nfrom course.cli import guarded\n@guarded\ndef f():\n    print('ready', flush=True)\n    time.sleep(60)\nf()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # background jobs ignore it
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and errors.split() == ["Stopped."]


def test_output_into_a_closed_pipe_is_no_error():
    code = "from course.cli import guarded\n@guarded\ndef f():\n    for _ in range(10**6): print('line')\nf()"
    done = subprocess.run(
        f'"{sys.executable}" -c "$CODE" | head -1',
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "CODE": code},
    )
    assert (done.stdout, done.stderr) == ("line\n", "")


def test_profile_notation():
    profile = parse_profile("input:0:1x3x8x8,2x3x8x8,4x3x8x8; mask:1x8,2x8,4x8")
    assert profile.shapes["input:0"] == ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))
    assert profile.shapes["mask"][2] == (4, 8)
    for text in ("", "x", "x:1x4", "x:1x4,2x4", "x:1x4,2x4,axb", ":1x4,2x4,4x4"):
        with pytest.raises(ProfileError):
            parse_profile(text)
    assert issubclass(ProfileError, CourseError)


def test_hint_of_an_exercise():
    from course.exercises import declared

    first = next(iter(declared().values()))
    done = course("hint", first.id, 2)
    assert (done.returncode, done.stdout) == (0, f"Hint 2 of 3: {first.hints[1]}\n")
    assert course("hint", first.id, 4).returncode == 2
    unknown = course("hint", first.id + "x")
    assert unknown.returncode == 1 and f"Did you mean '{first.id}'" in unknown.stderr


@pytest.mark.parametrize("module", ["course", "autograder"])
def test_a_python_without_the_packages_is_told_what_to_do(module):
    done = subprocess.run(
        [sys.executable, "-S", "-m", module],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    lines = three_lines(done)
    assert done.returncode == 1 and sys.executable in lines[0] and "./start" in lines[2]
