"""What confines learners' code on this machine, for who grades on it."""

from __future__ import annotations

import argparse

from autograder.sandbox import bwrap, cgroup


def main(argv: list[str] | None = None) -> int:
    """0 if there is a sandbox."""
    argparse.ArgumentParser(prog="python -m autograder sandbox", description=__doc__).parse_args(argv)
    reason = bwrap.available()
    print(f"sandbox: {reason or 'bubblewrap works'}")
    print(cgroup.words())
    return 1 if reason else 0
