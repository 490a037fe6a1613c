"""Model repositories, honest, wrong and cheating: which checks look at each, and what it may get at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from course.paths import ROOT

CONFIG = """
name: "classifier"
backend: "python"
max_batch_size: 8
input [ { name: "file" data_type: TYPE_UINT8 dims: [ -1 ] allow_ragged_batch: true } ]
output [ { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] } ]
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching {
  default_queue_policy { max_queue_size: 16 default_timeout_microseconds: 2000000 timeout_action: REJECT }
}
"""

MODEL = """
import hashlib, io, os, sys, threading, time
import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils
from PIL import Image

MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)

def answer(logits):
    return pb_utils.InferenceResponse([pb_utils.Tensor("logits", np.asarray(logits, np.float32).reshape(1, 10))])

def refusal(why):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(why)))

def data(request):
    return pb_utils.get_input_tensor_by_name(request, "file").as_numpy().tobytes()

class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        images = [self.decode(data(request)) for request in requests]
        good = [image for image in images if isinstance(image, np.ndarray)]
        logits = iter(self.run(np.stack(good)) if good else [])
        return [answer(next(logits)) if isinstance(image, np.ndarray) else refusal(image) for image in images]

    def run(self, images):
        return self.session.run(None, {"image": images})[0]

    def decode(self, file):
        try:
            image = Image.open(io.BytesIO(file)).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
        except Exception as error:
            return error
        return ((np.asarray(image, np.float32) - MEAN) / STD).transpose(2, 0, 1)
"""


def swapped(text: str, old: str, new: str) -> str:
    """`text` with one part replaced; it must be there."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


def methods(body: str) -> str:
    """The honest program with these methods in place of its own; `Honest` is the class without them."""
    return f"{MODEL}\nHonest = TritonPythonModel\n\nclass TritonPythonModel(Honest):\n{body}"


def also(line: str) -> str:
    """The honest configuration with one more line."""
    return f"{CONFIG}{line}\n"


SECRETS = ", ".join(repr(str(ROOT / name)) for name in ("course", "solutions", ".git", ".grading"))
"""What a box must not show."""


@dataclass(frozen=True)
class Case:
    """A repository and its points.

    most: check -> points that it gets at most; other checks do not look at it. least: likewise, at least.
    says: what the messages hold. files: further ones, path below the repository -> text. link: a file of the
    repository that is a link -> where it leads. right_or_wrong: whatever the times are, an answer, or a failed request, is
    what costs it the points.
    """

    name: str
    most: Mapping[str, float]
    says: str = ""
    config: str = CONFIG
    model: str = MODEL
    least: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    link: Mapping[str, str] = field(default_factory=dict)
    right_or_wrong: bool = False

    @property
    def timed(self) -> bool:
        """Whether its points depend on times or capacities, which other work on the machine would change."""
        return bool(set(self.most) - {"answers"}) and not self.right_or_wrong


NOTHING = {"answers": 0}

HONEST = (
    Case("honest", {"answers": 5}, least={"answers": 5}),
    Case(
        "one-instance",
        {"answers": 5},
        config=swapped(CONFIG, "count: 2", "count: 1"),
        least={"answers": 5},
    ),
)

REFUSED = (
    Case("response-cache", NOTHING, "response_cache is not allowed", also("response_cache { enable: true }")),
    Case(
        "environment-of-its-own",
        NOTHING,
        "EXECUTION_ENV_PATH is not allowed",
        also('parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/tmp/x;$(touch /tmp/owned)" } }'),
    ),
    Case(
        "library-of-operations",
        NOTHING,
        "model_operations is not allowed",
        also('model_operations { op_library_filename: "/tmp/own.so" }'),
    ),
    Case(
        "repository-agent",
        NOTHING,
        "model_repository_agents is not allowed",
        also('model_repository_agents { agents [ { name: "own" } ] }'),
    ),
    Case(
        "warm-up-from-a-file",
        NOTHING,
        "model_warmup is not allowed",
        also('model_warmup [ { name: "w" batch_size: 1 count: 1000000 } ]'),
    ),
    Case(
        "program-elsewhere", NOTHING, "default_model_filename", also('default_model_filename: "../../../../etc/passwd"')
    ),
    Case(
        "sixty-four-instances",
        NOTHING,
        "at most 8 run",
        swapped(CONFIG, "count: 2", "count: 64"),
    ),
    Case(
        "waits-a-minute",
        NOTHING,
        "max_queue_delay_microseconds is not allowed",
        swapped(CONFIG, "dynamic_batching {", "dynamic_batching { max_queue_delay_microseconds: 60000000"),
    ),
    Case(
        "another-configuration",
        NOTHING,
        "configs",
        files={"classifier/configs/gpu.pbtxt": CONFIG},
    ),
    Case("link-out-of-it", NOTHING, "is a link", link={"classifier/1/more.py": "/etc/passwd"}),
    Case(
        "server-library-of-its-own",
        NOTHING,
        "libtriton_python.so",
        files={"classifier/libtriton_python.so": "no library"},
    ),
    Case(
        "stub-of-its-own",
        NOTHING,
        "triton_python_backend_stub",
        files={"classifier/triton_python_backend_stub": "#!/bin/sh\ntouch /tmp/owned\n"},
    ),
    Case(
        "engine-of-its-own",
        NOTHING,
        "The grader builds model.plan itself",
        files={"classifier/1/model.plan": "any bytes"},
    ),
    Case(
        "engine-with-another-name",
        NOTHING,
        "a ready engine",
        files={"classifier/1/weights.bin": "ptrt and what follows"},
    ),
    Case("unknown-field", NOTHING, "Did you mean max_batch_size", swapped(CONFIG, "max_batch_size", "max_batch_sizes")),
)

WRONG = (
    Case("not-normalised", NOTHING, "logits", model=swapped(MODEL, "123.675, 116.28, 103.53", "0.0, 0.0, 0.0")),
    Case(
        "first-of-the-batch-for-all",
        {"answers": 2.5, "batches": 0, "goodput": 0},
        "A batch whose answers are wrong is none",
        model=methods(
            "    def run(self, images):\n        return np.repeat(Honest.run(self, images[:1]), len(images), 0)\n"
        ),
    ),
    Case(
        "responses-reversed",
        {"answers": 2.5, "batches": 0},
        "A batch whose answers are wrong is none",
        model=methods("    def execute(self, requests):\n        return Honest.execute(self, requests)[::-1]\n"),
    ),
    Case(
        "dies-when-it-is-busy",
        {"answers": 2.5},
        model=methods(
            "    def execute(self, requests):\n"
            "        if len(requests) > 2: os._exit(1)\n"
            "        return Honest.execute(self, requests)\n"
        ),
    ),
    Case(
        "broken-file-fails-the-batch",
        {"faults": 3.5},
        "failed because broken ones came with them",
        model=methods(
            "    def decode(self, file):\n"
            "        image = Honest.decode(self, file)\n"
            "        if isinstance(image, Exception): raise image\n"
            "        return image\n"
        ),
        right_or_wrong=True,
    ),
    Case(
        "answers-to-what-is-no-image",
        {"faults": 3.5},
        "that are no images got an answer",
        model=methods(
            "    def decode(self, file):\n"
            "        image = Honest.decode(self, file)\n"
            "        return image if isinstance(image, np.ndarray) else np.zeros((3, 224, 224), np.float32)\n"
        ),
        right_or_wrong=True,
    ),
    Case(
        "queue-without-an-end",
        {"faults": 3.5},
        "queue without an end",
        # slow, so that two seconds of traffic suffice for a second of waiting
        config="\n".join(line for line in CONFIG.splitlines() if "queue_policy" not in line),
        model=methods(
            "    def run(self, images):\n        time.sleep(0.05 * len(images))\n        return Honest.run(self, images)\n"
        ),
    ),
    Case(
        "keeps-every-file",
        {"faults": 4.25},
        "more than before",
        model=methods(
            "    def decode(self, file):\n"
            "        kept = self.__dict__.setdefault('kept', [])\n"
            "        kept.append(np.ones(1 << 16))\n"
            "        return Honest.decode(self, file)\n"
        ),
    ),
)

CHEATS = (
    Case(
        "sleeps-to-fill-batches",
        {"batches": 0},
        "single client pays",
        model=methods(
            "    def execute(self, requests):\n        time.sleep(0.1)\n        return Honest.execute(self, requests)\n"
        ),
    ),
    Case(
        "delays-to-fill-batches",
        {"batches": 0},
        "single client pays",
        swapped(CONFIG, "dynamic_batching {", "dynamic_batching { max_queue_delay_microseconds: 200000"),
    ),
    Case(
        "sleeps-and-remembers",
        {"batches": 0},
        "single client pays",
        # what it saw under load it answers at once, and so hides from a single client that it sleeps
        model=methods(
            "    def execute(self, requests):\n"
            "        known = self.__dict__.setdefault('known', {})\n"
            "        names = [hashlib.sha256(data(request)).hexdigest() for request in requests]\n"
            "        if any(name not in known for name in names):\n"
            "            time.sleep(0.1)\n"
            "            known.update({name: self.run(self.decode(data(r))[None]) for name, r in zip(names, requests)})\n"
            "        return [answer(known[name]) for name in names]\n"
        ),
    ),
    Case(
        "one-answer-for-all",
        NOTHING,
        "another network",
        model=methods("    def run(self, images):\n        return np.tile(np.arange(10.0), (len(images), 1))\n"),
    ),
    Case(
        "detects-the-load",
        {"answers": 2.5, "goodput": 0},
        # alone it computes; as soon as requests come in numbers it answers without the network
        model=methods(
            "    def run(self, images):\n"
            "        now = time.monotonic()\n"
            "        busy = len(images) > 1 or now - self.__dict__.get('last', 0.0) < 0.001\n"
            "        self.last = now\n"
            "        return np.zeros((len(images), 10)) if busy else Honest.run(self, images)\n"
        ),
    ),
    Case(
        "drops-what-comes-in-numbers",
        {"answers": 2.5},
        "Under load requests failed",
        model=methods(
            "    def execute(self, requests):\n"
            "        good = Honest.execute(self, requests[:1])\n"
            "        return good + [refusal('busy') for _ in requests[1:]]\n"
        ),
    ),
    Case(
        "asks-the-course",
        NOTHING,
        "No module named 'course'",
        model="import course.models\n" + MODEL,
    ),
    Case(
        "reads-the-grader",
        NOTHING,
        "no way out",
        # whatever of this it finds or reaches, it would serve
        model=methods(
            "    def initialize(self, args):\n"
            "        import socket\n"
            f"        found = [p for p in ('/root/.ssh', '/etc/passwd', {SECRETS}) if os.path.exists(p)]\n"
            "        try:\n"
            "            socket.create_connection(('1.1.1.1', 53), 1).close()\n"
            "            found.append('network')\n"
            "        except OSError:\n"
            "            pass\n"
            "        names = [name for name in os.environ if 'SECRET' in name]\n"
            "        if not found and not names: raise RuntimeError('no way out')\n"
            "        Honest.initialize(self, args)\n"
        ),
    ),
    Case(
        "ends-the-server",
        NOTHING,
        model=methods(
            "    def execute(self, requests):\n"
            "        import signal\n"
            "        os.kill(os.getppid(), signal.SIGKILL)\n"
            "        return Honest.execute(self, requests)\n"
        ),
    ),
    Case(
        "never-ready",
        NOTHING,
        "",
        model=methods("    def initialize(self, args):\n        raise RuntimeError('no network today')\n"),
    ),
)

CASES = (*HONEST, *REFUSED, *WRONG, *CHEATS)
QUICK = ("honest", "response-cache", "engine-of-its-own", "server-library-of-its-own", "drops-what-comes-in-numbers")
