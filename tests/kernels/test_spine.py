"""One kernel from source to report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from course import kernels

RELU = Path(__file__).parent / "cuda" / "relu.cu"


def test_a_correct_kernel_gives_its_answer_and_no_finding() -> None:
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    report = kernels.check(RELU, "launchRelu", x, kernels.out(x.shape), x.size, None)
    assert report.ok, str(report)
    assert np.array_equal(report.outputs[0], np.maximum(x, 0))


def test_a_missing_guard_is_found_in_every_order_with_line_thread_and_block() -> None:
    x = np.zeros(1000, np.float32)
    report = kernels.check(RELU, "launchRelu", x, kernels.out(x.shape), x.size, None, defines=["BUG"])
    (finding,) = report.findings
    assert (finding.kind, finding.file, finding.line, finding.buffer) == ("out-of-bounds", "relu.cu", 9, "x")
    assert finding.thread >= (232, 0, 0) and finding.block == (3, 0, 0) and finding.orders == kernels.ORDERS
    assert "element 1000 of x (1000 elements), 0 bytes behind the end" in finding.message
    assert "if (i < n)" in str(report)
