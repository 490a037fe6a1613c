"""Run the tests marked `gpu`, each in a process of its own, some at a time: TensorRT can end a process by a crash.

    python -m tools.gpu.gpu_tests --log docs/results/h200/gpu_tests.log [--jobs 6] [-k WORDS] [tests/engine/test_tensorrt.py ...]

Exit status 0 if all passed. The log has every outcome by name, then the output of those that failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from course.paths import ROOT

OUTCOMES = {0: "passed", 5: "not there", 124: "took too long"}


def pytest(*arguments: str, seconds: float) -> tuple[int, str]:
    """Exit status (negative: the signal that ended it; 124: too long) and output."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        return 124, (error.stdout or b"").decode(errors="replace") if isinstance(error.stdout, bytes) else str(
            error.stdout
        )
    return done.returncode, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", default=["tests"])
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=6, help="tests at a time")
    parser.add_argument("--seconds", type=float, default=240, help="longest time for one test")
    parser.add_argument("-k", default="", help="only tests whose name has these words, as pytest reads them")
    args = parser.parse_args()

    status, listing = pytest("--collect-only", "-m", "gpu", "-k", args.k, *args.files, seconds=300)
    names = sorted({line.split("[")[0] for line in listing.splitlines() if "::" in line})  # all parameters together
    if status or not names:
        sys.exit(f"No GPU test could be collected:\n{listing[-2000:]}")
    began, rows, outputs = time.time(), [], []

    def one(name: str) -> tuple[str, str, float, str]:
        start = time.time()
        code, output = pytest(name, "-m", "gpu", seconds=args.seconds)
        outcome = OUTCOMES.get(code, f"crashed (signal {-code})" if code < 0 else "failed")
        if outcome == "passed" and " skipped" in output and " passed" not in output:
            outcome = "skipped"
        return name, outcome, time.time() - start, output

    args.log.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        for name, outcome, seconds, output in pool.map(one, names):
            rows.append(
                f"{outcome:12} {seconds:6.1f} s  {name}  ({output.strip().splitlines()[-1] if output.strip() else ''})"
            )
            print(rows[-1], flush=True)
            if outcome != "passed":
                outputs.append(f"\n===== {name}: {outcome}\n{output}")
            args.log.write_text("\n".join(rows + outputs) + "\n")
    passed = sum(row.startswith("passed") for row in rows)
    closing = f"{passed} of {len(rows)} GPU tests passed in {time.time() - began:.0f} s"
    args.log.write_text("\n".join([closing, *rows, *outputs]) + "\n")
    print(closing)
    sys.exit(passed != len(rows))


if __name__ == "__main__":
    main()
