"""Writes the kernels of all sets, compiled by nvcc, with their arguments into a folder for a machine with a GPU.

    python -m tests.kernels.sanitizer.prepare FOLDER [--architecture sm_90]

There, Python with NumPy is enough:  python3 FOLDER/there.py OUT
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from rich.progress import track

from course.kernels import KernelError, nvcc
from course.kernels.arguments import Buffer, prepared
from tests.kernels.sanitizer.cases import Case, all_cases


def described(case: Case, folder: Path) -> dict:
    """A case as JSON; the values of its arrays go into a file beside it."""
    arrays, arguments = {}, []
    for number, argument in enumerate(case.arguments, 1):
        item = prepared(argument, number)
        if not isinstance(item, Buffer):
            arguments.append({"value": item.value})
            continue
        if item.array is not None:
            arrays[f"a{number}"] = item.array
        arguments.append({"shape": item.shape, "dtype": item.dtype.str, "written": bool(item.flags & 2)})
    np.savez(folder / f"{case.name}.npz", **arrays)
    return {
        "name": case.name,
        "set": case.set,
        "library": f"{case.file.stem}.so",
        "launcher": case.launcher,
        "arguments": arguments,
        "tool": case.tool,
        "may_wait": case.may_wait,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--architecture", default="sm_90")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    cases, refused = all_cases(), {}
    for file in track(sorted({case.file for case in cases}), "compiling"):
        try:
            built = nvcc.build(file, "shared", architecture=options.architecture, flags=("-O2", "-lineinfo"))
            shutil.copyfile(built, options.folder / f"{file.stem}.so")
        except KernelError as error:
            refused[f"{file.stem}.so"] = str(error)
    rows = [described(case, options.folder) for case in cases]
    (options.folder / "cases.json").write_text(json.dumps({"cases": rows, "refused": refused}, indent=1))
    shutil.copyfile(Path(__file__).with_name("there.py"), options.folder / "there.py")
    print(f"{len(rows)} cases in {options.folder}; nvcc refused: {refused or 'nothing'}")


if __name__ == "__main__":
    main()
