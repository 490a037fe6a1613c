"""Calls: arguments, crashes, hangs, what is printed, and a run where there is no compiler."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from course import kernels
from course.kernels import KernelError, inout, out, process
from course.paths import ROOT

CUDA = Path(__file__).parent / "cuda"


def line_of(text: str) -> int:
    return next(number for number, line in enumerate((CUDA / "calls.cu").read_text().splitlines(), 1) if text in line)


@pytest.fixture(scope="module")
def checked() -> kernels.Module:
    return kernels.load(CUDA / "calls.cu")


@pytest.fixture(scope="module")
def plain() -> kernels.Module:
    return kernels.load(CUDA / "calls.cu", "plain")


def test_numbers_arrive_as_they_were_given(plain: kernels.Module) -> None:
    run = plain.launch(
        "launchTypes", -5, 200, -300, 4_000_000_000, -1 << 40, 1 << 62, True, 1.5, np.float64(0.75), None, None
    )
    assert run.result == -5 + 200 - 300 + 4_000_000_000 - (1 << 40) + (1 << 62) + 1 + 3 + 3 + 1 + 1
    assert plain.launch("launchNothing").result == 0


@pytest.mark.parametrize(
    "launcher, arguments, words",
    [
        ("launchNone", (), "There is no launcher launchNone"),
        ("launchFill", (1, 2.0), "takes 3 arguments, not 2.*float32\\* y, int32 blocks, float32 v"),
        ("launchFill", (np.zeros(4), 1, 2.0), "points to float32, and the array is float64"),
        ("launchHalf", (np.zeros(4, np.float32), 1), "points to float16, and the array is float32"),
        ("launchFill", (out(32), 1.5, 2.0), "parameter blocks is int32, and 1.5 was given"),
        ("launchFill", (out(32), 1 << 40, 2.0), "out of its range"),
        ("launchFill", (5, 1, 2.0), "parameter y is float32\\*, and a number was given"),
        ("launchFill", (out(32), None, 2.0), "parameter blocks is int32, and None was given"),
        ("launchFill", (out(32), np.zeros(3), 2.0), "parameter blocks is int32, and an array was given"),
        ("launchFill", ("y", 1, 2.0), "Argument 1 is a str"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_call(
    plain: kernels.Module, launcher: str, arguments: tuple, words: str
) -> None:
    with pytest.raises(KernelError, match=f"(?s){words}"):
        plain.launch(launcher, *arguments)


def test_inputs_stay_as_they_are_and_arrays_need_not_be_contiguous(checked: kernels.Module) -> None:
    x = np.arange(2048, dtype=np.float32).reshape(32, 64)[:, ::2]
    report = checked.check("launchTransposed", x, out((32, 32)))
    assert report.ok and np.array_equal(report.outputs[0], x.T)
    given = np.zeros(32, np.float32)
    assert checked.launch("launchFill", inout(given), 1, 3.0).outputs[0].tolist() == [3] * 32 and not given.any()


def test_what_is_printed_is_caught(checked: kernels.Module, capfd: pytest.CaptureFixture[str]) -> None:
    report = checked.check("launchSpeak", 2, orders=[0])
    assert sorted(report.printed.split("\n")) == ["", "host", "thread 0", "thread 1", "to stderr"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "launcher, arguments, words",
    [
        ("launchAbort", (), "SIGABRT"),
        ("launchExit", (), "crashed"),
        ("launchNull", (), "SIGSEGV"),
        ("launchFar", (out(8),), f"SIGSEGV.*calls.cu:{line_of('void far')}"),
        ("launchLarge", (out(32),), "local variables need more than"),
    ],
)
def test_a_crash_stays_in_its_process(plain: kernels.Module, launcher: str, arguments: tuple, words: str) -> None:
    with pytest.raises(KernelError, match=f"(?s){words}"):
        plain.launch(launcher, *arguments)


def test_a_crash_is_a_finding_of_a_check(checked: kernels.Module) -> None:
    report = checked.check("launchAbort", orders=[0, 1])
    (finding,) = report.findings
    assert finding.kind == "crash" and finding.orders == (0, 1) and "giving up" in report.printed
    assert {"crash"} == checked.check("launchLarge", out(32), orders=[0]).kinds


@pytest.mark.parametrize(
    "launcher, text",
    [
        ("launchForever", "void forever("),
        ("launchForEver", "void forEver("),
        ("launchHostForever", "int launchHostForever"),
    ],
)
@pytest.mark.parametrize("mode", ["checked", "plain"])
def test_a_hang_ends_with_the_time_limit_and_says_where(
    request: pytest.FixtureRequest, launcher: str, text: str, mode: str
) -> None:
    arguments = (inout(np.zeros(4, np.float32)),) if launcher == "launchForever" else ()
    started = time.perf_counter()
    with pytest.raises(KernelError, match=f"did not end within the time limit.*calls.cu:{line_of(text)}"):
        request.getfixturevalue(mode).launch(launcher, *arguments, seconds=0.5)
    assert time.perf_counter() - started < 5


def test_a_process_that_cannot_be_asked_is_killed(plain: kernels.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.5)
    with pytest.raises(KernelError, match="did not end"):
        kernels.Module(plain.library, lambda command: ["sleep", "60"]).launch("launchNothing", seconds=0.1)


def test_a_launcher_may_be_called_many_times_for_its_time(plain: kernels.Module) -> None:
    run = plain.launch("launchFill", out(3200), 100, 1.0, repeats=7)
    assert len(run.seconds) == 7 and all(0 < seconds < 1 for seconds in run.seconds)


def test_outputs_may_be_partial_if_said(checked: kernels.Module) -> None:
    x = np.linspace(-1, 1, 32, dtype=np.float32)
    assert checked.check("launchPartial", x, out(32), 32).kinds == {"unwritten-output"}
    assert checked.check("launchPartial", x, out(32, partial=True), 32).ok


def test_the_trace_says_who_touches_what(checked: kernels.Module) -> None:
    trace = checked.record("launchTransposed", np.zeros((32, 32), np.float32), out((32, 32)))
    assert trace.buffers == ("x", "y", "tile", "extern __shared__") and trace.shared.tolist() == [
        False,
        False,
        True,
        True,
    ]
    reads, tile = trace.of("x"), trace.of("tile")
    assert len(trace) == trace.total == 4096 and len(reads) == 1024
    assert np.array_equal(trace.offset[reads], trace.thread[reads] * 4) and not trace.write[reads].any()
    column = tile[~trace.write[tile]]
    assert np.array_equal(trace.offset[column], trace.thread[column] % 32 * 128 + trace.thread[column] // 32 * 4)
    assert set(trace.line[reads]) == {line_of("tile[threadIdx.y]")} and set(trace.line[column]) == {
        line_of("tile[threadIdx.x]")
    }
    with pytest.raises(KeyError, match="no buffer z; there are x, y, tile"):
        trace.of("z")


def test_the_trace_is_cut_where_asked(checked: kernels.Module) -> None:
    trace = checked.record("launchTransposed", np.zeros((32, 32), np.float32), out((32, 32)), most=100)
    assert len(trace) == 100 and trace.total == 4096


@pytest.mark.parametrize(
    "launcher, arguments, wanted",
    [
        (
            "launchTransposed",
            (np.zeros((32, 32), np.float32), out((32, 32))),
            {("x", False): (4, 4), ("y", True): (4, 4), ("tile", True): (1, 1), ("tile", False): (32, 1)},
        ),
        ("launchStrided", (np.zeros(1024, np.float32), out(32), 2), {("x", False): (8, 4), ("y", True): (4, 4)}),
        ("launchStrided", (np.zeros(1024, np.float32), out(32), 32), {("x", False): (32, 4), ("y", True): (4, 4)}),
        ("launchVector", (np.zeros(128, np.float32), out(128)), {("x", False): (16, 16), ("y", True): (16, 16)}),
    ],
)
def test_sectors_and_bank_conflicts_are_those_of_the_hardware(
    checked: kernels.Module, launcher: str, arguments: tuple, wanted: dict
) -> None:
    found = kernels.patterns(checked.record(launcher, *arguments))
    assert {(p.buffer, p.write): (p.units, p.ideal) for p in found} == wanted
    assert all(f"line {p.line}: " in str(p) for p in found)


def test_a_plain_library_cannot_be_checked(plain: kernels.Module) -> None:
    for method in (plain.check, plain.record):
        with pytest.raises(KernelError, match="mode plain"):
            method("launchNothing")


ALONE = """
import sys
from course import kernels
import numpy as np
assert not __import__("shutil").which("g++")
module = kernels.Module(sys.argv[1])
print(module.check("launchTransposed", np.ones((32, 32), np.float32), kernels.out((32, 32))))
print(module.check("launchFar", kernels.out(8)))
"""


def test_a_run_needs_no_compiler_no_source_and_no_headers(checked: kernels.Module, tmp_path: Path) -> None:
    library = shutil.copy(checked.library, tmp_path / "given.so")
    done = subprocess.run(
        [sys.executable, "-c", ALONE, library],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), "COURSE_CACHE": str(tmp_path / "cache")},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "launchTransposed, 4 thread orders: nothing found" in done.stdout
    assert "invalid write of 4 bytes: it hits no buffer" in done.stdout


def test_every_call_goes_through_the_wrapper(checked: kernels.Module) -> None:
    seen: list[list[str]] = []

    def wrap(command: list[str]) -> list[str]:
        seen.append(command)
        return ["env", "-i", *command]

    assert kernels.Module(checked.library, wrap).check("launchFill", out(32), 1, 2.0, orders=[0, 1]).ok
    assert len(seen) == 3  # an order each, and one with another value in local variables
    assert str(checked.library) in seen[0] and str(process.LOADER) in seen[0]


def test_a_file_that_is_no_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(b"\x7fELF nothing")
    with pytest.raises(KernelError, match="x.so is no library of this course"):
        kernels.Module(tmp_path / "x.so")


def test_a_call_that_breaks_off_leaves_nothing_of_the_call_before(tmp_path: Path) -> None:
    """They share the memory that results come in."""
    source = tmp_path / "first.cu"
    source.write_text(
        "__global__ void first(float* y, int* seen) {\n"
        "    if (atomicAdd(seen, 1) == 0 && threadIdx.x != 0) *(volatile float*)0 = 1.0f;\n"
        "    y[threadIdx.x] = 7.0f;\n"
        "}\n"
        'extern "C" void launch(float* y, int* seen) { first<<<1, 4>>>(y, seen); }\n'
    )
    library = kernels.load(source, mode="plain", out=tmp_path).library
    with process.Calls(library, "launch", [out(4), inout(np.zeros(1, np.int32))]) as calls:
        right, broken, again = (calls.call(order).outputs[0] for order in (0, 1, 0))
    assert (right == 7).all() and (again == 7).all()
    assert not broken.any()
