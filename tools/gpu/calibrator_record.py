"""What TensorRT asks of an INT8 calibrator, call by call: on a GPU of TensorRT, elsewhere of the course's stand-in.

    python -m tools.gpu.calibrator_record record docs/results/<card>/int8/calibrator_calls.json
    python -m tools.gpu.calibrator_record record /tmp/stand_in.json              # on a machine without a GPU
    python -m tools.gpu.calibrator_record compare <the first> <the second>       # exit status 1 if they differ

Both run the same script: a small ResNet-like network, a calibrator as a learner writes one, and what people get wrong.
A record holds, for each case, the calls that the calibrator's own methods saw with their arguments, whether a plan came
out, and the scales of the cache. How often `get_batch_size` is asked, and when, is compared apart: nothing depends on it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from course import bench
from course.engine.trt import features
from course.files import atomic_write
from course.quantize import calibrate, quantize
from course.quantize.recording import tensorrt_here
from tests.quantize import quantize_zoo as zoo

BATCH, IMAGES = 8, 64
HARMLESS = ("get_batch_size",)
WORDS = ("alibrat", "scale", "cale and zero", "INT8", "Int8")
"""Lines of the log that are kept: those on calibration."""


@dataclass(frozen=True)
class Case:
    """base: class of TensorRT's. flags: of the builder. cache: makes what `read_calibration_cache` gives from a right
    one. model: of `models`. profile: "own" calibration profile, "first" (profile 0), or "none". batch_size: what the
    calibrator says. get_batch: takes the place of the right one's.
    """

    name: str
    base: str = "IInt8EntropyCalibrator2"
    flags: tuple[str, ...] = ("INT8", "FP16")
    cache: Callable[[bytes], bytes | None] = lambda right: None
    model: str = "plain"
    profile: str = "own"
    batch_size: int = BATCH
    get_batch: Callable[[Any, list[str]], list[int] | None] | None = None


def _breaks_off(self, names):
    if self.given == 3:
        raise ValueError("no more memory")
    return self.right_batch(names)


def _ends_with_an_empty_list(self, names):
    return self.right_batch(names) or []


CASES = (
    Case("entropy"),
    Case("entropy-1", base="IInt8EntropyCalibrator"),
    Case("min-max", base="IInt8MinMaxCalibrator"),
    Case("cache", cache=lambda right: right),
    Case("cache-of-another-algorithm", cache=lambda right: right.replace(b"EntropyCalibration2", b"MinMaxCalibration")),
    Case("cache-of-another-version", cache=lambda right: re.sub(rb"^TRT-\d+", b"TRT-8599", right)),
    Case("cache-that-lacks-a-tensor", cache=lambda right: re.sub(rb"block0\.add_out: \w+\n", b"", right)),
    Case("cache-that-is-none", cache=lambda right: b"something else\n"),
    Case("pairs", model="pairs"),
    Case("no-int8-flag", flags=("FP16",)),
    Case("profile-0", profile="first"),
    Case("no-profile", profile="none"),
    Case("another-batch-size", batch_size=5),
    Case("breaks-off", get_batch=_breaks_off),
    Case("no-batch", get_batch=lambda self, names: None),
    Case("ends-with-an-empty-list", get_batch=_ends_with_an_empty_list),
)


def record(path: Path) -> None:
    trt = tensorrt_here()
    x = zoo.images(IMAGES)
    plain = zoo.residual_net()
    models = {
        "plain": plain.SerializeToString(),
        "pairs": quantize(plain, calibrate(plain, x, "min-max")).SerializeToString(),
    }
    found: dict[str, dict] = {}
    right = b""
    for case in CASES:
        print(case.name, flush=True)
        found[case.name], cache = run(trt, case, models[case.model], x, right)
        right = right or cache
    stand_in = getattr(trt, "RECORDING", False)
    result = {
        "tensorrt": trt.__version__,
        "stand_in": stand_in,
        "machine": bench.machine(),
        "cases": found,
    }
    atomic_write(path, json.dumps(result, indent=1).encode())


def run(trt, case: Case, model: bytes, x: np.ndarray, right: bytes) -> tuple[dict, bytes]:
    """One build. Returns its record, and the cache that was written."""
    calls: list[dict] = []
    mine = _calibrator(trt, case, x, right, calls)
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(features.network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise RuntimeError(str(parser.get_error(0)))
    config = builder.create_builder_config()
    config.builder_optimization_level = 0
    features.set_tactic_sources(trt, config, None)
    for flag in case.flags:
        config.set_flag(getattr(trt.BuilderFlag, flag))
    config.int8_calibrator = mine
    if case.profile != "none":
        profile = builder.create_optimization_profile()
        profile.set_shape("image", (1, 3, 32, 32), (BATCH, 3, 32, 32), (2 * BATCH, 3, 32, 32))
        config.add_optimization_profile(profile)
        if case.profile == "own":
            config.set_calibration_profile(profile)
    plan = builder.build_serialized_network(network, config)
    lines = [line for line in logger.lines if any(word in line for word in WORDS) and "stand-in" not in line]
    return {
        "calls": calls,
        "plan": plan is not None,
        "scales": _scales(mine.written),
        "log": list(dict.fromkeys(lines))[:40],
    }, mine.written


def _logger(trt):
    class Logger(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity, message):
            if severity.value <= trt.ILogger.Severity.INFO.value:
                self.lines.append(f"{severity.name} {message}")

    return Logger()


def _calibrator(trt, case: Case, x: np.ndarray, right: bytes, calls: list[dict]):
    """Every method writes down that it was called, and with what."""

    class Calibrator(getattr(trt, case.base)):
        def __init__(self):
            super().__init__()
            self.given, self.held, self.written = 0, None, b""

        def get_batch_size(self):
            calls.append({"call": "get_batch_size"})
            return case.batch_size

        def get_batch(self, names):
            calls.append({"call": "get_batch", "names": list(names), "number": self.given})
            return case.get_batch(self, names) if case.get_batch else self.right_batch(names)

        def right_batch(self, names):
            part = x[self.given * BATCH : (self.given + 1) * BATCH]
            if len(part) < BATCH:
                return None
            self.given += 1
            self.held = torch.tensor(part, device="cuda" if torch.cuda.is_available() else "cpu")
            return [self.held.data_ptr()]

        def read_calibration_cache(self):
            given = case.cache(right)
            calls.append({"call": "read_calibration_cache", "gave": given is not None})
            return given

        def write_calibration_cache(self, cache):
            self.written = bytes(cache)
            header = self.written.split(b"\n", 1)[0].decode(errors="replace")
            calls.append({"call": "write_calibration_cache", "header": header, "type": type(cache).__name__})

    return Calibrator()


def _scales(cache: bytes) -> dict[str, float]:
    found = {}
    for line in cache.decode(errors="replace").splitlines()[1:]:
        name, _, digits = line.rpartition(": ")
        if re.fullmatch(r"[0-9a-f]{8}", digits):
            (found[name],) = struct.unpack(">f", bytes.fromhex(digits))
    return found


def compare(first: dict, second: dict) -> list[str]:
    """What differs, in words; notes on what may differ begin with "(note)"."""
    found = []
    for name in dict.fromkeys([*first["cases"], *second["cases"]]):
        pair = [one["cases"].get(name) for one in (first, second)]
        if None in pair:
            found.append(f"{name}: only in one of the two")
            continue
        a, b = pair
        if a["plan"] != b["plan"]:
            found.append(f"{name}: a plan came out: {a['plan']} and {b['plan']}")
        ours, theirs = ([call for call in one["calls"] if call["call"] not in HARMLESS] for one in pair)
        if ours != theirs:
            place = next((i for i, (x, y) in enumerate(zip(ours, theirs)) if x != y), min(len(ours), len(theirs)))
            shown = [calls[place] if place < len(calls) else "nothing more" for calls in (ours, theirs)]
            found.append(
                f"{name}: call {place + 1} differs: {shown[0]} and {shown[1]} ({len(ours)}, {len(theirs)} calls)"
            )
        if [call["call"] for call in a["calls"]] != [call["call"] for call in b["calls"]]:
            found.append(f"(note) {name}: get_batch_size is asked at other times")
        if set(a["scales"]) != set(b["scales"]):
            shown = sorted(set(a["scales"]) ^ set(b["scales"]))
            found.append(f"(note) {name}: {len(shown)} tensors have a scale in one only, such as {shown[:3]}")
        ratios = [
            b["scales"][key] / a["scales"][key] for key in a["scales"] if b["scales"].get(key) and a["scales"][key]
        ]
        if ratios:
            found.append(
                f"(note) {name}: scales of the second are {min(ratios):.3f} to {max(ratios):.3f} times the first's"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("json", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("first", type=Path)
    both.add_argument("second", type=Path)
    args = parser.parse_args()
    if args.command == "record":
        record(args.json)
        print(args.json, hashlib.sha256(args.json.read_bytes()).hexdigest()[:12])
        return
    lines = compare(*(json.loads(path.read_text()) for path in (args.first, args.second)))
    print("\n".join(lines) or "no difference")
    sys.exit(any(not line.startswith("(note)") for line in lines))


if __name__ == "__main__":
    main()
