"""Compile the right plugins with TensorRT's real headers, and compare what the examination says with the stand-in's answer.

    python -m tests.native.plugins.compile_results "where the headers are from" INCLUDE_8 INCLUDE_10 INCLUDE_11

Writes docs/results/plugin_compile.json. Nothing is taken from the course's cache. Compiled and examined on a CPU: no plugin runs in TensorRT here.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from course.files import atomic_write
from course.kernels import nvcc
from course.native import plugin
from course.native.plugins import building
from course.native.plugins import headers as header_files
from course.paths import ROOT
from tests.native.plugins.right_plugins import RIGHT


def results(origin: str, includes: list[str]) -> dict:
    """One row for each plugin and each folder of headers."""
    rows = []
    for include in includes:
        real = plugin.headers(include)
        for name, (path, contract) in RIGHT.items():
            sources, began = plugin.find(path), time.monotonic()
            library = building.build_library(sources, real)
            seconds = time.monotonic() - began
            with_real = plugin.examine(path, contract, using=real)
            stand_in = plugin.examine(path, contract, using=header_files.stand_in(real.major))
            rows.append(
                {
                    "plugin": name,
                    "tensorrt": real.version,
                    "compiled": plugin.built_for(library) == real.version,
                    "seconds_to_build": round(seconds, 2),
                    "findings_with_real_headers": sorted(with_real.kinds),
                    "findings_with_stand_in": sorted(stand_in.kinds),
                    "same_combinations": with_real.combinations == stand_in.combinations,
                }
            )
    return {
        "what": "V2 plugins, one source for three generations: compiled by g++ (class) and nvcc (kernels), examined on a CPU; "
        "not run in TensorRT",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": "python -m tests.native.plugins.compile_results ORIGIN INCLUDE...",
        "headers": origin,
        "architecture": nvcc.ARCHITECTURE,
        "compiler": subprocess.run(
            ["g++", "--version"], capture_output=True, encoding="utf-8", check=True
        ).stdout.splitlines()[0],
        "nvcc": subprocess.run(
            ["nvcc", "--version"], capture_output=True, encoding="utf-8", check=True
        ).stdout.splitlines()[-1],
        "rows": rows,
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ["COURSE_CACHE"] = cache
        text = json.dumps(results(sys.argv[1], sys.argv[2:]), indent=1)
    print(atomic_write(Path(ROOT / "docs" / "results" / "plugin_compile.json"), text.encode() + b"\n"))
