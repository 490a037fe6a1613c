"""The real Python bindings of three TensorRT versions, and what they hold, on a machine without TensorRT.

A bindings wheel (1 MB) holds one extension module that links against TensorRT's libraries. Here they are
replaced by empty ones with the same names, so that the module imports and shows its classes, methods and
signatures. Nothing can be built with it. Nothing is installed: wheels and dumps lie in the course's cache.
"""

from __future__ import annotations

import ctypes
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from course.files import atomic_write, sha256
from course.paths import cache_dir

DUMP = Path(__file__).with_name("dump.py")
"""The script that runs in the process of its own."""


@dataclass(frozen=True)
class Wheel:
    """One version's bindings on PyPI: project name, version, and SHA-256 by Python version."""

    project: str
    version: str
    platform: str
    sha256: dict[str, str]


WHEELS = {
    "8.6": Wheel(
        "tensorrt-bindings",
        "8.6.1",
        "manylinux_2_17_x86_64",
        {
            "3.10": "6f9d26d5d8f6b87d62048c5ef4bb33b179cdf944d1b28480458d8c27d1e65456",
            "3.11": "705cfab5c60f0bed7d939559d880165a761bd9ac0f4203004948a760eef99838",
        },
    ),
    "10.16": Wheel(
        "tensorrt-cu13-bindings",
        "10.16.1.11",
        "manylinux_2_28_x86_64",
        {
            "3.10": "c8e171511a01a2678cb3e00ca4792bc1d7ea6c48da9781ab127970f6ad1edc4a",
            "3.11": "f986d47980d042cc126506a9b84586e55ad13737a7a46826fe45457c04d66294",
            "3.12": "2fb87ac24a5e5f42e43f283c16d1b661dc72ef18568fd847ce2080b7db9ca232",
        },
    ),
    "11.4": Wheel(
        "tensorrt-cu13-bindings",
        "11.4.0.106",
        "manylinux_2_28_x86_64",
        {
            "3.10": "1d17853da33a186c4d4d39995c1186bb59f643689aabac9c3e33ae5f0ba402f5",
            "3.11": "d072ac2a095e2be749fefc847adfb25d5ebe70303401df62ede8fe67a59f27fc",
            "3.12": "5fc7a6c412881f7212030893bd5531b1a0ff415c72c7678dfe4ead7a7765b38d",
        },
    ),
}
"""Short name, as the tests print it, to the pinned wheel."""


class Unavailable(Exception):
    """The API of a version cannot be read here and now."""


class NeverAvailable(Unavailable):
    """No wheel of this version fits this machine and its Pythons: there is nothing that a user could mend."""


def load_api(name: str) -> dict:
    """API of one version, as `dump.py` writes it; made on the first call, then read from the cache.

    Raises:
        Unavailable: wrong platform, no fitting Python, no compiler, or no way to the package registry.
    """
    wheel = WHEELS[name]
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise NeverAvailable(f"TensorRT {wheel.version}: its wheels are for Linux on x86_64.")
    python, tag = _python_for(wheel)
    folder = cache_dir() / "contract"
    folder.mkdir(exist_ok=True)
    dump = folder / f"api-{wheel.version}-{wheel.sha256[tag][:16]}-{sha256(DUMP)[:16]}.json"
    if not dump.is_file():
        file = _download(wheel, tag, folder)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            atomic_write(dump, _dump(file, python, Path(scratch)))
    return json.loads(dump.read_text())


def _python_for(wheel: Wheel) -> tuple[str, str]:
    """(interpreter, its version) that the wheel fits: this one, else any other on the PATH."""
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if running in wheel.sha256:
        return sys.executable, running
    for tag in wheel.sha256:
        if found := shutil.which(f"python{tag}"):
            return found, tag
    raise NeverAvailable(
        f"TensorRT {wheel.version}: wheels exist for Python {', '.join(wheel.sha256)}; "
        f"this is {running}, and none of those is on the PATH."
    )


def _download(wheel: Wheel, tag: str, folder: Path) -> Path:
    """Path of the wheel, fetched by pip if it is not there yet. pip checks the pinned SHA-256."""
    pattern = f"{wheel.project.replace('-', '_')}-{wheel.version}-cp{tag.replace('.', '')}-*.whl"
    for file in folder.glob(pattern):
        if sha256(file) == wheel.sha256[tag]:
            return file
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wanted = Path(scratch, "wanted.txt")
        wanted.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256[tag]}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={tag}",
            f"--platform={wheel.platform}",
            "--require-hashes",
            f"--requirement={wanted}",
            f"--dest={scratch}",
            "--retries=1",
            "--timeout=15",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        found = list(Path(scratch).glob(pattern))
        if done.returncode or not found:
            raise Unavailable(
                f"TensorRT {wheel.version}: pip could not download {wheel.project}: {_last_error(done.stderr)}"
            )
        return Path(shutil.move(found[0], folder / found[0].name))


def _last_error(text: str) -> str:
    lines = text.splitlines() or ["no message"]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines)[-1].removeprefix("ERROR: ")


def _dump(file: Path, python: str, scratch: Path) -> bytes:
    """JSON of the API, from a process of its own that imports the wheel over empty libraries."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(scratch)
    stubs = scratch / "stubs"
    stubs.mkdir()
    _make_stubs(scratch / "tensorrt_bindings" / "tensorrt.so", stubs)
    environment = {"LD_LIBRARY_PATH": str(stubs), "PATH": "/usr/bin:/bin"}
    command = [python, "-X", "utf8", "-W", "ignore", DUMP, scratch, scratch / "api.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{file.name} did not import over its stub libraries:\n{done.stderr}")
    return (scratch / "api.json").read_bytes()


def _make_stubs(extension: Path, folder: Path) -> None:
    """Compile an empty library for each TensorRT library that `extension` links to.

    The first one also defines the symbols that the extension needs and that neither Python nor libc has.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not (shutil.which("readelf") and shutil.which("nm")):
        raise Unavailable("No C compiler with binutils was found. Next step: `sudo apt install gcc`.")
    dynamic = subprocess.run(["readelf", "-dW", extension], check=True, capture_output=True, text=True).stdout
    libraries = re.findall(r"NEEDED.*\[(libnv[^\]]*)\]", dynamic)
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", extension], check=True, capture_output=True, text=True
    ).stdout
    here = ctypes.CDLL(None)  # Python itself, the C library, and all that they loaded
    missing = []
    for kind, symbol in (line.split()[-2:] for line in symbols.splitlines()):
        versioned = "@" in symbol  # GLIBC, GLIBCXX
        if kind == "U" and not versioned and not re.match("_?Py", symbol) and not hasattr(here, symbol):
            missing.append(symbol)
    source = "".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in missing)
    for library in libraries:
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{library}", "-o", folder / library],
            input=source,
            text=True,
            check=True,
        )
        source = ""
