"""What the judge makes of a cache, of a plan, of an error and of a TensorRT without calibrators."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autograder.artifacts.build_inside import meant as on_purpose
from autograder.checks import plans, probe
from autograder.checks.int8_scripts import Calibration
from course.engine import available_runtimes
from course.paths import ROOT
from course.quantize import calibrate, quantize, recording
from course.quantize.trt_cache import parse_cache

SHAPE = (3, 64, 64)
needs_rtx = pytest.mark.skipif(available_runtimes()["rtx"] is not None, reason="TensorRT-RTX does not work here")


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """A calibration of eight images, with all that came; on a GPU the cache would be TensorRT's."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, *SHAPE)).astype(np.float32)
    made = Calibration(probe.network(rng, SHAPE), images, 4)
    made({"call": "batches", "algorithm": "EntropyCalibration2"}, [images[:4], images[4:]])
    return made


def cache_of(calibration: Calibration, change) -> bytes:
    """The right cache, each scale through change(name, scale); None leaves a line out."""
    header, *_ = (text := calibration._scales(calibration.batches).decode()).splitlines()
    lines = []
    for name, scale in parse_cache(text).scales.items():
        if (changed := change(name, scale)) is not None:
            lines.append(f"{name}: {np.float32(changed).tobytes()[::-1].hex()}")
    return "\n".join([header, *lines, ""]).encode()


def test_a_cache_like_tensorrts_own_counts(calibration):
    signs = iter([1.3, 0.8] * 40)
    near = cache_of(calibration, lambda _, scale: scale * next(signs))
    assert 1.2 < calibration.off(near) < calibration.most_off(near)
    far = cache_of(calibration, lambda _, scale: 2 * scale)
    assert calibration.off(far) > calibration.most_off(far)


def test_half_of_the_names_is_not_enough(calibration):
    """A right median hides nothing: six of the names, two of them absurd."""
    names = list(parse_cache(calibration._scales(calibration.batches).decode()).scales)
    kept, absurd = names[: len(names) // 2], names[:2]
    change = lambda name, scale: None if name not in kept else 1e6 * scale if name in absurd else scale  # noqa: E731
    assert calibration.off(cache_of(calibration, change)) == float("inf")


@pytest.mark.parametrize("missing", ["image", "block.relu_out", "flat_out"])
def test_inputs_of_quantised_layers_must_have_scales(calibration, missing):
    found = calibration.off(cache_of(calibration, lambda name, scale: None if name == missing else scale))
    assert found == float("inf")


@pytest.mark.parametrize("factor", [1e6, 1e-6, float("nan"), 0.0])
def test_one_absurd_scale_among_right_ones_does_not_pass(calibration, factor):
    cache = cache_of(calibration, lambda name, scale: factor * scale if name == "block.relu_out" else scale)
    assert not calibration.off(cache) <= calibration.most_off(cache)


@needs_rtx
def test_a_plan_counts_only_if_it_was_built_of_this_network(calibration):
    rng = np.random.default_rng(1)
    shapes = [[size, *SHAPE] for size in (1, 6, 12)]
    mine, other = (
        quantize(network, calibrate(network, calibration.images, "min-max")).SerializeToString()
        for network in (probe.network(rng, SHAPE), probe.network(rng, SHAPE))
    )
    expected = plans.expected(mine, other, "int8", "image", shapes)
    again = plans.expected(mine, other, "int8", "image", shapes)
    assert expected.problem(again.plan) == "" and expected.has_profile(again.plan)
    wider = plans.expected(mine, other, "int8", "image", [[size, *SHAPE] for size in (1, 7, 16)])
    assert expected.problem(wider.plan) == "" and not expected.has_profile(wider.plan)
    assert "another network" in expected.problem(again.other)
    shapes_alone = np.array(shapes, np.int64).tobytes()
    for forged in (
        b"",
        b"plan",
        mine,
        shapes_alone + mine * 9,
        bytes(len(expected.plan)),
        rng.bytes(len(expected.plan)),
    ):
        assert "no plan" in expected.problem(forged)


ERRORS = {
    "raise RuntimeError('cannot be parsed')": True,
    "assert False, 'cannot be parsed'": True,
    "raise SystemExit('cannot be parsed')": True,
    "None.shape": False,
    "int('x')": False,
    "raise NotImplementedError()": False,
    "import json; json.loads('{')": False,
}


@pytest.mark.parametrize("line, meant", ERRORS.items())
def test_an_error_that_was_raised_on_purpose_is_told_from_an_accident(tmp_path, line, meant):
    script = tmp_path / "script.py"
    script.write_text(f"def build():\n    {line}\n")
    names: dict = {}
    exec(compile(script.read_text(), str(script), "exec"), names)
    with pytest.raises((Exception, SystemExit)) as caught:
        names["build"]()
    assert on_purpose(caught.value, tmp_path) is meant


def start(tmp_path: Path, stand_in: Path) -> subprocess.CompletedProcess:
    """Make `tensorrt` importable where TensorRT is one without calibrators, as 11 is."""
    fake = tmp_path / "eleven" / "tensorrt"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("__version__ = '11.1.0'\n")
    code = (
        "import os; from autograder.artifacts.build_inside import Refused, tensorrt\n"
        f"try: trt = tensorrt({str(stand_in)!r}, True, 'IInt8EntropyCalibrator2')\n"
        "except Refused as error: raise SystemExit(f'{error.what} {error.cause} {error.next_step}')\n"
        "print(trt.__version__, hasattr(trt, 'recording'), repr(os.environ['CUDA_VISIBLE_DEVICES']))"
    )
    environment = {**os.environ, "PYTHONPATH": f"{fake.parent}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


@needs_rtx
def test_beside_tensorrt_11_the_stand_in_is_asked_without_a_gpu(tmp_path):
    done = start(tmp_path, recording.FOLDER)
    assert done.stdout.split() == ["8.6.0", "True", "''"], done.stderr


def test_beside_tensorrt_11_without_a_stand_in_the_grader_refuses_in_words(tmp_path):
    broken = tmp_path / "broken" / "tensorrt"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import no_such_tensorrt_rtx\n")
    done = start(tmp_path, broken.parent)
    assert (
        done.returncode
        and "TensorRT 11.1.0 has no IInt8EntropyCalibrator2" in done.stderr
        and "no fault" in done.stderr
    )


@needs_rtx
def test_the_parser_refuses_the_file_that_a_build_script_must_complain_about(calibration, tmp_path):
    """Bytes that are no model at all are an empty network to TensorRT-RTX: then there would be nothing to complain about."""
    trt = recording.stand_in()
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    told = {}
    network = calibration.network
    for name, data in {
        "half": network[: len(network) // 2],
        "none": b"This is no ONNX model.",
        "whole": network,
    }.items():
        (path := tmp_path / name).write_bytes(data)
        built = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
        told[name] = trt.OnnxParser(built, logger).parse_from_file(str(path))
    assert told == {"half": False, "none": True, "whole": True}
