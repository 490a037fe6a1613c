"""No repository gets points that it should not: not for asking the server for more, for wrong answers, or for tricks."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import psutil
import pytest

from autograder.checks import service_naive
from autograder.checks.service_box import Service
from autograder.measuring.measure import measure
from autograder.measuring.report import Report
from autograder.milestones.stage4 import REPOSITORY
from autograder.sandbox import bwrap
from autograder.tasks import inputs
from tests.hostile.service import repositories
from tests.hostile.service.milestone import milestone
from tests.measuring import tiny
from tests.triton import environment_or_skip

pytestmark = pytest.mark.skipif(bwrap.available() is not None, reason=f"no sandbox: {bwrap.available()}")
SECRET = "0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(inputs.SECRET_VARIABLE, SECRET)


@pytest.fixture(scope="module")
def network():
    """ONNX that each repository gets."""
    return tiny.export(tiny.reference())


@pytest.fixture(scope="module")
def triton():
    return environment_or_skip()


@pytest.fixture(scope="module")
def naive() -> Iterator[dict[str, Service]]:
    """The naive service, started and measured for the first case that needs it, and kept for the others: it has nothing of
    theirs. In its own box, which outlives theirs; it stands still while another service is measured, as in any measurement.
    """
    kept: dict[str, Service] = {}
    found: list[tuple[float, float]] = []
    start, measured = service_naive.service, service_naive._capacity

    def service(at):
        if not kept:
            kept["naive"] = start(dataclasses.replace(at, boxes=boxes, shared={}))
        return at.once("naive service", lambda: kept["naive"])

    def capacity(at):
        service(at)
        if not found:
            found.append(measured(at))
        return found[0]

    with contextlib.ExitStack() as boxes, pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_naive, "service", service)
        patch.setattr(service_naive, "capacity", capacity)
        yield kept


def table(cases) -> list:
    """The quick ones, and the others as slow ones. Where times or capacities decide, nothing else may run."""

    def marks(case: repositories.Case) -> list:
        slow = [] if case.name in repositories.QUICK else [pytest.mark.slow]
        return [*slow, *([pytest.mark.serial] if case.timed else [])]

    return [pytest.param(case, marks=marks(case), id=case.name) for case in cases]


def lay_out(case: repositories.Case, folder, network: bytes) -> None:
    repository = folder / REPOSITORY
    texts = {"classifier/config.pbtxt": case.config, "classifier/1/model.py": case.model, **case.files}
    for name, text in texts.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (repository / "classifier/1/model.onnx").write_bytes(network)
    for name, target in case.link.items():
        (repository / name).symlink_to(target)


def judged(case: repositories.Case, folder, network: bytes) -> Report:
    lay_out(case, folder, network)
    report = measure(milestone(*case.most), folder, mode="hidden", who="ada", lane="cpu")
    assert report.problem == "", report.problem
    return report


def must_hold(case: repositories.Case, report: Report) -> None:
    for check in report.checks:
        assert case.least.get(check.id, 0) <= check.points <= case.most[check.id] + 1e-9, report.text()
    words = f"{report.reason} " + " ".join(check.message for check in report.checks)
    assert case.says in words, report.text()


def servers() -> set[int]:
    """Processes of Triton and of its models, zombies aside."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "triton" in process.name() and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


@pytest.mark.parametrize("case", table(repositories.REFUSED))
def test_what_asks_for_more_is_refused_before_a_server_starts(case, tmp_path, network, monkeypatch):
    def never(*_: object, **__: object):
        raise AssertionError("a box was started")

    monkeypatch.setattr("autograder.checks.base.Box", never)
    must_hold(case, judged(case, tmp_path, network))


@pytest.mark.parametrize("case", table((*repositories.HONEST, *repositories.WRONG, *repositories.CHEATS)))
def test_a_repository_gets_what_it_must(case, tmp_path, network, triton, naive):
    before = servers()
    must_hold(case, judged(case, tmp_path, network))
    kept = {process.pid for service in naive.values() for process in service.processes()}
    left = servers() - before - kept
    boxes = {pid for pid in left if _is_child(pid)}
    assert not boxes, "processes of the box are left"


def _is_child(pid: int) -> bool:
    """Whether this test started it: others may serve on this machine, too."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process() in psutil.Process(pid).parents()
    return False


def test_there_are_enough_of_them():
    names = [case.name for case in repositories.CASES]
    assert len(set(names)) == len(names)
    assert len(names) - len(repositories.HONEST) >= 15
    assert set(repositories.QUICK) <= set(names)
