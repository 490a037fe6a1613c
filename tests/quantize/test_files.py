"""Rows of the table of files: accuracy, signal-to-noise ratio against the first file, size."""

from __future__ import annotations

import numpy as np
import pytest

from course.quantize import calibrate, file_rows, file_table, quantize
from tests.quantize import quantize_zoo as zoo


def test_a_file_is_compared_with_the_first_one():
    model, x = zoo.residual_net(), zoo.images(16)
    exact = quantize(model, calibrate(model, x, "min-max"))
    rough = quantize(model, {tensor: 30 * scale for tensor, scale in calibrate(model, x, "min-max").scales.items()})
    labels = np.zeros(16, np.int64)
    rows = file_rows({"float": model, "fine": exact, "rough": rough}, x, labels, batch=8)
    assert [row.name for row in rows] == ["float", "fine", "rough"] and rows[0].sqnr_db is None
    assert rows[1].sqnr_db > 20 > rows[2].sqnr_db
    assert rows[1].onnx_bytes == len(exact.SerializeToString()) > rows[0].onnx_bytes
    assert all(0 <= row.top1 <= 1 for row in rows)
    assert "fine" in file_table(rows) and "dB" in file_table(rows)


def test_the_same_file_has_no_noise():
    model, x = zoo.residual_net(), zoo.images(8)
    _, again = file_rows({"a": model, "b": model}, x, np.zeros(8, np.int64))
    assert again.sqnr_db == pytest.approx(float("inf"))
