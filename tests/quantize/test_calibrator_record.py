"""The tool that holds the stand-in against TensorRT tells what matters from what does not."""

from __future__ import annotations

import copy
import json

import pytest

from course.paths import ROOT
from tools.gpu.calibrator_record import compare, record

ONE = {
    "cases": {
        "entropy": {
            "calls": [
                {"call": "get_batch_size"},
                {"call": "read_calibration_cache", "gave": False},
                {"call": "get_batch", "names": ["image"], "number": 0},
                {"call": "write_calibration_cache", "header": "TRT-8600-EntropyCalibration2", "type": "memoryview"},
            ],
            "plan": True,
            "scales": {"image": 0.02, "out": 0.1},
        }
    }
}


def changed(change) -> list[str]:
    other = copy.deepcopy(ONE)
    change(other["cases"]["entropy"])
    return compare(ONE, other)


def test_calls_plans_and_cases_must_be_the_same():
    assert [line for line in changed(lambda case: None) if not line.startswith("(note)")] == []
    assert "call 3 differs" in changed(lambda case: case["calls"].pop())[0]
    assert "call 1 differs" in changed(lambda case: case["calls"][1].update(gave=True))[0]
    assert "a plan came out: True and False" in changed(lambda case: case.update(plan=False))[0]
    assert compare(ONE, {"cases": {}}) == ["entropy: only in one of the two"]


def test_batch_sizes_and_scales_are_notes():
    assert changed(lambda case: case["calls"].pop(0))[0].startswith("(note) entropy: get_batch_size")
    lines = changed(lambda case: case["scales"].update(image=0.03, other=1.0))
    assert [line.startswith("(note)") for line in lines] == [True, True]
    assert "1.000 to 1.500 times" in lines[1]


@pytest.mark.slow
def test_the_stand_in_drives_a_calibrator_as_tensorrt_did(tmp_path):
    """The same script ran on an H200 with TensorRT 8.6.0, and what it saw is in the repository."""
    real = ROOT / "docs" / "results" / "h200" / "int8" / "calibrator_calls.json"
    mine = tmp_path / "stand_in.json"
    record(mine)
    first, second = (json.loads(path.read_text()) for path in (real, mine))
    assert (first["stand_in"], second["stand_in"], first["tensorrt"]) == (False, True, "8.6.0")
    assert [line for line in compare(first, second) if not line.startswith("(note)")] == []
