"""The course's ResNet-50 as a service: exported, served by the real Triton, loaded; its answers are PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from course import export, models
from course.data import cifar10
from course.data.preprocess import classifier
from course.serving import Batching, Model, Server, closed_loop, open_loop, write
from tests.triton import environment_or_skip

pytestmark = pytest.mark.slow
SIDE = 32  # pixels: small images make it quick, and a batch of 4 cheaper than four


def test_batches_form_under_load_and_answers_are_pytorchs(tmp_path):
    triton = environment_or_skip()
    network = models.resnet50()
    images = classifier(cifar10.images("public").pixels[:8], SIDE)
    with torch.inference_mode():
        right = network(torch.from_numpy(images)).numpy()
    example = (torch.zeros(1, 3, SIDE, SIDE),)
    onnx = tmp_path / "resnet50.onnx"
    export.export(
        network,
        example,
        onnx,
        input_names=["images"],
        output_names=["scores"],
        dynamic={"images": {0: "batch"}},
        exporter="torchscript",
    )
    feeds = [{"images": image[None]} for image in images]
    with Server(write(tmp_path / "service", [Model("classifier", onnx, 4, Batching())]), environment=triton) as server:
        alone = closed_loop(server.address, "classifier", feeds, 1, 1.0, warmup=0.3, keep_answers=True)
        busy = closed_loop(server.address, "classifier", feeds, 8, 1.5, warmup=0.3, keep_answers=True)
        users = open_loop(server.address, "classifier", feeds, 0.5 * alone.rate, 1.0, warmup=0, keep_answers=True)
    assert alone.server.mean_batch == 1
    assert busy.server.mean_batch > 2 and busy.server.executions < busy.server.requests / 2, busy
    for load in (alone, busy, users):
        assert load.failed == 0 and load.server.requests == load.sent > 0
        for feed, outputs in load.answers():
            np.testing.assert_allclose(outputs["scores"][0], right[feed], rtol=1e-3, atol=1e-3)
