"""What the checks of a service share: the box that it runs in, and traffic to it.

The server, its models' processes and a relay run inside bubblewrap, with a loopback interface of their own. The load
generator, the clock and the right answers stay outside and reach it over a Unix socket in the box's folder.

What is believed: answers, since they are compared with the reference's on images that nobody saw before; and times, which
are taken outside. What the server says of itself (how many batches ran) comes out of the box, where the models' programs
could forge it; it earns the points of one check, and none for speed.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from autograder.checks import service_plans
from autograder.checks.base import Bench, OpenHere
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from autograder.tasks.classifier import error_of, why_wrong
from course.data import preprocess
from course.serving import environment, keeper
from course.serving.client import UNIX, Client
from course.serving.load import closed_loop, open_loop
from course.serving.result import Load
from course.serving.server import command, free_ports, link_backends, not_started
from course.serving.words import ServingError

MODEL, INPUT, OUTPUT = "classifier", "file", "logits"
"""What a service is called, and what it takes and gives."""
MOST_ERROR, MOST_ERROR_OF_ALL = 0.5, 0.25
"""Of the logits, relative to their spread: of one image, and of all that are looked at. docs/results/m4a_answers.json, 48
images: Pillow's bilinear resizing is 0.03 off in all and 0.09 for the worst image (it rounds to whole numbers), its bicubic 0.11
and 0.38; swapped colours are 0.42 off in all, a wrong mean 0.43, the nearest pixel 0.84, answers of other images 1.33."""
START_S, STOP_S = {"cpu": 60.0, "gpu": 180.0}, 2.0
"""On a GPU models read PyTorch, TensorRT and an engine, and record their graphs."""
STUB = "triton_python_backend_stub"


@dataclass
class Service:
    """A server that runs in a box. address: of its HTTP service, for `course.serving`."""

    box: Box
    address: str
    name: str

    def client(self, seconds: float = 30.0) -> Client:
        return Client(self.address, seconds)

    def processes(self) -> list[psutil.Process]:
        """All in the box, seen from outside."""
        return psutil.Process(self.box.pid).children(recursive=True)

    def memory_mb(self) -> float:
        """10^6 bytes that its processes hold alone (unique set size)."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
        return total / 1e6

    def kill_one(self) -> bool:
        """Kill the process of one instance of a model; whether there was one."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.name().startswith(STUB[:15]) and process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    return True
        return False

    def reload(self, seconds: float) -> None:
        """Every model anew.

        Raises:
            ServingError: one could not be loaded.
        """
        with self.client(seconds) as client:
            for model in client.post("/v2/repository/index"):
                name = model["name"]
                client.post(f"/v2/repository/models/{name}/unload")
                client.post(f"/v2/repository/models/{name}/load")

    def one_by_one(self, files: Sequence[bytes]) -> list[dict[str, np.ndarray]]:
        """The answers.

        Raises:
            Rejected: nothing answers any more, or a file is refused.
        """
        with _its_fault(self), self.client() as client:
            return [client.infer(MODEL, feed) for feed in feeds(files)]

    def closed(self, files: Sequence[bytes], clients: int, seconds: float, **options) -> Load:
        """`course.serving.closed_loop` with a request for each file.

        Raises:
            Rejected: nothing answers any more, or the model takes no files.
        """
        with _its_fault(self):
            return closed_loop(self.address, MODEL, feeds(files), clients, seconds, **options)

    def open(self, files: Sequence[bytes], rate: float, seconds: float, **options) -> Load:
        """`course.serving.open_loop` likewise."""
        with _its_fault(self):
            return open_loop(self.address, MODEL, feeds(files), rate, seconds, **options)


@contextlib.contextmanager
def _its_fault(service: Service) -> Iterator[None]:
    """A service that is gone in the middle of a measurement is its author's matter, no failure of the grader."""
    try:
        yield
    except ServingError as error:
        if too_much := service.box.too_much("requests"):
            raise too_much from None
        raise Rejected(
            f"{service.name} does not answer.", f"{error.what} {error.cause}", "Start it on your machine."
        ) from None


def feeds(files: Sequence[bytes]) -> list[dict[str, np.ndarray]]:
    """One request for each file: uint8 [1, bytes]."""
    return [{INPUT: np.frombuffer(file, np.uint8)[None]} for file in files]


def enough(rate: float, seconds: float) -> int:
    """How many files for random arrivals, none of which is sent twice: six deviations of a Poisson number above its mean."""
    return int(rate * seconds + 6 * np.sqrt(rate * seconds)) + 16


def judged(at: Bench) -> Service:
    """The service that was handed in, started at the first call; on a GPU with engines that the grader built.

    Raises:
        Rejected: it does not start; says why.
        OpenHere: Triton is not set up on this machine.
    """
    return at.once("service", lambda: start(at, repository(at), at.path))


def repository(at: Bench) -> Path:
    """What is served of what was handed in."""
    return service_plans.with_plans(at) if at.lane == "gpu" else at.taken[at.path].path


def start(
    at: Bench,
    repository: Path,
    name: str,
    *,
    ours: bool = False,
    variables: Callable[[Path], Mapping[str, str]] = lambda home: {},
    sees: Sequence[Path] = (),
) -> Service:
    """A server in a box of its own.

    Args:
        ours: a service of the grader's, which the judged one is compared with.
        variables: further ones for the server and its models, made from the one folder that they may write. sees: what else
            they may read.

    Raises:
        Rejected: it does not start; says why.
        OpenHere: Triton is not set up on this machine, or a service of the grader's does not start.
    """
    try:
        triton = environment.find()
    except ServingError as error:
        raise OpenHere(f"{error.what} {error.cause} {error.next_step}") from None
    folder = Path(at.boxes.enter_context(tempfile.TemporaryDirectory(prefix="grader-backends-")))
    link_backends(triton, folder / "backends")
    http, metric = free_ports(2)
    prefix = f"grader_{http}_"
    at.boxes.callback(keeper.remove_shared_memory, prefix)  # without a sandbox it is this machine's
    places = (triton.folder, triton.server.resolve(), *(path for path in triton.libraries if Path(path).is_dir()))
    shown = dict.fromkeys(map(str, (folder, repository, *places, *sees)))  # a server may be linked into the environment
    box = at.peer(repository, sees=tuple(shown)) if ours else at.box(sees=tuple(shown))
    words = command(triton, repository, folder / "backends", (http, metric), prefix=prefix, exit_seconds=STOP_S)
    given = {key: triton.variables()[key] for key in ("PATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")}
    given |= {"PYTHONPATH": "", "PYTHONHOME": "", "OMP_NUM_THREADS": "1", **variables(box.home)}
    most = START_S[at.lane]
    with at.step(f"starting {name}"):
        box.ask("start", argv=words, variables=given, ports={"http": http}, seconds=most)
        service = Service(box, f"{UNIX}{box.home / 'http'}", name)
        try:
            _wait(service, repository, most)
        except Rejected as error:
            if not ours:
                raise
            words = f"The grader's own service, {name}, does not start on this machine. {error.what} {error.cause}"
            raise OpenHere(f"{words} On a GPU its models must see TensorRT and PyTorch.") from None
    return service


def _wait(service: Service, repository: Path, seconds: float) -> None:
    """Until the model is ready.

    Raises:
        Rejected: the server ended, or was too slow; says why.
    """
    end = time.monotonic() + seconds
    with service.client(2.0) as client:
        while not client.ready(MODEL):
            answer, _ = service.box.ask("ended", seconds=10)
            log = str(answer.get("log"))
            if answer.get("ended"):
                if too_much := service.box.too_much("start"):
                    raise too_much
                error = not_started(log)
                if "NotImplementedError" in error.cause:
                    raise Rejected("Triton could not load the model.", "model.py is not written yet.", "Write it.")
                raise Rejected(error.what, _plain(error.cause, repository), "Repair it, and start it on your machine.")
            if time.monotonic() > end:
                raise Rejected(
                    f"{service.name} was not ready in time.",
                    f"After {seconds:.0f} s the model {MODEL!r} does not answer. {_plain(log[-300:], repository)}",
                    f"It needs a model {MODEL!r}, and must load quickly.",
                )
            time.sleep(0.1)


def _plain(text: str, repository: Path) -> str:
    return text.replace(str(repository), "the repository")


@contextlib.contextmanager
def only(at: Bench, *services: Service) -> Iterator[None]:
    """The other services of this measurement stand still meanwhile."""
    others = [one for one, _ in at.shared.values() if isinstance(one, Service) and one not in services]
    for service in others:
        service.box.pause()
    try:
        yield
    finally:
        for service in others:
            service.box.resume()


def wrong_answers(at: Bench, load: Load, pixels: np.ndarray, most: int) -> tuple[int, int, str]:
    """Of `most` answers chosen at random: how many are wrong, how many were looked at, and why the first is wrong."""
    answers = list(load.answers())
    chosen = np.random.default_rng(len(answers)).permutation(len(answers))[:most]
    if not len(chosen):
        return 0, 0, "No request was answered."
    return compare(at, [answers[index][1] for index in chosen], pixels[[answers[index][0] for index in chosen]])


def compare(at: Bench, outputs: Sequence[dict], pixels: np.ndarray) -> tuple[int, int, str]:
    """As `wrong_answers`, for given outputs, one for each image."""
    wanted = at.task.answers(preprocess.classifier(pixels))
    logits = [np.asarray(one.get(OUTPUT, np.zeros(0)), np.float32) for one in outputs]
    errors = [error_of(one, right[None]) for one, right in zip(logits, wanted)]
    wrong = sum(not error <= MOST_ERROR for error in errors)
    why = next(
        (why_wrong(one, wanted[i : i + 1], e) for i, (one, e) in enumerate(zip(logits, errors)) if not e <= MOST_ERROR),
        "",
    )
    if not wrong and (all_of_them := error_of(np.concatenate(logits), wanted)) > MOST_ERROR_OF_ALL:
        return len(wanted), len(wanted), f"The logits are off by {100 * all_of_them:.0f} %: look at the preprocessing."
    return wrong, len(wanted), why
