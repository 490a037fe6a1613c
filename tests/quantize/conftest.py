"""The course's ResNet-50 as ONNX, exported once for all tests that need it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def resnet50_onnx(tmp_path_factory) -> Path:
    """Batch open, opset 17, tensors named as in the recordings (both come from torch's older exporter)."""
    import torch

    from course import models
    from course.export import export

    path = tmp_path_factory.mktemp("resnet50") / "resnet50.onnx"
    export(
        models.resnet50(),
        (torch.zeros(2, 3, 224, 224),),
        path,
        input_names=("image",),
        output_names=("logits",),
        dynamic={"image": {0: "batch"}},
        target="8.6",
        once=True,
    )
    return path
