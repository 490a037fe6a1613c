"""A model repository for Triton from one description, for three places.

| place | server | a model runs in | configuration |
| --- | --- | --- | --- |
| "cpu" | pip package | ONNX Runtime, in the Python backend | config.pbtxt |
| "gpu" | pip package | TensorRT with CUDA graphs, in the Python backend | configs/gpu.pbtxt |
| "container" | NVIDIA's container | the tensorrt and dali backends | configs/container.pbtxt |

One folder holds all three; tritonserver's --model-config-name picks one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from course.files import atomic_write
from course.serving import config as configs
from course.serving import container, protocol
from course.serving.words import ServingError

if TYPE_CHECKING:
    from google.protobuf.message import Message

PROGRAMS = Path(__file__).with_name("models")
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of red, green and blue over ImageNet, on the scale 0 to 255."""


@dataclass(frozen=True)
class Batching:
    """How Triton joins requests that wait.

    Attributes:
        preferred: batch sizes that are sent off at once when they are full.
        delay_us: how long a request may wait for others, in microseconds; 0 takes what gathered while the model ran.
        queue: how many requests may wait; more are refused at once. 0: no limit.
        timeout_ms: how long a request may wait before it is refused. 0: no limit.
    """

    preferred: Sequence[int] = ()
    delay_us: int = 0
    queue: int = 0
    timeout_ms: float = 0


@dataclass(frozen=True)
class Decode:
    """Image files in front of a model: decoded, resized and normalised on the server.

    Attributes:
        size: height and width in pixels that the model wants.
        mean, std: of red, green and blue, on the scale 0 to 255.
    """

    size: tuple[int, int]
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD


@dataclass(frozen=True)
class Model:
    """A model to be served.

    Attributes:
        name: of the model, and of its folder.
        onnx: the ONNX file; its first dimension is the batch if `max_batch` is not 0.
        max_batch: the largest batch; 0 for a model that takes none.
        batching: joins requests to batches; None calls the model once for each request.
        instances: copies of the model that work at the same time; on a GPU, on each of its GPUs.
        threads: of ONNX Runtime, for each instance on a CPU.
        graphs: batch sizes that get a CUDA graph on a GPU.
        gpus: numbers of the GPUs that it works on, all behind one queue; none stands for every GPU that Triton sees.
        decode: takes image files: the model `NAME` becomes an ensemble of `NAME_decode` and `NAME_network`.
        plan: TensorRT's plan of this model for the GPU of this machine, if there is one.
    """

    name: str
    onnx: Path | str
    max_batch: int = 0
    batching: Batching | None = None
    instances: int = 1
    threads: int = 1
    graphs: Sequence[int] = ()
    gpus: Sequence[int] = ()
    decode: Decode | None = None
    plan: Path | str | None = None


def write(folder: str | Path, models: Sequence[Model]) -> Path:
    """Write `folder`/models and `folder`/docker-compose.yml; models of these names are replaced.

    Returns:
        `folder`/models: what tritonserver gets.

    Raises:
        ServingError: a description does not fit its ONNX file, or would make a wrong configuration.
    """
    folder = Path(folder)
    repository, builds = folder / "models", []
    for model in models:
        inputs, outputs = tensors_of(model)
        _write_network(repository / network_name(model), model, inputs, outputs)
        shapes = {tensor.name: list(tensor.dims) for tensor in inputs}
        builds.append(container.trtexec(network_name(model), shapes, model.max_batch))
        if model.decode:
            _write_decoder(repository / f"{model.name}_decode", model, inputs)
            _write_ensemble(repository / model.name, model, inputs, outputs)
    atomic_write(folder / "docker-compose.yml", container.compose(builds).encode())
    configs.check_repository(repository)
    return repository


def network_name(model: Model) -> str:
    """The name under which the network itself is served: behind a decoder it is not the model's own."""
    return f"{model.name}_network" if model.decode else model.name


def tensors_of(model: Model) -> tuple[list[Message], list[Message]]:
    """Inputs and outputs as the configuration has them, from the ONNX file.

    Raises:
        ServingError: the file cannot be read, or a shape does not fit the description.
    """
    try:
        graph = onnx.load(str(model.onnx), load_external_data=False).graph
    except Exception as error:
        raise ServingError(f"{model.onnx} is no ONNX file.", str(error) or type(error).__name__, "Export it.") from None
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_tensor(value, model, "input") for value in graph.input if value.name not in weights]
    outputs = [_tensor(value, model, "output") for value in graph.output]
    if model.decode and [list(tensor.dims) for tensor in inputs] != [[3, *model.decode.size]]:
        raise ServingError(
            f"{model.name}: decode",
            f"Decoded images are 3 x {model.decode.size[0]} x {model.decode.size[1]}; the model wants "
            f"{' and '.join(str(list(tensor.dims)) for tensor in inputs)}.",
            "Give the decoder the model's size.",
        )
    return inputs, outputs


def _tensor(value: onnx.ValueInfoProto, model: Model, kind: str) -> Message:
    """`inference.ModelInput` or `ModelOutput` of a tensor of the graph."""
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
    if model.max_batch:
        if not dims or dims[0] != -1:
            raise ServingError(
                f"{model.name}: {kind} {value.name}",
                f"It has the shape {dims} in {Path(model.onnx).name}, so no batch of up to {model.max_batch} fits in.",
                "Export the model with a dynamic first dimension, or set max_batch=0.",
            )
        dims = dims[1:]
    tensor = getattr(configs.new(), kind).add()
    tensor.name, tensor.dims[:] = value.name, dims or [1]
    if not dims:
        tensor.reshape.SetInParent()  # one value for each item: Triton has no tensors without dimensions
    numpy_dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    name = protocol.dtype_name(numpy_dtype)
    tensor.data_type = (
        tensor.DESCRIPTOR.fields_by_name["data_type"]
        .enum_type.values_by_name["TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"]
        .number
    )
    return tensor


def _write_network(folder: Path, model: Model, inputs: Sequence[Message], outputs: Sequence[Message]) -> None:
    version = _empty(folder)
    shutil.copyfile(model.onnx, version / "model.onnx")
    if model.plan:
        shutil.copyfile(model.plan, version / "model.plan")
    shutil.copyfile(PROGRAMS / "onnxruntime_model.py", version / "model.py")
    shutil.copyfile(PROGRAMS / "tensorrt_model.py", version / configs.TENSORRT_PROGRAM)

    cpu = _network(model, inputs, outputs, "python", "KIND_CPU")
    cpu.parameters["threads"].string_value = str(model.threads)

    gpu = _network(model, inputs, outputs, "python", "KIND_GPU")
    gpu.default_model_filename = configs.TENSORRT_PROGRAM
    gpu.parameters["graphs"].string_value = ",".join(map(str, model.graphs))
    gpu.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value = "no"  # what is on the GPU already stays there

    native = _network(model, inputs, outputs, "tensorrt", "KIND_GPU")
    for size in model.graphs:
        native.optimization.cuda.graphs = True
        spec = native.optimization.cuda.graph_spec.add(batch_size=size)
        for tensor in inputs:
            spec.input[tensor.name].dim.extend(tensor.dims)

    for place, config in (("config", cpu), ("configs/gpu", gpu), ("configs/container", native)):
        for problem in configs.content_problems(config):
            raise ServingError(f"{model.name}: {problem.field}", problem.cause, problem.next_step)
        atomic_write(folder / f"{place}.pbtxt", configs.text(config).encode())


def _network(model: Model, inputs: Sequence[Message], outputs: Sequence[Message], backend: str, kind: str) -> Message:
    """What the three configurations of a network share."""
    config = configs.new()
    config.name, config.backend, config.max_batch_size = network_name(model), backend, model.max_batch
    config.input.extend(inputs)
    config.output.extend(outputs)
    group = config.instance_group.add()
    group.count, group.kind = model.instances, group.Kind.Value(kind)
    if kind == "KIND_GPU":
        group.gpus.extend(model.gpus)
    if model.batching is not None:
        batching = config.dynamic_batching
        batching.SetInParent()  # an empty one counts: it switches batching on
        batching.preferred_batch_size.extend(model.batching.preferred)
        batching.max_queue_delay_microseconds = model.batching.delay_us
        if model.batching.queue or model.batching.timeout_ms:
            policy = batching.default_queue_policy
            policy.max_queue_size = model.batching.queue
            policy.default_timeout_microseconds = round(1e3 * model.batching.timeout_ms)
            policy.timeout_action = policy.REJECT
    return config


def _write_decoder(folder: Path, model: Model, inputs: Sequence[Message]) -> None:
    """A model that takes one image file in each request, uint8 [1, bytes]."""
    decode, version = model.decode, _empty(folder)
    shutil.copyfile(PROGRAMS / "decode_model.py", version / "model.py")
    program = container.dali_decoder("file", decode.size, decode.mean, decode.std, model.max_batch)
    (version / "dali.py").write_text(program)
    for place, backend in (("config", "python"), ("configs/container", "dali")):
        config = configs.new()
        config.name, config.backend, config.max_batch_size = folder.name, backend, model.max_batch
        _add_file_input(config)
        made = config.output.add()
        made.name, made.data_type, made.dims[:] = inputs[0].name, inputs[0].data_type, inputs[0].dims
        if model.max_batch:
            config.dynamic_batching.SetInParent()
        if backend == "python":
            group = config.instance_group.add()
            group.count, group.kind = model.instances, group.KIND_CPU
            for name, values in (("mean", decode.mean), ("std", decode.std)):
                config.parameters[name].string_value = ",".join(f"{value:g}" for value in values)
        atomic_write(folder / f"{place}.pbtxt", configs.text(config).encode())


def _write_ensemble(folder: Path, model: Model, inputs: Sequence[Message], outputs: Sequence[Message]) -> None:
    """Decoder and network in a row, under the model's own name."""
    _empty(folder)
    config = configs.new()
    config.name, config.platform, config.max_batch_size = model.name, "ensemble", model.max_batch
    _add_file_input(config)
    config.output.extend(outputs)
    decode = config.ensemble_scheduling.step.add(model_name=f"{model.name}_decode", model_version=-1)
    decode.input_map["file"], decode.output_map[inputs[0].name] = "file", "decoded"
    network = config.ensemble_scheduling.step.add(model_name=network_name(model), model_version=-1)
    network.input_map[inputs[0].name] = "decoded"
    for tensor in outputs:
        network.output_map[tensor.name] = tensor.name
    atomic_write(folder / "config.pbtxt", configs.text(config).encode())


def _add_file_input(config: Message) -> None:
    file = config.input.add()
    file.name, file.dims[:] = "file", [-1]
    file.data_type = file.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_name["TYPE_UINT8"].number
    file.allow_ragged_batch = config.platform != "ensemble"  # files of different lengths may share a batch


def _empty(folder: Path) -> Path:
    """The folder of version 1 in a model's folder, which loses all that it had."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "1").mkdir(parents=True)
    return folder / "1"
