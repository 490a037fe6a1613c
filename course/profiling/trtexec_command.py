"""trtexec's command lines: written for a generation, and read back as what they make trtexec do.

    8.6, 10    CUDA graph off, spin wait off, data transfers on; --fp16 --int8 set the precision
    11         CUDA graph on, spin wait on, data transfers off; the precision is what the ONNX model says

The flags' names are those in samples/common/sampleOptions.cpp of NVIDIA/TensorRT at 8.6, 10.16 and 11.1.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from course.engine.profiles import Profile
from course.engine.types import Shape
from course.errors import CourseError, UnsupportedError
from course.profiling.trtexec import TrtexecResult, read_log

GENERATIONS = ("8.6", "10", "11")
# setting -> (flag that turns it on, flag that turns it off); which of them a generation has follows from its default
_SWITCHES = {
    "cuda_graph": ("--useCudaGraph", "--noCudaGraph"),
    "spin_wait": ("--useSpinWait", "--noSpinWait"),
    "transfers": ("--includeDataTransfers", "--noDataTransfers"),
}
_PRECISIONS = {  # the most telling flag decides
    "int8": {"--int8", "--best"},
    "int4": {"--int4"},
    "fp8": {"--fp8"},
    "fp16": {"--fp16"},
    "bf16": {"--bf16"},
    "fp32": {"--noTF32"},
}
_LISTS = ("--plugins", "--staticPlugins", "--dynamicPlugins", "--setPluginsToSerialize")
_DEFAULTS = {"8.6": {"cuda_graph": False, "spin_wait": False, "transfers": True}}
_DEFAULTS["10"], _DEFAULTS["11"] = _DEFAULTS["8.6"], {"cuda_graph": True, "spin_wait": True, "transfers": False}


@functools.cache
def flags(generation: str) -> frozenset[str]:
    """Every flag that trtexec of this generation knows.

    Raises:
        CourseError: no such generation.
    """
    known = json.loads((Path(__file__).parent / "trtexec_flags.json").read_text())
    if generation not in known:
        raise CourseError(
            f"There is no generation {generation!r} of trtexec here.",
            f"The course knows {', '.join(GENERATIONS)}.",
            "Use one of these.",
        )
    return frozenset(known[generation])


def command(
    onnx: str | Path,
    *,
    generation: str,
    precision: str = "tf32",
    profile: Profile | None = None,
    shapes: Mapping[str, Shape] | None = None,
    cuda_graph: bool | None = None,
    spin_wait: bool | None = None,
    transfers: bool | None = None,
    save_engine: str | Path | None = None,
    level: int | None = None,
    timing_cache: str | Path | None = None,
    times: str | Path | None = None,
    layer_profile: str | Path | None = None,
    layer_info: str | Path | None = None,
    verbose: bool = False,
    program: str = "trtexec",
) -> list[str]:
    """The command line that builds and times `onnx`.

    Args:
        generation: "8.6", "10" or "11".
        precision: "fp32" (no TF32), "tf32" (trtexec's default), "fp16" or "int8"; 11 takes only the first two.
        profile: min, opt and max shapes. shapes: what to measure at, else the opt shapes.
        cuda_graph, spin_wait, transfers: None leaves trtexec's default.
        times, layer_profile, layer_info: JSON files to write.

    Raises:
        CourseError: no such generation or precision.
        UnsupportedError: FP16 or INT8 with 11.
    """
    known = flags(generation)
    chosen = {"fp32": ["--noTF32"], "tf32": [], "fp16": ["--fp16"], "int8": ["--int8", "--fp16"]}.get(precision)
    if chosen is None:
        raise CourseError(f"There is no precision {precision!r}.", "", "Use fp32, tf32, fp16 or int8.")
    if missing := [flag for flag in chosen if flag not in known or (generation == "11" and precision == "int8")]:
        raise UnsupportedError(
            f"trtexec {generation} has no {missing[0]} for this model.",
            "From TensorRT 11 on a network has the types that its ONNX model says.",
            "Export the model in FP16, or put Q/DQ nodes into it, and leave the flag out.",
        )
    words = [program, f"--onnx={onnx}", *chosen]
    if profile is not None:
        for name, index in (("min", 0), ("opt", 1), ("max", 2)):
            words.append(f"--{name}Shapes={_shapes({k: v[index] for k, v in profile.shapes.items()})}")
    if shapes:
        words.append(f"--shapes={_shapes(shapes)}")
    wanted = {"cuda_graph": cuda_graph, "spin_wait": spin_wait, "transfers": transfers}
    words += [
        _SWITCHES[name][0 if on else 1]
        for name, on in wanted.items()
        if on is not None and on != _DEFAULTS[generation][name]
    ]
    files = {
        "--saveEngine": save_engine,
        "--builderOptimizationLevel": level,
        "--timingCacheFile": timing_cache,
        "--exportTimes": times,
        "--exportProfile": layer_profile,
        "--exportLayerInfo": layer_info,
    }
    words += [f"{flag}={value}" for flag, value in files.items() if value is not None]
    if layer_profile is not None:
        words.append("--separateProfileRun")  # else the profiler's cost is in the times
    if layer_info is not None:
        words.append("--profilingVerbosity=detailed")
    return words + (["--verbose"] if verbose else [])


def _shapes(shapes: Mapping[str, Shape]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items())


@dataclass(frozen=True)
class Meaning:
    """What a command line makes trtexec do, defaults included. precision: of its flags, int8, int4, fp8, fp16, bf16, fp32 or
    (none) tf32. unknown: flags that this generation does not have."""

    generation: str
    options: Mapping[str, str | None] = field(default_factory=dict)
    precision: str = "tf32"
    min: Mapping[str, Shape] = field(default_factory=dict)
    opt: Mapping[str, Shape] = field(default_factory=dict)
    max: Mapping[str, Shape] = field(default_factory=dict)
    measured: Mapping[str, Shape] = field(default_factory=dict)
    cuda_graph: bool = False
    spin_wait: bool = False
    transfers: bool = True
    unknown: tuple[str, ...] = ()


def understand(words: Sequence[str], generation: str) -> Meaning:
    """Read a command line back. `words` may begin with the program.

    Raises:
        CourseError: a word is no flag, a flag is given twice, there are several profiles, or shapes cannot be read.
    """
    known = flags(generation)
    words = list(words)[0 if words and words[0].startswith("-") else 1 :]
    if stray := [word for word in words if not word.startswith("--")]:
        raise CourseError(
            f"trtexec does not understand {stray[0]!r}.",
            "Every word after the program is a flag.",
            "Write --flag or --flag=value, without spaces around the =.",
        )
    options = _options(words)
    used = set(options) & known
    precision = next((name for name, names in _PRECISIONS.items() if used & names), "tf32")
    shapes = {name: _read_shapes(options.get(f"--{name}Shapes")) for name in ("min", "opt", "max")}
    measured = _read_shapes(options.get("--shapes")) or shapes["opt"]
    switches = {
        name: on in options or (default and off not in options)
        for (name, (on, off)), default in zip(_SWITCHES.items(), _DEFAULTS[generation].values())
    }
    return Meaning(
        generation,
        options,
        precision,
        **shapes,
        measured=measured,
        **switches,
        unknown=tuple(flag for flag in options if flag not in known),
    )


def _options(words: Sequence[str]) -> dict[str, str | None]:
    """Flag -> value. What may stand several times is joined by commas."""
    options: dict[str, str | None] = {}
    for name, sign, value in (word.partition("=") for word in words):
        given = value if sign else None
        if name not in options or options[name] == given:
            options[name] = given
        elif name in _LISTS and options[name] and given:
            options[name] += f",{given}"
        elif name in ("--profile", "--minShapes", "--optShapes", "--maxShapes"):
            number = sum(word.startswith(f"{name}=") for word in words)
            raise CourseError(
                f"This command line has {number} optimisation profiles.",
                f"{name} stands there {number} times, the last as {given!r}; this reader holds one profile.",
                "Give it the words of one --profile=N at a time.",
            )
        else:
            raise CourseError(
                f"{name} is given twice.", f"It is {options[name]!r}, then {given!r}.", "Leave one of them out."
            )
    return options


def _read_shapes(text: str | None) -> dict[str, Shape]:
    shapes = {}
    for part in (text or "").strip("'\"").split(","):
        if not part:
            continue
        name, colon, sizes = part.rpartition(":")
        scalar = sizes.strip("'\"") in ("", "scalar")  # trtexec's own two spellings of no dimension
        try:
            shapes[name.strip("'\"")] = () if scalar else tuple(int(size) for size in sizes.split("x"))
        except ValueError:
            colon = ""
        if not colon:
            raise CourseError(
                f"The shapes {text!r} cannot be read.",
                f"{part!r} is not name:1x3x224x224.",
                "Write name:AxBxC, or name:scalar, with commas between inputs.",
            )
    return shapes


def run(words: Sequence[str], seconds: float = 300) -> TrtexecResult:
    """Run a command line of trtexec and read what it prints.

    Raises:
        UnsupportedError: there is no such program.
        CourseError: it did not end in time, or failed.
    """
    try:
        done = subprocess.run(
            list(words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise UnsupportedError(
            f"{words[0]} does not start.",
            error.strerror or str(error),
            "`course doctor` says where trtexec is, if it is here.",
        ) from error
    except subprocess.TimeoutExpired:
        raise CourseError(
            f"{words[0]} did not end.",
            f"It ran for {seconds:.0f} s.",
            "Use --builderOptimizationLevel=1, or give it more time.",
        ) from None
    return read_log(done.stdout)
