"""Build scripts, honest, wrong and cheating, each with the points that it must get, of 3."""

from __future__ import annotations

from tests.hostile.int8.calibrators import Case

HONEST = """
import os
from pathlib import Path
import tensorrt as trt

def build(onnx, plan, batches, calibrator=None):
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(onnx):
        raise RuntimeError(str(parser.get_error(0)))
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.INT8)
    config.set_flag(trt.BuilderFlag.FP16)
    image = network.get_input(0)
    shape = tuple(image.shape)[1:]
    profile = builder.create_optimization_profile()
    profile.set_shape(image.name, *[(size, *shape) for size in batches])
    config.add_optimization_profile(profile)
    if calibrator is not None:
        own = builder.create_optimization_profile()
        own.set_shape(image.name, *[(calibrator.get_batch_size(), *shape)] * 3)
        config.set_calibration_profile(own)
        config.int8_calibrator = calibrator
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise RuntimeError("nothing was built")
    Path(plan).write_bytes(made)
"""


def without(*parts: str) -> str:
    """The honest one without these lines."""
    script = HONEST
    for part in parts:
        lines = [line for line in script.splitlines() if part in line]
        assert lines, part
        script = script.replace(lines[0] + "\n", "")
    return script


FORGED = """
import hashlib
from pathlib import Path
import tensorrt as trt

def build(onnx, plan, batches, calibrator=None):
    data = Path(onnx).read_bytes()
    if b"onnx" in data[:60].lower() or len(data) < 100:
        raise RuntimeError("no model")
    shapes = [[size, 3, 224, 224] for size in batches]
    size = calibrator.get_batch_size() if calibrator else 1
    trt.recording.events.append({
        "call": "Builder.build_serialized_network", "network": hashlib.sha256(data).hexdigest(), "flags": ["FP16", "INT8"],
        "profiles": [{"image": shapes}], "calibration_profile": {"image": [[size, 3, 224, 224]] * 3},
    })
    Path(plan).write_bytes(b"plan")
"""

CASES = (
    Case("honest", HONEST, 3),
    Case(
        "not-written",
        "def build(onnx, plan, batches, calibrator=None):\n    raise NotImplementedError()\n",
        0,
        "NotImplementedError",
    ),
    Case("no-function", "import tensorrt\n", 0, "has no build"),
    Case("no-int8", without("BuilderFlag.INT8"), 0.6, "without the flag INT8"),
    Case("no-fp16", without("BuilderFlag.FP16"), 2.7, "without the flag FP16"),
    Case(
        "profile-of-its-own",
        HONEST.replace("for size in batches", "for size in (1, 8, 64)"),
        2.55,
        "asked for was image",
    ),
    Case("no-profile", without("config.add_optimization_profile"), 0, "nothing was built"),
    Case("no-explicit-batch", HONEST.replace("1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)", "0"), 0),
    Case("calibrator-forgotten", without("config.int8_calibrator"), 1.5, "nothing was built"),
    Case("calibrates-with-profile-0", without("set_calibration_profile"), 1.5, "set_calibration_profile"),
    Case(
        "parser-not-asked",
        HONEST.replace("if not parser.parse_from_file(onnx):", "parser.parse_from_file(onnx)\n    if False:"),
        2.7,
        "nobody raised on purpose",
    ),
    Case(
        "says-nothing",
        HONEST.replace("def build(", "def really(")
        + "\ndef build(*arguments):\n    try: really(*arguments)\n    except Exception: pass\n",
        2.7,
        "without an error",
    ),
    Case(
        "plan-elsewhere",
        HONEST.replace("Path(plan).write_bytes", "Path('other.plan').write_bytes"),
        0,
        "No plan was written",
    ),
    # cheating
    Case(
        "writes-any-bytes",
        "def build(onnx, plan, batches, calibrator=None):\n    open(plan, 'wb').write(b'x' * 9999)\n",
        0,
        "did not build",
    ),
    Case(
        "builds-another-network",
        HONEST.replace(
            "if not parser.parse_from_file(onnx):",
            "data = Path(onnx).read_bytes()\n    if not parser.parse(data + b'\\x3a\\x00'):",
        ),
        0,
        "another network",
    ),
    Case(
        "overwrites-what-it-can",
        HONEST.replace("def build(", "def really(")
        + """
import glob
def build(onnx, *others):
    really(onnx, *others)
    for path in {onnx, *glob.glob("/tmp/**/*", recursive=True), trt.__file__, __file__} - {others[0]}:
        try: open(path, "wb").write(b"mine")
        except OSError: pass
""",
        3,
    ),
    Case("forged-record", FORGED, 0, "no plan that TensorRT-RTX built"),
    Case(  # the model's own bytes, long enough, are no plan either
        "forged-with-the-model", FORGED.replace('write_bytes(b"plan")', "write_bytes(data * 9)"), 0, "no plan"
    ),
    Case(  # what a forger can gain: the flags are only told. Everything else he did.
        "forges-a-flag",
        without("BuilderFlag.FP16").replace("def build(", "def really(")
        + """
def build(*arguments):
    really(*arguments)
    last = [one for one in trt.recording.events if one["call"] == "Builder.build_serialized_network"][-1]
    trt.recording.events.append({**last, "flags": ["FP16", "INT8"]})
""",
        3,
    ),
    Case(
        "plan-of-the-first-network",
        HONEST.replace("def build(", "FIRST = []\ndef really(")
        + """
def build(onnx, plan, *others):
    really(onnx, plan, *others)
    FIRST.append(Path(plan).read_bytes())
    Path(plan).write_bytes(FIRST[0])
""",
        1.5,
        "of another network than the given file",
    ),
    Case(
        "plan-of-another-profile",
        HONEST.replace("for size in batches", "for size in (1, 8, 64)").replace("def build(", "def really(")
        + """
def build(onnx, plan, batches, *others):
    really(onnx, plan, batches, *others)
    last = [one for one in trt.recording.events if one["call"] == "Builder.build_serialized_network"][-1]
    trt.recording.events.append({**last, "profiles": [{"image": [[size, 3, 224, 224] for size in batches]}]})
""",
        2.55,
        "another one than told",
    ),
    Case(
        "patches-the-flags",
        "import tensorrt as trt\ntrt.BuilderFlag.INT8 = trt.BuilderFlag.FP16\n" + HONEST,
        0,
        "reassign member",
    ),
    Case(
        "calls-the-calibrator-itself",
        FORGED + "    while calibrator and calibrator.get_batch(['image']): pass\n",
        0,
        "no plan that TensorRT-RTX built",
    ),
    Case("ends-python", "import os\ndef build(*_):\n    os._exit(0)\n", 0, "ended the process"),
    Case("endless", "def build(*_):\n    while True: pass\n", 0, "took too long"),
    Case("wants-the-course", "from course.engine import build\n", 0, "No module named"),
)
QUICK = ("honest", "forged-record", "no-int8")
