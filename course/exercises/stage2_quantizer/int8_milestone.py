"""Milestone 2a: looking at what is to be handed in, before the grader does. Nothing here gives points.

look_at("artifacts/resnet50_int8.onnx", "artifacts/resnet50.onnx", x, labels)
rehearse("m2a", images)
"""

from __future__ import annotations

import importlib.util
import io
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np

from course.engine import BuildConfig, Profile, build
from course.errors import CourseError
from course.quantize import explain_placement
from course.quantize.compare import logits
from course.quantize.recording import tensorrt_here
from course.text import text_table

BATCH, BATCHES = 4, (1, 8, 16)
NAMES = ("get_batch_size", "read_calibration_cache", "get_batch", "write_calibration_cache")


def look_at(int8: str | Path, plain: str | Path, x: np.ndarray, labels: np.ndarray) -> None:
    """Print accuracy and agreement of an INT8 file beside its FP32 original, and what its placement costs.

    Args:
        x: float32 [N, 3, H, W], not used for calibration. labels: int64 [N].
    """
    if not Path(int8).is_file():
        print(f"{int8} is not there yet.")
        return
    answers = {}
    for name, path, precision in (("FP32", plain, "fp32"), ("INT8", int8, "int8")):
        with build(path, BuildConfig(precision, (Profile.batch(path, 1, 16, 16),))) as engine:
            answers[name] = logits(engine, x, 16).argmax(1)
    rows = [
        (name, f"{(classes == labels).mean():.1%}", f"{(classes == answers['FP32']).mean():.1%}")
        for name, classes in answers.items()
    ]
    print(text_table(("file", f"right, of {len(x)} images", "class of FP32"), rows))
    costly = [finding for finding in explain_placement(int8) if finding.kernel]
    print(f"Pairs that cost a kernel of their own, or keep a layer in float: {len(costly)}")
    for finding in costly[:5]:
        print(f"  {finding}")


def rehearse(folder: str | Path, images: np.ndarray) -> None:
    """Build the first layers of the ResNet-50 with the scripts of a folder, and print what TensorRT asked.

    Twice with one folder for the cache: in the second build it should be used.

    Args:
        images: float32 [N, 3, 224, 224].
    """
    trt, folder = tensorrt_here(needs="IInt8EntropyCalibrator2"), Path(folder)
    network = _stem()
    try:
        scripts = {name: _load(folder / f"{name}.py") for name in ("calibrator", "build_engine")}
        with tempfile.TemporaryDirectory() as place:
            onnx, plan = Path(place) / "stem.onnx", Path(place) / "stem.plan"
            onnx.write_bytes(network)
            for title in ("First build, without a cache:", "Second build:"):
                print(title)
                mine = scripts["calibrator"].Calibrator(images, BATCH, str(Path(place) / "stem.cache"))
                _tell(mine)
                scripts["build_engine"].build(str(onnx), str(plan), BATCHES, mine)
                size = f"{plan.stat().st_size / 1e6:.1f} MB" if plan.is_file() else "not written"
                print(f"  plan: {size}")
    except NotImplementedError as error:
        print(f"  Not written yet: {_place(error, folder)}")
    except CourseError as error:
        print(error)
    except Exception as error:  # a learner's script may raise anything
        print(f"  {type(error).__name__} in {_place(error, folder)}: {error}")
    for event in trt.recording.calls("problem") if hasattr(trt, "recording") else ():
        print(f"  {event['where']}: {event['words']}")


def _stem() -> bytes:
    """ONNX of the first stage: image [batch, 3, 224, 224] -> features."""
    import torch

    from course.models import resnet50

    model = resnet50()
    stem = torch.nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool, model.layer1).eval()
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            stem,
            (torch.zeros(2, 3, 224, 224),),
            target,
            input_names=["image"],
            output_names=["features"],
            dynamic_axes={"image": {0: "batch"}, "features": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    return target.getvalue()


def _load(path: Path) -> ModuleType:
    """A script as it is now: edited ones are read again."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # so that one script can import the other
    spec.loader.exec_module(module)
    return module


def _tell(calibrator) -> None:
    """Each of the four methods prints that it was called. TensorRT looks for a method on the object first."""

    def instead(name: str) -> None:
        original = getattr(calibrator, name)

        def told(*arguments):
            answer = original(*arguments)
            given = [
                f"{len(bytes(one))} bytes" if isinstance(one, (bytes, memoryview)) else repr(one) for one in arguments
            ]
            shown = f"{len(answer)} bytes" if isinstance(answer, bytes) else repr(answer)
            print(f"  {name}({', '.join(given)}) -> {shown}")
            return answer

        setattr(calibrator, name, told)

    for name in NAMES:
        instead(name)


def _place(error: BaseException, folder: Path) -> str:
    """Where in a script an error was raised."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if Path(frame.filename).resolve().parent == folder.resolve():
            return f"{Path(frame.filename).name}, line {frame.lineno}, {frame.name}"
    return "TensorRT or the course"
