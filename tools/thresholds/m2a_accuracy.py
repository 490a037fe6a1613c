"""What INT8 costs the ResNet-50 in accuracy, and how much that varies with the images: the data behind the thresholds
of accuracy, agreement and error of `s2.m2a`.

python -m tools.thresholds.m2a_accuracy docs/results/m2a_accuracy.json [--images 1024] [--draws 200] [--each 512]

On a CPU, in ONNX Runtime. What the file already holds of the same command is kept, so that a run can be ended and gone on
with; PyTorch's classes must be the same then. Every variant sees the same altered public images, as the grader draws them;
its loss is paired with PyTorch's FP32, image by image. A draw takes `each` of the images without repetition, so the draws
of a pool that is twice as large as they are vary less than fresh ones would: by about 0.7 times.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx

from autograder.tasks import answers, classifier
from autograder.tasks.base import Seeds
from course import bench, engine
from course.data import cifar10, preprocess
from course.files import atomic_write
from course.quantize import collect, quantize, scales, tensors_to_calibrate

REFERENCE = "course.models:resnet50"
CALIBRATION = 64


def variants(plain: bytes) -> Iterator[tuple[str, Callable[[], onnx.ModelProto]]]:
    """Name, and what makes the model: good ones first, then those that must lose points."""
    images = cifar10.images("calibration")
    chosen = np.random.default_rng(0).choice(len(images), CALIBRATION, replace=False)
    right = preprocess.classifier(images.pixels[chosen])
    tensors = tensors_to_calibrate(plain)
    kept: dict[str, object] = {}

    def histograms(name: str, x: np.ndarray):
        if name not in kept:
            kept[name] = collect(plain, x, tensors)
        return kept[name]

    def made(name: str, x: np.ndarray, method: str, times: float = 1.0, only: str = ""):
        found = scales(histograms(name, x), method).scales
        return quantize(plain, {tensor: scale * (times if only in tensor else 1) for tensor, scale in found.items()})

    noise = np.random.default_rng(1).standard_normal(right.shape).astype(np.float32)
    yield "entropy", lambda: made("right", right, "entropy")
    yield "min-max", lambda: made("right", right, "min-max")
    yield "percentile", lambda: made("right", right, "percentile")
    yield "one image, entropy", lambda: made("one", right[:1], "entropy")
    yield "noise, entropy", lambda: made("noise", noise, "entropy")
    yield (
        "0 to 255 without normalisation, entropy",
        lambda: made(
            "raw", images.pixels[chosen].repeat(7, 1).repeat(7, 2).transpose(0, 3, 1, 2).astype(np.float32), "entropy"
        ),
    )
    yield "entropy, scales times 0.5", lambda: made("right", right, "entropy", 0.5)
    yield "entropy, scales times 0.25", lambda: made("right", right, "entropy", 0.25)
    yield "entropy, scales times 8", lambda: made("right", right, "entropy", 8)
    yield "entropy, the last block's scales times 0.1", lambda: made("right", right, "entropy", 0.1, "layer4.2/")


def logits(model: onnx.ModelProto, x: np.ndarray, batch: int = 16) -> np.ndarray:
    data = model.SerializeToString()
    profile = engine.Profile.batch(data, 1, batch, batch)
    with engine.build(data, engine.BuildConfig("int8", (profile,), runtime="onnxruntime")) as built:
        return np.concatenate([built.run({"input": x[i : i + batch]})["output"] for i in range(0, len(x), batch)])


def summary(answer: np.ndarray, wanted: np.ndarray, labels: np.ndarray, draws: np.ndarray) -> dict:
    ours, theirs = (one.argmax(1) == labels for one in (answer, wanted))
    same = answer.argmax(1) == wanted.argmax(1)
    lost = np.array([float(theirs[draw].mean() - ours[draw].mean()) for draw in draws])
    agree = np.array([float(same[draw].mean()) for draw in draws])
    return {
        "accuracy": float(ours.mean()),
        "reference_accuracy": float(theirs.mean()),
        "drop": float(theirs.mean() - ours.mean()),
        "agreement": float(same.mean()),
        "error": classifier.error_of(answer, wanted),
        "drops": {"deviation": float(lost.std()), "worst": float(lost.max()), "best": float(lost.min())},
        "agreements": {"deviation": float(agree.std()), "worst": float(agree.min())},
        "right": np.packbits(ours).tobytes().hex(),
        "same": np.packbits(same).tobytes().hex(),
    }


def kept(path: Path, command: list[str], right: str) -> dict:
    """Variants of an earlier run of this command, for which PyTorch was right on the same images; else none."""
    if not path.is_file():
        return {}
    known = json.loads(path.read_text())
    return known["variants"] if (known["command"], known["reference_right"]) == (command, right) else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--each", type=int, default=512)
    args = parser.parse_args()
    drawn = classifier.draw(Seeds("public", "", "m2a-threshold"), "accuracy", args.images)
    begin = time.time()
    wanted = answers.reference_answers(REFERENCE, drawn.x)[0]
    print(f"PyTorch: {time.time() - begin:.0f} s", flush=True)
    plain = answers.reference_onnx(REFERENCE, drawn.x)
    rng = np.random.default_rng(0)
    draws = np.stack([rng.choice(args.images, args.each, replace=False) for _ in range(args.draws)])
    right = np.packbits(wanted.argmax(1) == drawn.labels).tobytes().hex()
    command = ["python", "-m", "tools.thresholds.m2a_accuracy", args.out.name]
    command += [f"--{key}={getattr(args, key)}" for key in ("images", "draws", "each")]
    found = kept(args.out, command, right)
    for name, make in variants(plain):
        if name in found:
            continue
        begin = time.time()
        found[name] = summary(logits(make(), drawn.x), wanted, drawn.labels, draws)
        shown = {key: round(value, 4) for key, value in found[name].items() if isinstance(value, float)}
        print(f"{name}: {shown} drops {found[name]['drops']} ({time.time() - begin:.0f} s)", flush=True)
        record = {
            "command": command,
            "machine": bench.machine(),
            "load": os.getloadavg(),
            "calibration_images": CALIBRATION,
            "reference_right": right,
            "variants": found,
        }
        atomic_write(args.out, json.dumps(record, indent=1).encode())


if __name__ == "__main__":
    main()
