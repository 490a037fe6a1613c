"""Triton's own environment: a virtual environment in the course's cache that holds the server of a pip package.

NVIDIA publishes Triton as a container. The one pip package that holds a whole server is nvidia-pytriton 0.7.0: Triton
2.51 with the Python backend and no other. It needs an environment of its own: its Python backend was compiled against
NumPy 1, and with NumPy 2 it hands out wrong arrays without an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from course.files import atomic_write
from course.machine.look import triton_venv
from course.paths import cache_dir
from course.serving.words import ServingError

PACKAGES = (
    "nvidia-pytriton==0.7.0",  # the server; of its own dependencies none is needed, because nothing of it is imported
    "numpy>=1.26,<2",
    "onnxruntime>=1.20,<1.32",  # runs the model on a CPU
    "pillow>=11,<14",  # decodes JPEG in a model that takes files
)
PYTHONS = ("3.12", "3.11", "3.10")
"""The Pythons that the wheel has a Python backend for."""
SECONDS = 900  # for one package, on a slow connection
COMPLETE = "complete.json"  # written last: an environment without it was interrupted
_SETUP = "Run `course serve setup`."

_PROBE = """
import json, sys, sysconfig
print(json.dumps({"version": "%d.%d" % sys.version_info[:2], "implementation": sys.implementation.name,
  "base": sys.base_prefix, "folders": [sysconfig.get_config_var("LIBDIR"), sys.base_prefix + "/lib"],
  "triplet": sysconfig.get_config_var("MULTIARCH") or ""}))
"""


@dataclass(frozen=True)
class Environment:
    """Where the server and what it needs lie.

    Attributes:
        folder: the virtual environment.
        python_version: "3.10" to "3.12".
        libraries: folders for LD_LIBRARY_PATH: libpython, and what the wheel brings.
    """

    folder: Path
    python_version: str
    libraries: tuple[str, ...]

    @property
    def site(self) -> Path:
        """The environment's site-packages."""
        return self.folder / "lib" / f"python{self.python_version}" / "site-packages"

    @property
    def server(self) -> Path:
        """The folder with `bin/tritonserver`, `backends` and `python_backend_stubs`."""
        return self.site / "pytriton" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The program that runs a model.py: one process for each instance of a model."""
        return self.server / "python_backend_stubs" / self.python_version / "triton_python_backend_stub"

    def variables(self) -> dict[str, str]:
        """Environment variables for the server: this environment's Python is found first, no other one's packages."""
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")}
        kept["PATH"] = os.pathsep.join([f"{self.folder}/bin", kept.get("PATH", os.defpath)])
        kept["LD_LIBRARY_PATH"] = ":".join(filter(None, [*self.libraries, kept.get("LD_LIBRARY_PATH")]))
        kept["VIRTUAL_ENV"] = str(self.folder)
        return kept


def find() -> Environment:
    """The environment that `make` made.

    Raises:
        ServingError: there is none, it was interrupted, or it was made for other packages.
    """
    folder = triton_venv()
    try:
        made = json.loads((folder / COMPLETE).read_text())
        found = Environment(folder, made["python"], tuple(made["libraries"]))
    except FileNotFoundError:
        cause = f"{folder} was not finished." if folder.exists() else "Triton has an environment of its own."
        raise ServingError("Triton is not set up.", cause, f"{_SETUP} It takes about 320 MB.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ServingError("Triton is not set up.", f"{folder / COMPLETE} cannot be read: {error}.", _SETUP) from error
    if made.get("packages") != list(PACKAGES):
        raise ServingError("Triton's environment is of another version of the course.", f"It lies in {folder}.", _SETUP)
    if not (found.server / "bin" / "tritonserver").is_file() or not found.stub.is_file():
        raise ServingError("Triton's environment is damaged.", f"{found.server} is not whole.", _SETUP)
    return found


def why_not() -> str | None:
    """Why no server can be started here, in one line; None if one can."""
    try:
        find()
    except ServingError as error:
        return f"{error.what} {error.cause} {error.next_step}"
    return None


def make(tell: Callable[[str], object] = print, see_system_packages: bool = False) -> Environment:
    """Make the environment, unless it is there already. Two processes may call it at once: one waits.

    Args:
        tell: is called with a line for each step.
        see_system_packages: let models import what the Python under the environment has, such as TensorRT and PyTorch.

    Raises:
        ServingError: this machine cannot run the server, or a package could not be had. Says what to install.
    """
    with _only_one():
        with contextlib.suppress(ServingError):
            return find()
        if reason := unsupported(sys.platform, platform.machine(), platform.libc_ver()):
            raise reason
        python, libraries, version = pick_python()
        folder = triton_venv()
        shutil.rmtree(folder, ignore_errors=True)
        tell(f"Python {version} ({python}), libpython in {libraries[0]}")
        options = ["--without-pip", *(["--system-site-packages"] if see_system_packages else [])]
        _call([python, "-m", "venv", *options, str(folder)], "The virtual environment could not be made.")
        for number, package in enumerate(PACKAGES, 1):
            started = time.perf_counter()
            _install(package, folder)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
            name, seconds = re.split("[=<>]", package)[0], time.perf_counter() - started
            tell(f"[{number}/{len(PACKAGES)}] {name}, {seconds:.0f} s, {size / 1e6:.0f} MB so far")
        site = folder / "lib" / f"python{version}" / "site-packages"
        made = Environment(folder, version, (*libraries, str(site / "nvidia_pytriton.libs")))
        _must_load(made)
        content = {"python": version, "libraries": made.libraries, "packages": PACKAGES}
        atomic_write(folder / COMPLETE, json.dumps(content, indent=1).encode())
        tell(f"Triton is ready in {folder}")
        return made


def unsupported(system: str, machine: str, libc: tuple[str, str]) -> ServingError | None:
    """Why the wheel cannot run on such a machine: it is for Linux with glibc 2.35 or newer, on x86-64 or ARM."""
    what, instead = "Triton cannot run here.", "Use NVIDIA's container nvcr.io/nvidia/tritonserver, or another machine."
    if system != "linux" or machine not in ("x86_64", "aarch64"):
        return ServingError(what, f"Its package is for Linux on x86-64 or ARM; this is {system} on {machine}.", instead)
    if libc[0] != "glibc" or tuple(int(part) for part in libc[1].split(".")[:2]) < (2, 35):
        return ServingError(what, f"It needs glibc 2.35 or newer; this is {' '.join(libc).strip() or 'none'}.", instead)
    return None


def pick_python() -> tuple[str, tuple[str, ...], str]:
    """A Python from 3.10 to 3.12 that has its shared library: (executable, folder of libpython, version).

    The course's own one is tried first, then `python3.12` to `python3.10` on the PATH.

    Raises:
        ServingError: there is none; says what each one lacks.
    """
    own = getattr(sys, "_base_executable", None) or sys.executable
    refused = []
    for python in [own, *filter(None, (shutil.which(f"python{version}") for version in PYTHONS))]:
        try:
            done = subprocess.run(
                [python, "-I", "-c", _PROBE],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=60,
                check=True,
            )
            said = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue  # a shim of a Python that is not installed
        version = said["version"]
        if version not in PYTHONS or said["implementation"] != "cpython":
            refused.append(f"{python} is {said['implementation']} {version}")
            continue
        folders = [*filter(None, said["folders"]), f"/usr/lib/{said['triplet']}", "/usr/lib64"]
        library = f"libpython{version}.so.1.0"
        if folder := next((folder for folder in folders if (Path(folder) / library).exists()), None):
            return python, (folder,), version
        refused.append(f"{python} has no {library}")
    raise ServingError(
        "Triton's Python backend finds no Python that it can use.",
        f"It needs CPython {PYTHONS[-1]} to {PYTHONS[0]} with its shared library: {'; '.join(refused) or 'none'}.",
        "Install it (Debian, Ubuntu: `apt-get install libpython3.11`; or `uv python install 3.11`), then run "
        "`course serve setup` again.",
    )


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    with open(cache_dir() / ".triton.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(package: str, folder: Path) -> None:
    """The course's own pip installs into the environment, which so needs none."""
    if importlib.util.find_spec("pip") is None:
        raise ServingError(
            f"{package} cannot be installed.", f"{sys.executable} has no pip.", f"Run `{sys.executable} -m ensurepip`."
        )
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--only-binary", ":all:"]
    command += ["--no-deps"] if package.startswith("nvidia-pytriton") else []
    _call([*command, package], f"The package {package} could not be fetched from PyPI.")


def _call(command: list[str], what: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, stdin=subprocess.DEVNULL
        )
        if not done.returncode:
            return
        lines = done.stderr.splitlines() or done.stdout.splitlines() or ["It gave no reason."]
        cause = next((line for line in reversed(lines) if "ERROR" in line), lines[-1])
    except (OSError, subprocess.TimeoutExpired) as error:
        cause = str(error)
    raise ServingError(what, cause, "Check the connection and the free space (400 MB), then try again.")


def _must_load(environment: Environment) -> None:
    """Start both programs without work: a library that is missing shows now, not in a lesson."""
    for program in (environment.server / "bin" / "tritonserver", environment.stub):
        program.chmod(program.stat().st_mode | 0o111)
        words = [str(program), *(["--help"] if program.name == "tritonserver" else [])]
        done = subprocess.run(
            words, env=environment.variables(), capture_output=True, encoding="utf-8", errors="replace", timeout=60
        )
        if "error while loading shared libraries" in done.stderr or "version `GLIBC" in done.stderr:
            raise ServingError(
                f"{program.name} does not start.",
                done.stderr.strip().splitlines()[0],
                "Install the library that it names, then run `course serve setup` again.",
            )
