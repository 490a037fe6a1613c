"""`course doctor`: every state that a machine can be in, from recorded facts, and real libraries that are broken."""

from __future__ import annotations

import importlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from course.machine import Hardware, describe_machine, look, table
from course.machine.judge import NEEDS_GPU, judge
from course.machine.look import Driver, Facts, Gpu, Module, Tool

# Printed by `python -m course.machine.look` on a Debian 12 machine without a GPU; the home folder was renamed.
CPU = Facts.from_json((Path(__file__).parent / "recorded" / "cpu_machine.json").read_text())

H200 = Gpu("NVIDIA H200", "9.0", 150754820096, 1980, 1980)
DRIVER_580 = Driver("580.159.04", "13.0", (H200,), None, 1)
DRIVER_535 = Driver("535.183.01", "12.2", (H200,), None, 1)

# What importing the real bindings of each generation gives (over a stub library); `builder` is the GPU machine's.
FEATURES = {
    "8.6": {"implicit_int8": True, "fp16_flag": True, "plugin_v3": False, "builder": "works"},
    "10.16": {"implicit_int8": True, "fp16_flag": True, "plugin_v3": True, "builder": "works"},
    "11.4": {"implicit_int8": False, "fp16_flag": False, "plugin_v3": True, "builder": "works"},
}
TENSORRT = {
    "8.6": Module({"tensorrt": "8.6.0"}, True, "8.6.0", "/venv/tensorrt/__init__.py", None, FEATURES["8.6"]),
    "10.16": Module(
        {"tensorrt_cu13": "10.16.1.11", "tensorrt_cu13_bindings": "10.16.1.11", "tensorrt_cu13_libs": "10.16.1.11"},
        True,
        "10.16.1.11",
        "/venv/tensorrt/__init__.py",
        None,
        FEATURES["10.16"],
    ),
    "11.4": Module(
        {"tensorrt_cu13": "11.4.0.106", "tensorrt_cu13_bindings": "11.4.0.106", "tensorrt_cu13_libs": "11.4.0.106"},
        True,
        "11.4.0.106",
        "/venv/tensorrt/__init__.py",
        None,
        FEATURES["11.4"],
    ),
}


def machine(driver: Driver = DRIVER_580, tools: dict[str, Tool] | None = None, **modules: Module) -> Facts:
    """The recorded machine with a GPU that PyTorch sees where the driver is new enough, and with other modules."""
    torch = replace(CPU.modules["torch"], extra={**CPU.modules["torch"].extra, "gpu": driver == DRIVER_580})
    return replace(
        CPU, driver=driver, tools={**CPU.tools, **(tools or {})}, modules={**CPU.modules, "torch": torch, **modules}
    )


def printed(hardware: Hardware, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    table.show(hardware, console)
    return console.file.getvalue()


def test_machine_without_gpu_is_ready_on_the_cpu():
    hardware = judge(CPU)
    assert (hardware.lane, hardware.ready) == ("cpu", True)
    assert [part.name for part in hardware.components if part.problem] == []
    assert hardware["GPU"].state == hardware["TensorRT"].state == "missing"
    assert hardware["TensorRT"].next_step == NEEDS_GPU
    assert hardware["nvcc"].version == "13.0" and hardware["C++ compiler"].version == "12.2.0"
    assert "Ready, on the CPU" in printed(hardware)


def test_gpu_without_tensorrt_says_how_to_get_it():
    hardware = judge(machine())
    assert hardware.lane == "cpu" and hardware["GPU"].state == hardware["Driver"].state == "ok"
    assert hardware["TensorRT"].state == "missing"
    assert hardware["TensorRT"].next_step.startswith('.venv/bin/pip install -e ".[tensorrt]"')
    assert "FP8" in hardware["GPU"].unlocks and "FP4" not in hardware["GPU"].unlocks
    assert hardware["PyCUDA"].next_step != NEEDS_GPU


@pytest.mark.parametrize(
    "generation, words, without",
    [
        ("8.6", ("flags", "no V3"), "both"),
        ("10.16", ("both generations",), "no V"),
        ("11.4", ("Q/DQ", "no calibrators"), "both"),
    ],
)
def test_each_tensorrt_generation(generation, words, without):
    hardware = judge(machine(tensorrt=TENSORRT[generation]))
    part = hardware["TensorRT"]
    assert hardware.lane == "gpu" and part.state == "ok" and part.version.startswith(generation)
    assert all(word in part.unlocks for word in words) and without not in part.unlocks
    assert "with TensorRT on the GPU" in printed(hardware)


def test_driver_too_old_names_the_driver_that_is_needed():
    broken = replace(
        TENSORRT["10.16"], extra={**FEATURES["10.16"], "builder": "pybind11::init(): factory function returned nullptr"}
    )
    hardware = judge(machine(DRIVER_535, tensorrt=broken))
    driver = hardware["Driver"]
    assert hardware.lane == "cpu" and hardware.ready
    assert "PyTorch 2.14.1+cu130 and TensorRT 10.16.1.11 are built for CUDA 13 and need driver 580" in driver.problem
    assert "nvidia-driver-580" in driver.next_step
    assert all(hardware[name].state == "problem" for name in ("TensorRT", "PyTorch", "nvcc"))


def test_driver_for_cuda_12_is_new_enough_for_cuda_12():
    torch = replace(CPU.modules["torch"], version="2.11.0+cu128", extra={"cuda": "12.8", "gpu": True})
    hardware = judge(machine(DRIVER_535, {"nvcc": Tool()}, torch=torch, tensorrt=TENSORRT["8.6"]))
    assert hardware["Driver"].state == "ok" and hardware.lane == "gpu"


@pytest.mark.parametrize(
    "driver, problem, step",
    [
        (Driver(error="NVML Shared Library Not Found", cards=1), "no driver", "nvidia-driver-580"),
        (Driver(error="Driver/library version mismatch", cards=1), "mismatch", "reboot"),
        (Driver(error="Driver Not Loaded"), "does not answer: Driver Not Loaded", "nvidia-driver-580"),
        (Driver(error="ModuleNotFoundError: No module named 'pynvml'"), "nvidia-ml-py", "./start"),
    ],
)
def test_driver_that_does_not_answer(driver, problem, step):
    part = judge(machine(driver))["Driver"]
    assert part.state == "problem" and problem in part.problem and step in part.next_step


def test_gpu_too_old_for_cuda_13():
    old = replace(DRIVER_580, gpus=(replace(H200, name="Tesla P40", capability="6.1"),))
    part = judge(machine(old))["GPU"]
    assert part.state == "problem" and "8.6" in part.next_step


def test_several_gpus_are_counted():
    assert judge(machine(replace(DRIVER_580, gpus=(H200, H200))))["GPU"].where == "2 × NVIDIA H200"


@pytest.mark.parametrize(
    "module",
    [
        Module({"tensorrt_cu13_bindings": "10.16.1.11"}),
        Module(
            {"tensorrt_cu13_bindings": "10.16.1.11"},
            True,
            error=("ImportError: libnvonnxparser.so.10: cannot open shared object file: No such file or directory"),
        ),
    ],
)
def test_bindings_without_libraries(module):
    part = judge(machine(tensorrt=module))["TensorRT"]
    assert not part.found and "Only its Python bindings" in part.problem
    assert 'pip install "tensorrt_cu13_libs==10.16.1.11"' in part.next_step


def test_tensorrt_on_a_machine_without_gpu():
    part = judge(machine(CPU.driver, tensorrt=TENSORRT["10.16"]))["TensorRT"]
    assert part.found and "no GPU" in part.problem and part.next_step == NEEDS_GPU


def test_cpu_build_of_pytorch_beside_a_gpu():
    torch = replace(CPU.modules["torch"], version="2.13.0+cpu", extra={"cuda": None, "gpu": False})
    part = judge(machine(torch=torch))["PyTorch"]
    assert part.found and "CPU build" in part.problem and "uninstall" in part.next_step


def test_nothing_installed():
    empty = Facts(
        python="3.9.2",
        prefix="/usr",
        pip="python -m pip",
        cache="/tmp",
        triton_venv="~/t",
        driver=Driver(error="ModuleNotFoundError: No module named 'pynvml'"),
        modules={name: Module() for name in look.MODULES},
        tools={name: Tool() for name in look.tool_places()},
        disk_free_bytes=10**9,
        memory_bytes=2 * 10**9,
    )
    hardware = judge(empty)
    assert not hardware.ready
    for name in ("PyTorch", "ONNX", "ONNX Runtime"):
        assert hardware[name].state == "problem" and hardware[name].next_step == "./start"
    assert all(hardware[name].state == "problem" for name in ("Python", "Disk", "Memory"))
    assert hardware["C++ compiler"].next_step == "sudo apt-get install g++"
    assert "cannot run yet" in printed(hardware)


@pytest.mark.parametrize(
    "text, version",
    [("[TensorRT v8601]", "8.6.1"), ("[TensorRT v101601]", "10.16.1"), ("[TensorRT v110400]", "11.4.0")],
)
def test_trtexec_version(text, version):
    tool = Tool("/opt/tensorrt/bin/trtexec", f"&&&& RUNNING TensorRT.trtexec {text} # trtexec --help")
    assert judge(machine(tools={"trtexec": tool}))["trtexec"].version == version


def test_trtexec_of_another_version_than_pythons():
    tool = Tool("/opt/tensorrt/bin/trtexec", "&&&& RUNNING TensorRT.trtexec [TensorRT v8601] # trtexec --help")
    part = judge(machine(tools={"trtexec": tool}, tensorrt=TENSORRT["10.16"]))["trtexec"]
    assert part.found and "10.16.1.11" in part.problem


def test_trtexec_without_its_libraries():
    tool = Tool(
        "/opt/tensorrt/bin/trtexec", "", "trtexec: error while loading shared libraries: libnvinfer.so.10: cannot open"
    )
    part = judge(machine(tools={"trtexec": tool}))["trtexec"]
    assert not part.found and "libnvinfer" in part.problem and "LD_LIBRARY_PATH" in part.next_step


STATES = {
    "cpu": CPU,
    "gpu": machine(),
    "too old": machine(DRIVER_535, tensorrt=TENSORRT["11.4"]),
    **{name: machine(tensorrt=module) for name, module in TENSORRT.items()},
    "broken": machine(
        CPU.driver, **{name: Module({}, True, error="the import crashed with SIGSEGV") for name in look.MODULES}
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_whatever_is_missing_has_a_next_step(name):
    for part in judge(STATES[name]).components:
        assert part.state == "ok" or part.next_step, part
        assert part.unlocks, part


@pytest.mark.parametrize("name", STATES)
def test_table_fits_100_columns_and_keeps_commands_whole(name):
    hardware = judge(STATES[name])
    text = printed(hardware)
    table, _, steps = text.partition("\n\n")
    assert max(map(len, table.splitlines())) <= 100
    for part in hardware.components:
        assert part.name in table
        if part.problem:
            assert " ".join(part.problem.split()) in " ".join(steps.split())
            assert part.next_step.splitlines()[0] in steps


def test_json_holds_every_part_and_comes_from_the_same_verdicts():
    hardware = judge(STATES["too old"])
    raw = json.loads(hardware.to_json())
    assert raw["lane"] == "cpu" and raw["ready"] is True
    assert [part["name"] for part in raw["components"]] == [part.name for part in hardware.components]
    assert {part["state"] for part in raw["components"]} == {"ok", "problem", "missing"}


def test_facts_survive_json():
    for facts in STATES.values():
        assert Facts.from_json(facts.to_json()) == facts


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """What the doctor remembers of these tests is no user's business."""
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path_factory.mktemp("cache")))


BROKEN = {
    "truncated": ("from . import native", r"file too short|invalid ELF header"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed with SIGSEGV"),
    "hangs": ("import time; time.sleep(60)", "did not end within 2 s"),
    "raises": ("raise RuntimeError('this CPU is too old')", "RuntimeError: this CPU is too old"),
    "exits": ("raise SystemExit(3)", "ended with status 3"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_library_does_not_kill_the_doctor(name, tmp_path, monkeypatch):
    code, expected = BROKEN[name]
    package = tmp_path / f"brokenlib_{name}"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    (package / "native.so").write_bytes(b"\x7fELF")  # a library of which only the first bytes arrived
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = look.ask_module(package.name, seconds=2 if name == "hangs" else 60)
    assert module.present and re.search(expected, module.error)

    hardware = judge(replace(CPU, modules={**CPU.modules, "onnxruntime": module}))
    assert not hardware.ready and module.error in hardware["ONNX Runtime"].problem


def test_library_that_prints_and_crashes_at_exit_still_answers(tmp_path, monkeypatch):
    (tmp_path / "noisylib.py").write_text(
        "import atexit, os, signal; print('hello'); __version__ = '1.2'\natexit.register(lambda: os.kill(os.getpid(), 11))"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    module = look.ask_module("noisylib", "extra['answer'] = 42")
    assert (module.version, module.error, dict(module.extra)) == ("1.2", None, {"answer": 42})


def test_a_module_that_answered_is_imported_again_only_when_something_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    count, library = tmp_path / "imports", tmp_path / "countedlib.py"

    def write(version: str, more: str = "") -> None:
        library.write_text(f"open({str(count)!r}, 'a').write('x'); __version__ = {version!r}\n{more}")
        importlib.invalidate_caches()

    def ask(code: str = "") -> tuple:
        found = look.ask_module("countedlib", code)
        return found.version, found.error, len(count.read_text())

    write("1.0")
    assert ask() == ask() == ("1.0", None, 1)
    assert ask("extra['a'] = 1") == ("1.0", None, 2), "another question"
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    assert ask("extra['a'] = 1") == ("1.0", None, 3), "other libraries may load"
    write("1.1", "raise OSError('broken')")
    assert ask()[1:] == ("OSError: broken", 4) and ask()[1:] == ("OSError: broken", 5), (
        "a failure is always asked again"
    )
    write("1.2")
    (tmp_path / "cache" / "doctor" / "countedlib.json").write_text("{}")
    assert ask() == ("1.2", None, 6)


def test_tool_that_hangs_fails_or_is_not_there(tmp_path):
    def script(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    assert "no answer" in look.ask_tool((script("hangs", "exec sleep 60"),), ("--version",), seconds=0.5).error
    assert look.ask_tool((script("fails", "echo broken >&2; exit 3"),), ("--version",)).error == "broken"
    assert (
        look.ask_tool(
            (
                str(tmp_path / "none"),
                script("works", "echo 1.2"),
            ),
            ("--version",),
        ).output
        == "1.2\n"
    )
    assert look.ask_tool(("no-such-program", str(tmp_path / "none*")), ("--version",)) == Tool()


def test_this_machine_can_be_looked_at():
    seen = []
    facts = look.look(seen.append)
    assert {"driver", "torch", "c++"} <= set(seen)
    assert Facts.from_json(facts.to_json()) == facts
    assert judge(facts).ready, judge(facts).to_json()  # the tests run where the course runs


def test_description_of_this_machine():
    description = json.loads(json.dumps(describe_machine()))
    assert description["cores"] >= 1 and description["memory_gb"] > 0.5
    assert description["packages"]["torch"] and description["python"].startswith("3.")
    assert {"cpu", "os", "gpus", "driver", "cuda", "load"} <= set(description)
