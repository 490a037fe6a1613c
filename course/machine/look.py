"""Raw look-ups for `course doctor`: what is on this machine, without any judgement.

A broken library may crash or hang whoever imports it, so every import happens in a process of its own, with a time
limit. What comes back is plain data: `Facts` goes to JSON and back, and tests feed `course.machine.judge.judge` recorded ones.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course.errors import CourseError
from course.files import atomic_write
from course.paths import ASSETS, cache_dir

IMPORT_SECONDS = 120  # the first import of PyTorch from a slow disk takes tens of seconds
TOOL_SECONDS = 30


@dataclass(frozen=True)
class Gpu:
    """One GPU as the driver describes it. Clocks in MHz, memory in bytes."""

    name: str
    capability: str
    memory_bytes: int
    clock_mhz: int | None = None
    max_clock_mhz: int | None = None


@dataclass(frozen=True)
class Driver:
    """What the driver's library (NVML) answers. `error` says why it does not; `cards` counts NVIDIA devices on PCI."""

    version: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    error: str | None = None
    cards: int = 0


@dataclass(frozen=True)
class Module:
    """A Python module. `packages`: installed distributions with versions. `error`: why the import fails, else None."""

    packages: Mapping[str, str] = field(default_factory=dict)
    present: bool = False
    version: str | None = None
    file: str | None = None
    error: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Tool:
    """A program: where it is and what it printed when asked for its version, or why it did not."""

    path: str | None = None
    output: str = ""
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """Everything that `look` found. `pip` is the command that installs into this Python."""

    python: str
    prefix: str
    pip: str
    cache: str
    triton_venv: str
    driver: Driver
    modules: Mapping[str, Module]
    tools: Mapping[str, Tool]
    disk_free_bytes: int
    memory_bytes: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Facts:
        """The inverse of `to_json`."""
        raw = json.loads(text)
        driver = raw["driver"]
        return Facts(
            **{
                **raw,
                "driver": Driver(**{**driver, "gpus": tuple(Gpu(**gpu) for gpu in driver["gpus"])}),
                "modules": {name: Module(**module) for name, module in raw["modules"].items()},
                "tools": {name: Tool(**tool) for name, tool in raw["tools"].items()},
            }
        )


# Module -> code that runs after `import NAME as m` and fills the dict `extra`.
MODULES = {
    "torch": "extra.update(cuda=m.version.cuda, gpu=m.cuda.is_available(), architectures=m.cuda.get_arch_list())",
    "onnx": "",
    "onnxruntime": "extra.update(providers=m.get_available_providers())",
    "tensorrt_rtx": "",
    # A builder needs the libraries, the driver and a GPU: the one true sign that this TensorRT works here.
    "tensorrt": """
extra.update(implicit_int8=hasattr(m, "IInt8EntropyCalibrator2"), fp16_flag=hasattr(m.BuilderFlag, "FP16"),
             plugin_v3=hasattr(m, "IPluginV3"))
try:
    extra["builder"] = "works" if m.Builder(m.Logger(m.Logger.ERROR)) else "none"
except Exception as error:
    extra["builder"] = str(error)
""",
    "pycuda": "import pycuda.driver as d; d.init(); extra['gpus'] = d.Device.count(); m.__version__ = m.VERSION_TEXT",
    "nvidia.dali": "",
}

# Which installed distributions belong to a module; a wheel may be there without anything that can be imported.
PACKAGES = {
    "torch": r"torch",
    "onnx": r"onnx",
    "onnxruntime": r"onnxruntime(-gpu)?",
    "pycuda": r"pycuda",
    "tensorrt_rtx": r"tensorrt[-_]rtx.*",
    "tensorrt": r"tensorrt(?![-_](rtx|llm|lean|dispatch)).*",
    "nvidia.dali": r"nvidia[-_]dali.*",
}

_ASK = """
import importlib, json, os, sys
m = importlib.import_module(sys.argv[1])
extra = {}
exec(sys.argv[2])
print("\\n" + json.dumps({"version": getattr(m, "__version__", None), "file": getattr(m, "__file__", None), "extra": extra}))
sys.stdout.flush()
os._exit(0)  # a driver library that crashes while it is unloaded must not spoil the answer
"""


@functools.cache
def _dists() -> tuple[importlib.metadata.Distribution, ...]:
    """Every installed distribution. Reading their metadata takes a while, so it is done once."""
    return tuple(dist for dist in importlib.metadata.distributions() if dist.metadata["Name"])


def ask_module(name: str, code: str = "", seconds: float = IMPORT_SECONDS) -> Module:
    """Import `name` in a process of its own and run `code` there.

    A module that answered once is not imported again while its files, Python, the driver and the variables that decide
    which libraries load are as they were: PyTorch alone takes 4 s of CPU time. One that failed is always asked again.
    """
    pattern = re.compile(PACKAGES.get(name, re.escape(name)), re.IGNORECASE)
    packages = {
        found: version for found, version in ((d.name, d.version) for d in _dists()) if pattern.fullmatch(found)
    }
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # the package around a dotted name is not there, or is broken
        spec = None
    if spec is None:
        return Module(packages)
    kept = cache_dir() / "doctor" / f"{name}.json"
    state = _state(spec.origin, packages, code)
    try:
        known = json.loads(kept.read_text())
        if known.pop("state") == state:
            return Module(packages, True, **known)
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        pass  # never asked, or written by another version
    command = [sys.executable, "-c", _ASK, name, code]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Module(packages, True, error=f"the import did not end within {seconds:.0f} s")
    if done.returncode < 0:
        return Module(packages, True, error=f"the import crashed with {signal.Signals(-done.returncode).name}")
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    last = lines[-1] if lines else f"Python ended with status {done.returncode} and no message"
    if done.returncode:
        return Module(packages, True, error=last)
    with contextlib.suppress(CourseError):  # a full disk must not silence the doctor
        atomic_write(kept, json.dumps({"state": state, **json.loads(last)}).encode())
    return Module(packages, True, **json.loads(last))


def _state(file: str | None, packages: Mapping[str, str], code: str) -> str:
    """What decides the answer of an import: a hash."""
    records = [f"{dist.name} {dist.version} {_written(dist)}" for dist in _dists() if dist.name in packages]
    driver = Path("/proc/driver/nvidia/version")
    names = ("LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "CUDA_HOME")
    written = os.stat(file).st_mtime_ns if file and os.path.isfile(file) else 0
    parts = [
        sys.version,
        sys.prefix,
        code,
        f"{file} {written}",
        *sorted(records),
        *(os.environ.get(name, "") for name in names),
    ]
    parts += [driver.read_text() if driver.exists() else "", str(sorted(glob.glob("/dev/nvidia*")))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _written(dist: importlib.metadata.Distribution) -> int:
    """When pip wrote it, in ns: its list of files is written last."""
    record = dist.locate_file(f"{dist.name.replace('-', '_')}-{dist.version}.dist-info/RECORD")
    try:
        return os.stat(record).st_mtime_ns
    except OSError:
        return 0


_ASK_DRIVER = """
import json, pynvml as n
text = lambda value: value.decode() if isinstance(value, bytes) else value
n.nvmlInit()
cuda = n.nvmlSystemGetCudaDriverVersion()
gpus = []
for index in range(n.nvmlDeviceGetCount()):
    gpu = n.nvmlDeviceGetHandleByIndex(index)
    def clock(ask):
        try: return ask(gpu, n.NVML_CLOCK_SM)
        except n.NVMLError: return None
    gpus.append({"name": text(n.nvmlDeviceGetName(gpu)),
                 "capability": "%d.%d" % tuple(n.nvmlDeviceGetCudaComputeCapability(gpu)),
                 "memory_bytes": n.nvmlDeviceGetMemoryInfo(gpu).total,
                 "clock_mhz": clock(n.nvmlDeviceGetClockInfo), "max_clock_mhz": clock(n.nvmlDeviceGetMaxClockInfo)})
print(json.dumps({"version": text(n.nvmlSystemGetDriverVersion()), "cuda": "%d.%d" % (cuda // 1000, cuda % 1000 // 10),
                  "gpus": gpus}))
"""


def ask_driver(seconds: float = TOOL_SECONDS) -> Driver:
    """Driver and GPUs through NVML, which needs neither CUDA nor PyTorch."""
    cards = _nvidia_cards()
    done = _run([sys.executable, "-c", _ASK_DRIVER], seconds)
    if done.error:
        return Driver(error=done.error.rpartition("NVMLError")[2].partition(": ")[2] or done.error, cards=cards)
    raw = json.loads(done.output.strip().splitlines()[-1])
    return Driver(raw["version"], raw["cuda"], tuple(Gpu(**gpu) for gpu in raw["gpus"]), None, cards)


def _nvidia_cards() -> int:
    """Graphics cards of NVIDIA on the PCI bus: they are there also without a driver."""

    def read(path: str) -> str:
        with open(path) as file:
            return file.read().strip()

    try:
        return sum(
            read(f"{device}/vendor") == "0x10de" and read(f"{device}/class").startswith("0x03")
            for device in glob.glob("/sys/bus/pci/devices/*")
        )
    except OSError:
        return 0


def tool_places() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Tool -> (names or paths to try in this order, arguments that make it print its version)."""
    site, cuda = sysconfig.get_path("purelib"), os.environ.get("CUDA_HOME", "/usr/local/cuda")
    return {
        "c++": (tuple(filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))), ("--version",)),
        "nvcc": (("nvcc", f"{cuda}/bin/nvcc", f"{site}/nvidia/cu*/bin/nvcc"), ("--version",)),
        "trtexec": (("trtexec", "/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec"), ("--help",)),
        "nsys": (("nsys", "/opt/nvidia/nsight-systems/*/bin/nsys", f"{cuda}/bin/nsys"), ("--version",)),
        "tritonserver": (
            (
                "tritonserver",
                "/opt/tritonserver/bin/tritonserver",
                f"{triton_venv()}/lib/python*/site-packages/pytriton/tritonserver/bin/tritonserver",
            ),
            (),
        ),
    }


SHARED_TRITON = "COURSE_SHARED_TRITON"
"""Environment variable: Triton's environment lies there. The grader shows its own to a learner's kernel, which cannot write
there and has no network."""


def triton_venv() -> Path:
    """Folder of the virtual environment for Triton's wheel, which wants another NumPy than the course."""
    return Path(os.environ.get(SHARED_TRITON) or cache_dir() / "triton")


def ask_tool(places: tuple[str, ...], arguments: tuple[str, ...], seconds: float = TOOL_SECONDS) -> Tool:
    """Find a program and, if there are `arguments`, run it with them."""
    found = (path for place in places for path in (sorted(glob.glob(place)) if "/" in place else [shutil.which(place)]))
    path = next((p for p in found if p and os.access(p, os.X_OK)), None)
    if path is None or not arguments:
        return Tool(path)
    done = _run([path, *arguments], seconds)
    return Tool(path, done.output, done.error)


def _run(command: list[str], seconds: float) -> Tool:
    """Run a command; `error` is its last line on stderr, or what ended it."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Tool(command[0], error=f"no answer within {seconds:.0f} s")
    except OSError as error:
        return Tool(command[0], error=error.strerror or str(error))
    output = (done.stdout + done.stderr)[:4000]
    if done.returncode == 0:
        return Tool(command[0], output)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return Tool(command[0], output, lines[-1] if lines else f"it ended with status {done.returncode}")


def look(seen: Callable[[str], None] = lambda name: None) -> Facts:
    """Ask everything, several questions at a time. `seen` is called with the name of each answered question."""
    _dists.cache_clear()
    asks: dict[str, Callable[[], object]] = {"driver": ask_driver}
    asks |= {name: lambda name=name, code=code: ask_module(name, code) for name, code in MODULES.items()}
    asks |= {name: lambda place=place: ask_tool(*place) for name, place in tool_places().items()}

    def answer(name: str) -> object:
        result = asks[name]()
        seen(name)
        return result

    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = dict(zip(asks, pool.map(answer, asks)))
    in_venv = Path(sys.prefix) == ASSETS.parents[1] / ".venv"
    return Facts(
        python=sys.version.split()[0],
        prefix=sys.prefix,
        pip=".venv/bin/pip" if in_venv else "python -m pip",
        cache=str(cache_dir()),
        triton_venv=str(triton_venv()).replace(str(Path.home()), "~", 1),
        driver=answers["driver"],
        modules={name: answers[name] for name in MODULES},
        tools={name: answers[name] for name in tool_places()},
        disk_free_bytes=shutil.disk_usage(cache_dir()).free,
        memory_bytes=memory_bytes(),
    )


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


if __name__ == "__main__":
    print(look().to_json())
