"""A TensorRT name that the course uses exists in 8.6, 10.16 and 11.4, or no code comes to it there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from course.paths import ROOT

from . import wheels
from .api import Api
from .checker import Report, check_files
from .conftest import api_or_skip

FOLDERS = ("course", "solutions", "autograder", "benchmarks")
KNOWN = {
    "Builder.build_serialized_network": ("8.6", "10.16", "11.4"),
    "Builder.max_batch_size": ("8.6",),
    "BuilderFlag.FP16": ("8.6", "10.16"),
    "IInt8EntropyCalibrator2": ("8.6", "10.16"),
    "IProgressMonitor": ("10.16", "11.4"),
}
"""In which versions a name exists, as the facts say."""


@pytest.fixture(scope="session")
def report(loaded: dict) -> Report:
    """The program checked against every version that can be had here."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return check_files(files, ROOT, [api for api in loaded.values() if isinstance(api, Api)])


def test_the_wheel_is_what_it_says(api: Api) -> None:
    """The dumps differ where facts say that the versions differ, so a dump of the wrong wheel fails here."""
    assert api.version == wheels.WHEELS[api.name].version
    for name, versions in KNOWN.items():
        owner, _, member = name.rpartition(".")
        found = member in (api.classes[owner] if owner else api.modules[""])
        assert found == (api.name in versions), name


CALIBRATE = (
    "autograder/artifacts/int8_inside.py",
    "autograder/artifacts/int8_watch.py",
    "course/exercises/stage2_quantizer/accuracy.py",
    "course/exercises/stage2_quantizer/ptq.py",
    "solutions/stage2_quantizer/04_when_int8_is_wrong.py",
    "solutions/stage2_quantizer/02_ptq_on_tensorrt.py",
    "solutions/stage2_quantizer/m2a/build_engine.py",
    "solutions/stage2_quantizer/m2a/calibrator.py",
)
"""Files about `IInt8Calibrator` and precisions by layer, which TensorRT 11 no longer has: there they run with the course's stand-in for 8.6."""
GONE = (
    "BuilderFlag.FP16",
    "BuilderFlag.INT8",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "IBuilderConfig.get_calibration_profile",
    "IBuilderConfig.int8_calibrator",
    "IBuilderConfig.set_calibration_profile",
    "ILayer.precision",
    "ILayer.precision_is_set",
    "ILayer.set_output_type",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
    "tensorrt.IInt8Calibrator",
    "tensorrt.IInt8EntropyCalibrator",
    "tensorrt.IInt8EntropyCalibrator2",
    "tensorrt.IInt8MinMaxCalibrator",
    "?.get_batch",
    "?.get_batch_size",
    "?.read_calibration_cache",
    "?.write_calibration_cache",
)
"""What TensorRT 11 lacks and these files may use. Anything else that it lacks is a breach in them, too."""


def test_the_course_keeps_the_contract(api: Api, report: Report) -> None:
    broken = report.violations_in(api.version)
    if api.name == "11.4":
        excused = [line for line in broken if line.startswith(CALIBRATE) and line.split()[1] in GONE]
        assert {line.split()[1] for line in excused} == set(GONE), "an excuse that nobody needs"
        assert {line.partition(":")[0] for line in excused} == set(CALIBRATE), "an excuse that nobody needs"
        broken = [line for line in broken if line not in excused]
    assert not broken, "\n" + "\n".join(broken)


def test_nothing_is_left_without_a_proof(loaded: dict, report: Report) -> None:
    for name in loaded:
        api_or_skip(loaded, name)  # a name that only a missing version reaches would look unreached
    assert not report.unreached, "\n" + "\n".join(map(str, report.unreached))


def test_the_proof_is_about_something(api: Api, report: Report) -> None:
    used = report.used[api.name]
    assert {"tensorrt.Builder", "Builder.create_network", "Builder.build_serialized_network"} <= used
    assert len(used) > 40
    print("\nLooked up without knowing the class:", *report.unresolved, sep="\n  ")
    assert len(report.unresolved) < len(used) / 4, "too many objects of unknown class: annotate them"


def test_a_dump_is_read_from_the_cache(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", no_process)
    assert wheels.load_api(api.name)["version"] == api.version


def test_without_the_registry_the_reason_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(wheels.Unavailable, match="pip could not download tensorrt-cu13-bindings: "):
        wheels.load_api("10.16")
    assert list((tmp_path / "contract").iterdir()) == [], "no partial file"


def test_a_python_without_a_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels.sys, "version_info", (3, 99))
    monkeypatch.setattr(wheels.shutil, "which", lambda _: None)
    with pytest.raises(wheels.NeverAvailable, match=r"wheels exist for Python 3\.10, 3\.11; this is 3\.99"):
        wheels.load_api("8.6")
