"""A model's config.pbtxt, read by Triton's own protobuf description and checked before a server starts."""

from __future__ import annotations

import difflib
import functools
import importlib.util
import itertools
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pool, text_format

from course.serving import ensembles
from course.serving.words import ServingError

if TYPE_CHECKING:
    from google.protobuf.message import Message

BACKENDS = {
    "cpu": frozenset({"python"}),
    "gpu": frozenset({"python"}),
    "container": frozenset({"python", "tensorrt", "dali", "onnxruntime", "pytorch", "identity"}),
}
"""Place -> backends: the pip package on a CPU or a GPU, or NVIDIA's container."""
DEFAULT_FILES = {"python": "model.py", "tensorrt": "model.plan", "onnxruntime": "model.onnx", "pytorch": "model.pt"}
"""Backend -> the file in a version's folder. (DALI's may have one of several names.)"""
TENSORRT_PROGRAM = "model_tensorrt.py"
"""The program for the Python backend that runs `model.plan`, in repositories of the course."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a field: where, why, and what to do."""

    field: str
    cause: str
    next_step: str


@functools.cache
def _schema() -> types.ModuleType:
    """tritonclient's compiled model_config.proto. Its package cannot be imported as a whole: that needs grpc."""
    package = importlib.util.find_spec("tritonclient")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("course.serving._model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def new() -> Message:
    """An empty `inference.ModelConfig`."""
    return _schema().ModelConfig()


def parse(text: str, where: str = "config.pbtxt") -> Message:
    """The configuration in a text of protobuf's text format.

    Raises:
        ServingError: it cannot be read, or has a field or a value that Triton does not know; says the line.
    """
    config = new()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        reason = re.sub(r"^\d+:\d+ : ", "", str(error))
        raise ServingError(
            f"{where}{f', line {error.GetLine()}' if error.GetLine() else ''} cannot be read.",
            reason.replace("inference.", ""),
            _suggestion(reason),
        ) from None
    return config


def read(path: str | Path) -> Message:
    """The configuration in a file.

    Raises:
        ServingError: there is no such file, or `parse` refuses it.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path} cannot be read.", str(error), "Write it, in protobuf's text format.") from None
    return parse(text, str(path))


def text(config: Message) -> str:
    """The configuration as text, as it stands in a file."""
    return text_format.MessageToString(config, use_short_repeated_primitives=True)


def check_repository(folder: str | Path, place: str = "cpu", config: str = "") -> dict[str, Message]:
    """Read and check every model of a repository: name -> configuration.

    Args:
        place: "cpu", "gpu" (the pip package there) or "container".
        config: which of `configs/` is used where a model has it, as tritonserver's --model-config-name.

    Raises:
        ServingError: the first problem: field, cause, next step.
    """
    folder = Path(folder)
    models = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not models:
        raise ServingError(
            f"{folder} is no model repository.",
            "It must be a folder that holds a folder for each model.",
            "Lay it out as NAME/config.pbtxt and NAME/1/model.py.",
        )
    chosen = {}
    for model in models:
        special = model / "configs" / f"{config}.pbtxt"
        chosen[model.name] = special if config and special.is_file() else model / "config.pbtxt"
    configs = {name: read(path) for name, path in chosen.items()}
    for name, each in configs.items():
        for problem in problems(each, folder / name, place, configs):
            raise ServingError(f"{chosen[name]}: {problem.field}", problem.cause, problem.next_step)
    return configs


def problems(
    config: Message, folder: Path, place: str = "cpu", others: Mapping[str, Message] | None = None
) -> Iterator[Problem]:
    """What would keep Triton from loading a model, or would make it do something else than was meant.

    Args:
        folder: the model's own folder, whose name is the model's.
        others: name -> configuration of the repository's models, for ensembles.
    """
    if config.name and config.name != folder.name:
        yield Problem(
            "name", f'It is "{config.name}", the folder "{folder.name}".', "Make them equal, or leave it out."
        )
    yield from content_problems(config)
    if config.platform == "ensemble" or config.HasField("ensemble_scheduling"):
        yield from (Problem(*words) for words in ensembles.problems(config, others or {}))
    else:
        yield from _backend_problems(config, folder, place)
        yield from _instance_problems(config, place)


def content_problems(config: Message) -> Iterator[Problem]:
    """What is wrong with a configuration in itself, wherever it is used."""
    if config.max_batch_size < 0:
        yield Problem("max_batch_size", f"It is {config.max_batch_size}.", "0 means no batches; else the largest one.")
    for kind in ("input", "output"):
        yield from _tensor_problems(config, kind)
    yield from _batching_problems(config)
    yield from _graph_problems(config)


def _tensor_problems(config: Message, kind: str) -> Iterator[Problem]:
    tensors = getattr(config, kind)
    if not tensors:
        yield Problem(kind, f"There is no {kind}.", f'Add {kind} [ {{ name: "…" data_type: TYPE_FP32 dims: [ … ] }} ].')
    for number, tensor in enumerate(tensors):
        field, names = f"{kind}[{number}]", [other.name for other in tensors]
        if not tensor.name:
            yield Problem(f"{field}.name", "It is missing.", "Give the tensor the name that the model uses.")
        elif names.count(tensor.name) > 1:
            yield Problem(
                f"{field}.name", f'"{tensor.name}" stands there twice.', "Give each tensor a name of its own."
            )
        if not tensor.data_type:
            yield Problem(f"{field}.data_type", "It is missing.", "Write one such as TYPE_FP32 or TYPE_UINT8.")
        if not tensor.dims:
            yield Problem(f"{field}.dims", "They are missing.", "Write them without the batch; [ 1 ] for one value.")
        if any(dim == 0 or dim < -1 for dim in tensor.dims):
            yield Problem(
                f"{field}.dims", f"They are {list(tensor.dims)}.", "Use sizes from 1; -1 stands for any size."
            )


def _batching_problems(config: Message) -> Iterator[Problem]:
    if not config.HasField("dynamic_batching"):
        return
    batching, largest = config.dynamic_batching, config.max_batch_size
    if largest < 1:
        yield Problem("dynamic_batching", "max_batch_size is 0: such a model takes no batches.", "Set max_batch_size.")
        return
    for size in batching.preferred_batch_size:
        if not 1 <= size <= largest:
            yield Problem(
                "dynamic_batching.preferred_batch_size",
                f"{size} lies outside 1 to max_batch_size, {largest}.",
                "Take it out, or raise max_batch_size.",
            )


def _backend_problems(config: Message, folder: Path, place: str) -> Iterator[Problem]:
    by_platform = {"tensorrt_plan": "tensorrt", "onnxruntime_onnx": "onnxruntime"}  # the older way to say it
    backend = config.backend or by_platform.get(config.platform, "")
    if not backend:
        yield Problem("backend", "It is missing.", 'Write backend: "python" for a model.py.')
        return
    if backend not in BACKENDS[place]:
        have = " and ".join(sorted(BACKENDS[place]))
        where = "NVIDIA's container" if place == "container" else "Triton's pip package"
        yield Problem(
            "backend",
            f'"{backend}" is not in {where}, which has {have}.',
            "Use one of these; the Python backend runs a model.py of your own.",
        )
        return
    versions = [path for path in folder.glob("[0-9]*") if path.is_dir() and path.name.isdigit() and path.name != "0"]
    if not versions:
        yield Problem("version folder", f"{folder} has none.", f"Put the model's files into {folder / '1'}.")
    files = [config.default_model_filename or DEFAULT_FILES.get(backend)]
    if files == [TENSORRT_PROGRAM]:
        files.append("model.plan")
    for version, file in itertools.product(versions, files):
        if file and not (version / file).exists():
            step = "Put it there"
            if file.endswith(".plan"):
                step = "Build it on this machine's GPU: `course build model.onnx --plan model.plan`"
            yield Problem("default_model_filename", f"{version / file} is missing.", f"{step}, or name another file.")


def _instance_problems(config: Message, place: str) -> Iterator[Problem]:
    for number, group in enumerate(config.instance_group):
        field = f"instance_group[{number}]"
        if group.count < 0:
            yield Problem(f"{field}.count", f"It is {group.count}.", "Use 1 or more.")
        if group.kind == group.KIND_GPU and place == "cpu":
            yield Problem(
                f"{field}.kind",
                "KIND_GPU needs a GPU, and this is for a CPU.",
                "Use KIND_CPU, or leave instance_group out.",
            )


def _graph_problems(config: Message) -> Iterator[Problem]:
    if not config.optimization.cuda.graphs:
        return
    if config.backend != "tensorrt":
        yield Problem(
            "optimization.cuda.graphs",
            f'Only the tensorrt backend reads it; this is "{config.backend}".',
            "Take it out; in a model.py, capture the graph yourself.",
        )
        return
    sizes = {spec.batch_size for spec in config.optimization.cuda.graph_spec}
    for size in sorted(sizes):
        if size > max(config.max_batch_size, 0):
            yield Problem(
                "optimization.cuda.graph_spec.batch_size",
                f"{size} is larger than max_batch_size, {config.max_batch_size}.",
                "No batch will ever have that size: take it out.",
            )
    if config.HasField("dynamic_batching") and not sizes and not config.dynamic_batching.preferred_batch_size:
        yield Problem(
            "optimization.cuda.graph_spec",
            "With dynamic batching and no sizes, Triton captures graphs for batch 1 and the largest only: all other "
            "batches run without one, and no counter says so.",
            "Name the sizes in graph_spec, or in dynamic_batching.preferred_batch_size.",
        )


def _suggestion(reason: str) -> str:
    """What may have been meant, from names that are alike."""
    fields = re.search(r'Message type "([\w.]+)" has no field named "([^"]+)"', reason)
    values = re.search(r'Enum type "([\w.]+)" has no value named "?([\w.]+?)"?\.?$', reason)
    pool = descriptor_pool.Default()
    if fields:
        names, wrong = [field.name for field in pool.FindMessageTypeByName(fields[1]).fields], fields[2]
    elif values:
        names, wrong = list(pool.FindEnumTypeByName(values[1]).values_by_name), values[2]
    else:
        return "Compare the line with protobuf's text format: `field: value`, `field { … }`, `field [ …, … ]`."
    close = difflib.get_close_matches(wrong, names, 1, 0.5) or [name for name in names if name.endswith(f"_{wrong}")]
    return f"Did you mean {close[0]}?" if close else f"Use one of {', '.join(sorted(names))}."
