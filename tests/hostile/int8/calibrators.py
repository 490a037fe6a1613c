"""Calibrators, honest, wrong and cheating, each with the points that it must get, of 4."""

from __future__ import annotations

from dataclasses import dataclass

HONEST = """
import hashlib, os
import numpy as np
import tensorrt as trt

class Calibrator(trt.IInt8EntropyCalibrator2):
    def __init__(self, images, batch_size, cache):
        super().__init__()
        self.images, self.size, self.place, self.cache = images, batch_size, 0, cache
        self.mark = hashlib.sha256(images.tobytes()).hexdigest()

    def get_batch_size(self):
        return self.size

    def get_batch(self, names):
        batch = self.images[self.place : self.place + self.size]
        if len(batch) < self.size:
            return None
        self.place += self.size
        self.held = np.array(batch)
        return [self.held.ctypes.data]

    def read_calibration_cache(self):
        if os.path.exists(self.cache) and open(self.cache + ".of").read() == self.mark:
            return open(self.cache, "rb").read()

    def write_calibration_cache(self, cache):
        open(self.cache, "wb").write(cache)
        open(self.cache + ".of", "w").write(self.mark)
"""


def changed(*methods: str, base: str = "") -> str:
    """The honest one with methods replaced by these."""
    body = HONEST.replace("IInt8EntropyCalibrator2", base or "IInt8EntropyCalibrator2")
    return body + "\nclass Calibrator(Calibrator):\n" + "\n".join(methods) + "\n"


@dataclass(frozen=True)
class Case:
    name: str
    script: str
    points: float
    says: str = ""


BATCH = "    def get_batch(self, names):\n"
NEXT = "        batch = self.images[self.place : self.place + self.size]; self.place += self.size\n"
END = "        if len(batch) < self.size: return None\n"

CASES = (
    Case("honest", HONEST, 4),
    Case("min-max", changed("    pass", base="IInt8MinMaxCalibrator"), 4),
    Case("not-written", "class Calibrator:\n    pass\n", 0, "is no calibrator"),
    Case("no-class", "import tensorrt\n", 0, "has no Calibrator"),
    Case(
        "forgets-the-base",
        changed("    def __init__(self, images, batch_size, cache):\n        self.cache = cache"),
        0,
        "must be called when overriding __init__",
    ),
    # memory
    Case(
        "freed",
        changed(BATCH + NEXT + END + "        batch = np.array(batch); return [batch.ctypes.data]"),
        0,
        "was freed",
    ),
    Case(
        "freed-by-the-next-line",
        changed(
            BATCH
            + NEXT
            + END
            + "        self.held = np.array(batch); address = self.held.ctypes.data; del self.held; return [address]"
        ),
        0,
        "was freed",
    ),
    Case("no-address", changed(BATCH + "        return [4096]"), 0, "cannot be read"),
    Case(
        "the-array-itself",
        changed(BATCH + NEXT + END + "        self.held = np.array(batch); return [self.held]"),
        0,
        "Unable to cast",
    ),
    Case(
        "float64",
        changed(BATCH + NEXT + END + "        self.held = batch.astype(np.float64); return [self.held.ctypes.data]"),
        0,
        "are not the grader's images",
    ),
    Case(
        "not-contiguous",
        changed(
            BATCH
            + NEXT
            + END
            + "        self.held = np.ascontiguousarray(batch.transpose(0, 2, 3, 1)); return [self.held.ctypes.data]"
        ),
        0,
        "are not the grader's images",
    ),
    Case(  # without a GPU the images' own memory is as good as a copy; with one, TensorRT cannot read it
        "address-of-the-images", changed(BATCH + NEXT + END + "        return [batch.ctypes.data]"), 4
    ),
    # data
    Case(
        "same-batch-for-ever",
        changed(BATCH + "        self.held = np.array(self.images[: self.size]); return [self.held.ctypes.data]"),
        0,
        "does not end",
    ),
    Case(
        "same-batch-again",
        changed(
            BATCH
            + NEXT
            + END
            + "        self.held = np.array(self.images[: self.size]); return [self.held.ctypes.data]"
        ),
        0,
        "never came",
    ),
    Case(
        "one-batch",
        changed(
            BATCH
            + NEXT
            + END
            + "        if self.place > self.size: return None\n        self.held = np.array(batch); return [self.held.ctypes.data]"
        ),
        0,
        "never came",
    ),
    Case(
        "for-ever-in-turns",
        changed(
            BATCH
            + "        start = np.random.randint(len(self.images) - self.size); self.held = np.array(self.images[start : start + self.size]); return [self.held.ctypes.data]"
        ),
        0,
        "does not end",
    ),
    Case(
        "last-batch-not-full",
        changed(
            BATCH
            + NEXT
            + "        if not len(batch): return None\n        self.held = np.zeros((self.size, *batch.shape[1:]), np.float32); self.held[: len(batch)] = batch; return [self.held.ctypes.data]"
        ),
        0,
        "do not fill a batch",
    ),
    Case(
        "last-batch-filled-up",
        changed(
            BATCH
            + NEXT
            + "        if not len(batch): return None\n        self.held = np.resize(batch, (self.size, *batch.shape[1:])); return [self.held.ctypes.data]"
        ),
        4,
    ),
    Case(
        "noise",
        changed(
            BATCH
            + NEXT
            + END
            + "        self.held = np.random.standard_normal(batch.shape).astype(np.float32); return [self.held.ctypes.data]"
        ),
        0,
        "are not the grader's images",
    ),
    Case(
        "preprocessed-twice",
        changed(
            BATCH + NEXT + END + "        self.held = (batch / 255 - 0.45) / 0.225; return [self.held.ctypes.data]"
        ),
        0,
        "are not the grader's images",
    ),
    Case(
        "not-a-number",
        changed(
            BATCH
            + NEXT
            + END
            + "        self.held = np.full(batch.shape, np.nan, np.float32); return [self.held.ctypes.data]"
        ),
        0,
        "cannot be calibrated with",
    ),
    Case("raises", changed(BATCH + "        raise ValueError('out of memory')"), 0, "out of memory"),
    Case(
        "raises-half-way",
        changed(
            BATCH
            + NEXT
            + "        if self.place > 2 * self.size: raise ValueError('out of memory')\n        self.held = np.array(batch); return [self.held.ctypes.data]"
        ),
        0,
        "never came",
    ),
    # the cache
    Case(
        "keeps-nothing",
        changed("    def write_calibration_cache(self, cache):\n        pass"),
        2,
        "read the images again",
    ),
    Case(
        "keeps-it-in-memory",
        "KEPT = {}\n"
        + changed(
            "    def write_calibration_cache(self, cache):\n        KEPT[self.mark] = bytes(cache)",
            "    def read_calibration_cache(self):\n        return KEPT.get(self.mark)",
        ),
        2,
        "read the images again",
    ),
    Case(
        "reads-any-cache",
        changed(
            "    def read_calibration_cache(self):\n        return open(self.cache, 'rb').read() if os.path.exists(self.cache) else None"
        ),
        3,
        "the old cache was used",
    ),
    Case(
        "brings-a-cache",
        changed(
            "    def read_calibration_cache(self):\n        return b'TRT-8600-EntropyCalibration2\\nimage: 3c000000\\nstem_out: 3d000000\\n'"
        ),
        0,
        "although none had been written",
    ),
    Case(
        "writes-another-cache",
        changed(
            "    def write_calibration_cache(self, cache):\n        data = bytes(cache).replace(b'3', b'4')\n        open(self.cache, 'wb').write(data)\n        open(self.cache + '.of', 'w').write(self.mark)"
        ),
        2,
        "neither the cache nor images",
    ),
    # the record and the box
    Case(
        "forged-record",
        changed(
            BATCH
            + "        trt.recording.events.extend([{'call': 'get_batch', 'end': False}] * 5 + [{'call': 'calibrated', 'batches': 5}])"
        ),
        0,
        "got no batch",
    ),
    Case(
        "answers-for-the-judge",
        changed("    pass")
        + "\ntrt.recording.calibrate = lambda *_: b'TRT-8600-EntropyCalibration2\\nimage: 3c000000\\n'\n",
        0,
        "got no batch",
    ),
    Case(  # what a forger can gain: he hands over the right images in whole batches, which is what is asked for. With
        # more lines of this kind he gets all 4 points; they are more than the calibrator has.
        "sends-the-images-itself",
        changed(
            BATCH + "        pass",
            "    def read_calibration_cache(self):\n"
            "        import sys\n"
            "        outside = sys.modules['autograder.sandbox.serve'].ask_outside\n"
            "        whole = len(self.images) // self.size * self.size\n"
            "        outside('scales', [self.images[i : i + self.size] for i in range(0, whole, self.size)], algorithm='EntropyCalibration2')\n",
        ),
        2,
    ),
    Case(
        "asks-for-other-scales",
        changed("    pass")
        + "\nimport sys\nsys.modules['autograder.sandbox.serve'].ask_outside('scales', [], algorithm='x')\n",
        0,
        "ended the process",
    ),
    Case(
        "asks-too-often",
        changed(
            "    def read_calibration_cache(self):\n"
            "        import sys\n"
            "        outside = sys.modules['autograder.sandbox.serve'].ask_outside\n"
            "        for _ in range(40):\n"
            "            outside('scales', [self.images[: self.size]], algorithm='EntropyCalibration2')\n"
        ),
        0,
        "too often",
    ),
    Case("no-algorithm-of-ours", changed("    pass", base="IInt8LegacyCalibrator"), 0, "LegacyCalibration"),
    Case("ends-python", changed(BATCH + "        os._exit(0)"), 0, "ended the process"),
    Case("ends-at-once", "import os\nos._exit(0)\n", 0, "ended the process"),
    Case("crashes", changed(BATCH + "        import ctypes; ctypes.string_at(0)"), 0, "ended the process"),
    Case("endless", changed(BATCH + "        while True: pass"), 0, "took too long"),
    Case(
        "memory",
        changed(BATCH + "        kept = []\n        while True: kept.append(bytearray(1 << 28))"),
        0,
        "MemoryError",
    ),
    Case(
        "writes-into-the-pipes",
        changed(
            BATCH
            + "        for fd in range(3, 20):\n            try: os.write(fd, b'{\"share\": 1.0}' * 9)\n            except OSError: pass\n        return None"
        ),
        0,
    ),
    Case("wants-the-course", "from course.quantize import entropy_calibrator\n", 0, "No module named"),
)
QUICK = ("honest", "freed", "reads-any-cache")
