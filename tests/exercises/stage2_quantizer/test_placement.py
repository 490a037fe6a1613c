"""The exercise on layer lists: answers that were looked up do not pass."""

from __future__ import annotations

import pytest

from course.exercises import Wrong
from course.exercises.stage2_quantizer import placement
from course.quantize import trial


def test_the_reference_passes_every_time():
    for _ in range(5):
        assert "fused by chance" in placement.outside(placement._outside)


def test_answers_looked_up_in_the_recorded_lists_do_not_pass():
    """The lists and the course's answer can be imported; the engines that chance makes are in no file."""
    lists = [trial.recorded_layers(variant) for variant in placement.RECORDED]
    known = {str(layers): placement._outside(layers) for layers in lists}
    with pytest.raises(Wrong, match="fused by chance"):
        placement.outside(lambda layers: known.get(str(layers), set()))


def test_chance_moves_additions_both_ways():
    default, fp16 = (trial.recorded_layers(variant) for variant in placement.RECORDED[:2])
    assert (len(placement._outside(default)), len(placement._outside(fp16))) == (16, 0)
    assert any(len(placement._outside(placement._otherwise_fused(default))) < 16 for _ in range(5))
    assert any(len(placement._outside(placement._otherwise_fused(fp16))) > 0 for _ in range(5))
