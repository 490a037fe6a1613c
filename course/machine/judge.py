"""What the raw facts about a machine mean for the course. Pure: facts in, verdicts out, nothing is looked up here."""

from __future__ import annotations

import re

from course.machine.look import Facts, Module
from course.machine.parts import Component, Hardware

MINIMUM_DRIVER = {11: 450, 12: 525, 13: 580}
"""CUDA major version -> oldest Linux driver. NVIDIA, CUDA Compatibility, "Minor Version Compatibility", table 1."""

TENSOR_CORES = (
    ((7, 0), "FP16"),
    ((7, 5), "INT8"),
    ((8, 0), "TF32"),
    ((8, 0), "BF16"),
    ((8, 9), "FP8"),
    ((10, 0), "FP4"),
)
"""Oldest compute capability whose Tensor Cores take a type. NVIDIA, CUDA C++ Programming Guide, compute capabilities."""

OLDEST_CAPABILITY = (7, 5)
"""Of CUDA 13, and so of the TensorRT and PyTorch that are built for it. NVIDIA, TensorRT support matrix."""

PYTHONS = ((3, 10), (3, 14))
"""From the first up to, not including, the second; as in pyproject.toml."""

NO_LIBRARY = "NVML Shared Library Not Found"
NEEDS_GPU = "Nothing to do here: it needs an NVIDIA GPU."
FREE_DISK, MEMORY = 3e9, 6e9
"""Bytes: free for engines, caches and reports; in all for exporting a ResNet-50 and building an engine."""


def judge(facts: Facts) -> Hardware:
    """One verdict for each part of the machine, the most important first."""
    return Hardware(
        (
            _gpu(facts),
            _driver(facts),
            _cuda(facts),
            _tensorrt(facts),
            _rtx(facts),
            _required(facts, "onnxruntime", "ONNX Runtime", "Every stage: the engine on a CPU"),
            _torch(facts),
            _required(facts, "onnx", "ONNX", "Every stage: from PyTorch to the engine"),
            _trtexec(facts),
            _pycuda(facts),
            _nvcc(facts),
            _nsys(facts),
            _triton(facts),
            _dali(facts),
            _compiler(facts),
            _python(facts),
            _disk(facts),
            _memory(facts),
        )
    )


def _gpu(facts: Facts) -> Component:
    driver, unlocks = facts.driver, "Stages 1-4: TensorRT, speed milestones"
    if not driver.gpus:
        if driver.cards or driver.error not in (None, NO_LIBRARY) and "pynvml" not in driver.error:
            return Component(
                "GPU", False, None, None, unlocks, "The driver shows no GPU.", "See the driver, one line below."
            )
        return Component(
            "GPU",
            False,
            None,
            None,
            unlocks,
            None,
            (
                "Nothing to do: the course runs without one, on ONNX Runtime. Its GPU parts stay open until you work on a "
                "machine with an NVIDIA GPU of compute capability 7.5 or newer."
            ),
        )
    gpu, count = driver.gpus[0], len(driver.gpus)
    where = (f"{count} × " if count > 1 else "") + gpu.name
    version = f"compute capability {gpu.capability}"
    if (
        _numbers(gpu.capability) < OLDEST_CAPABILITY
        and max((major for _, major in _cuda_users(facts)), default=0) >= 13
    ):
        return Component(
            "GPU",
            True,
            version,
            where,
            unlocks,
            "Too old for CUDA 13, which starts at compute capability 7.5.",
            "Install TensorRT 8.6 and a PyTorch for CUDA 12 (environment.yml says how), or use a newer GPU.",
        )
    kinds = " ".join(kind for oldest, kind in TENSOR_CORES if _numbers(gpu.capability) >= oldest)
    return Component("GPU", True, version, where, f"Stages 1-4; Tensor Cores: {kinds or 'none'}")


def _driver(facts: Facts) -> Component:
    driver, unlocks = facts.driver, "Everything that runs on the GPU"
    if driver.version is None:
        if driver.error == NO_LIBRARY and not driver.cards:
            return Component("Driver", False, None, None, unlocks, None, NEEDS_GPU)
        if "pynvml" in (driver.error or ""):
            return Component(
                "Driver", False, None, None, unlocks, "nvidia-ml-py, which asks it, is not installed.", "./start"
            )
        if "mismatch" in (driver.error or ""):
            return Component(
                "Driver", False, None, None, unlocks, f"{driver.error}: it was updated while in use.", "sudo reboot"
            )
        cause = (
            "An NVIDIA card is in this machine, but no driver."
            if driver.error == NO_LIBRARY
            else f"It does not answer: {driver.error}."
        )
        return Component("Driver", False, None, None, unlocks, cause, _install_driver(max(MINIMUM_DRIVER)))
    ahead = [(name, major) for name, major in _cuda_users(facts) if major > _numbers(driver.cuda)[0]]
    if ahead:
        major = max(major for _, major in ahead)
        return Component(
            "Driver",
            True,
            driver.version,
            None,
            unlocks,
            (
                f"Too old: it ends at CUDA {driver.cuda}. {' and '.join(name for name, _ in ahead)} "
                f"{'are' if len(ahead) > 1 else 'is'} built for CUDA {major} and "
                f"need{'' if len(ahead) > 1 else 's'} driver {MINIMUM_DRIVER.get(major, f'for CUDA {major}')} or newer."
            ),
            _install_driver(major),
        )
    return Component("Driver", True, driver.version, None, unlocks)


def _install_driver(cuda: int) -> str:
    version = MINIMUM_DRIVER.get(cuda)
    if version is None:
        return f"Install the newest driver; it must take CUDA {cuda}. Then reboot."
    return (
        f"sudo apt-get install nvidia-driver-{version} && sudo reboot\non Ubuntu. Elsewhere: driver {version} or newer "
        "from your system's packages or NVIDIA's installer, then reboot."
    )


def _cuda_users(facts: Facts) -> list[tuple[str, int]]:
    """Who brings which CUDA major version: (name with version, major)."""
    torch, tensorrt = facts.modules["torch"], facts.modules["tensorrt"]
    users = [(f"PyTorch {torch.version}", _numbers(str(torch.extra["cuda"]))[0])] if torch.extra.get("cuda") else []
    majors = [int(found[1]) for name in tensorrt.packages if (found := re.search(r"cu(\d\d)", name))]
    return users + ([(f"TensorRT {_version(tensorrt)}", max(majors))] if majors else [])


def _cuda(facts: Facts) -> Component:
    unlocks = "What engines and kernels are built for"
    brought = ", ".join(f"{name.split()[0]} for {major}" for name, major in _cuda_users(facts)) or None
    if facts.driver.cuda is None:
        return Component("CUDA", False, None, brought, unlocks, None, NEEDS_GPU)
    return Component("CUDA", True, f"up to {facts.driver.cuda}", brought, unlocks)


def _tensorrt(facts: Facts) -> Component:
    module, has_gpu, unlocks = facts.modules["tensorrt"], bool(facts.driver.gpus), "Stages 1-4: engines on the GPU"
    version, where = _version(module), f"pip: {min(module.packages, key=len)}" if module.packages else _folder(module)

    def verdict(problem: str | None, next_step: str | None, found: bool = False) -> Component:
        return Component("TensorRT", found, version, where, unlocks, problem, next_step if has_gpu else NEEDS_GPU)

    if not module.present and not module.packages:
        return verdict(
            None,
            f'{facts.pip} install -e ".[tensorrt]"\nThe libraries come from NVIDIA\'s package index. With '
            "conda: conda env create -f environment.yml",
        )
    if not module.present or "libnv" in (module.error or ""):
        bindings = next((name for name in module.packages if "bindings" in name), None)
        fetch = f'{facts.pip} install "{bindings.replace("bindings", "libs")}=={version}"\n' if bindings else ""
        return verdict(
            f"Only its Python bindings are here: {module.error or 'no package holds the libraries'}.",
            f"{fetch}NVIDIA's package index, tar and Debian packages have the libraries. The folder with "
            "libnvinfer.so must be on LD_LIBRARY_PATH, unless pip installed it.",
        )
    if module.error:
        return verdict(
            f"It cannot be imported: {module.error}.",
            f'{facts.pip} install --force-reinstall "tensorrt=={version or "10.16.*"}"',
        )
    if not module.extra.get("implicit_int8"):
        unlocks += "; FP16 by conversion, INT8 by Q/DQ; no calibrators, no V2 plugins"
    elif not module.extra.get("plugin_v3"):
        unlocks += "; flags, calibrators, V2 plugins; no V3 plugins"
    else:
        unlocks += "; both generations of the API"
    if not has_gpu:
        return Component("TensorRT", True, version, where, unlocks, "There is no GPU to build engines for.", NEEDS_GPU)
    if module.extra.get("builder") != "works":
        return verdict(
            f"It cannot make a builder: {module.extra.get('builder')}.",
            (
                "python -c 'import tensorrt as t; t.Builder(t.Logger(t.Logger.VERBOSE))'\n"
                "That shows the reason. The driver must be in order first."
            ),
            found=True,
        )
    return Component("TensorRT", True, version, where, unlocks)


def _rtx(facts: Facts) -> Component:
    module = facts.modules["tensorrt_rtx"]
    unlocks = "Stages 1-2: TensorRT's parser and fusion"
    if module.present and not module.error:
        return Component("TensorRT-RTX", True, module.version, _folder(module), unlocks)
    if module.present:
        return Component(
            "TensorRT-RTX",
            False,
            _version(module),
            _folder(module),
            unlocks,
            f"It cannot be imported: {module.error}.",
            f'{facts.pip} install --force-reinstall --no-cache-dir "tensorrt-rtx=={_version(module)}"',
        )
    return Component(
        "TensorRT-RTX",
        False,
        None,
        None,
        unlocks,
        None,
        f"{facts.pip} install tensorrt-rtx\nThere are packages for Linux on x86-64. Without it the lessons skip this view.",
    )


def _required(facts: Facts, module_name: str, name: str, unlocks: str) -> Component:
    """A module without which the course cannot run."""
    module = facts.modules[module_name]
    if module.present and not module.error:
        return Component(name, True, module.version, _folder(module), unlocks)
    if not module.present:
        return Component(
            name, False, None, None, unlocks, "It is not installed, and the course cannot run without it.", "./start"
        )
    package = next(iter(module.packages), module_name)
    return Component(
        name,
        False,
        _version(module),
        _folder(module),
        unlocks,
        f"It cannot be imported: {module.error}.",
        f'{facts.pip} install --force-reinstall --no-deps "{package}=={_version(module)}"'
        if module.packages
        else "./start",
    )


def _torch(facts: Facts) -> Component:
    torch = _required(facts, "torch", "PyTorch", "Every stage: the models, the baseline")
    extra, gpus = facts.modules["torch"].extra, facts.driver.gpus
    if not torch.found:
        return torch
    torch = Component(**{**vars(torch), "where": f"CUDA {extra['cuda']} build" if extra.get("cuda") else "CPU build"})
    if not gpus or extra.get("gpu"):
        return torch
    if not extra.get("cuda"):
        problem, step = (
            "This is a CPU build: it cannot use the GPU.",
            (f"{facts.pip} uninstall -y torch torchvision && {facts.pip} install -e ."),
        )
    elif _driver(facts).problem:
        problem, step = "It does not see the GPU.", "Put the driver (above) in order."
    else:
        problem, step = (
            "It does not see the GPU, though the driver does.",
            (
                "python -c 'import torch; torch.cuda.init()'\nThat shows the reason. CUDA_VISIBLE_DEVICES must not be empty."
            ),
        )
    return Component(**{**vars(torch), "problem": problem, "next_step": step})


def _trtexec(facts: Facts) -> Component:
    tool, unlocks = facts.tools["trtexec"], "Stages 1-2: build and time without code"
    instead = "course build MODEL.onnx -o MODEL.engine"
    if tool.path is None:
        return Component(
            "trtexec",
            False,
            None,
            None,
            unlocks,
            None,
            f"{instead}\ndoes the same job here. trtexec comes with TensorRT's tar, Debian package or container, not with pip.",
        )
    found = re.search(r"TensorRT v(\d+)", tool.output)
    if found is None:
        return Component(
            "trtexec",
            False,
            None,
            tool.path,
            unlocks,
            f"It does not run: {tool.error or 'no version in its output'}.",
            f"{instead}\ndoes the same job here. For trtexec, LD_LIBRARY_PATH must lead to its libraries.",
        )
    version = _trtexec_version(found[1])
    module = facts.modules["tensorrt"]
    if module.version and _numbers(version)[:2] != _numbers(module.version)[:2]:
        return Component(
            "trtexec",
            True,
            version,
            tool.path,
            unlocks,
            f"Python has TensorRT {module.version}: engines of one do not load in the other.",
            f"{instead}\ndoes the same job with Python's version.",
        )
    return Component("trtexec", True, version, tool.path, unlocks)


def _trtexec_version(digits: str) -> str:
    """8601 -> 8.6.1 and 101600 -> 10.16.0: one digit and two digits for the minor version, by TensorRT's own macro."""
    number = int(digits)
    major, rest = divmod(number, 10000) if number >= 100000 else divmod(number, 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _pycuda(facts: Facts) -> Component:
    module, unlocks = facts.modules["pycuda"], "Stage 1: GPU buffers by hand"
    if module.present and not module.error:
        return Component("PyCUDA", True, module.version, _folder(module), unlocks)
    step = f'{facts.pip} install -e ".[gpu]"\nIt compiles: nvcc and g++ must be here. With conda: conda install -c conda-forge pycuda'
    if not facts.driver.gpus:
        step = NEEDS_GPU
    elif "cuda" in (module.error or "") and ".so" in (module.error or ""):
        step = "export LD_PRELOAD=libcuda.so.1\nif it was compiled on a machine without a driver; else: " + step
    return Component(
        "PyCUDA",
        False,
        _version(module),
        None,
        unlocks,
        f"It cannot be used: {module.error}." if module.present else None,
        step,
    )


def _nvcc(facts: Facts) -> Component:
    tool, unlocks = facts.tools["nvcc"], "Stage 3: compile kernels, on a CPU too"
    version = re.search(r"release (\d+\.\d+)", tool.output)
    if version is None:
        packages = " ".join(
            f'"nvidia-{name}==13.0.*"' for name in ("cuda-nvcc", "nvvm", "cuda-crt", "cuda-runtime", "cuda-cccl")
        )
        return Component(
            "nvcc",
            False,
            None,
            tool.path,
            unlocks,
            f"It does not run: {tool.error or 'no version in its output'}." if tool.path else None,
            f"{facts.pip} install {packages}",
        )
    if facts.driver.cuda and _numbers(version[1])[0] > _numbers(facts.driver.cuda)[0]:
        return Component(
            "nvcc",
            True,
            version[1],
            tool.path,
            unlocks,
            (f"What it compiles does not run here: the driver ends at CUDA {facts.driver.cuda}."),
            _install_driver(_numbers(version[1])[0]),
        )
    return Component("nvcc", True, version[1], tool.path, unlocks)


def _nsys(facts: Facts) -> Component:
    tool, unlocks = facts.tools["nsys"], "Stage 2: timelines of CPU and GPU"
    version = re.search(r"version (\d[\d.]*\d)", tool.output)
    if version:
        return Component("nsys", True, version[1], tool.path, unlocks)
    step = (
        "sudo apt-get install nsight-systems\nfrom NVIDIA's Debian packages or Debian's non-free. Until then PyTorch's "
        "profiler shows the same kernels."
    )
    return Component(
        "nsys",
        False,
        None,
        tool.path,
        unlocks,
        f"It does not run: {tool.error or 'no version in its output'}." if tool.path else None,
        step if facts.driver.gpus else NEEDS_GPU,
    )


def _triton(facts: Facts) -> Component:
    tool, unlocks = facts.tools["tritonserver"], "Stage 4: serving, on a CPU too"
    if tool.path:
        return Component("Triton", True, None, tool.path, unlocks)
    return Component(
        "Triton",
        False,
        None,
        None,
        unlocks,
        None,
        f"course serve setup\nputs it into {facts.triton_venv}. It needs a Python from 3.10 to 3.12. NVIDIA's Triton container "
        "serves as well.",
    )


def _dali(facts: Facts) -> Component:
    module, unlocks = facts.modules["nvidia.dali"], "Stage 4: preprocessing, on a CPU too"
    if module.present and not module.error:
        return Component("DALI", True, module.version, _folder(module), unlocks)
    return Component(
        "DALI",
        False,
        _version(module),
        None,
        unlocks,
        f"It cannot be imported: {module.error}." if module.present else None,
        f'{facts.pip} install -e ".[serving]"',
    )


def _compiler(facts: Facts) -> Component:
    tool, unlocks = facts.tools["c++"], "Stages 1 and 3: the C++ API, plugins"
    version = re.search(r"\d+\.\d+\.\d+", tool.output)
    if tool.path and version:
        return Component("C++ compiler", True, version[0], tool.path, unlocks)
    return Component(
        "C++ compiler",
        False,
        None,
        tool.path,
        unlocks,
        f"It does not run: {tool.error or 'no version in its output'}." if tool.path else None,
        "sudo apt-get install g++",
    )


def _python(facts: Facts) -> Component:
    unlocks = "Every stage"
    if PYTHONS[0] <= _numbers(facts.python)[:2] < PYTHONS[1]:
        return Component("Python", True, facts.python, facts.prefix, unlocks)
    return Component(
        "Python",
        False,
        facts.python,
        facts.prefix,
        unlocks,
        f"The course was tried from {_dotted(PYTHONS[0])} up to, not including, {_dotted(PYTHONS[1])}.",
        "rm -rf .venv && COURSE_PYTHON=python3.12 ./start",
    )


def _disk(facts: Facts) -> Component:
    free, unlocks = f"{facts.disk_free_bytes / 1e9:.0f} GB free", "Engines, timing caches, reports"
    if facts.disk_free_bytes >= FREE_DISK:
        return Component("Disk", True, free, facts.cache, unlocks)
    return Component(
        "Disk",
        True,
        free,
        facts.cache,
        unlocks,
        f"The lessons write up to {FREE_DISK / 1e9:.0f} GB.",
        "export COURSE_CACHE=/folder/on/a/larger/disk\nor free some space.",
    )


def _memory(facts: Facts) -> Component:
    on_gpu = f"GPU {facts.driver.gpus[0].memory_bytes / 1e9:.0f} GB" if facts.driver.gpus else None
    size, unlocks = f"{facts.memory_bytes / 1e9:.0f} GB", "Exports and engine builds"
    if facts.memory_bytes >= MEMORY:
        return Component("Memory", True, size, on_gpu, unlocks)
    return Component(
        "Memory",
        True,
        size,
        on_gpu,
        unlocks,
        f"Building an engine may need {MEMORY / 1e9:.0f} GB.",
        "Close other programs before a lesson; a machine with 8 GB or more is safe.",
    )


def _version(module: Module) -> str | None:
    """Of the import, or else of the installed package."""
    return module.version or next(iter(module.packages.values()), None)


def _folder(module: Module) -> str | None:
    return module.file.rpartition("/")[0] if module.file else None


def _numbers(version: str | None) -> tuple[int, ...]:
    """ "13.0.88+x" -> (13, 0, 88)."""
    return tuple(int(part) for part in re.findall(r"\d+", (version or "0").split("+")[0]))


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
