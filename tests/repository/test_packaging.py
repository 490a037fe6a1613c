"""What the course says that it needs: complete, bounded, and the same in every file."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import version

import yaml
from packaging.specifiers import SpecifierSet

import course
from course.paths import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

MODULE_OF = {
    "pillow": "PIL",
    "nvidia-ml-py": "pynvml",
    "tensorrt-rtx": "tensorrt_rtx",
    "pyyaml": "yaml",
    "protobuf": "google",
    "hdrhistogram": "hdrh",
    "cuda-bindings": "cuda",
    "pytest-timeout": None,
}
"""Package -> module, where they differ."""
NOT_IMPORTED = {"onnxscript", "jupyterlab", "nvidia-ml-py", "torchvision", "tritonclient"}
"""Used without an import statement: by PyTorch's exporter, as a program, in a child process, by path; or only in lessons."""


def requirements(lines: list[str]) -> dict[str, str]:
    """Package -> its range, without marker and spaces."""
    found = (re.match(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?\s*([^;#]*)", line) for line in lines)
    return {match[1].lower(): match[2].replace(" ", "") for match in found}


def imported(*patterns: str) -> set[str]:
    """Names of all top-level modules that the Python files with these paths import."""
    names = set()
    for pattern in patterns:
        for path in ROOT.glob(pattern):
            if "fixtures" in path.parts or "solutions" in path.parts:
                continue  # lessons: py:percent text
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names.add(node.module.partition(".")[0])
    return names


BASE = requirements(PROJECT["dependencies"])
ALL = {**BASE, **{name: rest for extra in EXTRAS.values() for name, rest in requirements(extra).items()}}


def test_every_requirement_has_a_lower_and_an_upper_end():
    for name, rest in ALL.items():
        assert name == "trt-course" or ("==" in rest and "*" in rest) or (">=" in rest and "<" in rest), f"{name}{rest}"


def test_installed_packages_lie_in_the_ranges():
    for name, rest in {**BASE, **requirements(EXTRAS["dev"])}.items():
        if name == "tensorrt-rtx" and not sys.platform.startswith("linux"):
            continue
        assert SpecifierSet(rest).contains(version(name)), f"{name} {version(name)} is not {rest}"


def test_what_is_imported_is_required():
    known = {MODULE_OF.get(name, name) for name in ALL} | set(sys.stdlib_module_names) | {"course", "autograder"}
    # These come with what is required: markupsafe with jinja2, the others with nbgrader.
    known |= {
        "markupsafe",
        "nbformat",
        "nbconvert",
        "nbclient",
        "IPython",
        "ipykernel",
        "jupyter_client",
        "jupyter_server",
        "traitlets",
    }
    known |= {"triton_python_backend_utils"}  # Triton gives it to the programs in course/serving/models
    assert imported("course/**/*.py", "autograder/**/*.py") - known == set()


def test_what_is_required_is_used():
    used = imported("course/**/*.py", "autograder/**/*.py", "tools/**/*.py", "benchmarks/*.py", "tests/**/*.py")
    for name in BASE:
        assert name in NOT_IMPORTED or MODULE_OF.get(name, name) in used, f"{name} is required, but nothing imports it"


def test_environment_file_has_the_same_ranges():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    pip = next(line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert environment["name"] == PROJECT["name"] and "-e ." in pip
    ranges = requirements([line for line in conda + pip if not line.startswith("-e")])
    assert {"python", "pycuda", "cuda-nvcc", "tensorrt", "torch", "torchvision"} <= set(ranges)
    for name in ranges.keys() & ALL.keys():
        assert ranges[name] == ALL[name], f"{name}: environment.yml has {ranges[name]}, pyproject.toml {ALL[name]}"
    assert SpecifierSet(PROJECT["requires-python"]).contains(ranges["python"].lstrip("="))


def test_python_range_is_the_same_everywhere():
    from course.machine.judge import PYTHONS

    lowest, end = (".".join(map(str, version)) for version in PYTHONS)
    assert PROJECT["requires-python"] == f">={lowest},<{end}"
    assert f"PYTHON_MIN={lowest} PYTHON_END={end} " in (ROOT / "tools" / "setup.sh").read_text()


def test_version_table_names_every_tested_end():
    table = (ROOT / "docs" / "versions.md").read_text()
    for name in ("torch", "onnx", "onnxruntime", "numpy"):
        lowest = re.search(r">=([\d.]+)", BASE[name])[1]
        assert f"{name} {lowest}" in table, f"docs/versions.md does not say where {name} {lowest} was tried"


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", course.__version__)
