"""Tensors over the wire and back, counters from pages and JSON, plans of arrivals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from course.errors import DtypeError
from course.serving import ServingError, arrivals, metrics, protocol


def answer(arrays: dict[str, np.ndarray]) -> tuple[bytes, int]:
    """An answer that holds these arrays, made from a request: both list tensors in the same way."""
    body, length = protocol.encode(arrays)
    head = json.loads(body[:length])
    text = json.dumps({"outputs": head["inputs"]}).encode()
    return text + body[length:], len(text)


@pytest.mark.parametrize("dtype", [*protocol.DTYPES.values()])
def test_every_dtype_comes_back_as_it_was(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    other = np.arange(6, dtype=np.float32)[::2]  # not contiguous
    back = protocol.decode(*answer({"a": array, "b": other}))
    assert back["a"].dtype == dtype and np.array_equal(back["a"], array) and np.array_equal(back["b"], other)


def test_texts_and_files_come_back_as_bytes():
    files = np.array([[b"\0\1", b""], [b"abc", "ä".encode()]], object)
    assert np.array_equal(protocol.decode(*answer({"f": files}))["f"], files)
    assert protocol.decode(*answer({"f": np.array(["ä"])}))["f"].tolist() == ["ä".encode()]


def test_what_has_no_name_or_is_not_whole_is_refused():
    with pytest.raises(DtypeError, match="complex128"):
        protocol.encode({"a": np.zeros(2, complex)})
    body, length = answer({"a": np.zeros(4, np.float32)})
    with pytest.raises(ServingError, match="not whole"):
        protocol.decode(body[:-4], length)


def test_wanted_outputs_are_named():
    body, length = protocol.encode({"a": np.zeros(1, np.int8)}, ["y"])
    assert [each["name"] for each in json.loads(body[:length])["outputs"]] == ["y"]


PAGE = """# HELP nv_inference_count Number
nv_inference_count{model="a",version="1"} 3
nv_inference_count{model="a",version="2"} 4
nv_inference_count{model="b",version="1"} 5
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25
nv_cpu_utilization 1.5e-1
"""


def test_a_page_of_counters_is_summed_over_versions():
    values = metrics.parse(PAGE)
    assert values["nv_inference_count", "a"] == 7 and values["nv_inference_count", "b"] == 5
    assert values["nv_gpu_utilization", ""] == 0.25 and values["nv_cpu_utilization", ""] == 0.15


def statistics(success: int, batches: dict[int, int]) -> metrics.Statistics:
    spent = {"count": success, "ns": success * 2_000_000}
    names = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    version = {
        "inference_count": sum(size * count for size, count in batches.items()),
        "execution_count": sum(batches.values()),
        "inference_stats": {**dict.fromkeys(names, spent), "fail": {"count": 1, "ns": 0}},
        "batch_stats": [{"batch_size": size, "compute_infer": {"count": n}} for size, n in batches.items()],
    }
    return metrics.Statistics.of({"model_stats": [version]})


def test_the_difference_of_two_statistics_is_what_happened_between():
    between = statistics(30, {1: 10, 4: 5}) - statistics(10, {1: 10})
    assert (between.requests, between.failures, between.inferences, between.executions) == (20, 0, 20, 5)
    assert between.batches == {4: 5} and between.mean_batch == 4
    assert between.ms_per_request() == pytest.approx({"queue": 2, "input": 2, "infer": 2, "output": 2})
    assert np.isnan((between - between).mean_batch)


def test_poisson_arrivals_have_the_rate_and_exponential_gaps():
    due = arrivals.poisson(500, 40, seed=3)
    assert len(due) == pytest.approx(20_000, abs=4 * 20_000**0.5) and 0 <= due[0] and due[-1] < 40
    gaps = np.diff(due)
    assert gaps.mean() == pytest.approx(1 / 500, rel=0.03) and gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert np.array_equal(due, arrivals.poisson(500, 40, seed=3))


def test_a_ramp_rises_evenly():
    due = arrivals.ramp(0, 1000, 40, seed=1)
    quarters = np.histogram(due, bins=[0, 10, 20, 30, 40])[0]
    assert quarters == pytest.approx([1250, 3750, 6250, 8750], rel=0.12)
    assert (np.diff(due) >= 0).all()


def test_steady_arrivals_and_wrong_rates():
    assert arrivals.steady(4, 1).tolist() == [0, 0.25, 0.5, 0.75]
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ServingError):
            arrivals.poisson(wrong, 1)
