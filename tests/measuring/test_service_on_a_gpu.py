"""Milestone 4a's lane for a GPU, rehearsed on a CPU: the grader, its services, the boxes and the solution's program are the real ones;
TensorRT, CUDA and CUPTI are the stand-ins of `tests/serving/fake_gpu`. One test is for a real GPU.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from autograder.checks import launch_counts, service_box, service_plans
from autograder.checks.service_answers import ServiceAnswers
from autograder.checks.service_batches import ServiceBatches
from autograder.checks.service_faults import ServiceFaults
from autograder.checks.service_goodput import ServiceGoodput
from autograder.checks.service_graphs import ServiceGraphs
from autograder.measuring.measure import measure
from autograder.milestones.stage4 import REPOSITORY, SERVICE
from autograder.sandbox import bwrap
from autograder.tasks.image_files import ImageFiles
from course.paths import ROOT
from course.serving import environment
from tests.measuring import tiny
from tests.triton import environment_or_skip
from tools.gpu import service_cases

pytestmark = [
    pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}"),
    pytest.mark.serial,
]
FAKE = ROOT / "tests" / "serving" / "fake_gpu"
SHORT = {
    ServiceAnswers: {"alone": 4, "seconds": 0.5, "under_load": 60, "looked_at": 8},
    ServiceBatches: {"clients": 12, "seconds": 1.0, "turns": 2, "images": 100},
    ServiceGoodput: {"seconds": 1.0, "ladder": (0.5, 1.0, 2.0)},
    ServiceGraphs: {"pairs": 3, "seconds": 0.3, "counted": 8},
    ServiceFaults: {"seconds": 1.0, "growth_mb": 400.0},
}


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine whose GPU is a stand-in."""
    real = environment_or_skip()
    cupti = tmp_path / "cupti" / "libcupti.so.13"
    cupti.parent.mkdir()
    subprocess.run(["g++", "-shared", "-fPIC", "-O2", str(FAKE / "fake_cupti.cpp"), "-o", str(cupti)], check=True)
    seeing = seeing_the_stand_in(tmp_path / "triton", real)
    start, packages = service_box.start, str(Path(torch.__file__).parents[1])

    def started(at, repository, name, *, ours=False, variables=lambda home: {}, sees=()):
        def more(home: Path) -> dict[str, str]:
            return {**variables(home), "FAKE_GPU_PACKAGES": packages}

        return start(at, repository, name, ours=ours, variables=more, sees=(*sees, FAKE, real.folder))

    monkeypatch.setattr(environment, "find", lambda: seeing)
    monkeypatch.setattr(service_box, "start", started)
    monkeypatch.setattr(service_plans, "plan", lambda at, onnx, largest: onnx)
    monkeypatch.setattr(launch_counts, "cupti", lambda: cupti)


def seeing_the_stand_in(folder: Path, real: environment.Environment) -> environment.Environment:
    """Triton's environment, linked, with the stand-in for TensorRT in it. (The Python backend reads no PYTHONPATH.)"""
    subprocess.run([real.folder / "bin" / "python", "-m", "venv", "--without-pip", folder], check=True)
    made = environment.Environment(folder, real.python_version, real.libraries)
    (made.site / "pytriton").symlink_to(real.site / "pytriton")
    paths = [line for file in real.site.glob("*.pth") for line in file.read_text().split() if Path(line).is_dir()]
    (made.site / "more.pth").write_text("\n".join(map(str, (FAKE, real.site, *paths))))
    return made


def milestone(*ids: str):
    checks = tuple(
        dataclasses.replace(
            check, lanes={"gpu": dataclasses.replace(check.lanes["gpu"], **SHORT[type(check.lanes["gpu"])])}
        )
        for check in SERVICE.checks
        if check.id in ids or not ids
    )
    return dataclasses.replace(SERVICE, task=ImageFiles("tests.measuring.tiny:reference"), checks=checks)


def handed_in(folder: Path, change: str = "solution") -> Path:
    shutil.copytree(ROOT / "solutions" / SERVICE.stage / "m4a", folder / "m4a")
    version = folder / REPOSITORY / "classifier" / "1"
    (version / "model.onnx").write_bytes(tiny.export(tiny.reference()))
    service_cases.apply(change, version)
    return folder


rehearsal = pytest.mark.skipif(
    not os.environ.get("COURSE_REHEARSAL"),
    reason="a rehearsal with stand-ins takes minutes: set COURSE_REHEARSAL=1 before a change of this lane goes to a GPU",
)


@rehearsal
@pytest.mark.timeout(900)
def test_the_whole_lane_measures(gpu, tmp_path):
    report = measure(milestone(), handed_in(tmp_path), lane="gpu")
    assert report.status == "measured" and not report.open_points, report.text()
    points = {check.id: check.points for check in report.checks}
    assert points["answers"] == 5 and points["faults"] >= 4, report.text()
    graphs = next(check for check in report.checks if check.id == "graphs")
    assert graphs.values["graphs"] == 8 and graphs.values["kernels"] == 0, graphs.values
    assert len(graphs.values["samples_ms"]["service"]) == 3


@rehearsal
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "change, says",
    [
        ("no graph", "does not replay a graph for each request"),
        ("captured, not replayed", "does not replay a graph for each request"),
        ("stale input", "another network"),
        ("preprocessing outside", "not in the graph"),
    ],
)
def test_a_wrong_one_gets_nothing_for_graphs(gpu, tmp_path, change, says):
    report = measure(milestone("answers", "graphs"), handed_in(tmp_path, change), lane="gpu")
    assert report.checks[-1].points == 0, report.text()
    assert any(says in check.message for check in report.checks), report.text()


@pytest.mark.gpu
@pytest.mark.timeout(600)
def test_on_a_real_one_graphs_are_seen(tmp_path):
    """A small network: what is seen is the same, and engines take seconds. Triton's environment must see TensorRT and PyTorch."""
    if reason := environment.why_not():
        pytest.skip(reason)
    report = measure(milestone("answers", "graphs"), handed_in(tmp_path), lane="gpu")
    assert report.checks[0].points == 5 and not report.open_points, report.text()
    values = report.checks[1].values
    assert values["graphs"] >= 8 and values["kernels"] <= 3 * 8, values
