"""Right plugins have no finding, in every generation; the stand-in's answer is that of the real headers."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from course.errors import BuildError, CourseError, DamagedFileError, EngineMismatchError, MissingFileError
from course.kernels import KernelError, compile_cu
from course.native import plugin
from course.native.plugins import building, headers, layouts, session
from course.native.plugins.contract import encoded
from course.paths import ROOT
from tests.native.plugins.right_plugins import RIGHT, SWISH

SWISH_FOLDER = RIGHT["swish"][0]
AFFINE = RIGHT["affine"][0]


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_plugin_has_no_finding(name: str) -> None:
    path, contract = RIGHT[name]
    report = plugin.examine(path, contract, using=headers.stand_in(10))
    assert report.ok, str(report)
    assert len(report.combinations) >= len(contract.types)
    assert "nothing found" in str(report)


@pytest.mark.parametrize("major", [8, 11])
@pytest.mark.parametrize("name", ["swish", "affine"])
def test_a_right_plugin_has_no_finding_in_other_generations(name: str, major: int) -> None:
    path, contract = RIGHT[name]
    report = plugin.examine(path, contract, using=headers.stand_in(major))
    assert report.ok, str(report)


def test_real_headers_give_the_same_answer() -> None:
    try:
        real = plugin.headers()
    except MissingFileError:
        pytest.skip("TensorRT's headers are not here (TENSORRT_INCLUDE_DIR)")
    for name, (path, contract) in RIGHT.items():
        ours = plugin.examine(path, contract, using=headers.stand_in(real.major))
        theirs = plugin.examine(path, contract, using=real)
        assert (theirs.kinds, theirs.combinations) == (ours.kinds, ours.combinations), f"{name}: {theirs}"


def test_what_was_compiled_runs_without_sources_and_compiler(tmp_path: Path) -> None:
    sources = plugin.find(SWISH_FOLDER)
    folder = plugin.compile_for_examination(sources, headers.stand_in(), out=tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == ["kernels.so", "plugin.so"]
    commands = []

    def wrap(command: list[str]) -> list[str]:
        commands.append(command)
        return ["env", "PATH=/nowhere", *command]

    gone = dataclasses.replace(sources, plugin=Path("/nowhere/swish_plugin.cpp"))
    report = plugin.examine_compiled(folder, gone, SWISH, wrap=wrap)
    assert report.ok, str(report)
    assert len(commands) == 1 + len(report.combinations)
    assert not any(str(SWISH_FOLDER) in word for command in commands for word in command)


@pytest.mark.serial
def test_a_second_examination_takes_no_six_seconds() -> None:
    plugin.examine(SWISH_FOLDER, SWISH, using=headers.stand_in())
    began = time.monotonic()
    plugin.examine(SWISH_FOLDER, SWISH, using=headers.stand_in())
    assert time.monotonic() - began < 6


# ---------------------------------------------------------------- what cannot be examined
def copy(folder: Path, change: tuple[str, str]) -> Path:
    for path in SWISH_FOLDER.iterdir():
        if path.is_file():
            (folder / path.name).write_text(path.read_text().replace(*change))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("int32_t getNbOutputs() const noexcept override { return 1; }", ""), ("getNbOutputs", "Still pure")),
        (("void terminate() noexcept override {}", "void terminate() override {}"), ("noexcept",)),
        (
            ("size_t getSerializationSize() const noexcept", "int getSerializationSize() const noexcept"),
            ("swish_plugin.cpp",),
        ),
        (("return launchSwish(", "return launchTwice("), ("launchTwice",)),
    ],
)
def test_a_class_that_does_not_compile(change: tuple[str, str], words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises((BuildError, KernelError)) as error:
        plugin.examine(copy(tmp_path, change), SWISH, using=headers.stand_in())
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_launcher_that_is_declared_only(tmp_path: Path) -> None:
    text = 'extern "C" int launchSwish('
    folder = copy(tmp_path, (text, text))
    (folder / "swish.cu").write_text(
        (folder / "swish.cu")
        .read_text()
        .replace("launchSwish", "launchOther")
        .replace('#include "swish.cuh"', "#include <cstddef>")
    )
    with pytest.raises(BuildError, match="launchSwish"):
        plugin.examine(folder, SWISH, using=headers.stand_in())


def test_missing_files_and_headers(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no x.cu"):
        plugin.find(tmp_path)
    (tmp_path / "swish.cu").write_text("")
    with pytest.raises(MissingFileError, match="(?s)no swish_plugin.cpp.*Found: swish.cu"):
        plugin.find(tmp_path)
    with pytest.raises(MissingFileError, match="TENSORRT_INCLUDE_DIR"):
        plugin.headers(tmp_path)
    with pytest.raises(CourseError, match="shapes"):
        plugin.Contract("X", lambda x: x, shapes=[])


def test_an_examination_that_cannot_load_the_library(tmp_path: Path) -> None:
    kernels = compile_cu(SWISH_FOLDER / "swish.cu")
    (tmp_path / "kernels.so").write_bytes(kernels.read_bytes())
    (tmp_path / "plugin.so").write_bytes(b"no library")
    with pytest.raises(CourseError, match="could not be loaded"):
        session.run(tmp_path, [{"do": "creators", "name": "x", "version": "1"}], session.Arrays())


# ---------------------------------------------------------------- for a GPU
FAKE_VERSION = "#define NV_TENSORRT_MAJOR 10\n#define NV_TENSORRT_MINOR 16\n#define NV_TENSORRT_PATCH 1\n"


@pytest.fixture()
def include(tmp_path: Path) -> Path:
    """Headers that stand for real ones: the build has no other way to be tried where TensorRT's are missing."""
    folder = tmp_path / "include"
    folder.mkdir()
    for path in headers.STAND_IN.glob("*.h"):
        (folder / path.name).write_text(path.read_text())
    (folder / "NvInferVersion.h").write_text("#pragma once\n" + FAKE_VERSION)
    return folder


def test_a_wrong_major_version_is_refused_before_it_is_loaded(include: Path, tmp_path: Path) -> None:
    built = plugin.build(AFFINE, include=include)
    assert plugin.built_for(built) == "10.16.1"
    with pytest.raises(EngineMismatchError, match="built for TensorRT 10.16.1"):
        plugin.load(built, "8.6.1")
    assert plugin.load(built, "10.3.0").getCreators
    assert plugin.build(AFFINE, include=include) == built
    stranger = tmp_path / "stranger.so"
    stranger.write_bytes(built.read_bytes().replace(b"course-plugin-built-for", b"xxxxxx-plugin-built-for"))
    with pytest.raises(DamagedFileError, match="does not say"):
        plugin.load(stranger, "10.16.1")
    with pytest.raises(MissingFileError):
        plugin.load(tmp_path / "none.so", "10.16.1")


def test_the_stand_in_makes_no_library_for_tensorrt() -> None:
    with pytest.raises(BuildError, match="stand-in"):
        building.build_library(plugin.find(AFFINE), headers.stand_in())


@pytest.mark.slow
def test_cmake_builds_the_same(include: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    folder.mkdir()
    copy(folder, ("", ""))
    with pytest.raises(MissingFileError, match="CMake"):
        plugin.build_with_cmake(plugin.find(folder), plugin.headers(include), tmp_path / "build")
    assert sorted(path.name for path in plugin.cmake_files(folder)) == ["CMakeLists.txt", "tensorrt_version.cpp"]
    built = plugin.build_with_cmake(plugin.find(folder), plugin.headers(include), tmp_path / "build")
    assert plugin.built_for(built) == "10.16.1"
    other = dataclasses.replace(plugin.headers(include), version="8.6.1")
    with pytest.raises(BuildError, match="for TensorRT 8"):
        plugin.build_with_cmake(plugin.find(folder), other, tmp_path / "build8")


# ---------------------------------------------------------------- the parts
@pytest.mark.parametrize("layout", layouts.FORMATS)
def test_layouts_there_and_back(layout: int) -> None:
    array = np.arange(2 * 5 * 3 * 4, dtype=np.float16).reshape(2, 5, 3, 4)
    packed = layouts.pack(array, layout)
    assert packed.shape == layouts.packed_shape(array.shape, layout)
    assert np.array_equal(layouts.unpack(packed, layout, array.shape), array)
    if layout == 2:
        assert packed[1, 2, 3, 4] == array[1, 4, 2, 3]
    if layout == 1:
        assert packed[1, 2, 2, 3, 0] == array[1, 4, 2, 3]


def test_every_kind_is_explained_in_the_documentation() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    assert [kind for kind in plugin.ADVICE if f"`{kind}`" not in text] == []


def test_compile_results_are_there() -> None:
    result = json.loads((ROOT / "docs" / "results" / "plugin_compile.json").read_text())
    assert {row["tensorrt"].split(".")[0] for row in result["rows"]} == {"8", "10", "11"}
    for row in result["rows"]:
        assert row["compiled"] and row["findings_with_real_headers"] == row["findings_with_stand_in"] == []


def test_attributes_become_fields() -> None:
    fields = encoded({"a": 1.5, "b": 3, "c": "mean", "d": np.float16([1, 2]), "e": np.float64(2), "f": np.int8(-1)})
    assert [(field["name"], field["type"], field["length"]) for field in fields] == [
        ("a", 1, 1),
        ("b", 5, 1),
        ("c", 6, 4),
        ("d", 0, 2),
        ("e", 2, 1),
        ("f", 3, 1),
    ]
    assert bytes.fromhex(fields[0]["data"]) == np.float32(1.5).tobytes()
    assert bytes.fromhex(fields[2]["data"]) == b"mean"
    with pytest.raises(CourseError, match="complex64"):
        encoded({"a": np.complex64(1)})


def test_the_second_plugin_has_attributes_of_the_same_types() -> None:
    attributes = {"a": 1.5, "b": 3, "c": "mean", "d": np.float16([1, 2]), "e": np.float64(2)}
    changed = plugin.Contract("X", lambda x: x, shapes=[((1,),)], attributes=attributes).changed()
    assert [field["type"] for field in encoded(changed)] == [field["type"] for field in encoded(attributes)]
    assert (changed["a"], changed["b"], changed["e"]) == (2.25, 3, 2.75)
