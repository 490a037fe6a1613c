"""course.bench: equal things are called equal, unequal ones unequal, and every number can be traced back."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from course import bench
from course.bench import compare, compare_many, load, measure, ratio_interval, save
from course.bench.clocks import clock_of
from course.errors import CourseError, DamagedFileError, MissingFileError, ShapeError, UnsupportedError


class NoisyClock:
    """A simulated machine: a function returns its true time in ms, the clock multiplies it by the machine's
    mood."""

    def __init__(self, kind: str, seed: int):
        self.rng, self.kind, self.mood, self.step = np.random.default_rng(seed), kind, 0.0, 0

    def sample(self, fn, calls):
        self.step += 1
        jitter = 0.03 * self.rng.standard_normal()
        if self.kind == "autocorrelated":
            self.mood = 0.95 * self.mood + 0.03 * self.rng.standard_normal()
        elif self.kind == "bursts" and self.rng.random() < 0.03:
            self.mood = 0.5 - self.mood  # another program starts or stops
        elif self.kind == "drift":
            self.mood = 0.003 * self.step
        elif self.kind == "outliers":
            self.mood = float(self.rng.random() < 0.05) * 2
        return fn() * math.exp(self.mood + jitter)


KINDS = ["constant", "autocorrelated", "bursts", "drift", "outliers"]


def simulate(kind: str, seed: int, true_ratio: float = 1.0, rounds: int = 100) -> bench.Comparison:
    return compare(lambda: 1.0, lambda: true_ratio, clock=NoisyClock(kind, seed), rounds=rounds, warmup_s=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_things_are_called_equal_under_simulated_noise(kind):
    different = [seed for seed in range(20) if not simulate(kind, seed).equal]
    assert len(different) <= 1


@pytest.mark.serial
def test_equal_things_are_called_equal_on_this_machine():
    matrix = np.random.default_rng(0).standard_normal((300, 300)).astype(np.float32)

    def work():  # one to a few ms
        for _ in range(3):
            matrix @ matrix

    results = [
        compare(work, work, labels=("one", "again"), rounds=60, warmup_s=0.05, max_seconds=1.0) for _ in range(20)
    ]
    assert sum(not result.equal for result in results) <= 1, [str(r) for r in results if not r.equal]


@pytest.mark.parametrize("kind", KINDS)
def test_slower_things_are_called_slower_under_simulated_noise(kind):
    tenth = [simulate(kind, seed, 1.1) for seed in range(10)]
    third = [simulate(kind, seed, 1.3) for seed in range(10)]
    assert sum(result.low > 1 for result in tenth) >= 6
    assert all(result.low > 1 for result in third)
    assert sum(result.low <= 1.1 <= result.high for result in tenth) >= 9


@pytest.mark.serial
def test_slower_things_are_called_slower_on_this_machine():
    def spin(count):
        return lambda: sum(range(count))

    ten = [compare(spin(30_000), spin(33_000), rounds=100, warmup_s=0.05, max_seconds=2.0) for _ in range(8)]
    thirty = [compare(spin(30_000), spin(39_000), rounds=100, warmup_s=0.05, max_seconds=2.0) for _ in range(8)]
    assert sum(result.low > 1 for result in ten) >= 5, [str(r) for r in ten]
    assert all(result.low > 1 for result in thirty), [str(r) for r in thirty]
    assert not any(result.high < 1 for result in ten)


def test_interval_has_the_width_that_theory_gives_for_independent_samples():
    # standard error of a median of N(m, s): 1.2533 s / sqrt(N) (Kenney & Keeping 1962); two of them add in
    # quadrature
    rng, n, s = np.random.default_rng(3), 400, 0.05
    widths = []
    for _ in range(10):
        _, low, high = ratio_interval(np.exp(s * rng.standard_normal(n)), np.exp(s * rng.standard_normal(n)))
        widths.append(math.log(high / low) / 2)
    theory = 1.96 * 1.2533 * s * math.sqrt(2 / n)
    assert 0.9 * theory < np.mean(widths) < 1.5 * theory


def test_interval_is_wider_when_neighbours_are_alike():
    rng, n = np.random.default_rng(5), 200
    blocks = np.repeat(rng.standard_normal(n // 10), 10) * 0.1  # ten rounds share a mood that only b feels
    a, b = np.exp(0.01 * rng.standard_normal(n)), np.exp(blocks + 0.01 * rng.standard_normal(n))
    _, low, high = ratio_interval(a, b)
    _, shuffled_low, shuffled_high = ratio_interval(a, rng.permutation(b))
    assert high / low > 1 + 1.5 * (shuffled_high / shuffled_low - 1)


def test_interval_is_reproducible_and_never_narrower_than_the_resolution():
    a = np.full(50, 2.0)
    assert ratio_interval(a, a) == ratio_interval(a, a) == (1.0, 1.0, 1.0)
    ratio, low, high = ratio_interval(a, 1.005 * a, resolution=0.01)
    assert low < 1 < high and ratio == pytest.approx(1.005)


@pytest.mark.parametrize("freedom, value", [(4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)])
def test_t_quantile_against_the_printed_table(freedom, value):
    assert bench._t_quantile(freedom) == pytest.approx(value, rel=0.01)


def test_functions_take_turns_in_mirrored_random_order():
    calls: list[str] = []

    class CountingClock:
        def sample(self, fn, count):
            fn()
            return 1.0

    fns = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    compare_many(fns, rounds=20, warmup_s=0.0, clock=CountingClock())
    rounds = [tuple(calls[i : i + 3]) for i in range(len(calls) - 60, len(calls), 3)]
    assert all(sorted(r) == ["a", "b", "c"] for r in rounds)
    assert all(rounds[i] == rounds[i + 1][::-1] for i in range(0, 20, 2))
    assert len(set(rounds)) >= 4


def test_samples_and_comparison_say_what_they_are():
    samples = bench.Samples("net", "cpu", "CPU", np.arange(1.0, 102.0), items=8)
    assert (samples.p50, samples.p90, samples.p99) == (51.0, 91.0, 100.0)
    assert samples.items_per_second == pytest.approx(8000 / 51)
    assert "on the CPU" in str(samples) and "157 items/s" in str(samples)
    fast = bench.Samples("net", "cpu", "CPU", np.full(9, 0.1025), items=8)
    assert "78,049 items/s" in str(fast)
    slower = compare(lambda: 1.0, lambda: 2.0, labels=("engine", "eager"), clock=NoisyClock("constant", 0))
    assert slower.ratio == pytest.approx(2, rel=0.03)
    assert "engine is 2." in str(slower) or "engine is 1.9" in str(slower)
    assert "times as fast as eager" in str(slower) and "on the CPU" in str(slower) and "\n" not in str(slower)
    other = compare(lambda: 2.0, lambda: 1.0, labels=("engine", "eager"), clock=NoisyClock("constant", 0))
    assert "engine takes" in str(other) and "times as long as eager" in str(other)
    assert "no difference shown" in str(simulate("constant", 0))


def test_ratio_is_per_item_when_items_differ():
    result = compare(lambda: 4.0, lambda: 1.0, items=(8, 1), clock=NoisyClock("constant", 0))
    assert result.ratio == pytest.approx(2, rel=0.03)
    assert "per item" in str(result)


@pytest.mark.serial
def test_compare_many_gives_speed_ups_over_the_first():
    results = compare_many(
        {"eager": lambda: 3.0, "engine": lambda: 1.0, "graph": lambda: 0.5}, clock=NoisyClock("autocorrelated", 1)
    )
    assert list(results) == ["engine", "graph"]
    assert results["engine"].ratio == pytest.approx(3, rel=0.1) and results["engine"].a.label == "engine"
    assert results["graph"].ratio == pytest.approx(6, rel=0.1) and results["graph"].b.label == "eager"


def test_a_short_function_is_repeated_inside_a_sample():
    samples = measure(lambda: None, label="nothing", min_samples=5, warmup_s=0.05)
    assert samples.calls > 100
    assert samples.p50 * samples.calls > 0.05  # ms; the aim is 0.2, and the machine may change its pace


@pytest.mark.serial
def test_a_long_function_is_called_once_per_sample_and_its_time_is_right():
    samples = measure(lambda: time.sleep(0.01), min_samples=5, warmup_s=0.0)
    assert samples.calls == 1 and len(samples.milliseconds) == 5
    assert 9.5 < samples.p50 < 40


@pytest.mark.serial
def test_the_time_budget_holds_and_too_few_rounds_make_no_claim():
    begin = time.perf_counter()
    result = compare(lambda: time.sleep(0.05), lambda: time.sleep(0.1), labels=("a", "b"), max_seconds=0.9)
    assert time.perf_counter() - begin < 3
    assert 1 <= len(result.a.milliseconds) < bench.FEWEST_ROUNDS
    assert (result.low, result.high) == (0.0, math.inf) and result.equal
    assert "too few rounds" in str(result)


def test_progress_goes_from_nought_to_one():
    seen: list[float] = []
    compare(lambda: 1.0, lambda: 1.0, clock=NoisyClock("constant", 0), rounds=10, progress=seen.append)
    assert seen == sorted(seen) and len(seen) == 10 and 0 < seen[0] < 1 and seen[-1] == 1.0


def test_garbage_collection_rests_while_sampling_and_comes_back():
    seen = []
    measure(lambda: seen.append(gc.isenabled()), min_samples=3, warmup_s=0.0)
    assert seen and not any(seen) and gc.isenabled()
    with pytest.raises(CourseError):
        measure(lambda: 1 / 0)
    assert gc.isenabled()


def test_an_error_names_the_function_and_keeps_its_kind():
    def wrong_shape():
        raise ShapeError("Input 'x' has the wrong shape.", "It is 3.", "Give 4.")

    with pytest.raises(CourseError, match="'bad' failed.*\n.*ZeroDivisionError: division by zero") as caught:
        compare(lambda: None, lambda: 1 / 0, labels=("good", "bad"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(ShapeError, match="'engine', while it was timed: Input 'x'"):
        measure(wrong_shape, label="engine")

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(stop)


@pytest.mark.parametrize(
    "call",
    [
        lambda: measure(lambda: None, device="tpu"),
        lambda: measure(lambda: None, min_samples=0),
        lambda: measure(lambda: None, max_seconds=0),
        lambda: compare(lambda: None, lambda: None, labels=("same", "same")),
        lambda: compare(lambda: None, lambda: None, items=(0, 1)),
        lambda: compare_many({"one": lambda: None}),
        lambda: compare_many({"a": lambda: None, "b": lambda: None}, items={"c": 2}),
        lambda: compare(lambda: 0.0, lambda: 0.0, clock=NoisyClock("constant", 0)),
    ],
)
def test_bad_calls_are_refused(call):
    with pytest.raises(CourseError, match="Next step"):
        call()


def same_samples(one: bench.Samples, two: bench.Samples) -> bool:
    same_times = one.milliseconds.tobytes() == two.milliseconds.tobytes()
    return same_times and {**vars(one), "milliseconds": 0} == {**vars(two), "milliseconds": 0}


def test_saved_results_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "result.json"
    clock = NoisyClock("autocorrelated", 2)
    samples = measure(lambda: 1 / 3, label="third", items=8, clock=clock)
    save(samples, path)
    assert same_samples(load(path).result, samples)

    pair = compare(lambda: 1.0, lambda: 1.5, clock=clock)
    save(pair, path)
    record = load(path)
    back = record.result
    assert same_samples(back.a, pair.a) and same_samples(back.b, pair.b)
    assert (back.ratio, back.low, back.high, str(back)) == (pair.ratio, pair.low, pair.high, str(pair))
    assert record.machine == json.loads(json.dumps(bench.machine(), default=str)) and record.machine
    assert record.command == sys.argv and record.course == bench.course.__version__ and "T" in record.date

    many = compare_many({"x": lambda: 1.0, "y": lambda: 2.0, "z": lambda: 3.0}, clock=clock, rounds=5)
    save(many, path)
    back = load(path).result
    assert list(back) == ["y", "z"] and back["z"].high == math.inf
    assert same_samples(back["y"].b, many["y"].b) and back["y"].b is back["z"].b
    assert len(json.loads(path.read_text())["samples"]) == 3
    assert [file.name for file in path.parent.iterdir()] == ["result.json"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"samples": [{"label": "x"}], "comparisons": []}'])
def test_a_foreign_file_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DamagedFileError, match="x.json"):
        load(tmp_path / "x.json")
    with pytest.raises(MissingFileError, match="none.json"):
        load(tmp_path / "none.json")


def test_timing_on_a_cpu_needs_no_torch():
    code = (
        "import sys; from course.bench import measure; measure(lambda: 1, min_samples=2, warmup_s=0.0);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return torch


def test_without_a_gpu_a_gpu_time_is_refused():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA GPU")
    with pytest.raises(UnsupportedError, match="no CUDA GPU"):
        measure(lambda: None, device="cuda")


def test_cuda_events_agree_with_the_host_clock():
    torch = gpu()
    matrix = torch.randn(4096, 4096, device="cuda")

    def work():
        return matrix @ matrix

    def work_and_wait():
        work()
        torch.cuda.synchronize()

    on_device = measure(work, device="cuda", label="matmul")
    on_host = measure(work_and_wait, label="matmul and wait")
    assert on_device.p50 == pytest.approx(on_host.p50, rel=0.2)
    assert "GPU" in str(on_device) and torch.cuda.get_device_name() in str(on_device)


def test_cuda_equal_and_unequal_are_told_apart():
    torch = gpu()
    matrix = torch.randn(2048, 2048, device="cuda")
    same = [
        compare(lambda: matrix @ matrix, lambda: matrix @ matrix, device="cuda", rounds=100, warmup_s=0.1)
        for _ in range(20)
    ]
    assert sum(not result.equal for result in same) <= 1, [str(r) for r in same if not r.equal]
    double = compare(lambda: matrix @ matrix, lambda: (matrix @ matrix, matrix @ matrix), device="cuda")
    assert 1.5 < double.low and double.high < 2.5


def test_cuda_work_on_another_stream_is_refused():
    torch = gpu()
    matrix, stream = torch.randn(4096, 4096, device="cuda"), torch.cuda.Stream()

    def hidden():
        with torch.cuda.stream(stream):
            for _ in range(5):
                matrix @ matrix

    with pytest.raises(CourseError, match="does not see"):
        measure(hidden, device="cuda", label="hidden")
    clock, name = clock_of("cuda", None)
    assert name.startswith("GPU ") and clock.sample(lambda: matrix @ matrix, 3) > 0
