"""What a learner's compiled code asks of other libraries: read from the libraries' own tables, before anything runs.

The guard looks at the text; this looks at what came out of it, so no spelling hides a call.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from autograder.sandbox.serve import Refused

_HARMLESS = re.compile(
    r"""^(?:
    cuda\w+ | getPluginRegistry | getLogger
    | _Z(?:n|d)[wal]\w*                                              # new and delete
    | _ZN?K?S[tabsiod]\w*  | _ZT[IVS]\w*                             # the standard library, its types
    | __cxa_\w+ | __gxx_personality_v0 | _Unwind_Resume | __stack_chk_fail | __gmon_start__ | _ITM_\w+
    | __asan_\w+                                                     # the compiler calls it
    | mem(?:cpy|move|set|cmp|chr) | str(?:len|n?cmp|n?cpy|chr|rchr|str|to\w+) | malloc | calloc | realloc | free | abs | labs
    | (?:v?sn?|f)?printf | puts | putchar | fputs | fwrite | fflush | std(?:out|err) | __assert_fail | __(?:v?s?n?|f)printf_chk
    | __mem(?:cpy|set|move)_chk | _Znwm
    )$""",
    re.X,
)
_ENGLISH = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "check": True}
_FILES = re.compile(r"basic_[io]?f(?:ile|stream)|basic_filebuf|filesystem|St6thread|St13random_device|St12__basic_file")
_LIBRARIES = re.compile(
    r"(?:kernels\.so|lib(?:asan|stdc\+\+|m|gcc_s|c|rt|dl|pthread)\.so\.\d+|ld-linux[\w-]*\.so\.\d+)"
)


def refuse(library: Path, ours: Iterable[Path], others: Iterable[Path]) -> None:
    """Look at a library that holds code of a learner's and ours.

    Args:
        ours: the object files of our part: what they call may be called. others: libraries, such as libm, of which
            everything may be.

    Raises:
        Refused: it calls, or is linked with, what no plugin needs; names it.
    """
    allowed = _names(ours, "--undefined-only") | _names(others, "-D", "--defined-only")
    for name in sorted(_names([library], "-D", "--undefined-only") - allowed):
        if _FILES.search(name) or not _HARMLESS.match(name):
            raise Refused(
                f"The compiled code calls {name[:100]}.",
                "A plugin computes: it needs CUDA's runtime, TensorRT, mathematics and memory, and no other part of the system.",
                "Leave the call out. `c++filt` turns a name that begins with _Z into C++.",
            )
    said = subprocess.run(["objdump", "-p", str(library)], **_ENGLISH).stdout
    for name in re.findall(r"NEEDED\s+(\S+)", said):
        if not _LIBRARIES.fullmatch(name):
            raise Refused(f"The library is linked with {name}.", "A plugin needs none but CUDA's.", "Leave it out.")


def _names(paths: Iterable[Path], *options: str) -> set[str]:
    """Of all files together: each is a line `path:`, then its names. Of no files none: `nm` would take a.out."""
    if not (paths := list(paths)):
        return set()
    done = subprocess.run(["nm", *options, "--format=posix", *map(str, paths)], **_ENGLISH)
    lines = (line for line in done.stdout.splitlines() if line.strip() and not line.endswith(":"))
    return {line.split()[0].split("@")[0] for line in lines}
