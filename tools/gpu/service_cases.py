"""Milestone 4a on a GPU: the solution, and repositories that look like it and must get nothing for CUDA graphs.

    python -m tools.gpu.service_cases --out docs/results/<card>/m4a_cases [--mode hidden --who me] [CASE ...]

Measured are the checks "answers" and "graphs" only; `tools.gpu.grade` measures all of the solution. Each wrong repository is the
solution with one part of `on_gpu.py` replaced. In --out: cases.json, with the points, words and values of each, and the machine.
Exit status 0 if each got what it must.

With Python 3.10 and an unpacked wheel of nvidia-pytriton in PYTRITON, about ten minutes on an H200:

    python3.10 -m compileall -q -j 0 SITE/torch SITE/tensorrt   # of site-packages: models start in seconds, not tens of them
    python3.10 -m tools.gpu.triton_here PYTRITON
    export TRT_GRADER_SECRET=$(head -c 16 /dev/urandom | xxd -p)
    python3.10 -m tools.gpu.grade s4.m4a --out OUT/m4a --mode hidden --who me
    python3.10 -m tools.gpu.service_cases --out OUT/m4a_cases --mode hidden --who me

The first has what the thresholds in `autograder/milestones/stage4.py` rest on: `ratios` and `samples_ms` of the graphs, the batches,
the rates that were borne, and `doubt` where the load generator may have been the limit. The second shows that CUPTI sees launches
("no graph": none of graphs, tens of kernels for each request).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from autograder import milestones
from autograder.measuring.measure import measure
from autograder.milestones.stage4 import REPOSITORY
from autograder.tasks import inputs
from course import bench
from course.files import atomic_write
from tools.gpu import grade

CASES: dict[str, tuple[str, str]] = {
    "solution": ("", ""),
    "no graph": (
        """            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                run()
""",
        "        graph = type('', (), {'replay': staticmethod(run)})()\n",
    ),
    "captured, not replayed": (
        "        return graph, host.numpy()",
        "        graph = type('', (), {'replay': staticmethod(run)})()\n        return graph, host.numpy()",
    ),
    "stale input": ("        host[:count] = images\n", "        host = images\n"),
    "preprocessing outside": (
        """            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                run()
""",
        """            with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
                context.execute_async_v3(self.stream.cuda_stream)
        engine_alone = graph.replay

        def replay():
            with torch.inference_mode():
                images.copy_(host, non_blocking=True)
                for _ in range(4):  # as who goes image by image
                    small = images.permute(0, 3, 1, 2).float()
                    large = F.interpolate(small, size=(224, 224), mode="bilinear", align_corners=False)
                    pixels.copy_((large - self.mean) / self.std)
                engine_alone()
                answers.copy_(logits, non_blocking=True)

        graph = type("", (), {"replay": staticmethod(replay)})()
""",
    ),
}
"""Name -> (what of on_gpu.py, what stands there instead). The first is the solution."""
EXPECTED = {"solution": {"answers": 5.0}, "stale input": {"answers": 0.0, "graphs": 0.0}}
"""Name -> check -> points; a wrong one gets nothing for graphs if it is not named."""


def apply(name: str, version: Path) -> None:
    """Change the solution's program in a version's folder."""
    old, new = CASES[name]
    path = version / "on_gpu.py"
    text = path.read_text()
    if old and text.count(old) != 1:
        raise SystemExit(f"{path}: the part that {name!r} replaces stands there {text.count(old)} times.")
    path.write_text(text.replace(old, new) if old else text)


def say(text: str) -> None:
    print(f"    {time.strftime('%H:%M:%S')}  {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mode", choices=inputs.MODES, default="public")
    parser.add_argument("--who", default="")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"some of: {', '.join(map(repr, CASES))}")
    args = parser.parse_args()
    milestone = milestones.get("s4.m4a")
    milestone = replace(milestone, checks=tuple(one for one in milestone.checks if one.id in ("answers", "graphs")))
    args.out.mkdir(parents=True, exist_ok=True)
    record: dict = {"command": ["python", "-m", "tools.gpu.service_cases", *sys.argv[1:]], "machine": bench.machine()}
    record["cases"], good = {}, True
    temporary = tempfile.TemporaryDirectory(prefix="cases-")
    solution = Path(temporary.name) / "solution"
    solution.mkdir()
    grade.make(milestone, solution)
    for number, name in enumerate(args.cases or CASES):
        folder = Path(temporary.name) / str(number)
        shutil.copytree(solution, folder)
        apply(name, folder / REPOSITORY / "classifier" / "1")
        report = measure(milestone, folder, args.mode, args.who, lane="gpu", say=say)
        points = {check.id: check.points for check in report.checks}
        wanted = EXPECTED.get(name, {"graphs": 0.0})
        right = all(points[check] == number for check, number in wanted.items()) and not report.open_points
        good &= right
        print(f"{name}: {points}, {'as it must be' if right else f'WRONG: {wanted} was expected'}")
        for check in report.checks:
            print(f"    {check.id}: {check.measured}. {check.message}", flush=True)
        if report.problem or report.reason:
            print(report.problem or report.reason, flush=True)
        record["cases"][name] = json.loads(report.to_json())
        atomic_write(args.out / "cases.json", json.dumps(record, indent=1).encode())
    temporary.cleanup()
    return int(not good)


if __name__ == "__main__":
    raise SystemExit(main())
