"""Keeps one server, and clears up whatever ends first: the server, the client, or both.

Runs as a program of its own, with the standard library only: `python -I -S keeper.py SPEC`, SPEC a JSON file with the
server's command and environment, the number of the open file for its log, the prefix of its shared memory, a temporary
folder and the seconds that it may take to stop. It writes the server's process id, and ends with its exit status. Its
standard input is a lifeline: when the other end closes, because the client said so or because it died, the server is
stopped. The server's processes form a group, which is killed at the end, and every piece of shared memory with the
server's prefix goes.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def remove_shared_memory(prefix: str) -> list[str]:
    """Unlink what is left in /dev/shm under this prefix; the names."""
    left = sorted(Path("/dev/shm").glob(f"{prefix}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return [path.name for path in left]


def kill_group(group: int) -> None:
    """Kill every process of the group and collect those that became ours."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            os.waitpid(-group, os.WNOHANG)
        except ChildProcessError:
            pass
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)


def keep(spec: dict) -> int:
    """Start the server, wait for its end or for ours, clear up. The server's exit status."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # a model's process whose server died becomes our child, not init's
    wake, woken = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(woken, b"x"))
    server = subprocess.Popen(
        spec["command"],
        env=spec["environment"],
        stdin=subprocess.DEVNULL,
        stdout=spec["log"],
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # if even the keeper is killed
    )
    print(server.pid, flush=True)
    while server.poll() is None:
        if select.select([0, wake], [], [], 0.1)[0]:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(spec["stop_seconds"])
            except subprocess.TimeoutExpired:
                pass
            break
    kill_group(server.pid)
    status = server.wait()
    remove_shared_memory(spec["prefix"])
    shutil.rmtree(spec["temporary"], ignore_errors=True)
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(keep(json.loads(Path(sys.argv[1]).read_text())))
