"""What the checks of the Triton lessons share: a repository of the learner's files, served by the real Triton."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from course.exercises import Wrong
from course.serving import Load, Server, config, environment, open_loop
from course.serving.notebook import stop_behind
from course.serving.words import ServingError

if TYPE_CHECKING:
    from google.protobuf.message import Message

Files = Mapping[str, str | bytes]
"""Path in a model's folder -> content."""
TIMES_TOGETHER = 3
STOP_SECONDS = 1.0  # nothing of a check's server is needed once it has been asked


def parsed(text: object, name: str) -> Message:
    """The configuration in a learner's text.

    Raises:
        Wrong: it is no text.
        ServingError: Triton's description of configurations does not allow it; names the line.
    """
    if not isinstance(text, str):
        raise Wrong(
            f"`{name}` is {type(text).__name__}.",
            "It holds the text of config.pbtxt.",
            f'Write it between quotes: {name} = """…""".',
        )
    return config.parse(text, f"`{name}`")


def program(text: object, name: str) -> str:
    """A learner's model.py.

    Raises:
        NotImplementedError: a part of it is still the released one.
        Wrong: it is no text, or no Python.
    """
    if not isinstance(text, str):
        raise Wrong(
            f"`{name}` is {type(text).__name__}.",
            "It holds the text of model.py, which another process runs.",
            f'Write it between quotes: {name} = r"""…""".',
        )
    try:
        compile(text, f"{name}.py", "exec")
    except SyntaxError as error:
        raise Wrong(f"Line {error.lineno} of `{name}` is no Python.", str(error.msg), "Correct that line.") from None
    if "raise NotImplementedError()" in text:
        raise NotImplementedError
    return text


def write(folder: Path, models: Mapping[str, Files]) -> Path:
    """A model repository in `folder`: model -> its files."""
    for model, files in models.items():
        for path, content in files.items():
            file = folder / model / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@contextlib.contextmanager
def serving(models: Mapping[str, Files], arguments: Sequence[str] = ()) -> Iterator[Server]:
    """The real Triton on these models.

    Raises:
        Wrong: Triton is not set up, so nothing can be judged; or it does not load a model, with its reason.
    """
    must_be_here()
    with tempfile.TemporaryDirectory(prefix="trt-course-check-") as folder:
        server = Server(write(Path(folder), models), arguments=arguments, stop_seconds=STOP_SECONDS)
        try:
            server.start()
        except ServingError as error:
            raise Wrong(error.what, error.cause, "Repair what it names, then run the cells again.") from None
        try:
            yield server
        finally:
            stop_behind(server)


def must_be_here() -> None:
    """Refuse to judge where no server can be started.

    Raises:
        Wrong: it says how to get one.
    """
    try:
        environment.find()
    except ServingError as error:
        raise Wrong(
            "Your answer was not tried: the check asks a real Triton.", f"{error.what} {error.cause}", error.next_step
        ) from None


def together(server: Server, model: str, feeds: Sequence[Mapping[str, np.ndarray]], rows: int) -> Load:
    """Requests that come within 30 ms, in this order, with their answers; the model's queue waits for longer than that.

    On a machine that is busy with other things they may come one by one all the same; they are sent up to three times.

    Args:
        rows: that a batch should have at least. Triton counts no batch that failed as a whole.

    Raises:
        Wrong: they came one by one each time.
    """
    due = np.linspace(0, 0.03, len(feeds))
    for _ in range(TIMES_TOGETHER):
        load = open_loop(server.address, model, feeds, due, 0.1, warmup=0, timeout=20, keep_answers=True)
        if max(load.server.batches, default=rows) >= rows:
            return load
    raise Wrong("The requests came one by one.", "This machine is very busy.", "Run the check again.")
