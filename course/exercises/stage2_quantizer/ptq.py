"""Lesson 02, PTQ on TensorRT: the learner's calibrators and settings are used in builds of a small network."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx

from course.data import cifar10, preprocess
from course.exercises import Wrong, exercise, reference
from course.exercises.stage2_quantizer._graphs import block
from course.files import atomic_write
from course.paths import RESULTS
from course.quantize import (
    Network,
    calibration_from,
    file_rows,
    quantize,
    read_cache,
    tensorrt_here,
    watched,
)
from course.quantize.pairs import strip
from course.quantize.trt_cache import Cache, parse_cache

BASE = "IInt8EntropyCalibrator2"
ROWS, BATCH = 21, 4
"""Rows of the check's data: five whole batches, and one row that fills none."""
WHOLE = ROWS // BATCH
BATCHES = (1, 8, 32)
"""Batch sizes of the engine; the calibrator's own is another one."""
MOST_OFF = 0.01
"""Part by which a scale may differ from the reference's: one that has the same data differs by nothing."""
PLAIN, SIZE, TEST = "artifacts/resnet50.onnx", 112, slice(100, 148)
"""The lesson's float model, its images' side, and the public images that the check of the last exercise takes."""
CACHE = RESULTS / "h200" / "int8" / "implicit_b64.calibration"
"""What TensorRT 8.6.0 wrote on an H200, from 256 images."""


# ---------------------------------------------------------------- builds of a small network


def _trt():
    return tensorrt_here(tell=False, needs=BASE)


@functools.cache
def _network(seed: int = 0) -> bytes:
    return block(seed).SerializeToString()


@functools.cache
def _rows(factor: float = 1.0) -> np.ndarray:
    rows = factor * np.random.default_rng(3).standard_normal((ROWS, 16, 6, 6)).astype(np.float32)
    rows.setflags(write=False)
    return rows


class _Spy:
    """A builder that remembers the optimisation profiles that it made."""

    def __init__(self, builder):
        self._builder, self.profiles = builder, []

    def __getattr__(self, name: str):
        return getattr(self._builder, name)

    def create_optimization_profile(self):
        self.profiles.append(self._builder.create_optimization_profile())
        return self.profiles[-1]


def _parsed(trt, model: bytes):
    """Builder, network, and what must stay alive meanwhile."""
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flags = 0
    if hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH"):
        flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise RuntimeError(str(parser.get_error(0)))
    return builder, network, (parser, logger)


def _build(trt, calibrator, model: bytes | None = None) -> str:
    """Build with a calibrator as the course does. Returns what the stand-in noticed; "" on TensorRT itself."""
    if hasattr(trt, "recording"):
        trt.recording.clear()
    builder, network, held = _parsed(trt, model or _network())
    config = configured(builder, network, calibrator, BATCHES)
    builder.build_serialized_network(network, config)
    del held
    return _noticed(trt)


def _noticed(trt) -> str:
    if not hasattr(trt, "recording"):
        return ""
    return " ".join(event["words"] for event in trt.recording.calls("problem"))


def _batches_of(calibrator) -> int:
    """How many batches TensorRT got."""
    return sum(call == ("get_batch", True) for call in calibrator.calls)


def _require_calibrator(kind: object, trt, name: str) -> None:
    if not isinstance(kind, type) or not issubclass(kind, trt.IInt8Calibrator):
        raise Wrong(
            f"{name} is no calibrator of TensorRT.",
            "int8_calibrator takes objects of a class that derives from one of TensorRT's four.",
            f"class {name}(trt.{BASE}):",
        )


def _made(kind: type, *arguments):
    """A watched object of the learner's class."""
    try:
        return watched(kind)(*arguments)
    except TypeError as error:
        if "__init__" not in str(error) or "overriding" not in str(error):
            raise
        raise Wrong(
            "The calibrator cannot be made.",
            f"TensorRT's own part of it was never set up: {error}",
            "Begin __init__ with super().__init__().",
        ) from None


@functools.cache
def _right_scales(base: str, factor: float = 1.0) -> Cache:
    """Scales of the check's rows, found by the same TensorRT with a right calibrator."""
    trt = _trt()
    kind = calibrator_class(trt, base)
    with tempfile.TemporaryDirectory() as folder:
        right = watched(kind)(_rows(factor), BATCH, f"{folder}/right.cache")
        _build(trt, right)
    return parse_cache(right.written.decode())


def _require_scales(calibrator, trt, factor: float = 1.0) -> None:
    base = "IInt8MinMaxCalibrator" if isinstance(calibrator, trt.IInt8MinMaxCalibrator) else BASE
    wanted, found = _right_scales(base, factor).scales, parse_cache(calibrator.written.decode()).scales
    off = {tensor: abs(found.get(tensor, 0) / scale - 1) for tensor, scale in wanted.items()}
    worst = max(off, key=off.__getitem__)
    if off[worst] > MOST_OFF:
        raise Wrong(
            f"TensorRT's scales are not those of the images: {worst} is off by {100 * off[worst]:.0f} %.",
            "It read other numbers at your addresses: another dtype, another order of the axes, or other rows.",
            "Hand over contiguous float32 [N, C, H, W], in the order in which the images come.",
        )


# ---------------------------------------------------------------- 1: the calibrator


def calibrator_class(trt, base: str = BASE) -> type:
    """The lesson's own answer."""
    import torch

    device = "cpu" if hasattr(trt, "recording") else "cuda"

    class Calibrator(getattr(trt, base)):
        def __init__(self, images, batch_size, cache):
            super().__init__()
            self.images, self.batch_size, self.cache = images, batch_size, Path(cache)
            self.place, self.held = 0, None

        def get_batch_size(self):
            return self.batch_size

        def get_batch(self, names):
            batch = self.images[self.place : self.place + self.batch_size]
            if len(batch) < self.batch_size:
                return None
            self.place += self.batch_size
            self.held = torch.tensor(batch, device=device)
            return [self.held.data_ptr()]

        def read_calibration_cache(self):
            return self.cache.read_bytes() if self.cache.is_file() else None

        def write_calibration_cache(self, cache):
            atomic_write(self.cache, bytes(cache))

    return Calibrator


@exercise(
    "ptq-calibrator",
    points=4,
    hints=(
        "TensorRT asks: how large is a batch? is there a cache? the next batch, please (until there is none); here are the "
        "scales, keep them. Each method answers one question.",
        "get_batch: take the next rows; fewer than a batch means the end, so return None. Copy them to the device with "
        "torch.tensor(rows, device=device), keep the tensor in self, return a list with its data_ptr(). The cache is a file "
        "of bytes.",
        "batch = self.images[self.place : self.place + self.batch_size]; if len(batch) < self.batch_size: return None; "
        "self.place += self.batch_size; self.held = torch.tensor(batch, device=device); return [self.held.data_ptr()]",
    ),
)
def calibrator(Calibrator: type):
    """Used in two builds: with an empty folder, and with what the first one left there."""
    trt = _trt()
    _require_calibrator(Calibrator, trt, "Calibrator")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "my.cache"
        first = _made(Calibrator, _rows(), BATCH, str(path))
        noticed = _build(trt, first)
        _judge_first(first, noticed, trt)
        if not path.is_file() or path.read_bytes() != first.written:
            raise Wrong(
                "The scales are right, but they are not in the cache file.",
                "TensorRT hands them to write_calibration_cache once, and keeps nothing itself.",
                "Write bytes(cache) into the file self.cache.",
                share=0.5,
            )
        second = _made(Calibrator, _rows(), BATCH, str(path))
        _build(trt, second)
        if _batches_of(second) or ("read_calibration_cache", True) not in second.calls:
            raise Wrong(
                "The second build read all images again, though the cache was there.",
                "TensorRT asks read_calibration_cache first, and got nothing.",
                "Return the file's bytes if it is there.",
                share=0.75,
            )
    return f"{WHOLE} batches of {BATCH} in the first build, none in the second: it used the cache."


def _judge_first(found, noticed: str, trt) -> None:
    for method, given in found.calls:
        if isinstance(given, NotImplementedError):
            raise given
        if isinstance(given, Exception):
            raise Wrong(
                f"{method}() raised {type(given).__name__}: {given}",
                "TensorRT prints errors of its callbacks and goes on as if there were no more data, or no cache.",
                "Call the method yourself to see the whole traceback.",
            )
    if "freed" in noticed:
        raise Wrong(
            "A batch was gone when TensorRT read it.",
            "TensorRT reads the memory after get_batch has returned its address; nothing held the tensor any more.",
            "Keep the tensor in self until the next call.",
        )
    if ("read_calibration_cache", True) in found.calls:
        raise Wrong(
            "read_calibration_cache() gave a cache though there was no file.",
            "TensorRT takes whatever it gets, even scales of another network.",
            "Return None if the file is not there.",
        )
    count = _batches_of(found)
    if count == 0:
        raise Wrong(
            "TensorRT got no batch.",
            noticed or "The first call of get_batch already returned None or an empty list.",
            "Return [address of the batch], an int for each input.",
        )
    if "does not end" in noticed:
        raise Wrong(
            "The data does not end.",
            "get_batch gave the same batch again and again; TensorRT would ask for ever.",
            "Move on by a batch in each call, and return None behind the last one.",
        )
    if count > WHOLE:
        raise Wrong(
            f"TensorRT got {count} batches; {ROWS} rows fill {WHOLE} of {BATCH}.",
            "It reads whole batches, however many rows you gave: behind a short one it reads foreign memory.",
            "Return None when fewer rows than a batch are left.",
        )
    if count < WHOLE:
        raise Wrong(
            f"TensorRT got {count} batches; {ROWS} rows fill {WHOLE} of {BATCH}.",
            noticed or "The data ended too early, or rows were skipped.",
            "Compare the place where a batch starts with the number of rows.",
        )
    if noticed or not found.written:
        raise Wrong("No scales came out of the build.", noticed or "TensorRT's log says why.", "Read its log.")
    _require_scales(found, trt)


@reference("ptq-calibrator")
def _reference_calibrator():
    return calibrator_class(_trt())


# ---------------------------------------------------------------- 2: the build's settings


def configured(builder, network, calibrator, batches):
    """The lesson's own answer."""
    trt = _trt_of_builds()
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    image = network.get_input(0)
    name, sample = image.name, tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(name, *((size, *sample) for size in batches))
    config.add_optimization_profile(profile)
    usual = (calibrator.get_batch_size(), *sample)
    calibration = builder.create_optimization_profile()
    calibration.set_shape(name, usual, usual, usual)
    config.set_calibration_profile(calibration)
    config.int8_calibrator = calibrator
    return config


def _trt_of_builds():
    """The module that is in use, without forgetting what it recorded."""
    import tensorrt

    return tensorrt


@exercise(
    "ptq-configure",
    points=3,
    hints=(
        "Five things: two flags, the engine's profile, the calibration's profile, the calibrator.",
        "A profile comes from builder.create_optimization_profile() and takes set_shape(name, min, opt, max). The engine's goes "
        "to config.add_optimization_profile, the calibration's to config.set_calibration_profile; its batch is "
        "calibrator.get_batch_size().",
        "usual = (calibrator.get_batch_size(), *sample); calibration.set_shape(name, usual, usual, usual); "
        "config.set_calibration_profile(calibration); config.int8_calibrator = calibrator; flags: trt.BuilderFlag.INT8 and "
        "FP16.",
    ),
)
def configure(configure: Callable):
    """What it set is read back from TensorRT's own objects; then the network is built."""
    trt = _trt()
    with tempfile.TemporaryDirectory() as folder:
        calibrator = watched(calibrator_class(trt))(_rows(), BATCH, f"{folder}/cache")
        builder, network, held = _parsed(trt, _network())
        spy = _Spy(builder)
        config = configure(spy, network, calibrator, BATCHES)
        _judge_config(trt, config, spy)
        plan = builder.build_serialized_network(network, config)
        del held
    if plan is None or _batches_of(calibrator) != WHOLE:
        raise Wrong(
            "The build gave no engine." if plan is None else f"{_batches_of(calibrator)} of {WHOLE} batches were read.",
            _noticed(trt) or "TensorRT's log says why.",
            "Read the log.",
        )
    if not config.get_flag(trt.BuilderFlag.FP16):
        raise Wrong(
            "It builds, but FP16 is not allowed.",
            "What is not INT8 then runs in FP32: such an engine can be slower than one in FP16.",
            "config.set_flag(trt.BuilderFlag.FP16), too.",
            share=0.67,
        )
    return f"INT8 and FP16, engine for batches {BATCHES}, calibrated in {WHOLE} batches of {BATCH}."


def _judge_config(trt, config, spy: _Spy) -> None:
    if not hasattr(config, "int8_calibrator"):
        raise Wrong(
            f"configure() returned {type(config).__name__}.",
            "A builder config was asked for.",
            "End with `return config`.",
        )
    if not config.get_flag(trt.BuilderFlag.INT8):
        raise Wrong(
            "The flag INT8 is not set.",
            "TensorRT ignores a calibrator then, and says so only in its log.",
            "config.set_flag(trt.BuilderFlag.INT8)",
        )
    if config.int8_calibrator is None:
        raise Wrong("The calibrator is not attached.", "INT8 needs scales.", "config.int8_calibrator = calibrator")
    shapes = [[tuple(shape)[0] for shape in profile.get_shape("image")] for profile in spy.profiles]
    if config.num_optimization_profiles == 0 or list(BATCHES) not in shapes:
        raise Wrong(
            f"The engine has no profile for batches {BATCHES}.",
            f"Profiles that were made: {shapes or 'none'}.",
            "profile.set_shape(name, min, opt, max), then config.add_optimization_profile(profile).",
        )
    calibration = config.get_calibration_profile()
    opt = BATCHES[1] if calibration is None else tuple(calibration.get_shape("image")[1])[0]
    if opt != BATCH:
        raise Wrong(
            f"TensorRT calibrates with batches of {opt}; the calibrator hands over {BATCH}.",
            "Without a calibration profile it takes the optimal shape of profile 0, and reads that many rows."
            if calibration is None
            else "It reads as many rows as the calibration profile's optimal shape says.",
            "Make a second profile with calibrator.get_batch_size() and give it to config.set_calibration_profile.",
            share=0.33,
        )
    if config.num_optimization_profiles > 1:
        raise Wrong(
            f"The engine has {config.num_optimization_profiles} profiles.",
            "add_optimization_profile puts a profile into the engine; the calibration's is not for running.",
            "Give the calibration's profile to set_calibration_profile only.",
            share=0.67,
        )


@reference("ptq-configure")
def _reference_configure():
    return configured


# ---------------------------------------------------------------- 3: no stale cache


def careful_class(trt, calibrator: type | None = None) -> type:
    """The lesson's own answer."""

    class CarefulCalibrator(calibrator or calibrator_class(trt)):
        def __init__(self, model, images, batch_size, cache):
            super().__init__(images, batch_size, cache)
            self.file, self.origin = Path(cache), Path(f"{cache}.from")
            self.mark = hashlib.sha256(model + np.ascontiguousarray(images).tobytes()).hexdigest()

        def read_calibration_cache(self):
            known = self.origin.is_file() and self.origin.read_text() == self.mark
            return self.file.read_bytes() if known and self.file.is_file() else None

        def write_calibration_cache(self, cache):
            atomic_write(self.file, bytes(cache))
            atomic_write(self.origin, self.mark.encode())

    return CarefulCalibrator


@exercise(
    "ptq-careful",
    points=3,
    hints=(
        "What decides the scales? Whoever reads the cache must be able to tell whether those were the same.",
        "Make a fingerprint of the model's bytes and the images' bytes (hashlib.sha256), write it into a second file beside "
        "the cache, and compare it before the cache is handed over.",
        "self.mark = hashlib.sha256(model + images.tobytes()).hexdigest(); read_calibration_cache returns the bytes only if "
        "the file cache + '.from' holds self.mark; write_calibration_cache writes both files.",
    ),
)
def careful(CarefulCalibrator: type):
    """Five builds in one folder: the first, the same again, other images, another model, and a cache of unknown origin."""
    trt = _trt()
    _require_calibrator(CarefulCalibrator, trt, "CarefulCalibrator")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/my.cache"

        def build(model: bytes = _network(), rows: np.ndarray = _rows(), cache: str = path):
            made = _made(CarefulCalibrator, model, rows, BATCH, cache)
            noticed = _build(trt, made, model)
            return made, noticed

        first, noticed = build()
        _judge_first(first, noticed, trt)
        if _batches_of(build()[0]):
            raise Wrong(
                "A second build with the same model and images calibrates again.",
                "Never to use a cache is safe, and costs minutes in every build.",
                "Compare a fingerprint that is the same in both builds.",
            )
        if not _batches_of(build(rows=_rows(3.0))[0]):
            raise Wrong(
                "With other images, the old cache was used.",
                "Its scales are not theirs, and TensorRT cannot know.",
                "The fingerprint must hold the images' values, not only their shape or the file's name.",
                share=0.33,
            )
        if not _batches_of(build(_network(1), _rows(3.0))[0]):
            raise Wrong(
                "With another model, the old cache was used.",
                "Both networks have the same tensor names, so every scale was found, and is wrong.",
                "Put the model's bytes into the fingerprint, too.",
                share=0.67,
            )
        strange = Path(folder) / "strange.cache"
        strange.write_bytes(first.written)
        if not _batches_of(build(cache=str(strange))[0]):
            raise Wrong(
                "A cache that says nothing of its origin was used.",
                "An older calibrator left it, or a colleague copied it there.",
                "No fingerprint beside it means: calibrate.",
                share=0.67,
            )
    return "The same model and images: cache. Anything else: calibrated anew."


@reference("ptq-careful")
def _reference_careful():
    return careful_class(_trt())


# ---------------------------------------------------------------- 4: from a cache to pairs


@functools.cache
def _recorded() -> Mapping[str, float]:
    """Scales of the cache that TensorRT wrote."""
    return calibration_from(read_cache(CACHE)).scales


@exercise(
    "ptq-pairs",
    points=3,
    hints=(
        "A line is `tensor: digits`. Which type has eight hexadecimal digits, and in which order do its bytes stand?",
        "digits are the bytes of a big-endian float32: struct.unpack('>f', bytes.fromhex(digits)). The first line is no "
        "tensor, and a tensor's name may hold a colon: line.rpartition(': ').",
        "for line in text.splitlines()[1:]: tensor, _, digits = line.rpartition(': '); (scales[tensor],) = "
        "struct.unpack('>f', bytes.fromhex(digits)); then int8 = quantize(plain, scales)",
    ),
)
def pairs(int8: onnx.ModelProto):
    """The pairs' scales are compared with the cache, and the model is run on images that the lesson did not show."""
    if not isinstance(int8, onnx.ModelProto):
        raise Wrong(f"`int8` is {type(int8).__name__}.", "A model was asked for.", "int8 = quantize(plain, scales)")
    stripped = strip(Network(int8))
    net = stripped.net
    convs = [index for index, node in enumerate(net.nodes) if node.op_type == "Conv"]
    paired = {(edge.index, edge.slot) for edge in stripped.pairs}
    if missing := [net.name(index) for index in convs if not {(index, 0), (index, 1)} <= paired]:
        raise Wrong(
            f"{len(missing)} of {len(convs)} convolutions have no pairs at input and weights, such as {missing[0]}.",
            "Without pairs, TensorRT 11 runs them in the precision of the file.",
            "quantize(plain, scales) writes them all.",
        )
    ratios = {
        pair.tensor: float(pair.scale) / _recorded()[pair.tensor]
        for standing in stripped.pairs.values()
        for pair in standing
        if pair.tensor in _recorded() and not pair.per_channel
    }
    model, images = onnx.load(PLAIN), preprocess.classifier(cifar10.images("public").pixels[TEST], SIZE)
    labels = cifar10.images("public").labels[TEST]
    _, row = file_rows({"float": model, "yours": int8}, images, labels)
    told = f"{100 * row.top1:.0f} % of {len(labels)} new images right, logits {row.sqnr_db:.1f} dB"
    off = {tensor: ratio for tensor, ratio in ratios.items() if abs(ratio - 1) > MOST_OFF}
    if off:
        tensor = max(off, key=lambda name: abs(np.log(abs(off[name]) or 1e-30)))
        middle = float(np.median(list(ratios.values())))
        cause = "They come from elsewhere, such as from a cache of your own images."
        if 126 < middle < 128 or 126 < 1 / middle < 128:
            cause = "A cache holds scales: the largest magnitude divided by 127 already."
        elif max(off.values()) > 1e6 or min(off.values()) < 1e-6:
            cause = "The digits are the bytes of a big-endian float32; read otherwise they give such numbers."
        raise Wrong(
            f"{len(off)} of {len(ratios)} scales are not the cache's; {tensor}'s is {off[tensor]:.3g} times as large. "
            f"Measured: {told}.",
            cause,
            "struct.unpack('>f', bytes.fromhex(digits)) for each line of the file.",
        )
    return f"{len(ratios)} pairs with TensorRT's own scales. Measured: {told}."


@reference("ptq-pairs")
def _reference_pairs():
    return quantize(PLAIN, _recorded())
