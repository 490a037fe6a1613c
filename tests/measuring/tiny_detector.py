"""Milestone s1.m1b on small scenes: the shipped detector, so that there is an mAP to lose, at 192 and 224 px.

The PyTorch side of the speed checks runs the network twice, so that an honest engine is always clearly faster, also on a
busy machine. Files are made of one export, with small graphs put before or behind it.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import warnings

import onnx
import torch
from torch import nn

from autograder.checks.base import Ramp
from autograder.checks.detection import Detection
from autograder.checks.dynamic_shape import DynamicShape
from autograder.checks.speed import Speed
from autograder.milestones import Milestone
from autograder.milestones.stage1 import YOLO
from autograder.tasks.detector import Detector
from course.models import yolo

SIZES = (192, 224)
TIMED, TIMED_SIZE = 4, 128
"""The timed batch size, at which nothing else is asked, and side in px: small, since slow files are timed, too."""


class Twice(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        if len(x) == TIMED:
            self.model(x)
        return self.model(x)


def reference(decode: bool = True) -> nn.Module:
    """What the tests' milestone compares with."""
    return Twice(yolo(decode=decode)).eval()


def milestone(speed: bool = False, **changes) -> Milestone:
    """s1.m1b with small scenes; one of its checks of speed, and that only if asked for."""
    checks = []
    for check in YOLO.checks:
        params = check.lanes["cpu"]
        if isinstance(params, Speed):
            params = dataclasses.replace(
                params,
                batches=(TIMED,),
                sizes=(TIMED_SIZE,),
                ratio=Ramp(1.1, 1.6, 0.2),
                rounds=10,
                max_seconds=15.0,
                warmup_s=0.1,
            )
            check = dataclasses.replace(check, id=f"speed-{TIMED_SIZE}")
        elif isinstance(params, Detection):
            params = dataclasses.replace(params, sizes=SIZES, scenes=16, hidden_scenes=16)
        else:
            shapes = tuple((index + 1, size, size) for index, size in enumerate(SIZES))
            params = dataclasses.replace(params, shapes=shapes, largest=2, lowest=160, highest=224)
            assert isinstance(params, DynamicShape)
        checks.append(dataclasses.replace(check, lanes={"cpu": params}))
    del checks[3 : 4 if speed else None]
    return dataclasses.replace(
        YOLO,
        **{
            "id": "test.detector",
            "task": Detector("tests.measuring.tiny_detector:reference"),
            "checks": tuple(checks),
            "memory_gb": 4.0,
            **changes,
        },
    )


def export(
    model: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], axes: dict[str, dict[int, str]] | None = None
) -> onnx.ModelProto:
    """ONNX of a module; `axes` as torch.onnx.export's dynamic_axes."""
    target, threads = io.BytesIO(), torch.get_num_threads()
    torch.set_num_threads(1)  # threads of small convolutions wait for each other on busy cores
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            target,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=axes or {},
            opset_version=17,
            dynamo=False,
        )
    torch.set_num_threads(threads)
    return onnx.load_model_from_string(target.getvalue())


IMAGE = {0: "batch", 2: "height", 3: "width"}
BOXES = {0: "batch", 1: "anchors"}


@functools.lru_cache(maxsize=4)
def _detector(decode: bool) -> bytes:
    outputs = ["boxes", "scores"] if decode else ["raw"]
    axes = {"image": IMAGE, **{name: BOXES if decode else {0: "batch", 2: "anchors"} for name in outputs}}
    return export(yolo(decode=decode), {"image": torch.zeros(2, 3, 64, 96)}, outputs, axes).SerializeToString()


def detector(
    decode: bool = True,
    before: nn.Module | None = None,
    behind: nn.Module | None = None,
    outputs: tuple[str, ...] = ("boxes", "scores"),
) -> bytes:
    """The shipped detector as it is asked for; `before`: image -> image in front of it, `behind`: (boxes, scores) ->
    `outputs` at its end."""
    model = onnx.load_model_from_string(_detector(decode))
    if before is not None:
        front = export(before, {"image": torch.zeros(2, 3, 64, 96)}, ["changed"], {"image": IMAGE, "changed": IMAGE})
        model = _joined(front, model, [("changed", "image")])
    if behind is not None:
        names = [f"new_{name}" for name in outputs]
        boxes = {"boxes": torch.zeros(2, 9, 4), "scores": torch.zeros(2, 9, 20)}
        back = export(behind, boxes, names, {name: BOXES for name in (*boxes, *names)})
        model = _joined(model, back, [(name, name) for name in boxes if name in {v.name for v in back.graph.input}])
    return model.SerializeToString()


def _joined(first: onnx.ModelProto, second: onnx.ModelProto, names: list[tuple[str, str]]) -> onnx.ModelProto:
    """Two graphs, one behind the other; outputs of the first that the second does not take are lost."""
    second = onnx.compose.add_prefix(second, "second_")
    pairs = [(out, f"second_{name}") for out, name in names]
    model = onnx.compose.merge_models(first, second, pairs, outputs=[value.name for value in second.graph.output])
    del model.opset_import[1:]  # it lists the same one twice
    return model
