"""Build scripts for networks with a plugin, honest, wrong and cheating, each with the points that it must get, of 3."""

from __future__ import annotations

from dataclasses import dataclass

from course.paths import ROOT

HONEST = """
import ctypes
from pathlib import Path
import tensorrt as trt

def build(onnx, plan, library, shapes, fp16=False):
    logger = trt.Logger(trt.Logger.ERROR)
    assert trt.get_plugin_registry().load_library(library) is not None, library
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(onnx):
        raise RuntimeError(str(parser.get_error(0)))
    config = builder.create_builder_config()
    if fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape(network.get_input(0).name, *shapes)
    config.add_optimization_profile(profile)
    made = builder.build_serialized_network(network, config)
    if made is None:
        raise RuntimeError("nothing was built")
    Path(plan).write_bytes(made)
"""
LOAD = "    assert trt.get_plugin_registry().load_library(library) is not None, library\n"
PARSE = "    if not parser.parse_from_file(onnx):\n"
PARSER = "    parser = trt.OnnxParser(network, logger)\n"
SHAPES = "*shapes)"


@dataclass(frozen=True)
class Case:
    name: str
    script: str
    points: float
    says: str = ""


def changed(old: str, new: str, script: str = HONEST) -> str:
    """The honest one with one part replaced."""
    assert script.count(old) == 1, old
    return script.replace(old, new)


def around(script: str, function: str) -> str:
    """A script whose function is called `really`, and a function of its name around it."""
    return changed("def build(", "def really(", script) + function


FORGED = """
import hashlib
from pathlib import Path
import tensorrt as trt

def build(onnx, plan, library, shapes, fp16=False):
    data = Path(onnx).read_bytes()
    assert len(data) > 25_000, "it breaks off"
    trt.recording.events.append({
        "call": "Builder.build_serialized_network", "network": hashlib.sha256(data).hexdigest(),
        "flags": ["FP16"] * fp16, "profiles": [{"image": list(map(list, shapes))}],
    })
    Path(plan).write_bytes(PLAN)
"""
LAST = """    last = [one for one in trt.recording.events if one["call"] == "Builder.build_serialized_network"][-1]
"""
WITHOUT_ITS_NODE = (  # all is done, and told as it should be; but the node is left out of the file
    changed(LOAD, "")
    .replace("import ctypes\n", "import hashlib\nimport onnx as files\n")
    .replace(
        PARSE,
        """    given = Path(onnx).read_bytes()
    model = files.load_model_from_string(given)
    for node in model.graph.node:
        if node.domain:
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
    if not parser.parse(model.SerializeToString()):
""",
    )
    + LAST
    + """    trt.recording.events.append({**last, "network": hashlib.sha256(given).hexdigest()})
"""
)

CASES = (
    Case("honest", HONEST, 3),
    Case("ours", (ROOT / "solutions/stage3_plugins/m3a/build_engine.py").read_text(), 3),
    Case("opens-it-by-ctypes", changed(LOAD, "    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)\n"), 3),
    Case("ends-with-words", changed("raise RuntimeError(str(", "raise SystemExit(str("), 3),
    Case(  # with another network, after the library: nothing of the first try is left
        "late-and-once-more",
        around(
            changed(LOAD, ""),
            """
def build(onnx, plan, library, shapes, fp16=False):
    try:
        really(onnx, plan, library, shapes, fp16)
    except RuntimeError:
        trt.get_plugin_registry().load_library(library)
        really(onnx, plan, library, shapes, fp16)
""",
        ),
        3,
    ),
    # not done
    Case("blank", "", 0, "is empty"),
    Case("no-function", "import tensorrt\n", 0, "has no build"),
    Case("released", (ROOT / "stage3_plugins/m3a/build_engine.py").read_text(), 0, "NotImplementedError"),
    Case("prints-only", "def build(*_):\n    print('built')\n", 0, "did not build"),
    # the library
    Case("no-library", changed(LOAD, ""), 0, "Plugin not found"),
    Case(
        "library-after-parsing", changed(LOAD, "").replace("    config =", LOAD + "    config ="), 0, "Plugin not found"
    ),
    Case(
        "built-in-plugins-only",
        changed(LOAD, "    trt.init_libnvinfer_plugins(logger, '')\n"),
        0,
        "Plugin not found",
    ),
    Case(
        "let-go-again",
        changed(
            LOAD,
            "    registry = trt.get_plugin_registry()\n    registry.deregister_library(registry.load_library(library))\n",
        ),
        0,
        "Plugin not found",
    ),
    Case("library-as-bytes", changed(LOAD, "    Path(library).read_bytes()\n"), 0, "Plugin not found"),
    Case(
        "library-mapped-as-a-file",
        changed(
            LOAD,
            "    import mmap\n    file = open(library, 'rb')\n"
            "    mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_EXEC)\n",
        ),
        0,
        "Plugin not found",
    ),
    Case(
        "first-library-for-ever",
        changed(LOAD, "    LOADED or LOADED.append(trt.get_plugin_registry().load_library(library))\n")
        + "\nLOADED = []\n",
        1.65,
        "FP16 allowed: build of build_engine.py raised an error.",
    ),
    # errors
    Case(
        "parser-not-asked",
        changed(PARSE, "    parser.parse_from_file(onnx)\n    if False:\n"),
        2.7,
        "nobody raised on purpose",
    ),
    Case(
        "says-nothing",
        around(HONEST, "\ndef build(*arguments):\n    try: really(*arguments)\n    except Exception: pass\n"),
        2.7,
        "without an error",
    ),
    Case(
        "swallows-them-without-the-library",
        around(
            changed(LOAD, ""), "\ndef build(*arguments):\n    try: really(*arguments)\n    except Exception: pass\n"
        ),
        0,
        "did not build",
    ),
    # what was asked for
    Case("fp16-always", changed("    if fp16:\n", "    if True:\n"), 2.7, "FP16 was not asked for"),
    Case("fp16-never", changed("    if fp16:\n", "    if False:\n"), 2.7, "built without its flag"),
    Case("no-profile", changed("    config.add_optimization_profile(profile)\n", ""), 0, "nothing was built"),
    Case(
        "profile-of-its-own",
        changed(SHAPES, "*[(size, *shapes[0][1:]) for size in (1, 8, 64)])"),
        2.4,
        "asked for was image",
    ),
    Case("largest-is-usual", changed(SHAPES, "shapes[0], shapes[2], shapes[2])"), 2.4, "asked for was image"),
    Case("plan-elsewhere", changed("Path(plan).write", "Path('my.plan').write"), 0, "No plan was written"),
    # cheating
    Case("any-bytes", "def build(onnx, plan, *_):\n    open(plan, 'wb').write(b'x' * 9999)\n", 0, "did not build"),
    Case("forged-record", FORGED + "PLAN = b'plan'\n", 0, "no plan that TensorRT-RTX built"),
    Case("forged-with-the-model", FORGED.replace("PLAN", "data * 9"), 0, "no plan that TensorRT-RTX built"),
    Case(
        "forged-with-model-and-library",
        FORGED.replace("PLAN", "(data + Path(library).read_bytes()) * 9"),
        0,
        "no plan that TensorRT-RTX built",
    ),
    Case("without-its-node", WITHOUT_ITS_NODE, 0, "what the library's node computes"),
    Case(
        "plan-of-the-first-network",
        around(
            HONEST,
            """
FIRST = []
def build(onnx, plan, *others):
    really(onnx, plan, *others)
    FIRST.append(Path(plan).read_bytes())
    Path(plan).write_bytes(FIRST[0])
""",
        ),
        1.65,
        "of another network than the given file",
    ),
    Case(  # a network of the script's own, with all that may be known before
        "plan-prepared",
        around(
            HONEST,
            """
def build(onnx, plan, library, shapes, fp16=False):
    really(onnx, plan, library, shapes, fp16)
    import numpy as np, onnx as files
    from onnx import numpy_helper
    last = [one for one in trt.recording.events if one["call"] == "Builder.build_serialized_network"][-1]
    model = files.load(onnx)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.random.standard_normal(tensor.dims).astype(np.float32) * 0.1, tensor.name))
    files.save(model, "mine.onnx")
    really("mine.onnx", plan, library, shapes, fp16)
    trt.recording.events.append(last)
""",
        ),
        0,
        "of another network than the given file",
    ),
    Case(
        "plan-of-another-profile",
        around(
            changed(SHAPES, "*[(size, *shapes[0][1:]) for size in (1, 20, 64)])"),
            "\ndef build(onnx, plan, library, shapes, *fp16):\n    really(onnx, plan, library, shapes, *fp16)\n"
            + LAST
            + "    trt.recording.events.append({**last, 'profiles': [{'image': list(map(list, shapes))}]})\n",
        ),
        2.4,
        "another one than told",
    ),
    Case(  # what a forger can gain: flags are only told. Everything else he did.
        "forges-a-flag",
        around(
            changed("    if fp16:\n", "    if False:\n"),
            "\ndef build(onnx, plan, library, shapes, fp16=False):\n    really(onnx, plan, library, shapes, fp16)\n"
            + LAST
            + "    trt.recording.events.append({**last, 'flags': ['FP16'] * fp16})\n",
        ),
        3,
    ),
    Case(
        "overwrites-what-it-can",
        around(
            HONEST,
            """
import glob
def build(onnx, plan, *others):
    really(onnx, plan, *others)
    for path in {onnx, *glob.glob("/tmp/**/*", recursive=True), trt.__file__, __file__} - {plan}:
        try: path.endswith(".so") or open(path, "wb").write(b"mine")
        except OSError: pass
""",
        ),
        3,
    ),
    Case(  # a library that is open is the process's own memory
        "overwrites-the-library",
        around(
            HONEST, "\ndef build(*arguments):\n    really(*arguments)\n    open(arguments[2], 'wb').write(b'mine')\n"
        ),
        0,
        "ended the process",
    ),
    Case("ends-python", "import os\ndef build(*_):\n    os._exit(0)\n", 0, "ended the process"),
    Case("endless", "def build(*_):\n    while True: pass\n", 0, "took too long"),
    Case("wants-the-course", "from course.engine import build\n", 0, "No module named"),
)
QUICK = ("honest", "no-library", "without-its-node", "fp16-always")
