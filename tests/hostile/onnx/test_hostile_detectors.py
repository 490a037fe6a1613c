"""Every hostile, wrong and honest file for the detector's milestone gets the points that the table says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest

from autograder.measuring.measure import measure
from autograder.tasks import inputs
from tests.hostile.onnx import detectors
from tests.measuring import tiny_detector as tiny


@dataclass(frozen=True)
class Case:
    """points: of dynamic-shape, answers and fp16, and of the speed where it is measured; None: between none
    and all. says: words that the learner must read."""

    make: Callable[[], bytes]
    points: tuple[float | None, ...]
    says: str

    @property
    def name(self) -> str:
        return self.make.__name__


NOTHING = (0, 0, 0)
QUICK = ("scores_first", "logits", "nms_inside")
"""An honest and two wrong ones: the others wait for --all."""
CASES = (
    Case(detectors.scores_first, (4, 4, 4), ""),
    Case(detectors.fixed_batch, (0, 4, 4), "the batch size the fixed number 2"),
    Case(detectors.fixed_size, NOTHING, "the height the fixed number 192 and the width the fixed number 192"),
    Case(detectors.random_weights, NOTHING, "random weights find no object"),
    Case(detectors.half_size, NOTHING, "million numbers, the shipped detector 3.3"),
    Case(detectors.divided_by_255, NOTHING, "divided by 255 inside the file"),
    Case(detectors.imagenet_normalised, NOTHING, "ImageNet's mean and deviation inside the file"),
    Case(detectors.nms_inside, NOTHING, "suppression is inside the graph"),
    Case(detectors.centre_and_size, NOTHING, "centre, width and height"),
    Case(detectors.y_before_x, NOTHING, "y before x"),
    Case(detectors.logits, NOTHING, "The scores are logits"),
    Case(detectors.all_nan, NOTHING, "NaN"),
    Case(detectors.one_nan, NOTHING, "NaN"),
    Case(detectors.extra_output, NOTHING, "3 outputs"),
    Case(detectors.gigantic_output, NOTHING, "answer is too large"),
    Case(detectors.no_boxes, NOTHING, "is empty"),
    Case(detectors.only_the_sure, NOTHING, "boxes for each image, not"),
    Case(detectors.mirrored, NOTHING, "the answers of another network"),
    Case(detectors.coarse, (4, None, None), "does not give the boxes and scores"),
    Case(detectors.quieter, (4, None, None), "does not give the boxes and scores"),
    Case(detectors.wrong_at_224, NOTHING, "224"),
    Case(detectors.only_square, (0, 4, 4), "2x160x224"),
    Case(detectors.batch_detector, (4, 4, 4, 0), "An answer of a timed run is wrong"),
    Case(detectors.constant_detector, (4, 4, 4, 0), "not as much faster"),
)


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c.name in QUICK else pytest.mark.slow, id=c.name) for c in CASES]
)
def test_a_file_gets_its_due(case, tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "yolo.onnx").write_bytes(case.make())
    milestone = tiny.milestone(speed=len(case.points) > 3)
    report = measure(milestone, tmp_path, lane="cpu")
    shown = report.text()
    assert report.problem == "", report.problem
    for check, wanted in zip(report.checks, case.points, strict=True):
        good = 0 < check.points < 4 if wanted is None else check.points == wanted
        assert good, f"{check.id} got {check.points}, must get {wanted}\n{shown}"
    words = f"{report.reason} " + " ".join(f"{check.measured} {check.message}" for check in report.checks)
    assert case.says in words, shown


def test_a_blank_folder_gets_nothing(tmp_path):
    report = measure("s1.m1b", tmp_path, lane="cpu")
    assert (report.status, report.points, report.max_points) == ("rejected", 0, 20)
    assert "artifacts/yolo.onnx is missing" in report.reason


def test_learning_the_public_scenes_by_heart_helps_only_in_self_check(tmp_path, monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, "a secret of thirty-two characters")
    milestone = tiny.milestone()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "yolo.onnx").write_bytes(detectors.memoriser(milestone.id, 16))
    fooled = {check.id: check.points for check in measure(milestone, tmp_path, lane="cpu").checks}
    assert fooled["answers"] == 4, "the cheat does not work at all: this test shows nothing"
    assert measure(milestone, tmp_path, mode="hidden", who="ada", lane="cpu").points == 0


def test_the_two_cheats_on_time_do_cheat():
    """Else their rows in the table would show nothing."""
    rng = np.random.default_rng(0)
    for make, cheated, honest in (
        (
            detectors.batch_detector,
            rng.random((tiny.TIMED, 3, 64, 64), np.float32),
            rng.random((3, 3, 64, 64), np.float32),
        ),
        (detectors.constant_detector, np.full((3, 3, 64, 64), 0.5, np.float32), rng.random((3, 3, 64, 64), np.float32)),
    ):
        session = onnxruntime.InferenceSession(make(), providers=["CPUExecutionProvider"])
        cheap, real = (session.run(None, {"image": x})[0] for x in (cheated, honest))
        assert cheap[0].any() and not cheap[1:].any() and real[2].any(), make.__name__
