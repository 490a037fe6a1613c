"""Make Triton's environment from an unpacked wheel, on a machine without a package index: its models then see this Python's packages.

    python -m tools.gpu.triton_here PYTRITON

The folder PYTRITON holds nvidia-pytriton 0.7.0 as its wheel has it, with the Python backend for this Python's version. Afterwards
`course.serving.environment.find` finds it, as after `course serve setup`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np

from course.files import atomic_write
from course.machine.look import triton_venv
from course.serving.environment import COMPLETE, PACKAGES, Environment, find


def make(wheel: Path) -> Environment:
    """Links into `wheel`, and one to each folder with packages that this Python has.

    Raises:
        ServingError: the wheel is not whole.
    """
    folder, version = triton_venv(), f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = folder / "lib" / f"python{version}" / "site-packages"
    (site / "pytriton").symlink_to((wheel / "pytriton").resolve())
    packages = {str(Path(np.__file__).parents[1]), sysconfig.get_paths()["purelib"]}
    atomic_write(site / "this_python.pth", "\n".join(sorted(packages)).encode())
    libraries = (f"{sys.base_prefix}/lib", str((wheel / "nvidia_pytriton.libs").resolve()))
    atomic_write(
        folder / COMPLETE, json.dumps({"python": version, "libraries": libraries, "packages": PACKAGES}).encode()
    )
    made = Environment(folder, version, libraries)
    for program in (made.server / "bin" / "tritonserver", made.stub):
        program.chmod(0o755)  # an archive may have lost it
    return find()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    print(make(parser.parse_args().wheel).server)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
