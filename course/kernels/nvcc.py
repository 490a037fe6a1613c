"""What nvcc makes of a kernel, without a GPU: registers, spills, shared memory, and the width of each load.

for kernel in nvcc.inspect("relu.cu"):
    print(kernel)
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from course.files import atomic_write
from course.kernels import toolkit
from course.kernels.gcc import first_error
from course.kernels.words import KernelError
from course.paths import cache_dir

ARCHITECTURE = "sm_80"
SECONDS = 600  # for one compilation, on a slow or busy machine
KINDS = {
    "cubin": ["-cubin"],
    "object": ["-c", "-Xcompiler", "-fPIC"],
    "shared": ["-shared", "-Xcompiler", "-fPIC", "--cudart", "shared"],
}
_SPACES = {
    "LDG": "global",
    "STG": "global",
    "LDGSTS": "global",
    "RED": "global",
    "REDG": "global",
    "ATOM": "global",
    "ATOMG": "global",
    "LDS": "shared",
    "STS": "shared",
    "ATOMS": "shared",
    "LDL": "local",
    "STL": "local",
    "LDC": "constant",
}


@dataclass(frozen=True)
class MemoryInstruction:
    """One kind of memory instruction of a kernel, such as LDG.E.128.

    space: global, shared, local or constant. bytes: of one thread. count: how often it stands in the machine code (not
    how
    often it runs).
    """

    name: str
    space: str
    write: bool
    bytes: int
    count: int

    def __str__(self) -> str:
        what = "store" if self.write else "load"
        return f"{self.count} x {self.name} ({what}, {self.space}, {self.bytes} bytes a thread)"


@dataclass(frozen=True)
class KernelCode:
    """A kernel as ptxas and cuobjdump show it.

    registers: of a thread. spill_stores, spill_loads, stack: bytes of a thread in local memory. shared: bytes of
    __shared__
    variables. instructions: mnemonic with its endings -> how often it stands in the code.
    """

    name: str
    architecture: str
    registers: int
    spill_stores: int
    spill_loads: int
    stack: int
    shared: int
    barriers: int
    instructions: dict[str, int] = field(default_factory=dict, repr=False)

    @property
    def spills(self) -> bool:
        """Values that found no register travel through local memory."""
        return self.spill_stores + self.spill_loads > 0

    @property
    def memory(self) -> tuple[MemoryInstruction, ...]:
        """Loads, stores and atomics, by space."""
        found = []
        for name, count in self.instructions.items():
            base = name.split(".")[0]
            if base in _SPACES:
                write = base.startswith(("ST", "RED", "ATOM"))
                found.append(MemoryInstruction(name, _SPACES[base], write, _width(name), count))
        return tuple(sorted(found, key=lambda item: (item.space, item.write, item.name)))

    def widest(self, space: str = "global", write: bool = False) -> int:
        """Bytes of the widest load (or store) of a thread; 0 if there is none."""
        return max((item.bytes for item in self.memory if item.space == space and item.write == write), default=0)

    def __str__(self) -> str:
        spills = f"{self.spill_stores} bytes of spill stores and {self.spill_loads} of spill loads"
        title = (
            f"{self.name} ({self.architecture}): {self.registers} registers, {spills if self.spills else 'no spills'}, "
            f"{self.shared} bytes of shared memory"
        )
        return "\n    ".join([title, *map(str, self.memory)])


def build(
    source: str | Path,
    kind: str = "cubin",
    *,
    architecture: str = ARCHITECTURE,
    flags: Sequence[str] = (),
    include: Iterable[str | Path] = (),
    tell: Callable[[str], object] = print,
) -> Path:
    """Compile with nvcc, unless that was done before with the same sources, flags and compiler.

    Args:
        kind: cubin (one architecture's machine code), object, or shared (a library).
        include: folders of headers besides the file's own; a change in a header (*.h, *.cuh) of these is noticed.
        tell: is called with a line if nvcc must be fetched first.

    Returns: the file's path in the course's cache. Beside a cubin lies what ptxas said, as NAME.txt.

    Raises:
        KernelError: it does not compile, or nvcc or a host compiler is missing.
    """
    source = Path(source).resolve()
    if kind not in KINDS:
        raise KernelError(f"There is no kind {kind!r}.", f"The kinds are {', '.join(KINDS)}.", 'Write kind="cubin".')
    if not source.is_file():
        raise KernelError(f"{source.name} is missing.", f"There is no such file in {source.parent}.", "Check the name.")
    nvcc = toolkit.nvcc(tell)
    folders = [source.parent, *(Path(path).resolve() for path in include)]
    headers = [path for folder in folders for path in sorted([*folder.glob("*.cuh"), *folder.glob("*.h")])]
    texts = [path.read_bytes() for path in (source, *headers)]
    options = ["-std=c++17", f"-arch={architecture}", *flags]
    version = _run([str(nvcc), "--version"], source.parent, nvcc).stdout
    words = "\0".join([source.name, kind, *options, *map(str, folders), version])
    key = hashlib.sha256(b"\0".join([*texts, words.encode()])).hexdigest()[:16]
    out = cache_dir() / "nvcc" / f"{source.stem}-{key}.{ {'cubin': 'cubin', 'object': 'o', 'shared': 'so'}[kind] }"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as work:
            partial = Path(work) / out.name
            command = [
                str(nvcc),
                *options,
                *KINDS[kind],
                "-Xptxas",
                "-v",
                *(word for folder in folders for word in ("-I", str(folder))),
                str(source),
                "-o",
                str(partial),
            ]
            done = _run(command, Path(work), nvcc)
            if done.returncode:
                raise KernelError(
                    f"{source.name} does not compile with nvcc.",
                    _first_error(done.stderr + done.stdout, source),
                    "Repair the first error first: later ones often follow from it.",
                )
            atomic_write(out.with_suffix(".txt"), done.stderr.encode())
            os.replace(partial, out)
    return out


def inspect(
    source: str | Path,
    *,
    architecture: str = ARCHITECTURE,
    flags: Sequence[str] = (),
    include: Iterable[str | Path] = (),
    tell: Callable[[str], object] = print,
) -> list[KernelCode]:
    """Registers, spills, shared memory and machine code of each kernel, in the order of the source.

    Raises: as `build`; KernelError also where cuobjdump cannot be had.
    """
    cubin = build(source, "cubin", architecture=architecture, flags=flags, include=include, tell=tell)
    cuobjdump, nvdisasm = toolkit.cuobjdump(tell)
    done = _run([str(cuobjdump), "-sass", str(cubin)], cubin.parent, cuobjdump, nvdisasm)
    if done.returncode:
        raise KernelError(
            f"The machine code of {Path(source).name} cannot be shown.",
            done.stderr.strip() or "cuobjdump gave no reason.",
            "Install the CUDA toolkit 13 and set CUDA_HOME.",
        )
    return parse(cubin.with_suffix(".txt").read_text(), done.stdout)


def parse(ptxas: str, sass: str) -> list[KernelCode]:
    """Kernels from what `nvcc -Xptxas -v` and `cuobjdump -sass` wrote."""
    code = {}
    for part in re.split(r"^\s*Function : ", sass, flags=re.M)[1:]:
        name, _, body = part.partition("\n")
        counts: dict[str, int] = {}
        for mnemonic in re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[T\d]+\s+)?([A-Z][A-Z0-9_.]*)", body, re.M):
            counts[mnemonic] = counts.get(mnemonic, 0) + 1
        code[name.strip()] = counts
    kernels = []
    for part in re.split(r"Compiling entry function ", ptxas)[1:]:
        entry = re.match(r"'(\S+)' for '(\w+)'", part)
        if entry is None:
            continue

        def number(pattern: str) -> int:
            found = re.search(pattern, part)
            return int(found[1]) if found else 0

        kernels.append(
            KernelCode(
                entry[1],
                entry[2],
                registers=number(r"Used (\d+) registers"),
                spill_stores=number(r"(\d+) bytes spill stores"),
                spill_loads=number(r"(\d+) bytes spill loads"),
                stack=number(r"(\d+) bytes stack frame"),
                shared=number(r"(\d+) bytes smem"),
                barriers=number(r"used (\d+) barriers"),
                instructions=code.get(entry[1], {}),
            )
        )
    names = _demangled([kernel.name for kernel in kernels])
    kernels.reverse()  # ptxas begins with the last
    return [dataclasses.replace(kernel, name=names[kernel.name]) for kernel in kernels]


def _width(name: str) -> int:
    for ending in name.split(".")[1:]:
        if bits := re.fullmatch(r"(?:[USF])?(8|16|32|64|128)", ending):
            return int(bits[1]) // 8
    return 4


def _demangled(names: Sequence[str]) -> dict[str, str]:
    """Kernel names as the source has them, without parameters."""
    if not names or not (program := shutil.which("cu++filt") or shutil.which("c++filt")):
        return {name: name for name in names}
    done = subprocess.run(
        [program], input="\n".join(names), capture_output=True, encoding="utf-8", errors="replace", timeout=60
    )
    plain = [re.sub(r"\(.*\)$", "", line).removeprefix("void ") for line in done.stdout.splitlines()]
    return dict(zip(names, plain)) if len(plain) == len(names) else {name: name for name in names}


def _first_error(said: str, source: Path) -> str:
    """The first error as file:line: error, and the line as the source has it (nvcc shows it after the preprocessor)."""
    found = re.search(r"^(\S+?)\((\d+)\): (?:fatal )?error\S*:? (.*)$", said, re.M)
    if found is None:
        assembler = re.search(r"^ptxas (?:error|fatal)\s*: .*$", said, re.M)  # too much shared memory, for example
        return assembler[0] if assembler else first_error(said)
    text = f"{Path(found[1]).name}:{found[2]}: error: {found[3]}"
    if Path(found[1]).name == source.name:
        text += f"\n    {source.read_text(errors='replace').splitlines()[int(found[2]) - 1].strip()}"
    return text


def _run(command: Sequence[str], cwd: Path, *programs: Path) -> subprocess.CompletedProcess[str]:
    folders = [str(program.parent) for program in programs]
    environment = {**os.environ, "LC_ALL": "C", "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])}
    try:
        return subprocess.run(
            command,
            cwd=cwd,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(
            f"{Path(command[0]).name} could not be run.", str(error), "Try again; close other programs."
        ) from error
