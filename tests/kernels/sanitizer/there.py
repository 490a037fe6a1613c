"""Runs each kernel on a GPU, plain and under each tool of compute-sanitizer. Needs Python with NumPy, nothing else.

    python3 there.py OUT [--seconds S] [--jobs N] [--gpus N]

Lies in the folder that `prepare` wrote. Every run is a process of its own, for a kernel that fails takes the context with
it. Each result becomes a line of OUT/runs.jsonl at once; started again, it goes on.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = {
    "plain": [],
    "memcheck": ["--leak-check", "full"],
    "racecheck": ["--racecheck-report", "all"],
    "initcheck": [],
    "synccheck": [],
}
MOST_LOG = 12000


def launched(name: str, outputs: Path | None) -> dict:
    """Call one launcher on arrays of exactly the size that it asks for; what CUDA said."""
    import numpy as np

    case = next(one for one in json.loads((HERE / "cases.json").read_text())["cases"] if one["name"] == name)
    arrays = np.load(HERE / f"{name}.npz")
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(function: str, *arguments: object) -> None:
        if status := getattr(cuda, function)(*arguments):
            raise RuntimeError(f"{function}: CUDA error {status}")

    context, device = ctypes.c_void_p(), ctypes.c_int()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    given, buffers = [], {}
    for number, one in enumerate(case["arguments"], 1):
        if "value" in one:
            value = one["value"]
            kind = ctypes.c_float if isinstance(value, float) else ctypes.c_void_p if value is None else ctypes.c_int
            given.append(kind(value))
            continue
        size = int(np.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize
        pointer = ctypes.c_uint64()
        call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
        if f"a{number}" in arrays:
            values = np.ascontiguousarray(arrays[f"a{number}"])
            call("cuMemcpyHtoD_v2", pointer, values.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(size))
        buffers[number] = (pointer, size, one)
        given.append(pointer)
    function = getattr(ctypes.CDLL(str(HERE / case["library"])), case["launcher"])
    said = {"returned": function(*given), "synchronize": cuda.cuCtxSynchronize()}
    got = {}
    for number, (pointer, size, one) in buffers.items():
        if one["written"] and not said["synchronize"]:
            got[f"a{number}"] = np.empty(one["shape"], one["dtype"])
            target = got[f"a{number}"].ctypes.data_as(ctypes.c_void_p)
            said["copy"] = said.get("copy", 0) or cuda.cuMemcpyDtoH_v2(target, pointer, ctypes.c_size_t(size))
        cuda.cuMemFree_v2(pointer)
    cuda.cuDevicePrimaryCtxRelease_v2(device)
    if outputs:
        np.savez(outputs, **got)
    return said


def command(case: dict, tool: str, out: Path, log: Path, port: int) -> list[str]:
    inside = [sys.executable, str(HERE / "there.py"), str(out), "--one", case["name"]]
    if tool == "plain":
        return [*inside, "--outputs", str(out / "outputs" / f"{case['name']}.npz")]
    # Each worker has ports of its own: by default only a few of these tools find a free one at a time.
    where = ["--port", str(port), "--max-connections", "10", "--log-file", str(log), "--print-limit", "20"]
    return ["compute-sanitizer", "--tool", tool, *TOOLS[tool], *where, *inside]


def run(case: dict, tool: str, out: Path, worker: int, gpu: int) -> dict:
    """One run, ended after a while: kernels with a broken barrier may wait for ever."""
    log = out / f"log{worker}.txt"
    log.unlink(missing_ok=True)
    limit = 15 if case["may_wait"] else 40
    folder = out / f"tmp{worker}"
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "TMPDIR": str(folder)}
    begin = time.monotonic()
    process = subprocess.Popen(
        command(case, tool, out, log, 50000 + 20 * worker),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=limit)
        ended = True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        ended = False
    text = log.read_text(errors="replace") if log.exists() else ""
    summary = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", text)
    return {
        "name": case["name"],
        "tool": tool,
        "ended": ended,
        "status": process.returncode,
        "seconds": round(time.monotonic() - begin, 2),
        "said": said[-2000:],
        "summary": summary and summary[1],
        "log": text[:MOST_LOG],
    }


def planned(cases: list[dict], refused: dict) -> list[tuple[dict, str]]:
    """What says most comes first; what may wait for ever comes last in its group."""
    cases = sorted((one for one in cases if one["library"] not in refused), key=lambda one: one["may_wait"])
    groups = [
        [(one, "plain") for one in cases],
        [(one, one["tool"]) for one in cases if one["tool"] in TOOLS],
        [(one, tool) for tool in list(TOOLS)[1:] for one in cases if not one["tool"]],
        [(one, tool) for tool in list(TOOLS)[1:] for one in cases if one["tool"] and one["tool"] != tool],
    ]
    return [item for group in groups for item in group]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing new after this time")
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--outputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print("SAID", json.dumps(launched(options.one, options.outputs)))
        return
    begin, out = time.monotonic(), options.out.resolve()
    (out / "outputs").mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"/usr/local/cuda/bin:{os.environ['PATH']}"
    os.environ["LD_LIBRARY_PATH"] = f"/usr/local/cuda/lib64:{os.environ.get('LD_LIBRARY_PATH', '')}"
    if not shutil.which("compute-sanitizer"):
        sys.exit("compute-sanitizer is not here: it comes with the CUDA toolkit.")
    version = subprocess.run(["compute-sanitizer", "--version"], capture_output=True, text=True).stdout
    gpus = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
    (out / "machine.txt").write_text(re.sub(r" \(UUID.*?\)", "", gpus) + version)
    given = json.loads((HERE / "cases.json").read_text())
    results = out / "runs.jsonl"
    done = {(row["name"], row["tool"]) for row in map(json.loads, results.open())} if results.exists() else set()
    waiting: queue.Queue = queue.Queue()
    for case, tool in planned(given["cases"], given["refused"]):
        if (case["name"], tool) not in done:
            waiting.put((case, tool))
    total, lock = waiting.qsize(), threading.Lock()

    def work(worker: int) -> None:
        while time.monotonic() - begin < options.seconds:
            try:
                case, tool = waiting.get_nowait()
            except queue.Empty:
                return
            row = run(case, tool, out, worker, worker % options.gpus)
            with lock, results.open("a") as file:
                file.write(json.dumps(row) + "\n")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(options.jobs)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    print(f"{total - waiting.qsize()} of {total} runs, {time.monotonic() - begin:.0f} s, {version.splitlines()[-1:]}")


if __name__ == "__main__":
    main()
