"""A Triton server on this machine: loopback only, free ports, and nothing left behind when it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from course.serving import keeper, metrics
from course.serving.client import Client
from course.serving.environment import Environment, find
from course.serving.words import ServingError

TRIES = 3  # with new ports, if another program takes one between our look and Triton's
_TAKEN = re.compile(
    r"Address already in use|Socket '.*' already in use|failed to start (HTTP|GRPC|Metrics) service", re.I
)


class Server:
    """A Triton server that runs while the `with` block does, or from `start` to `stop`.

    Args:
        repository: a folder of models, as `course.serving.repository.write` makes it.
        config: name of the configuration in `configs/` that models use instead of config.pbtxt, such as "gpu".
        arguments: more arguments for tritonserver.
        log: file for the server's log; without it the log lives as long as this object (`log`).
        start_seconds, stop_seconds: how long it may take to load the models, and to end. (When a model's
            process died or a model could not be loaded anew, Triton 2.51 takes the whole `stop_seconds`.)
        environment: where Triton lies; `environment.find()` if not given.
        variables: more environment variables, for the models.

    A process of its own keeps the server (`keeper`): however this process ends, the server is stopped; if the
    server dies, its models' processes and its shared memory go too.
    """

    def __init__(
        self,
        repository: str | Path,
        *,
        config: str = "",
        arguments: Sequence[str] = (),
        log: str | Path | None = None,
        start_seconds: float = 60.0,
        stop_seconds: float = 5.0,
        environment: Environment | None = None,
        variables: Mapping[str, str] | None = None,
    ):
        self.repository, self.config = Path(repository).resolve(), config
        self.arguments, self.variables = tuple(arguments), dict(variables or {})
        self.start_seconds, self.stop_seconds = start_seconds, stop_seconds
        self.environment = environment or find()
        self.pid = 0
        self._log_path, self._log_file = log, None
        self._keeper: subprocess.Popen | None = None
        self._prefix, self._temporary = "", ""
        self.address = self.metrics_address = ""

    def start(self) -> Server:
        """Start the server and wait until every model is ready.

        Raises:
            ServingError: a model could not be loaded, with its reason; or the server ended or was too slow.
        """
        if self.alive:
            raise ServingError("This server runs already.", f"It answers at {self.address}.", "Stop it first.")
        if not self.repository.is_dir():
            raise ServingError(
                f"There is no model repository at {self.repository}.", "It must be a folder.", "Write it first."
            )
        for attempt in range(1, TRIES + 1):
            self._launch()
            try:
                self._wait_until_ready()
                return self
            except BaseException:
                taken = _TAKEN.search(self.log)
                self.stop()
                if not taken or attempt == TRIES:
                    raise
        raise AssertionError  # the loop returns or raises

    def stop(self) -> None:
        """Stop the server and clear up. Harmless if it has ended already."""
        if self._keeper is None:
            return
        self._keeper.stdin.close()  # the lifeline
        try:
            self._keeper.wait(self.stop_seconds + 15)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            self._keeper.wait()
        if self._keeper.returncode == -signal.SIGKILL:  # killed before it could clear up, so it is done here
            if self.pid:  # 0 would mean our own processes
                keeper.kill_group(self.pid)
            keeper.remove_shared_memory(self._prefix)
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._keeper.stdout.close()
        self._keeper = None

    __enter__ = start

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        if self._log_file is None:
            return ""
        return os.pread(self._log_file.fileno(), 1 << 26, 0).decode(errors="replace")

    def client(self, seconds: float = 60.0) -> Client:
        """A client for this server."""
        return Client(self.address, seconds)

    def metrics(self) -> dict[tuple[str, str], float]:
        """The page /metrics: (name, model or "") -> value, summed over the other labels."""
        with Client(self.metrics_address) as client:
            return metrics.parse(client._ask("GET", "/metrics")[1].decode())

    def statistics(self, model: str) -> metrics.Statistics:
        """What the server counted for a model since it was loaded."""
        with self.client() as client:
            return client.statistics(model)

    def reload(self, model: str) -> None:
        """Load a model again, with the files that are there now, which get a new time. Meanwhile the old one answers.

        It also brings back a model whose process died: Triton 2.51 does not start it anew, and refuses each request.

        Raises:
            ServingError: it could not be loaded; the old one goes on.
        """
        for file in (self.repository / model).glob("[0-9]*/*"):
            os.utime(file)  # Triton takes what has the old times for unchanged, and does nothing
        with self.client(self.start_seconds) as client:
            client.post(f"/v2/repository/models/{model}/load")

    def processes(self) -> list[int]:
        """Ids of the server's process and of those of its models."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if self.pid and int(words[2]) == self.pid and words[0] != "Z":
                found.append(int(stat.parent.name))
        return sorted(found)

    def _launch(self) -> None:
        http, metric = free_ports(2)
        self.address, self.metrics_address = f"127.0.0.1:{http}", f"127.0.0.1:{metric}"
        self._prefix = f"trt_course_{os.getpid()}_{http}_"
        self._temporary = tempfile.mkdtemp(prefix="trt-course-server-")
        if self._log_file is None:
            self._log_file = open(self._log_path, "w+b") if self._log_path else tempfile.TemporaryFile()  # noqa: SIM115
        _log_from_start(self._log_file)
        spec = Path(self._temporary) / "spec.json"
        content = {
            "command": self._command(http, metric),
            "environment": {**self.environment.variables(), **self.variables},
            "log": self._log_file.fileno(),
            "prefix": self._prefix,
            "temporary": self._temporary,
            "stop_seconds": self.stop_seconds + 5,  # Triton's own limit comes first
        }
        spec.write_text(json.dumps(content))
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log_file,
            pass_fds=[self._log_file.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is for the client, which then stops the server
        )
        self.pid = int(self._keeper.stdout.readline() or 0)

    def _command(self, http: int, metric: int) -> list[str]:
        backends = Path(self._temporary) / "backends"
        link_backends(self.environment, backends)
        return command(
            self.environment,
            self.repository,
            backends,
            (http, metric),
            prefix=self._prefix,
            exit_seconds=self.stop_seconds,
            config=self.config,
        ) + list(self.arguments)

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + self.start_seconds
        with self.client(2.0) as client:
            while not (client.ready() and _listens(self.metrics_address)):  # the counters' service starts later
                if not self.alive:
                    raise not_started(self.log)
                if time.monotonic() > end:
                    raise ServingError(
                        "Triton was not ready in time.",
                        f"After {self.start_seconds:g} s it still loads. The log ends with: {_last(self.log)}",
                        "Look at the log (`server.log`), or give it more `start_seconds`.",
                    )
                time.sleep(0.03)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as asked:
        return asked.connect_ex((host, int(port))) == 0


def link_backends(environment: Environment, folder: Path) -> None:
    """Make `folder` a backend directory with the Python backend of this environment's Python."""
    backend = folder / "python"
    backend.mkdir(parents=True)
    for file in ("libtriton_python.so", "triton_python_backend_utils.py"):
        (backend / file).symlink_to(environment.server / "backends" / "python" / file)
    (backend / "triton_python_backend_stub").symlink_to(environment.stub)


def command(
    environment: Environment,
    repository: Path,
    backends: Path,
    ports: tuple[int, int],
    *,
    prefix: str,
    exit_seconds: float = 5.0,
    config: str = "",
) -> list[str]:
    """The command line of a server on the loopback interface.

    Args:
        backends: as `link_backends` made it. ports: of HTTP and of the metrics.
        prefix: of the names of its shared memory. config: as for `Server`.
    """
    http, metric = ports
    loopback = "127.0.0.1"
    return [
        str(environment.server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={environment.server / 'caches'}",
        f"--http-address={loopback}",
        f"--http-port={http}",
        f"--metrics-address={loopback}",
        f"--metrics-port={metric}",
        "--allow-grpc=false",
        "--model-control-mode=explicit",  # so that `reload` works
        "--load-model=*",
        *([] if _complete_themselves(repository) else ["--disable-auto-complete-config"]),
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        f"--exit-timeout-secs={max(1, round(exit_seconds))}",
        *([f"--model-config-name={config}"] if config else []),
    ]


def _complete_themselves(repository: Path) -> bool:
    """Whether a model has a method that completes its config.pbtxt.

    To ask for one, Triton 2.51 starts each model's process once more and waits a second for its end.
    """
    files = repository.glob("*/[0-9]*/*.py")
    return any(b"auto_complete_config" in file.read_bytes() for file in files if file.is_file())


def free_ports(count: int) -> list[int]:
    """Numbers of TCP ports on the loopback interface that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def not_started(log: str) -> ServingError:
    """The reason in the log of a server that ended while it loaded its models."""
    failed = re.search(r"failed to load '([^']+)' version \d+: (.*)", log)
    if not failed:
        failed = re.search(r"[Ff]ailed to load model '([^']+)'?:? ?(.*)", log)
    if failed:
        return ServingError(
            f"Triton could not load the model {failed[1]}.",
            _reason(log[failed.start() :]) or failed[2],
            f"Repair {failed[1]}/config.pbtxt or its model.py, then start again. The whole log is in `server.log`.",
        )
    return ServingError(
        "Triton ended while it started.",
        f"Its log ends with: {_last(log)}",
        "Look at the whole log in `server.log`. If a library is missing, run `course serve setup` again.",
    )


def _reason(log: str) -> str:
    """The first line and the exception of a model that failed: what lies between is the traceback."""
    lines = log.splitlines()
    first = re.sub(r"^failed to load '[^']+' version \d+: ", "", lines[0])
    for line in lines[1:]:
        if re.match(r"[IWE]\d{4} ", line):
            break
        if re.match(r"\s*(\w+\.)*\w*(Error|Exception|Interrupt)\b", line):
            return f"{first} {line.strip()}" if line.strip() not in first else first
    return first


def _last(log: str) -> str:
    lines = [line for line in log.splitlines() if line.strip()]
    return next(
        (line for line in reversed(lines) if re.match(r"E\d{4} |.*error", line)), lines[-1] if lines else "nothing"
    )


def _log_from_start(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()
