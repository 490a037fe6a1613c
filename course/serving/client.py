"""A client for one thread: health, models, inference. The load generator has connections of its own."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping, Sequence

import numpy as np

from course.serving import protocol
from course.serving.metrics import Statistics
from course.serving.words import RefusedError, ServingError

UNIX = "unix:"
"""How the address of a Unix socket begins: a server in a box without a network is reached over one."""
STILL_S = 0.03
"""Seconds in which nothing more was counted, before counts are taken."""


class Client:
    """One HTTP connection to a Triton server, opened when it is first needed. Use it with `with`, or `close` it.

    Args:
        address: "host:port", or "unix:PATH" of a Unix socket.
        seconds: how long an answer may take.
    """

    def __init__(self, address: str, seconds: float = 60.0):
        self.address, self.seconds = address, seconds
        self._connection: http.client.HTTPConnection | None = None

    def infer(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = (), version: str = ""
    ) -> dict[str, np.ndarray]:
        """The model's outputs: name -> array.

        Args:
            inputs: name -> array, with the batch dimension if the model has one.

        Raises:
            RefusedError: Triton refused the request, and why.
            ServingError: the server is gone, or too slow.
        """
        body, length = protocol.encode(inputs, outputs)
        path = f"/v2/models/{model}{f'/versions/{version}' if version else ''}/infer"
        headers = {protocol.LENGTH: str(length), "Content-Type": "application/octet-stream"}
        answer, data = self._ask("POST", path, body, headers)
        size = answer.getheader(protocol.LENGTH)
        return protocol.decode(data, int(size) if size else None)

    def get(self, path: str) -> object:
        """The JSON at a path such as "/v2/models/NAME/config"."""
        return json.loads(self._ask("GET", path)[1] or b"null")

    def post(self, path: str, content: object = None) -> object:
        """What the server answers to JSON sent to a path such as "/v2/repository/models/NAME/load"."""
        return json.loads(self._ask("POST", path, json.dumps(content or {}).encode())[1] or b"null")

    def statistics(self, model: str) -> Statistics:
        """What the server counted for a model since it was loaded, all versions together.

        It counts a request after it has sent the answer, so this waits until the counts stand still, a second at most.
        """
        last, until = None, time.monotonic() + 1.0
        while True:
            now = Statistics.of(self.get(f"/v2/models/{model}/stats"))
            if now == last or time.monotonic() > until:
                return now
            last = now
            time.sleep(STILL_S)

    def ready(self, model: str = "") -> bool:
        """Whether the server, or this model on it, takes requests."""
        try:
            self._ask("GET", f"/v2/models/{model}/ready" if model else "/v2/health/ready")
        except ServingError:
            return False
        return True

    def close(self) -> None:
        """Close the connection. A server that has open ones takes longer to stop."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        # A kept connection may have been closed by the other side: then a new one is tried, once.
        for fresh in [False, True] if self._connection else [True]:
            if fresh:
                self.close()
                self._connection = _connection(self.address, self.seconds)
            try:
                self._connection.request(method, path, body, dict(headers or {}))
                answer = self._connection.getresponse()
                data = answer.read()
                break
            except TimeoutError as error:
                self.close()
                raise ServingError(
                    f"{self.address}{path} gave no answer.",
                    f"It took longer than {self.seconds:g} s.",
                    "Look at the server's log, or allow more seconds.",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if fresh:
                    raise ServingError(
                        f"No server answers at {self.address}.",
                        str(error) or type(error).__name__,
                        "Start it, or look at its log for why it ended.",
                    ) from error
        if answer.status >= 400:
            raise RefusedError(
                f"Triton refused {method} {path} with status {answer.status}.",
                said(data) or answer.reason,
                "Compare the request with the model's config.pbtxt, and look at the server's log.",
                answer.status,
            )
        return answer, data


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float):
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(address: str, seconds: float) -> http.client.HTTPConnection:
    if address.startswith(UNIX):
        return _UnixConnection(address.removeprefix(UNIX), seconds)
    return http.client.HTTPConnection(address, timeout=seconds)


def said(body: bytes) -> str:
    """The reason in the body of a refusal, or ""."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace").strip()
