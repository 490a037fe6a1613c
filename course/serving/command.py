"""`course serve run`: a server in the foreground."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from course.serving.config import check_repository
from course.serving.server import Server
from course.serving.words import ServingError


def serve_until_stopped(repository: Path, config: str = "") -> None:
    """Serve `repository` until Ctrl-C.

    Raises:
        ServingError: the repository is wrong, or the server does not start or ends by itself.
    """
    models = check_repository(repository, place="gpu" if config else "cpu", config=config)
    print(f"Loading {', '.join(models)}", flush=True)
    with Server(repository, config=config) as server:
        print(f"Ready. Requests: http://{server.address}/v2/models/{next(iter(models))}/infer", flush=True)
        # An interrupt in the middle of Popen.poll could leave its lock taken, for which stopping would wait for ever.
        interrupted = []
        before = signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
        try:
            print(f"Counters: http://{server.metrics_address}/metrics. Ctrl-C stops it.", flush=True)
            while server.alive and not interrupted:
                time.sleep(0.2)
        finally:
            signal.signal(signal.SIGINT, before)
        if interrupted:
            raise KeyboardInterrupt
        lines = [line for line in server.log.splitlines() if line.strip()]
        raise ServingError(
            "The server ended.",
            f"Its log ends with: {lines[-1] if lines else ''}",
            "Start it again; look at the models.",
        )
