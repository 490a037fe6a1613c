"""What the checks of a calibrator and of a build script share: their box, and the judge's side of a calibration.

What is believed. The script shares a process with everything in its box, so the record that comes out of it can be
forged, and so can every message. The judge believes

- the batches, as far as they are its own images bit for bit: nobody but the judge chose them, and each measurement has
  others. From them, and from nothing that the box says, the judge computes the scales, for a network of its own.
- plans, where the stand-in builds: their bytes are compared with a plan of the judge's own (`plans`), so that only a real
  build of the given network with the given profile counts. With TensorRT on a GPU a plan is only told, as its size.
- what it drew itself and finds again: the bounds of a profile, the batch size of a calibration, the bytes of a cache.

Flags, the calibration profile and the order of calls are only told. What they alone earn is little: 0.3 of the 3 points of
a build script are for the flags of its first build (tests/hostile/int8/builds.py). No other check reads the record: INT8,
accuracy and speed are measured on engines that the grader builds from the ONNX file, and no plan is ever opened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from autograder.artifacts.script import Script
from autograder.checks import builds
from autograder.checks.base import Bench, OpenHere
from autograder.rejected import Rejected
from autograder.sandbox.process import Box
from course.engine.trt import features
from course.errors import CourseError
from course.quantize import recording
from course.quantize.trt_cache import parse_cache

INSIDE = "autograder.artifacts.int8_inside"
SEES = (builds.INSIDE, "autograder/artifacts/int8_inside.py", "autograder/artifacts/int8_watch.py")
ALGORITHMS = {"EntropyCalibration2": "entropy", "EntropyCalibration": "entropy", "MinMaxCalibration": "min-max"}
MOST_OFF = 1.25
"""How many times off a scale may be when all images came: who fills up the last batch with some of them again shifts it by
a few percent."""
MOST_OFF_TENSORRT = 1.5
"""The same for scales of TensorRT's own, whose histograms are others than ours: on an H200 its min-max scales were ours to
the last digit, and its entropy scales of 22 tensors lay within 0.96 to 1.21 times ours
(docs/results/h200/int8/calibrator_calls.json). A cache that the script made up is what it guards against.
"""
LEGACY = "EntropyCalibration"
"""It calibrates when layers have been fused: a tensor inside a fusion has no scale."""


def random(at: Bench, purpose: str) -> np.random.Generator:
    """Numbers of this learner and purpose: other ones for each student, the same for the same one."""
    image = at.draw(purpose, 1).x
    return np.random.default_rng(int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:16], "big"))


def open_box(at: Bench) -> Box:
    """A box with the judged script, which sees the other scripts of the milestone; `tensorrt` is ready in it.

    Raises:
        Rejected: the script cannot be loaded.
        OpenHere: neither TensorRT with calibrators nor the stand-in works on this machine.
    """
    if reason := _nothing_to_try_it_with(at.lane):
        raise OpenHere(reason)
    others = [
        str(taken.path.parent)
        for path, taken in at.taken.items()
        if path != at.path and isinstance(at.artifacts[path], Script)
    ]
    stand_in, real = builds.stand_in(at), at.lane == "gpu"
    box = at.box(sees=(*SEES, *others, stand_in), inside=INSIDE)
    head, _ = box.ask("start", stand_in=stand_in, others=others, real=real, seconds=at.limits_s["run"])
    if real and head.get("stand_in"):
        at.notes[
            "TensorRT has no calibrators here: scripts were tried with a stand-in for TensorRT 8.6, as on a CPU."
        ] = None
    return box


def _nothing_to_try_it_with(lane: str) -> str:
    """Why no script can be tried here; "" if one can."""
    reason = builds.why_no_stand_in()
    if reason and lane == "gpu":
        import tensorrt

        if features.takes_calibrator(tensorrt):
            return ""
    return reason


@dataclass
class Calibration:
    """The judge's side: what came back, and which scales come of it. An instance answers a box (`Box.ask`, on_call).

    network: ONNX that is calibrated. images: float32 [N, ...], the judge's. batch: rows in a batch of it.

    After a build: algorithm, as the calibrator's class says; rows: for each row that came the number of the judge's image
    that it is, -1 for none; cache: what was answered.
    """

    network: bytes
    images: np.ndarray
    batch: int
    algorithm: str = ""
    rows: list[int] = field(default_factory=list)
    batches: list[np.ndarray] = field(default_factory=list)
    cache: bytes = b""

    def __call__(self, head: dict, arrays: list[np.ndarray]) -> tuple[dict, list[np.ndarray]]:
        """Take batches, and answer with a cache ("scales"), or with nothing ("batches").

        Raises:
            Rejected: they are no batches of this network, or no known algorithm's.
        """
        wanted = (self.batch, *self.images.shape[1:])
        if not arrays or any(array.dtype != np.float32 or array.shape != wanted for array in arrays):
            raise Rejected(
                "The calibrator's batches have another shape.",
                f"A batch is float32 {list(wanted)}; {len(arrays)} came, such as {_shown(arrays)}.",
                "TensorRT reads batches of the shape that set_calibration_profile got: as many images as get_batch_size says.",
            )
        self.algorithm = str(head.get("algorithm"))[:40]
        if self.algorithm not in ALGORITHMS:
            raise Rejected(
                f"The calibrator's algorithm is {self.algorithm!r}.",
                "Entropy and min-max are compared here.",
                "Derive it from IInt8EntropyCalibrator2 or IInt8MinMaxCalibrator.",
            )
        known = {row.tobytes(): number for number, row in enumerate(self.images)}
        self.rows = [known.get(row.tobytes(), -1) for array in arrays for row in array]
        self.batches = arrays
        if head["call"] != "scales":
            return {}, []
        self.cache = self._scales(arrays)
        return {}, [np.frombuffer(self.cache, np.uint8)]

    @property
    def whole(self) -> int:
        """Images that fill whole batches: a rest may be left out, as TensorRT reads whole batches only."""
        return len(self.images) // self.batch * self.batch

    @property
    def missing(self) -> int:
        """How many of those never came."""
        return max(0, self.whole - len(set(self.rows) - {-1}))

    def problem(self) -> str:
        """What is wrong with the rows; "" if nothing is."""
        if not self.rows:
            return "No batch of the grader's images came."
        if foreign := self.rows.count(-1):
            last = "" if -1 in self.rows[: self.whole] else " The last images do not fill a batch: leave them out."
            return f"{foreign} of {len(self.rows)} rows that TensorRT would read are not the grader's images.{last}"
        if self.missing:
            return (
                f"{self.missing} of {self.whole} images never came, {len(self.rows) - len(set(self.rows))} came again."
            )
        if len(self.rows) >= 2 * len(self.images):
            return f"The {len(self.images)} images came more than once, as {len(self.rows)} rows."
        return ""

    def off(self, cache: bytes = b"") -> float:
        """How far the worst scale is from that of the judge's images, by the same method: 1 is none, 2 twice or half.

        cache: with scales of TensorRT's own; ours, of what came, if left out. A tensor without a scale is infinitely off.
        """
        expected = _read(self._scales([self.images[: self.whole]]))
        found = _read(cache or self._scales(self.batches))
        if self.algorithm == LEGACY and 2 * len(found.keys() & expected) >= len(expected):
            expected = {name: scale for name, scale in expected.items() if name in found}
        return max((_ratio(found.get(name, 0), scale) for name, scale in expected.items()), default=float("inf"))

    def most_off(self, cache: bytes = b"") -> float:
        """What `off` may be."""
        return MOST_OFF_TENSORRT if cache and cache != self.cache else MOST_OFF

    def _scales(self, arrays: Sequence[np.ndarray]) -> bytes:
        if len({array.tobytes() for array in arrays}) == 1:  # the same one again and again changes no scale
            arrays = arrays[:1]
        try:
            return recording.calibrate(self.network, [{"image": array} for array in arrays], self.algorithm)
        except CourseError as error:
            raise Rejected(
                "The batches cannot be calibrated with.", error.what + " " + error.cause, "Look at them."
            ) from None


def _read(cache: bytes) -> dict[str, float]:
    """Scales by tensor; none from what is no cache."""
    try:
        return dict(parse_cache(cache.decode()).scales)
    except (CourseError, UnicodeDecodeError):
        return {}


def _ratio(a: float, b: float) -> float:
    return max(a / b, b / a) if min(a, b) > 0 else float("inf")


def problems(answer: Mapping) -> str:
    """What went wrong inside a calibrator, in the box's words."""
    words = [str(event.get("words", ""))[:300] for event in builds.events(answer, "problem")]
    return " ".join(dict.fromkeys(words[:2]))


def _shown(arrays: Sequence[np.ndarray]) -> str:
    return f"{arrays[0].dtype} {list(arrays[0].shape)}" if arrays else "none"
