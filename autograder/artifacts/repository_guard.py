"""What a handed-in model repository may ask of Triton: a list of what is allowed, everything else is refused.

A configuration can name libraries to load, commands of an environment, files elsewhere, a cache that answers without the
model, or as many processes as it likes. None of it is needed to batch requests for a program of one's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autograder.artifacts import file
from autograder.artifacts.base import Taken
from autograder.rejected import Rejected
from course.serving import config as configs
from course.serving.words import ServingError

if TYPE_CHECKING:
    from google.protobuf.message import Message

ALLOWED = frozenset(
    {
        "name",
        "platform",
        "backend",
        "max_batch_size",
        "input",
        "output",
        "instance_group",
        "dynamic_batching",
        "ensemble_scheduling",
        "parameters",
        "version_policy",
        "default_model_filename",
    }
)
"""Fields of a ModelConfig. Among those that are not: response_cache, model_operations, model_repository_agents,
optimization, model_warmup, sequence_batching, cc_model_filenames."""
WHY = {
    "response_cache": "It would answer an image that came before without the network.",
    "model_operations": "It loads libraries into the server.",
    "model_repository_agents": "It loads libraries into the server.",
}
STUB = "triton_python_backend_stub"
"""The program that runs a model.py."""
MOST_INSTANCES, MOST_MODELS = 8, 8
MOST_QUEUE_US = 10_000_000
"""Longer than a request may wait for others, whatever the service is for."""


def check(taken: Taken) -> None:
    """Raises:
    Rejected: a configuration cannot be read, or asks for what is not allowed; says where, and why.
    """
    try:
        found = configs.check_repository(taken.path)
    except ServingError as error:
        raise Rejected(_shown(error.what, taken), _shown(error.cause, taken), error.next_step) from None
    if len(found) > MOST_MODELS:
        raise Rejected(
            f"{taken.name} holds {len(found)} models.", f"At most {MOST_MODELS} are served.", "Leave some out."
        )
    for name, config in found.items():
        for where, why in problems(config):
            raise Rejected(f"{taken.name}/{name}/config.pbtxt: {where} is not allowed here.", why, f"Take {where} out.")
    for path in sorted(taken.path.rglob("*")):
        if path.is_file() and (path.name == STUB or ".so" in path.suffixes):
            raise Rejected(
                f"{taken.name} holds {path.relative_to(taken.path)}.",
                "Triton would take it in place of its own: it looks into a model's folder first.",
                "Hand in configurations, Python and the network.",
            )
        if path.is_file() and file.is_engine(path):
            raise Rejected(
                f"{taken.name} holds {path.relative_to(taken.path)}, a ready engine.",
                "An engine is program code, and for one GPU. The grader builds model.plan itself, from your model.onnx.",
                f"Take {path.name} out; your programs find model.plan beside model.onnx where there is a GPU.",
            )
    for special in sorted(taken.path.glob("*/configs/*")):
        raise Rejected(
            f"{taken.name} has {special.relative_to(taken.path)}.",
            "The grader serves one configuration a model, config.pbtxt.",
            "Take the folder configs out.",
        )


def problems(config: Message) -> Iterator[tuple[str, str]]:
    """(field, why) of what a configuration must not have."""
    for descriptor, _ in config.ListFields():
        if descriptor.name not in ALLOWED:
            yield descriptor.name, WHY.get(descriptor.name, "Only what batches and runs a program of yours is served.")
    if config.platform not in ("", "ensemble"):
        yield "platform", f"It is {config.platform!r}."
    named = config.default_model_filename
    if named and (named != Path(named).name or named in (".", "..")):
        yield "default_model_filename", f"{named!r} does not lie in the version's folder."
    for key in config.parameters:
        if key.isupper():
            yield f"parameters {key}", "Keys in capitals are Triton's own, such as EXECUTION_ENV_PATH."
    count = sum(max(1, group.count) for group in config.instance_group)
    if count > MOST_INSTANCES:
        yield "instance_group", f"It asks for {count} instances; at most {MOST_INSTANCES} run."
    for group in config.instance_group:
        if extra := [one.name for one, _ in group.ListFields() if one.name not in ("name", "kind", "count", "gpus")]:
            yield f"instance_group {extra[0]}", "A group has a kind and a count here."
    if config.dynamic_batching.max_queue_delay_microseconds > MOST_QUEUE_US:
        yield "max_queue_delay_microseconds", f"It is more than {MOST_QUEUE_US / 1e6:.0f} s."


def _shown(text: str, taken: Taken) -> str:
    """Without the grader's own folder."""
    return text.replace(str(taken.path), taken.name)
