"""Writes down what TensorRT asks of a calibrator."""

from __future__ import annotations

from collections.abc import Callable


def watched(kind: type) -> type:
    """The same calibrator class, whose objects remember the calls.

    calls: (method, what it gave) in order. What it gave: the batch size; whether there was a batch; whether there was a
        cache; how many bytes were to be kept. For a method that raised it is the error.
    written: bytes that write_calibration_cache got, b"" if it was not called.
    """

    class Watched(kind):
        def __init__(self, *arguments, **words):
            self.calls: list[tuple[str, object]] = []
            self.written = b""
            super().__init__(*arguments, **words)

        def get_batch_size(self):
            return self._tell("get_batch_size", int, super().get_batch_size)

        def get_batch(self, names):
            return self._tell("get_batch", bool, super().get_batch, names)

        def read_calibration_cache(self):
            return self._tell("read_calibration_cache", bool, super().read_calibration_cache)

        def write_calibration_cache(self, cache):
            self.written = bytes(cache)
            return self._tell(
                "write_calibration_cache", lambda _: len(self.written), super().write_calibration_cache, cache
            )

        def _tell(self, method: str, shown: Callable, ask: Callable, *arguments):
            try:
                given = ask(*arguments)
                self.calls.append((method, shown(given)))
                return given
            except Exception as error:
                self.calls.append((method, error))
                raise

    Watched.__name__ = Watched.__qualname__ = kind.__name__
    return Watched
