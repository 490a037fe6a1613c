"""How much more traffic services bear than the naive one, several times: what the ramp of milestone 4a separates. On a CPU.

    python -m tools.thresholds.m4a_goodput --out docs/results/m4a_goodput.json [--runs 3]

Each run is the milestone's own measurement in its boxes, on other images: the naive service, the one that is judged, and
the naive service again climb one ladder of rates. Judged are the naive service itself, the course's solution with one
instance, and the course's solution. Needs Triton (`course serve setup`) and a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from autograder.measuring.measure import measure
from autograder.milestones.stage4 import REPOSITORY, SERVICE
from course import bench
from course.export import export
from course.files import atomic_write
from course.models import resnet50
from course.paths import ROOT
from course.serving.repository import PROGRAMS

SOLUTION = ROOT / "solutions" / "stage4_architect" / REPOSITORY / "classifier"


def handed_in(folder: Path, source: Path, change: tuple[str, str] = ("", "")) -> Path:
    """A learner's folder with a service: the program and configuration of `source`, with the reference's network."""
    model = folder / REPOSITORY / "classifier"
    (model / "1").mkdir(parents=True)
    program = source / "1" / "model.py" if (source / "1").is_dir() else source / "model.py"
    shutil.copyfile(program, model / "1" / "model.py")
    text = (source / "config.pbtxt").read_text()
    assert change[0] in text
    (model / "config.pbtxt").write_text(text.replace(*change))
    names = {"input_names": ["image"], "output_names": ["logits"], "dynamic": {"image": {0: "batch"}}}
    export(resnet50(), (torch.rand(2, 3, 224, 224),), model / "1" / "model.onnx", **names, target="8.6")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    os.environ.setdefault("TRT_GRADER_SECRET", os.urandom(16).hex())  # other images than those that learners see
    kept = tuple(one for one in SERVICE.checks if one.id in ("answers", "goodput"))
    milestone, machine = replace(SERVICE, checks=kept), bench.machine()
    found: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        services = {
            "naive": handed_in(Path(folder) / "naive", PROGRAMS / "naive"),
            "one instance": handed_in(Path(folder) / "one", SOLUTION, ("count: 2", "count: 1")),
            "solution": handed_in(Path(folder) / "solution", SOLUTION),
        }
        for number in range(args.runs):
            for name, work in services.items():
                load = os.getloadavg()[0]
                report = measure(milestone, work, "hidden", f"run {number}", lane="cpu")
                check = next(one for one in report.checks if one.id == "goodput")
                found.setdefault(name, []).append({"load_before": load, "points": check.points, **check.values})
                print(f"{name:14} {check.measured}: {check.points} points", flush=True)
    record = {
        "command": ["python", "-m", "tools.thresholds.m4a_goodput", *sys.argv[1:]],
        "machine": machine,
        "ramp": SERVICE.checks[2].lanes["cpu"].ratio.text(),
        "services": found,
    }
    atomic_write(args.out, (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
