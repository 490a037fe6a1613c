"""Milestones, inputs, messages, reports and the measurement itself, apart from hostile artifacts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autograder import milestones
from autograder.artifacts.onnx import Onnx
from autograder.artifacts.onnx_inside import _float16_part
from autograder.checks.accuracy import Accuracy
from autograder.checks.base import Ramp
from autograder.checks.dynamic_batch import DynamicBatch
from autograder.checks.speed import Speed
from autograder.measuring.measure import measure
from autograder.measuring.report import CheckResult, Report
from autograder.milestones import Check
from autograder.rejected import Rejected
from autograder.sandbox import messages
from autograder.sandbox.process import Box, BoxBroke, Budget
from autograder.selfcheck import selfcheck
from autograder.tasks import inputs
from autograder.tasks.base import Seeds
from autograder.tasks.classifier import Classifier, alter, draw, wilson
from course.engine import Layer
from course.errors import CourseError
from course.paths import ROOT
from tests.measuring import tiny

SECRET = "a secret of thirty-two characters"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A submission with the right file."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "artifacts").mkdir()
    (folder / "artifacts" / "resnet50.onnx").write_bytes(tiny.export())
    return folder


# Ramps


def test_a_ramp_is_linear_between_its_ends_in_both_directions():
    up, down = Ramp(1.5, 3.0), Ramp(0.3, 0.1)
    assert [up.share(v) for v in (1.0, 1.5, 2.25, 3.0, 99.0)] == [0, 0, 0.5, 1, 1]
    assert [round(down.share(v), 6) for v in (0.5, 0.3, 0.2, 0.1, 0.0)] == [0, 0, 0.5, 1, 1]
    assert up.share(float("nan")) == 0 and down.share(float("inf")) == 0


def test_noise_counts_for_the_learner_but_only_within_the_dead_band():
    ramp = Ramp(1.0, 2.0, dead_band=0.1)
    assert ramp.share(1.95, 1.9, 2.0) == 1.0  # the interval reaches the threshold
    assert ramp.share(1.95, 1.94, 1.96) == pytest.approx(0.96)  # it is narrow: no more than it says
    assert ramp.share(1.0, 0.1, 50.0) == pytest.approx(0.1)  # wild noise earns the dead band, no more
    assert ramp.share(1.0, 0.0, float("inf")) == pytest.approx(0.1)
    less = Ramp(0.05, 0.01, dead_band=0.01)
    assert less.share(0.02, 0.0, 0.04) == pytest.approx(1.0)
    assert less.share(0.02, 0.019, 0.021) == pytest.approx(0.775)


def test_wilson_interval_is_the_published_one():
    low, high = wilson(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


# Declarations


def declared(**changes):
    check = dict(id="a", title="A", points=1, lanes={"cpu": DynamicBatch()}, on_fail="", hints=("1", "2", "3"))
    return tiny.milestone(checks=(Check(**{**check, **changes}),))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"points": 0}, "0 points"),
        ({"points": float("nan")}, "points"),
        ({"id": "No Spaces"}, "id is not usable"),
        ({"hints": ("one",)}, "1 hints"),
        ({"lanes": {"tpu": DynamicBatch()}}, "tpu"),
        ({"lanes": {}}, "lanes"),
        ({"needs": ("b",)}, "needs"),
        ({"lanes": {"cpu": Speed("fp32", (8,), Ramp(1.0, 1.0))}}, "is no ramp"),
        ({"lanes": {"cpu": Speed("fp32", (8,), Ramp(1.0, 2.0, 1.5))}}, "dead band"),
        ({"lanes": {"cpu": Speed("fp32", (), Ramp(1.0, 2.0))}}, "batches"),
        ({"lanes": {"cpu": DynamicBatch(), "gpu": Speed("fp32", (8,), Ramp(1.0, 2.0))}}, "2 kinds"),
    ],
)
def test_a_wrong_declaration_is_named(changes, says):
    with pytest.raises(CourseError, match=says):
        declared(**changes)


def test_ids_artifacts_and_grade_cells_are_checked():
    with pytest.raises(CourseError, match="no plain path"):
        tiny.milestone(artifacts=(Onnx("../secret.onnx"),))
    with pytest.raises(CourseError, match="declared twice"):
        tiny.milestone(checks=tiny.milestone().checks[:1] * 2)
    with pytest.raises(CourseError, match="same id"):
        milestones.check_unique([tiny.milestone(), tiny.milestone()])
    with pytest.raises(CourseError, match="same grade cell"):
        milestones.check_unique([tiny.milestone(), tiny.milestone(id="other")])
    with pytest.raises(CourseError, match=r"s9.m9.*\n.*s1.m1"):
        milestones.get("s9.m9")


def test_every_milestone_has_its_notebook_and_grade_cell():
    for milestone in milestones.all_milestones():
        notebook = json.loads((ROOT / milestone.stage / f"{milestone.notebook}.ipynb").read_text())
        cells = {cell["metadata"].get("nbgrader", {}).get("grade_id"): cell for cell in notebook["cells"]}
        assert cells[milestone.grade_id]["metadata"]["nbgrader"]["points"] == milestone.points
        assert f'selfcheck("{milestone.id}")' in "".join(cells[milestone.grade_id]["source"])
        assert milestones.for_notebook(milestone.stage, milestone.notebook)


# Inputs and the secret


def test_hidden_inputs_depend_on_secret_student_milestone_and_purpose_and_on_nothing_else():
    base = ("hidden", "ada", "s1.m1", "speed", b"k" * 32)
    seeds = {inputs.seed(*base)}
    for index, other in enumerate(("public", "bob", "s1.m2", "answers", b"l" * 32)):
        seeds.add(inputs.seed(*base[:index], other, *base[index + 1 :]))
    assert len(seeds) == 6 and inputs.seed(*base) in seeds
    assert inputs.seed("hidden", "a", "b|c", "", b"k") != inputs.seed("hidden", "a|b", "c", "", b"k")
    assert inputs.seed("public", "ada", "m", "p") == inputs.seed("public", "bob", "m", "p")
    with pytest.raises(CourseError, match="need a student"):
        inputs.seed("hidden", "", "s1.m1", "", b"k")


def test_the_same_seed_gives_the_same_images_and_none_as_it_was_shipped():
    from course.data import cifar10

    drawn = draw(Seeds("hidden", "ada", "s1.m1", b"k" * 32), "p", 8)
    again = draw(Seeds("hidden", "ada", "s1.m1", b"k" * 32), "p", 8)
    assert drawn.x.shape == (8, 3, 224, 224) and drawn.x.dtype == np.float32 and drawn.labels.shape == (8,)
    assert np.array_equal(drawn.x, again.x) and np.array_equal(drawn.labels, again.labels)
    pixels = cifar10.images("public").pixels[:200]
    altered = alter(pixels, np.random.default_rng(0))
    changed = np.abs(altered.astype(int) - pixels).mean((1, 2, 3))
    assert altered.dtype == np.uint8 and altered.shape == pixels.shape and changed.min() > 1.0


def test_the_secret_is_made_once_private_and_refused_if_others_can_read_it(tmp_path, monkeypatch):
    monkeypatch.delenv(inputs.SECRET_VARIABLE, raising=False)
    first = inputs.secret(tmp_path)
    path = tmp_path / ".grading" / "secret"
    assert len(first) == 64 and inputs.secret(tmp_path) == first and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(CourseError, match="Others can read"):
        inputs.secret(tmp_path)
    monkeypatch.setenv(inputs.SECRET_VARIABLE, "short")
    with pytest.raises(CourseError, match="too short"):
        inputs.secret(tmp_path)


# Messages between the two processes


def pipe_with(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


def test_a_message_arrives_as_it_was_sent():
    read, write = os.pipe()
    arrays = [np.arange(6, dtype="float32").reshape(2, 3), np.zeros((0, 4), "int64"), np.array(2.5)]
    messages.send(write, {"a": [1, "ü"]}, arrays)
    head, got = messages.receive(read, deadline=time.monotonic() + 5)
    assert head == {"a": [1, "ü"]} and all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(arrays, got))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x00",
        b"[[]]" * 8,
        messages._LENGTHS.pack(2, 0) + b"{}",
        messages._LENGTHS.pack(2, 0) + b"[]",
        messages._LENGTHS.pack(34, 4) + b'{"arrays": [["object", [4]], [1,2]]}',
        messages._LENGTHS.pack(30, 4) + b'{"arrays": [["float32", [99]]]}',
        messages._LENGTHS.pack(30, 4) + b'{"arrays": [["float32", [-1]]]}',
        messages._LENGTHS.pack(1 << 30, 0),
        messages._LENGTHS.pack(2, 1 << 60) + b"{}",
    ],
)
def test_what_is_no_message_is_refused_without_reading_on(data):
    with pytest.raises(messages.WireError):
        messages.receive(pipe_with(data), deadline=time.monotonic() + 2)


def test_a_silent_sender_is_not_waited_for():
    read, write = os.pipe()
    os.write(write, messages._LENGTHS.pack(10, 10))
    begin = time.monotonic()
    with pytest.raises(messages.WireTimeout):
        messages.receive(read, deadline=begin + 0.3)
    assert time.monotonic() - begin < 2
    os.close(write)


# The runner


def box(path: Path) -> Box:
    """As the checks of an ONNX file start it."""
    sees = (ROOT / "course", ROOT / "autograder", ROOT / "tests", path.parent)
    return Box(Onnx.inside, str(path), sees=sees, words=Onnx.words, memory_gb=4, cpu_s=600)


@pytest.fixture
def runner(work):
    with box(work / "artifacts" / "resnet50.onnx") as runner:
        yield runner


def test_the_runner_gets_no_secret_and_leaves_nothing_running(work, monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, SECRET)
    monkeypatch.setenv("PYTHONSTARTUP", "/nowhere")
    with box(work / "artifacts" / "resnet50.onnx") as runner:
        environment = Path(f"/proc/{runner._process.pid}/environ").read_bytes()
        pid = runner._process.pid
    assert SECRET.encode() not in environment and b"PYTHONSTARTUP" not in environment
    assert not Path(f"/proc/{pid}").exists()


def test_too_long_a_time_ends_the_process(runner):
    with pytest.raises(Rejected, match="took too long"):
        runner.ask("build", key="k", precision="fp32", runtime="onnxruntime", largest=2, alone=False, seconds=0.01)
    assert runner._process.poll() is not None


def test_all_requests_together_have_a_limit(work):
    """Each answer comes in time, but there is no end of them: the third finds the time of all used up."""
    path = work / "artifacts" / "resnet50.onnx"
    sees = (ROOT / "course", ROOT / "autograder", ROOT / "tests", path.parent)
    budget = Budget(600.0)
    look = {"name": "x", "max_nodes": 1000, "max_elements": 1 << 30, "allow_ops": []}
    with Box(Onnx.inside, str(path), sees=sees, words=Onnx.words, memory_gb=4, cpu_s=600, budget=budget) as first:
        first.ask("inspect", seconds=60, **look)
        assert 0 < budget.spent < 60
        budget.spent = budget.seconds  # as if it had been long
        for _ in range(2):
            with pytest.raises(Rejected, match=r"(?s)took too long.*took 600 s together; inspect was ended"):
                first.ask("inspect", seconds=60, **look)
    with Box(Onnx.inside, str(path), sees=sees, words=Onnx.words, memory_gb=4, cpu_s=600, budget=budget) as second:
        with pytest.raises(Rejected, match="together"):  # a new box does not begin anew
            second.ask("inspect", seconds=60, **look)


def test_a_milestone_ends_when_the_time_of_all_is_used_up(work):
    milestone = tiny.milestone(limits_s={"build": 600.0, "run": 300.0, "all": 0.05})
    report = measure(milestone, work, "public", lane="cpu")
    words = f"{report.reason} {' '.join(check.message for check in report.checks)}"  # by which request it is, chance decides
    assert report.points == 0 and report.status != "error" and "took 0 s together" in words


def test_a_death_is_told_in_words(runner):
    os.killpg(runner._process.pid, 9)
    runner._process.wait()
    time.sleep(0.2)  # inside bubblewrap the process dies a moment after its parent
    with pytest.raises(Rejected, match=r"ended the process(.|\n)*(SIGKILL|ended|137)"):
        runner.ask("inspect", seconds=20, name="x", max_nodes=1, max_elements=1, allow_ops=[])


def test_a_mistake_of_ours_is_not_called_the_learners(runner):
    with pytest.raises(BoxBroke, match="KeyError"):
        runner.ask("run", [np.zeros((1, 3, 4, 4), "float32")], key="never built", seconds=20)


# Reports


def result(**changes) -> CheckResult:
    return CheckResult(
        **{
            **dict(
                id="a",
                title="A <b>",
                status="partial",
                points=1.25,
                max_points=4,
                measured="1 ms",
                threshold="0.5 ms",
                message="Slow.",
                hint="Look.",
                values={"x": [1.5, None]},
            ),
            **changes,
        }
    )


def test_a_report_survives_json():
    report = Report(
        "s1.m1",
        "T",
        "measured",
        "cpu",
        "hidden",
        "ada",
        (result(), result(id="b", status="open", points=0.0)),
        12.5,
        {"a.onnx": "ff"},
        "",
        ("note",),
        "",
    )
    assert Report.from_json(report.to_json()) == report
    assert (report.points, report.max_points, report.open_points) == (1.25, 8, 4)
    for text in ("", "{}", "[]", '{"format": "autograder.report 1"}'):
        with pytest.raises(CourseError, match="no report"):
            Report.from_json(text)


def test_the_score_board_says_what_was_measured_wanted_and_one_hint_and_escapes_html():
    report = Report("s1.m1", "T", "measured", "cpu", "public", "", (result(),), 1.0)
    for text in (report.text(), report._repr_html_()):
        assert all(words in text for words in ("1 ms", "0.5 ms", "Slow.", "Look.", "on the CPU"))
    assert "A &lt;b&gt;" in report._repr_html_() and "A <b>" not in report._repr_html_()


# Measuring


def test_the_right_file_gets_all_that_a_cpu_can_show_in_grading_too(work, monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, SECRET)
    lines = []
    report = measure(tiny.milestone(), work, mode="hidden", who="ada", lane="cpu", say=lines.append)
    assert (report.points, report.open_points, report.status) == (16, 4, "measured"), report.text()
    assert report.checks[-1].status == "open" and "GPU" in report.checks[-1].message
    assert SECRET not in report.to_json() and Report.from_json(report.to_json()) == report
    assert len(report.artifacts["artifacts/resnet50.onnx"]) == 64 and len(lines) >= 5
    assert report.checks[3].values["batch 4"]["checked_answers"] >= 16


def test_a_failure_of_the_grader_gives_zeros_and_asks_for_a_person(work, caplog):
    broken = tiny.milestone(task=Classifier("tests.measuring.tiny:not_there"))
    report = measure(broken, work, lane="cpu")
    assert (report.status, report.points, report.needs_manual) == ("error", 0, True)
    assert "not_there" in report.problem and "not_there" in caplog.text
    assert "Traceback" in report.problem and "Traceback" not in caplog.text, "the callers print the report's"
    assert "not_there" not in report.text(), "the learner reads no traceback"


def test_the_callers_mistakes_are_errors(work):
    for changes, says in (
        ({"mode": "secret"}, "no mode"),
        ({"lane": "tpu"}, "no lane"),
        ({"mode": "hidden"}, "need a student"),
    ):
        with pytest.raises(CourseError, match=says):
            measure(tiny.milestone(), work, **changes)


def test_wrong_answers_are_not_timed(tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "resnet50.onnx").write_bytes(tiny.export(tiny.Net(seed=9)))
    small = dataclasses.replace(tiny.milestone().checks[1].lanes["cpu"], images=16)
    assert isinstance(small, Accuracy)
    checks = tuple(
        dataclasses.replace(check, lanes={"cpu": small}) if check.id in ("answers", "fp16") else check
        for check in tiny.milestone().checks
    )
    lines = []
    report = measure(tiny.milestone(checks=checks), tmp_path, lane="cpu", say=lines.append)
    assert report.points == 0 and not any("timing" in line for line in lines)
    waits = report.checks[3].message
    assert waits.startswith("It waits for: ") and "The ONNX file gives PyTorch's answers" in waits
    assert report.checks[1].hint == tiny.milestone().checks[1].hints[0]


# The command and the notebook's cell


def test_the_command_writes_a_report_and_no_traceback(tmp_path):
    command = [
        sys.executable,
        "-m",
        "autograder",
        "measure",
        "s1.m1",
        "--workdir",
        str(tmp_path),
        "--json",
        str(tmp_path / "r.json"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report = Report.from_json((tmp_path / "r.json").read_text())
    assert done.returncode == 0 and done.stderr == "" and "is missing" in done.stdout
    assert (report.status, report.points, report.max_points) == ("rejected", 0, 20)
    done = subprocess.run([*command[:4], "s9.m9"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Next step" in done.stderr and "Traceback" not in done.stderr


def test_self_check_prints_the_score_board_and_returns_points(tmp_path, capfd, monkeypatch):
    for name in (
        "onnx.py",
        "numpy.py",
        "autograder.py",
    ):  # files of the learner must not stand in for modules
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    points = selfcheck("s1.m1")
    out, err = capfd.readouterr()
    assert points == 0.0 and type(points) is float
    assert "0 of 20 points" in out and "artifacts/resnet50.onnx is missing" in out and err == ""


def test_self_check_measures_nothing_while_nbgrader_grades(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    assert selfcheck("s1.m1", tmp_path) == 0.0
    out, err = capfd.readouterr()
    assert "measures this after" in out and err == ""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_shipped_network_gets_full_marks_and_answers_in_time(tmp_path):
    """Others may run beside it: its speed is CPU time on one thread, and had room with six programs at work
    (docs/results/m1_cpu_threshold.json)."""
    import torch

    from course.export import export
    from course.models import resnet50

    export(
        resnet50(),
        (torch.zeros(2, 3, 224, 224),),
        tmp_path / "artifacts" / "resnet50.onnx",
        input_names=["image"],
        output_names=["logits"],
        dynamic={"image": {0: "batch"}},
        exporter="torchscript",
        target="8.6",
        once=True,
    )
    report = measure("s1.m1", tmp_path, lane="cpu")
    assert report.points == 16, report.text()


def test_the_part_in_float16_counts_working_layers_and_is_never_guessed():
    def part(*layers):
        return _float16_part(SimpleNamespace(layers=lambda: layers))

    half, single = (Layer("conv", "CaskConvolution", precision=p) for p in ("float16", "float32"))
    moves, unknown = Layer("copy", "Reformat", precision="float32"), Layer("x", "PointWiseV2")
    assert part(half, half, half, single, moves, unknown) == 0.75
    with pytest.raises(RuntimeError, match="cannot be checked"):
        part(moves, unknown)
