"""What only NVIDIA's container needs: DALI's decoder and docker-compose.yml. Written and checked, never run here."""

from __future__ import annotations

from collections.abc import Sequence

RELEASE = "26.09"
"""Release of the containers. An engine belongs to one TensorRT: the same release builds it and serves it."""

_COMPOSE = """\
# The repository beside this file, in NVIDIA's container: loopback only. Needs an NVIDIA GPU and its container toolkit.
#   docker compose run --rm engines   # once, and after each change of a model: builds the engines on this GPU
#   docker compose up triton
services:
  engines:
    image: nvcr.io/nvidia/tensorrt:{release}-py3
    profiles: [build]
    volumes: ["./models:/models"]
    network_mode: none
    deploy: &gpu
      resources: {{reservations: {{devices: [{{driver: nvidia, count: 1, capabilities: [gpu]}}]}}}}
    command:
      - sh
      - -ec
      - |
{builds}
  triton:
    image: nvcr.io/nvidia/tritonserver:{release}-py3
    volumes: ["./models:/models:ro"]
    ports: ["127.0.0.1:8000:8000", "127.0.0.1:8001:8001", "127.0.0.1:8002:8002"]  # HTTP, gRPC, counters
    deploy: *gpu
    shm_size: 1gb  # tensors travel to the Python backend through shared memory
    command: tritonserver --model-repository=/models --model-config-name=container
    healthcheck: {{test: [CMD, curl, -fs, "localhost:8000/v2/health/ready"], interval: 5s, start_period: 60s}}
"""

_DALI = """\
\"\"\"JPEG files on a GPU: the same steps as model.py beside this file, for a whole batch at once.

Triton's dali backend calls `decode` when it loads the model, and serialises the pipeline.
\"\"\"

import nvidia.dali as dali
from nvidia.dali.plugin.triton import autoserialize


@autoserialize
@dali.pipeline_def(batch_size={max_batch}, num_threads=4, device_id=0)
def decode():
    files = dali.fn.external_source(device="cpu", name="{file}", ndim=1, dtype=dali.types.UINT8)
    images = dali.fn.decoders.image(files, device="mixed", output_type=dali.types.RGB)
    images = dali.fn.resize(images, resize_x={width}, resize_y={height}, interp_type=dali.types.INTERP_LINEAR)
    return dali.fn.crop_mirror_normalize(
        images, dtype=dali.types.FLOAT, output_layout="CHW", mean={mean}, std={std}
    )
"""


def dali_decoder(file: str, size: tuple[int, int], mean: Sequence[float], std: Sequence[float], max_batch: int) -> str:
    """The program of a DALI pipeline for Triton's dali backend.

    Args:
        file: name of the input.
        size: height and width of the result in pixels.
        mean, std: of red, green and blue, on the scale 0 to 255.
    """
    height, width = size
    return _DALI.format(
        file=file, height=height, width=width, mean=list(mean), std=list(std), max_batch=max(max_batch, 1)
    )


def compose(builds: Sequence[str]) -> str:
    """A docker-compose.yml for the folder `models` beside it.

    Args:
        builds: one trtexec command for each engine.
    """
    lines = "\n".join(f"        {line}" for line in builds or ["true"])
    return _COMPOSE.format(release=RELEASE, builds=lines)


def trtexec(model: str, inputs: dict[str, Sequence[int]], max_batch: int) -> str:
    """The command that builds a model's engine in the container.

    Args:
        inputs: name -> shape without the batch.
        max_batch: the largest batch; 0 for a model without one.
    """
    words = ["trtexec", f"--onnx=/models/{model}/1/model.onnx", f"--saveEngine=/models/{model}/1/model.plan"]
    if max_batch:
        for option, batch in (("min", 1), ("opt", max_batch), ("max", max_batch)):
            shapes = (f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in inputs.items())
            words.append(f"--{option}Shapes={','.join(shapes)}")
    return " ".join(words)
