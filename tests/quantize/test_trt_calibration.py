"""TensorRT's calibrators and their cache: what is handed over, what is remembered, what is refused."""

from __future__ import annotations

import lzma
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from course.errors import CourseError, DamagedFileError, MissingFileError, UnsupportedError
from course.quantize import (
    Cache,
    Calibration,
    Fingerprint,
    Network,
    cache_from,
    calibrate,
    calibration_from,
    entropy_calibrator,
    fingerprint,
    min_max_calibrator,
    quantize,
    read_cache,
    stamp,
    write_cache,
)
from course.quantize.pairs import read_pairs
from course.quantize.trt_cache import origin_file, parse_cache
from tests.quantize import quantize_zoo as zoo

MODEL = zoo.residual_net()
HERE = Path(__file__).resolve().parent
RECORDED = lzma.decompress((HERE / "recorded" / "resnet50_entropy_calibration.cache.xz").read_bytes())


def bindings(version: str = "8.6.0", calibrators: bool = True) -> SimpleNamespace:
    """As much of the module tensorrt as a calibrator needs; like pybind11's, a base wants its __init__ called."""

    class Base:
        def __init__(self):
            self.ready = True

    names = ("IInt8Calibrator", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator") if calibrators else ()
    return SimpleNamespace(__version__=version, **{name: type(name, (Base,), {}) for name in names})


class Memory:
    """What stands in for a tensor on the GPU."""

    def __init__(self, array: np.ndarray):
        self.array = array

    def data_ptr(self) -> int:
        return self.array.ctypes.data


def drain(calibrator) -> list[np.ndarray]:
    """Call it as TensorRT does; copies of the batches."""
    found = []
    while (pointers := calibrator.get_batch(["image"])) is not None:
        (held,) = calibrator.feeder.held
        assert pointers == [held.data_ptr()]
        found.append(held.array.copy())
    return found


@pytest.mark.parametrize(
    "make, base", [(entropy_calibrator, "IInt8EntropyCalibrator2"), (min_max_calibrator, "IInt8MinMaxCalibrator")]
)
def test_batches_progress_and_cache(tmp_path, make, base):
    trt, x, heard, cache = bindings(), zoo.images(11), [], tmp_path / "scales.cache"
    with make(
        trt, MODEL, x, batch=4, cache=cache, upload=Memory, progress=lambda part, words: heard.append((part, words))
    ) as calibrator:
        assert isinstance(calibrator, getattr(trt, base)) and calibrator.ready and calibrator.get_batch_size() == 4
        assert calibrator.read_calibration_cache() is None
        np.testing.assert_array_equal(np.concatenate(drain(calibrator)), x[:8]), "the rest does not fill a batch"
        calibrator.write_calibration_cache(memoryview(RECORDED))
    assert heard == [(0.5, "4 images"), (1.0, "8 images")]
    assert cache.read_bytes() == RECORDED and calibrator.feeder.held == []
    again = make(trt, MODEL, x, batch=4, cache=cache, upload=Memory)
    assert again.read_calibration_cache() == RECORDED


def test_a_cache_of_something_else_is_refused_by_name(tmp_path):
    trt, x, cache = bindings(), zoo.images(8), tmp_path / "scales.cache"

    def ask(model=MODEL, data=x, make=entropy_calibrator):
        return make(trt, model, data, batch=4, cache=cache, upload=Memory)

    write_cache(cache, RECORDED)
    with pytest.raises(CourseError, match="scales.cache is not used: nobody knows what it was made with"):
        ask()
    stamp(cache, fingerprint(MODEL, x, "EntropyCalibration2", batch=4))
    assert ask().read_calibration_cache() == RECORDED
    for words, settings in [
        ("another model", {"model": zoo.residual_net(classes=20)}),
        ("other calibration data", {"data": x[::-1]}),
        ("another method", {"make": min_max_calibrator}),
    ]:
        with pytest.raises(CourseError, match=f"scales.cache is not used: it was made with {words}"):
            ask(**settings)
    cache.write_bytes(RECORDED.replace(b"image: 3caa54fc", b"image: 3caa54fd"))
    with pytest.raises(CourseError, match="was changed since it was written"):
        ask()
    origin_file(cache).write_text("{}")
    with pytest.raises(DamagedFileError, match="from.json cannot be read"):
        ask()


def test_what_goes_wrong_inside_a_callback_is_told_afterwards(tmp_path):
    """Nothing may be raised through TensorRT; and a cache of half the data must not be written."""
    cache, calls = tmp_path / "scales.cache", []

    def upload(array: np.ndarray) -> Memory:
        calls.append(array)
        if len(calls) == 2:
            raise MemoryError("out of memory")
        return Memory(array)

    with pytest.raises(CourseError, match="did not see all its data.*\n.*MemoryError: out of memory"):
        with entropy_calibrator(bindings(), MODEL, zoo.images(12), batch=4, cache=cache, upload=upload) as calibrator:
            assert calibrator.get_batch(["image"]) is not None
            assert calibrator.get_batch(["image"]) is None and calibrator.get_batch(["image"]) is None
            calibrator.write_calibration_cache(RECORDED)
    assert not cache.exists()
    with pytest.raises(ZeroDivisionError):  # what happened in the block comes first
        with entropy_calibrator(bindings(), MODEL, zoo.images(4), batch=4, upload=upload):
            raise ZeroDivisionError
    with pytest.raises(CourseError, match="KeyError: 'other'"):
        with entropy_calibrator(bindings(), MODEL, zoo.images(4), batch=4, upload=Memory) as calibrator:
            calibrator.get_batch(["other"])


def test_versions_without_calibrators_say_what_to_do():
    for make in (entropy_calibrator, min_max_calibrator):
        with pytest.raises(UnsupportedError, match="11.4.0 has no calibrators.*\n.*\n.*calibration_from"):
            make(bindings("11.4.0", calibrators=False), MODEL, zoo.images(4))
    with pytest.raises(CourseError, match="does not fill a batch of 8"):
        entropy_calibrator(bindings(), MODEL, zoo.images(4), batch=8)


def test_a_generator_is_not_used_up_by_the_fingerprint():
    x = zoo.images(8)
    data = (x[start : start + 4] for start in (0, 4))
    calibrator = entropy_calibrator(bindings(), MODEL, data, batch=4, upload=Memory)
    np.testing.assert_array_equal(np.concatenate(drain(calibrator)), x)


@pytest.mark.parametrize("version", ["8.6", "10.16"])
def test_with_the_real_bindings(version, tmp_path):
    """Classes of the real wheels, over empty libraries: they derive, initialise and answer."""
    from tests.contract import wheels

    try:
        python, tag = wheels._python_for(wheels.WHEELS[version])
        file = wheels._download(wheels.WHEELS[version], tag, wheels.cache_dir() / "contract")
    except wheels.Unavailable as reason:
        pytest.skip(str(reason))
    if python != sys.executable:
        pytest.skip(f"This wheel is for Python {tag}, which does not have the course.")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "stubs").mkdir()
    wheels._make_stubs(tmp_path / "tensorrt_bindings" / "tensorrt.so", tmp_path / "stubs")
    code = """
import sys
sys.path[:0] = sys.argv[2:] + [sys.argv[1]]
import tensorrt_bindings.tensorrt as trt
from tests.quantize import quantize_zoo as zoo
from tests.quantize.test_trt_calibration import MODEL, Memory, drain
from course.quantize import entropy_calibrator, min_max_calibrator
for make, kind in ((entropy_calibrator, "ENTROPY_CALIBRATION_2"), (min_max_calibrator, "MINMAX_CALIBRATION")):
    with make(trt, MODEL, zoo.images(9), batch=4, cache=f"{sys.argv[1]}/{kind}", upload=Memory) as calibrator:
        assert isinstance(calibrator, trt.IInt8Calibrator)
        assert calibrator.get_algorithm() == getattr(trt.CalibrationAlgoType, kind)
        assert calibrator.get_batch_size() == 4 and len(drain(calibrator)) == 2
        calibrator.write_calibration_cache(b"TRT-8601-X\\n")
    assert make(trt, MODEL, zoo.images(9), batch=4, cache=f"{sys.argv[1]}/{kind}",
                upload=Memory).read_calibration_cache() == b"TRT-8601-X\\n"
print("all of it")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(HERE), str(HERE.parents[1])],
        text=True,
        capture_output=True,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "stubs")},
    )
    assert done.stdout.strip() == "all of it", done.stderr


# ---------------------------------------------------------------- the text of a cache


def test_a_recorded_cache_is_read_and_written_byte_for_byte():
    cache = parse_cache(RECORDED.decode())
    assert (cache.version, cache.algorithm, len(cache.scales)) == ("8600", "EntropyCalibration2", 127)
    assert cache.scales["image"] == pytest.approx(2.64 / 127, rel=1e-3), "the largest normalised pixel"
    assert "(Unnamed Layer* 126) [Constant]_output" in cache.scales
    assert cache.text().encode() == RECORDED


def test_its_scales_go_into_pairs(tmp_path):
    """The way of a calibration from 8.6 to 11, where there are no calibrators: bit for bit the same scales."""
    given = calibrate(MODEL, zoo.images(8), "min-max")
    cache = cache_from(given)
    assert cache.text().startswith("TRT-8600-MinMaxCalibration\nimage: ")
    more = {"(Unnamed Layer* 3) [Constant]_output": 0.5, "dead": 0.0}
    cache = Cache(cache.version, cache.algorithm, {**cache.scales, **more})
    origin = fingerprint(MODEL, zoo.images(8), "MinMaxCalibration")
    path = write_cache(tmp_path / "scales.cache", cache, origin)
    found = calibration_from(read_cache(path, origin), origin)
    assert found.fingerprint == origin and set(found.scales) == set(given.scales)
    pairs = {
        pair.tensor: float(pair.scale)
        for pair in read_pairs(Network(quantize(MODEL, found))).values()
        if not pair.per_channel
    }
    assert pairs and all(np.float32(cache.scales[tensor]) == scale for tensor, scale in pairs.items())
    assert quantize(MODEL, found) == quantize(MODEL, given)
    unknown = calibration_from(read_cache(path))
    assert unknown.method == "TRT-8600-MinMaxCalibration"
    assert cache_from(Calibration({"x": 1.0}, Fingerprint("", "", "mse"))).algorithm == "EntropyCalibration2"


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "It is empty"),
        ("image: 3caa54fc\n", "Its first line is 'image: 3caa54fc'"),
        ("TRT-8600-EntropyCalibration2\nimage 3caa54fc\n", "Line 2"),
        ("TRT-8600-X\nimage: 3caa54fc0\n", "Line 2"),
        ("TRT-8600-X\na: 3caa54fc\n\nimage: zzzzzzzz\n", "Line 4"),
    ],
)
def test_what_is_no_cache_says_so(text, words):
    with pytest.raises(DamagedFileError, match=words):
        parse_cache(text)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(MissingFileError):
        read_cache(tmp_path / "none.cache")
    (tmp_path / "plan").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DamagedFileError, match="not text"):
        read_cache(tmp_path / "plan")
