"""Settings for every test: programs of this Python on PATH, no display, one or two threads, GPU tests only with a GPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# As in an activated environment: nbgrader calls alembic by its name.
os.environ["PATH"] = os.pathsep.join([f"{sys.prefix}/bin", os.environ.get("PATH", os.defpath)])
os.environ["MPLBACKEND"] = "Agg"
# For the workers and other processes: arrays of some MB come from memory that the process keeps, instead of from fresh pages,
# whose clearing took a tenth of the time.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(64 << 20))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(1 << 30))

import pytest

from tests import shares, threads


def _gpu_problem() -> str | None:
    """Why no GPU test can run here, or None if they can."""
    import torch

    return None if torch.cuda.is_available() else "needs an NVIDIA GPU, and PyTorch sees none here"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also what is marked slow, and every lesson anew")


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module loads OpenMP. Workers know nothing of -n.
    threads.choose(os.environ, starts_workers=bool(config.getoption("numprocesses", None)))


@pytest.hookimpl(wrapper=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    if not (config.getoption("--all") or config.getoption("-m") or any("::" in name for name in config.args)):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    items.sort(
        key=lambda item: item.path.parent.name != "lessons"
    )  # the longest first, so that both workers end together
    for item in items:  # with several workers: a file's tests share what its fixtures make, lessons are apart
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path)))
    gpu_tests = [item for item in items if item.get_closest_marker("gpu")]
    if gpu_tests and (problem := _gpu_problem()):
        for item in gpu_tests:
            item.add_marker(pytest.mark.skip(reason=problem))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--all"):
        found = shares.seconds(report for reports in terminalreporter.stats.values() for report in reports)
        text = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in found.items())
        terminalreporter.write_line(f"Seconds of all workers together: {text}.")


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> None:
    """Timings and results must not depend on how many cores the test machine has."""
    try:
        import torch

        threads.limit_onnxruntime()
    except ImportError:
        return  # tests of the install and of the doctor also run where PyTorch is missing
    torch.set_num_threads(threads.number())
