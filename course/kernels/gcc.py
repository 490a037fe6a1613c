"""Runs of g++ and its companions, and what they say in words of the course."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from course.kernels.words import KernelError, RefusedError

SECONDS = 180  # for one run of the compiler, on a slow or busy machine
Done = subprocess.CompletedProcess[str]
Unset = tuple[str, int, str, list[str]]
"""A variable that is used before it has a value: file, line, sentence, the functions where it was seen."""


def run(command: Sequence[str], cwd: str | Path, text: str = "") -> Done:
    """Run a program with English messages.

    Raises:
        KernelError: it is missing or takes too long. (A status other than 0 is for the caller.)
    """
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            input=text,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise KernelError(
            f"{command[0]} is missing.",
            "It belongs to g++ (package binutils).",
            "Debian and Ubuntu: sudo apt install g++.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise KernelError(
            f"{Path(command[0]).name} did not end within {SECONDS} s.",
            "The file is very large, or a template or constexpr function never ends.",
            "Look for a template that instantiates itself.",
        ) from error


def must(done: Done, name: str) -> None:
    """Raise a KernelError if a step that does not depend on the learner's file has failed."""
    if done.returncode:
        raise KernelError(
            f"The simulated GPU could not be built ({name}).",
            first_error(done.stderr),
            "Report this with the output of `g++ --version`.",
        )


def version(gxx: str) -> str:
    """The compiler's own line about itself."""
    return run([gxx, "--version"], "/").stdout.splitlines()[0]


def does_not_compile(source: Path, said: str) -> KernelError:
    """The error for a file of the learner's, from what g++ said."""
    error = first_error(said)
    if re.search(r"inlining failed in call to .always_inline.*recursive inlining", error):
        return RefusedError(
            f"{source.name}: recursion in device code is not supported by the CPU checker.",
            error,
            "Write it as a loop; docs/cuda_on_cpu.md lists what is supported.",
        )
    next_step = "Repair the first error first: later ones often follow from it."
    if "was not declared in this scope" in error:
        next_step = "Check the spelling. If nvcc knows the name, the CPU checker does not: see docs/cuda_on_cpu.md."
    return KernelError(f"{source.name} does not compile.", error, next_step)


def does_not_link(source: Path, said: str) -> KernelError:
    """The error for names that nothing defines, from what the linker said."""
    missing = sorted(set(re.findall(r"undefined reference to [`'](\w+)", said)))
    names = ", ".join(missing[:5]) or "a function"
    return RefusedError(
        f"{source.name}: {names} is not supported by the CPU checker.",
        "It is declared, but neither this file nor the simulated CUDA runtime defines it.",
        "Define it in this file, or see docs/cuda_on_cpu.md for what is supported.",
    )


def warnings(said: str) -> list[Unset]:
    """Reads of variables without a value: where the variable is declared, the sentence, the functions it was seen
    in."""
    found: dict[tuple[str, int, str], set[str]] = {}
    functions: set[str] = set()
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if context := re.match(r"\S+: In .*?(?:function|instantiation of) '(.*)'", line):
            functions = {context[1]}
        elif inlined := re.search(r"inlined from '(.*)' at ", line):
            functions.add(inlined[1])
        warning = re.match(r"([^:]+):(\d+):\d+: warning: ('[^']*') (is|may be) used uninitialized \[", line)
        if not warning or Path(warning[1]).is_absolute():
            continue
        declared = next(
            (
                note
                for later in lines[number + 1 : number + 8]
                if (note := re.match(r"([^:]+):(\d+):\d+: note: '[^']*' (?:was )?declared here", later))
            ),
            warning,
        )
        text = f"{warning[3]} {warning[4]} used before it has a value, in line {warning[2]}"
        found.setdefault((Path(declared[1]).name, int(declared[2]), text), set()).update(functions)
    return [(*where, sorted(names)) for where, names in sorted(found.items())]


def first_error(said: str) -> str:
    """The compiler's first error with the line that it shows, else the last lines."""
    shown = [line for line in said.splitlines() if line.strip()]
    for index, line in enumerate(shown):
        if re.search(r"\berror:|undefined reference", line):
            return "\n    ".join(part.rstrip() for part in shown[index : index + 3])
    return "\n    ".join(shown[-4:]) or "The compiler gave no reason."
