"""From a .cu file to one shared library that holds the kernels, the simulated GPU and a table of source lines.

`compile_cu` needs g++ and CUDA's headers. What it returns needs neither: `process.py` runs it, also on another machine
of the same kind. The library ends in a JSON text (`read_notes`): which line each instruction belongs to, the names of
the kernels, what the compiler warned about.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course.files import atomic_write
from course.kernels import blind, gcc, lines, packages, rewrite, supported, tokens, toolkit
from course.kernels.words import KernelError, RefusedError
from course.paths import cache_dir

SHIM = Path(__file__).resolve().parent / "shim"
_STEPS = ("blind", "compiler", "gcc", "launches", "lines", "rewrite", "source", "supported", "tokens", "variables")
"""Modules on which a library depends: it is compiled again when one of them changes."""
_MAGIC = b"cuda-on-cpu-notes"
_PRECOMPILED = "#pragma GCC pch_preprocess"
_NOT_TAKEN = re.compile(r"PCH|precompiled header")

# -fno-finite-loops: an endless loop must stay one. -fno-delete-null-pointer-checks: and a write to address 0 a crash; GCC
# takes it for unreachable, with all that follows. -fstack-clash-protection: a large local array must hit the guard page.
_STANDARD = "-std=c++17"
_COMMON = [
    _STANDARD,
    "-g1",
    "-fPIC",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fno-threadsafe-statics",
    "-fno-gnu-unique",
    "-fno-finite-loops",
    "-fno-delete-null-pointer-checks",
    "-fstack-clash-protection",
    "-fno-semantic-interposition",
    "-Wuninitialized",
    "-Wmaybe-uninitialized",
]
# An access that is moved, merged or made without need would be reported where the source has none. And GCC does not
# instrument a struct that a call returns or takes: so that none is left, every function is inlined first. Constant
# propagation takes a variable without a value for whatever value suits it, and so hides that it has none.
_CHECKED = [
    "-O1",
    "-fno-tree-ccp",
    "-fno-tree-fre",
    "-fno-tree-sra",
    "-fno-tree-loop-im",
    "-fno-tree-phiprop",
    "-fno-tree-sink",
    "-fsanitize=thread",
    "--param=tsan-instrument-func-entry-exit=0",
    "--param=tsan-distinguish-volatile=1",
    "-fsanitize=bounds,integer-divide-by-zero",
    "-finline-functions",
    "-finline-small-functions",
    *(
        f"--param={name}=100000"
        for name in (
            "max-inline-insns-auto",
            "max-inline-insns-single",
            "max-inline-insns-small",
            "inline-unit-growth",
            "large-function-growth",
            "large-stack-frame-growth",
        )
    ),
]
_FLAGS = {"checked": _CHECKED, "plain": ["-O2"]}
_VARIANTS = {
    "plain": ["-ftrivial-auto-var-init=uninitialized"],
    "pattern": ["-ftrivial-auto-var-init=pattern"],
    "zero": ["-ftrivial-auto-var-init=zero"],
}
"""How a file is compiled: the first in mode plain, the other two in mode checked."""
_REDEFINED = {
    "memcpy": "cucpu_memcpy",
    "memmove": "cucpu_memmove",
    "memset": "cucpu_memset",
    "__assert_fail": "cucpu_assert_fail",
}


@dataclass
class Notes:
    """What a compiled library knows of its source.

    mode: "checked" or "plain". kernels: names. exports: name -> parameter names of the launchers.
    lines: rows (address, file index, line), ascending; line 0 ends a stretch. files: names.
    warnings: (file, line, text, functions) of reads of variables that have no value.
    """

    source: str
    mode: str
    kernels: list[str] = field(default_factory=list)
    exports: dict[str, list[str]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    lines: list[tuple[int, int, int]] = field(default_factory=list)
    warnings: list[gcc.Unset] = field(default_factory=list)


def compile_cu(
    source: str | Path,
    mode: str = "checked",
    *,
    defines: Sequence[str] = (),
    include: Iterable[str | Path] = (),
    out: str | Path | None = None,
    tell: Callable[[str], object] = print,
) -> Path:
    """Compile a .cu file for the CPU, unless the same text was compiled before.

    Args:
        mode: "checked" looks at every access to memory; "plain" is fast and finds only crashes.
        defines: macros, as NAME or NAME=VALUE.
        include: folders of headers besides the file's own.
        out: a folder for the library instead of the course's cache.
        tell: is called with a line if something takes long (headers that must be fetched first).

    Returns: the library's path.

    Raises:
        RefusedError: the file uses what the checker does not do.
        KernelError: the file is missing, does not compile, or g++ or the headers are missing.
    """
    source = Path(source).resolve()
    if not source.is_file():
        raise KernelError(f"{source.name} is missing.", f"There is no such file in {source.parent}.", "Check the name.")
    if mode not in _FLAGS:
        raise KernelError(f"There is no mode {mode!r}.", "The modes are checked and plain.", 'Write mode="checked".')
    gxx, system = toolkit.gxx(), toolkit.headers(tell)
    folder = Path(out).resolve() if out else cache_dir() / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    options = [word for path in include for word in ("-I", str(Path(path).resolve()))]
    ready = runtime(gxx, system)[0].parent
    try:
        return _compiled(gxx, source, mode, defines, options, system, folder, ready / "device.h")
    except _NoPrecompiledError:
        return _compiled(gxx, source, mode, defines, options, system, folder, SHIM / "device.h")


class _NoPrecompiledError(Exception):
    """This GCC cannot use the precompiled headers that it made."""


def _compiled(
    gxx: str,
    source: Path,
    mode: str,
    defines: Sequence[str],
    options: list[str],
    system: toolkit.Headers,
    folder: Path,
    device: Path,
) -> Path:
    """device: the header in front of the learner's file; one beside `runtime`'s objects is read precompiled."""
    text = _preprocess(gxx, source, defines, options, system, device)
    key = hashlib.sha256(
        "\0".join(
            [
                text.replace(str(device.parent), device.parent.name),
                mode,
                *_COMMON,
                *_FLAGS[mode],
                gcc.version(gxx),
                _digest(SHIM.parent / f"{step}.py" for step in _STEPS),
                _digest(SHIM.iterdir()),
                str(system),
            ]
        ).encode()
    )
    library = folder / f"{source.stem}-{mode}-{key.hexdigest()[:16]}.so"
    if not library.is_file():
        words = tokens.cut(text, lambda name, is_system: _foreign(name, is_system) or Path(name) == device)
        _refuse_headers(text, system)
        rewritten = rewrite.rewrite(words, mode == "checked")
        notes = Notes(source.name, mode, rewritten.kernels, rewritten.exports)
        # The table of call sites is declared behind the shim and in front of the learner's first word.
        words[0].before = (
            _as_on_the_device(words[0].before) + rewritten.prologue + f'# {words[0].line} "{words[0].file}"\n'
        )
        _build(
            gxx,
            tokens.joined(words) + rewritten.epilogue,
            source,
            system,
            notes,
            library,
            device.parent,
            {os.path.normpath(word.file) for word in words},
            rewritten.device_functions,
        )
    return library


def read_notes(library: str | Path) -> Notes:
    """The notes at the end of a library that `compile_cu` made.

    Raises:
        KernelError: it is none, or it is damaged.
    """
    data = Path(library).read_bytes()
    tail = len(_MAGIC) + 8
    if data[-len(_MAGIC) :] != _MAGIC:
        raise KernelError(
            f"{Path(library).name} is no library of this course.",
            "Its notes are missing.",
            "Compile it with course.kernels.compile_cu.",
        )
    (size,) = struct.unpack("<Q", data[-tail : -len(_MAGIC)])
    return Notes(**json.loads(data[-tail - size : -tail]))


# ---------------------------------------------------------------- the steps
def _preprocess(
    gxx: str, source: Path, defines: Sequence[str], options: list[str], system: toolkit.Headers, device: Path
) -> str:
    # Macros come behind the shim, whose own names they must not change: as a second included file, from standard input.
    macros = "".join(
        f"#define {name} {value if given else 1}\n" for name, given, value in (word.partition("=") for word in defines)
    )
    command = [
        gxx,
        _STANDARD,
        "-E",
        "-fpch-preprocess",
        "-x",
        "c++",
        *options,
        "-I.",
        *system.flags,
        "-include",
        str(device),
        *(["-include", "/dev/stdin"] if macros else []),
        source.name,
    ]
    done = gcc.run(command, source.parent, macros)
    if done.returncode and _NOT_TAKEN.search(done.stderr) and device.parent != SHIM:
        raise _NoPrecompiledError
    if done.returncode:
        raise KernelError(f"{source.name} does not compile.", gcc.first_error(done.stderr), "Repair this line.")
    return done.stdout


def _foreign(name: str, is_system: bool) -> bool:
    return is_system or not name or name.startswith(("<", "/dev/")) or Path(name).is_relative_to(SHIM)


def _refuse_headers(text: str, system: toolkit.Headers) -> None:
    """A header of NVIDIA's that a file of the learner's includes, and that holds device code for nvcc only."""
    known: dict[str, bool] = {}
    own, last = False, ""
    for match in re.finditer(r'^# (\d+) "([^"\n]*)"([ \d]*)$', text, re.M):
        name, flags = match[2], match[3].split()
        inside = any(Path(name).is_relative_to(folder) for folder in system.folders)
        if "1" in flags and inside and own and Path(name).name not in supported.HEADERS:
            raise RefusedError(
                f"{last}: the header <{os.path.relpath(name, system.folders[0])}> is not supported by the CPU checker.",
                "It holds device code that only nvcc can compile.",
                "docs/cuda_on_cpu.md lists the headers that can be used.",
            )
        own = known.setdefault(name, not _foreign(name, "3" in flags))
        last = f"{name}:{match[1]}" if own else last


def _as_on_the_device(headers: str) -> str:
    """NVIDIA's half and bfloat16 as nvcc sees them: pairs are copied as one word, and every function can be inlined."""
    headers = re.sub(
        r"this->x = src\.x;\s*this->y = src\.y;",
        "*reinterpret_cast<unsigned int*>(this) = *reinterpret_cast<const unsigned int*>(&src);",
        headers,
    )
    return headers.replace("static __attribute__ ((unused))", "static inline __attribute__ ((always_inline))")


def _build(
    gxx: str,
    code: str,
    source: Path,
    system: toolkit.Headers,
    notes: Notes,
    library: Path,
    ready: Path,
    own: set[str],
    device: list[str],
) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=f".{library.stem}.") as name:
        work = Path(name)
        # Checked code is there twice, so that a difference shows a local variable that is used before it has a value.
        variants = {"pattern": 0, "zero": 1} if notes.mode == "checked" else {"plain": 0}
        for variant, number in variants.items():
            precompiled = code.replace(f"{ready}/device.h.gch", f"{ready}/{variant}.gch")
            (work / f"{variant}.ii").write_text(precompiled.replace(rewrite.VARIANT, str(number)))

        def one(variant: str) -> gcc.Done:
            return gcc.run(
                [
                    gxx,
                    *_options(variant),
                    *(["-fdump-tree-tsan-lineno=kernels.tsan"] if variant == "pattern" else []),
                    f"-fdebug-prefix-map={name}=.",
                    "-x",
                    "c++",
                    "-fpreprocessed",
                    "-c",
                    f"{variant}.ii",
                    "-o",
                    f"{variant}.o",
                ],
                work,
            )

        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(one, variants))
        for each in done:
            if each.returncode and _NOT_TAKEN.search(each.stderr) and _PRECOMPILED in code:
                raise _NoPrecompiledError
            if each.returncode:
                raise gcc.does_not_compile(source, each.stderr)
        notes.warnings = gcc.warnings(done[0].stderr)
        if notes.mode == "checked":
            blind.refuse_hidden_accesses(
                (work / "kernels.tsan").read_text(errors="replace"), own, notes.kernels + device
            )
            # The second variant keeps its functions to itself: they have the names of the first one's.
            gcc.must(gcc.run(["ld", "-r", "--force-group-allocation", "zero.o", "-o", "alone.o"], work), "ld")
            gcc.must(gcc.run(["objcopy", "--wildcard", "--localize-symbol=*", "alone.o", "zero.o"], work), "objcopy")
        # Seen from outside: the loader's functions, and for a plugin's class the launchers and CUDA's runtime.
        seen = "".join(f"{name}; " for name in ("cucpu_*", "cuda*", *notes.exports))
        (work / "exported.map").write_text(f"{{ global: {seen}local: *; }};\n")
        renames = [word for pair in _REDEFINED.items() for word in ("--redefine-sym", "=".join(pair))]
        for variant in variants:
            gcc.must(gcc.run(["objcopy", *renames, f"{variant}.o"], work), "objcopy")
        linked = gcc.run(
            [
                gxx,
                "-shared",
                "-Wl,-z,defs",
                "-Wl,-Bsymbolic",
                "-Wl,--version-script=exported.map",
                *map(str, runtime(gxx, system)),
                *(f"{variant}.o" for variant in variants),
                "-o",
                "kernels.so",
            ],
            work,
        )
        if linked.returncode:
            raise gcc.does_not_link(source, linked.stderr)
        notes.files, notes.lines = lines.table(work / "kernels.so", own)
        tail = json.dumps(asdict(notes)).encode()
        atomic_write(library, (work / "kernels.so").read_bytes() + tail + struct.pack("<Q", len(tail)) + _MAGIC)


def _options(variant: str) -> list[str]:
    return [*_COMMON, *_FLAGS["plain" if variant == "plain" else "checked"], *_VARIANTS[variant]]


def runtime(gxx: str, system: toolkit.Headers) -> list[Path]:
    """The simulated GPU as object files, compiled once. Beside them lie the headers in front of every file, precompiled."""
    flags = [_STANDARD, "-O2", "-fPIC", "-fvisibility=hidden"]
    theirs = [path.stat() for folder in system.folders for path in sorted(folder.glob("cuda*.h*"))]
    facts = [f"{one.st_size} {one.st_mtime_ns}" for one in theirs]  # a header that is replaced is read again
    compiled = [*flags, *(word for variant in _VARIANTS for word in _options(variant)), gcc.version(gxx), *facts]
    key = hashlib.sha256("\0".join([*compiled, _digest(SHIM.iterdir()), str(SHIM), str(system)]).encode())
    folder = packages.kept(f"runtime-{key.hexdigest()[:16]}")
    sources = sorted(SHIM.glob("*.cpp"))
    if not folder.is_dir():
        with open(cache_dir() / ".runtime.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # who comes second waits: it takes twenty seconds of a core
            if not folder.is_dir():
                _compile_runtime([gxx, *flags, *system.flags], gxx, system, sources, folder)
    return [folder / f"{path.stem}.o" for path in sources]


def _compile_runtime(
    words: list[str], gxx: str, system: toolkit.Headers, sources: Sequence[Path], folder: Path
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        inside = Path(work) / "objects"
        inside.mkdir()

        def one(path: Path) -> None:
            command = [*words, *first, "-c", str(path), "-o", str(inside / f"{path.stem}.o")]
            gcc.must(gcc.run(command, work), path.name)

        with ThreadPoolExecutor(2) as pool:
            headers = pool.submit(_precompile, gxx, system, inside)
            (Path(work) / "state.h").write_text(f'#include "{SHIM}/state.h"\n')  # what all of them begin with
            made = gcc.run([*words, "-x", "c++-header", "state.h", "-o", "state.h.gch"], work)
            first = [] if made.returncode else ["-include", f"{work}/state.h"]
            list(pool.map(one, sources))
            headers.result()
        os.replace(inside, folder)


def _precompile(gxx: str, system: toolkit.Headers, folder: Path) -> None:
    """The shim's headers and CUDA's, read once for the preprocessor and once for each way to compile: else most of a small
    kernel's compilation would be spent on them. Where GCC cannot, they are read each time."""
    (folder / "device.h").write_text(f'#include "{SHIM}/device.h"\n')
    words = [gxx, _STANDARD, *system.flags]
    plain = gcc.run([*words, "-E", "-x", "c++", "-include", str(SHIM / "device.h"), os.devnull], folder)
    gcc.must(plain, "device.h")
    (folder / "device.ii").write_text(_as_on_the_device(plain.stdout))
    for variant in _VARIANTS:
        command = [gxx, *_options(variant), "-x", "c++-header", "-fpreprocessed", "device.ii", "-o", f"{variant}.gch"]
        if gcc.run(command, folder).returncode:
            return
    gcc.run([*words, "-x", "c++-header", "device.h", "-o", "device.h.gch"], folder)
    (folder / "device.ii").unlink()


def _digest(paths: Iterable[Path]) -> str:
    """Of our own sources: a library that an older course compiled is not taken."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
