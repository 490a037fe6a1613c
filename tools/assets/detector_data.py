"""Scenes for training the detector: read the data sets, compose batches in worker processes."""

from __future__ import annotations

import gzip
import json
import mmap
import multiprocessing
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from course.data.scenes import ObjectPool, Scene, scene

MOST_OBJECTS = 10
FORK = multiprocessing.get_context("fork")  # workers share the images and the ring of batches without copies
Image.MAX_IMAGE_PIXELS = None  # the CIFAR sprites are 10 megapixels each


def read_pool(cifar: Path, fashion: Path, train: bool) -> ObjectPool:
    """The training or the test images of both data sets."""
    sprites = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
    sheets = [np.asarray(Image.open(cifar / f"{name}.png").convert("RGB")) for name in sprites]
    pixels = np.concatenate([sheet.reshape(-1, 32, 32, 3) for sheet in sheets])
    names = "train_lables.json" if train else "test_lables.json"  # the package spells it so
    labels = np.array(json.loads((cifar / names).read_text()))

    def idx(name: str, header: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((fashion / name).read_bytes()), np.uint8, offset=header)

    part = "train" if train else "t10k"
    return ObjectPool(
        pixels,
        labels,
        idx(f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28),
        idx(f"{part}-labels-idx1-ubyte.gz", 8),
    )


@dataclass(frozen=True)
class Batch:
    """Scenes of one size, their objects padded to ten."""

    images: torch.Tensor  # uint8 [B, S, S, 3]
    boxes: torch.Tensor  # float32 [B, 10, 4]
    labels: torch.Tensor  # int64 [B, 10]
    valid: torch.Tensor  # bool [B, 10]


class SceneFeed:
    """Worker processes compose whole batches into a ring of shared memory; a thread hands them out, pinned.

    Plain anonymous shared memory: a container's small /dev/shm cannot stop it. Make it before CUDA starts.
    """

    def __init__(self, pool: ObjectPool, sizes: list[int], batch: int, workers: int, scenes: int, pin: bool):
        slots = 2 * workers
        self.batch, self.pin = batch, pin
        self.ring = [mmap.mmap(-1, batch * max(sizes) ** 2 * 3) for _ in range(slots)]
        self.free, self.full = FORK.Queue(), FORK.Queue()
        for slot in range(slots):
            self.free.put(slot)
        self.ready: queue.Queue[Batch] = queue.Queue(3)
        self.processes = [
            FORK.Process(target=self._work, args=(w, pool, sizes, scenes), daemon=True) for w in range(workers)
        ]
        for process in self.processes:
            process.start()

    def start(self) -> None:
        threading.Thread(target=self._hand_out, daemon=True).start()

    def _work(self, worker: int, pool: ObjectPool, sizes: list[int], scenes: int) -> None:
        os.nice(5)  # the process that launches kernels goes first
        rng, count = np.random.default_rng([worker, 20]), worker
        while True:
            slot, size = self.free.get(), sizes[count % len(sizes)]
            count += 1
            seeds = rng.integers(scenes or 1 << 60, size=self.batch)
            images = self._images(slot, size)
            boxes = np.zeros((self.batch, MOST_OBJECTS, 4), np.float32)
            labels = np.zeros((self.batch, MOST_OBJECTS), np.int64)
            counts = np.zeros(self.batch, np.int64)
            for i, seed in enumerate(seeds):
                made = scene(int(seed), size, "train", pool)
                images[i], counts[i] = made.image, len(made.labels)
                boxes[i, : counts[i]], labels[i, : counts[i]] = made.boxes, made.labels
            self.full.put((slot, size, boxes, labels, counts))

    def _hand_out(self) -> None:
        while True:
            slot, size, boxes, labels, counts = self.full.get()
            images = torch.from_numpy(self._images(slot, size))
            images = images.pin_memory() if self.pin else images.clone()
            self.free.put(slot)
            valid = torch.arange(MOST_OBJECTS) < torch.from_numpy(counts)[:, None]
            self.ready.put(Batch(images, torch.from_numpy(boxes), torch.from_numpy(labels), valid))

    def _images(self, slot: int, size: int) -> np.ndarray:
        flat = np.frombuffer(self.ring[slot], np.uint8, self.batch * size * size * 3)
        return flat.reshape(self.batch, size, size, 3)

    def close(self) -> None:
        for process in self.processes:
            process.terminate()


_pool: ObjectPool | None = None  # of the processes that make the validation scenes; set before they fork


def _validation_scene(job: tuple[int, int, str]) -> Scene:
    return scene(*job, pool=_pool)


def validation_scenes(
    pool: ObjectPool, sizes: list[int], count: int, split: str, workers: int
) -> dict[int, list[Scene]]:
    """The same `count` seeds at every size."""
    global _pool
    _pool = pool
    with FORK.Pool(workers) as processes:
        return {
            size: processes.map(_validation_scene, [(seed, size, split) for seed in range(count)], 8) for size in sizes
        }
