"""Collecting: what it counts, progress, and going on after an interruption; refusals name what differs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from course.errors import CourseError, DamagedFileError, MissingFileError, ShapeError
from course.quantize import (
    Calibration,
    Fingerprint,
    calibrate,
    collect,
    fingerprint,
    histogram,
    method,
    min_max,
    scales,
    tensors_to_calibrate,
)
from course.quantize import calibration as module
from course.quantize.activations import inner_tensors
from tests.quantize import quantize_zoo as zoo

MODEL = zoo.residual_net()
TENSORS = tensors_to_calibrate(MODEL)


class Stop(Exception):
    """An interruption in the middle of a run."""


def stopping_after(batches: int):
    def tell(part: float, words: str) -> None:
        if words == f"{batches * 4} images":
            raise Stop

    return tell


def test_histograms_are_those_of_the_activations():
    x = zoo.images(12)
    found = collect(MODEL, x, TENSORS, batch=5)
    exact = inner_tensors(MODEL, TENSORS)({"image": x})
    assert list(found.tensors) == TENSORS and found.images == 12 and found.seconds > 0
    for name in TENSORS:
        assert found[name].total[0] == exact[name].size
        assert min_max(found[name]).amax[0] == pytest.approx(np.abs(exact[name]).max(), rel=1e-5)
    assert found["image"] == histogram(x), "inputs of the graph are counted as they come"


def test_data_comes_as_array_dict_list_or_generator():
    x = zoo.images(8)
    wanted = collect(MODEL, x, TENSORS, batch=4)
    kinds = [{"image": x}, [x[:4], x[4:]], ({"image": part} for part in (x[:4], x[4:]))]
    for data in kinds:
        found = collect(MODEL, data, TENSORS, batch=4)
        assert found.tensors == wanted.tensors and found.fingerprint == wanted.fingerprint


def test_progress_rises_to_one():
    heard = []
    calibrate(
        MODEL, zoo.images(8), "min-max", TENSORS, batch=3, progress=lambda part, words: heard.append((part, words))
    )
    assert heard == [(1 / 3, "3 images"), (2 / 3, "6 images"), (1.0, "8 images")]


@pytest.mark.parametrize("done", [1, 2, 3])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch, done):
    x, file = zoo.images(16), tmp_path / "state.npz"
    whole = collect(MODEL, x, TENSORS, batch=4)
    with pytest.raises(Stop):
        collect(MODEL, x, TENSORS, batch=4, checkpoint=file, progress=stopping_after(done))
    heard = []
    found = collect(MODEL, x, TENSORS, batch=4, checkpoint=file, progress=lambda part, words: heard.append(words))
    assert heard == [f"{4 * number} images" for number in range(done + 1, 5)], "only what was left is run"
    assert found.tensors == whole.tensors and found.fingerprint == whole.fingerprint and found.images == 16

    monkeypatch.setattr(module, "inner_tensors", lambda *_: lambda _: pytest.fail("a finished run ran again"))
    again = collect(MODEL, x, TENSORS, batch=4, checkpoint=file)
    assert again.tensors == whole.tensors and again.seconds == pytest.approx(found.seconds)
    for name in ("entropy", "min-max"):  # histograms serve every method
        assert scales(again, name).scales == scales(whole, name).scales


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[2:]
from course.quantize import calibration, collect
from tests.quantize import quantize_zoo as zoo

calibration.CHECKPOINT_SECONDS = 0
calls = []

def kill_at_the_fifth(*_):
    calls.append(None)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

{hook}
collect(zoo.residual_net(), zoo.images(64), batch=4, checkpoint=sys.argv[1], progress=progress)
"""


@pytest.mark.parametrize(
    "hook, seen, left",
    [
        pytest.param("progress = kill_at_the_fifth", 5, 0, id="between two writes"),
        pytest.param("os.fsync, progress = kill_at_the_fifth, None", 4, 1, id="in a write"),
    ],
)
def test_a_killed_process_goes_on(tmp_path, hook, seen, left):
    """Not even an exception: the process is gone. Its checkpoint is whole, and the sum is that of one run."""
    file, here = tmp_path / "state.npz", os.path.dirname(__file__)
    command = [
        sys.executable,
        "-c",
        KILLED.replace("{hook}", hook),
        str(file),
        here,
        os.path.dirname(os.path.dirname(here)),
    ]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    partial = [path for path in tmp_path.iterdir() if path != file]
    assert len(partial) == left
    for path in partial:
        os.utime(path, (time.time() - 4000,) * 2)
    heard = []
    found = collect(MODEL, zoo.images(64), batch=4, checkpoint=file, progress=lambda part, words: heard.append(words))
    assert len(heard) == 16 - seen
    assert found.tensors == collect(MODEL, zoo.images(64), batch=4).tensors
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.npz"], "no partial file"


def test_an_error_in_the_middle_of_a_batch_does_not_spoil_the_checkpoint(tmp_path):
    x, file = zoo.images(12), tmp_path / "state.npz"
    bad = x.copy()
    bad[9, 0, 0, 0] = np.nan
    with pytest.raises(Stop):
        collect(MODEL, x, TENSORS, batch=4, checkpoint=file, progress=stopping_after(1))
    before = file.read_bytes()
    with pytest.raises(CourseError, match="Tensor 'image' cannot be calibrated"):
        collect(MODEL, bad, TENSORS, batch=4, checkpoint=file)
    assert file.read_bytes() == before, "what was counted of the broken batch is not kept"
    assert collect(MODEL, x, TENSORS, batch=4, checkpoint=file).tensors == collect(MODEL, x, TENSORS).tensors


def test_channels_are_counted_by_themselves_and_kept_in_a_checkpoint(tmp_path):
    x, file = zoo.images(8), tmp_path / "state.npz"
    with pytest.raises(Stop):
        collect(MODEL, x, TENSORS, batch=4, axis=1, bins=64, checkpoint=file, progress=stopping_after(1))
    found = collect(MODEL, x, TENSORS, batch=4, axis=1, bins=64, checkpoint=file)
    exact = inner_tensors(MODEL, TENSORS)({"image": x})
    assert [found[name].channels for name in TENSORS[:3]] == [3, 32, 32] and found["image"] == histogram(x, 1, bins=64)
    for name in TENSORS:
        largest = np.abs(np.moveaxis(exact[name], 1, 0)).reshape(found[name].channels, -1).max(1)
        np.testing.assert_allclose(min_max(found[name]).amax, largest, rtol=1e-4)
    with pytest.raises(ShapeError, match="has 3 channels"):
        scales(found, "min-max")


def test_more_data_may_follow_a_finished_run(tmp_path):
    x, file = zoo.images(12), tmp_path / "state.npz"
    collect(MODEL, x[:8], TENSORS, batch=4, checkpoint=file)
    assert collect(MODEL, x, TENSORS, batch=4, checkpoint=file).tensors == collect(MODEL, x, TENSORS).tensors


def test_a_checkpoint_of_something_else_is_refused_by_name(tmp_path):
    x, file = zoo.images(8), tmp_path / "state.npz"
    collect(MODEL, x, TENSORS, batch=4, checkpoint=file)
    other_data = x.copy()
    other_data[0, 0, 0, 0] += 1e-3
    cases = [
        ("made with another model", dict(model=zoo.residual_net(classes=20), data=x, tensors=TENSORS)),
        ("made with other calibration data", dict(model=MODEL, data=other_data, tensors=TENSORS)),
        ("made with other calibration data", dict(model=MODEL, data=x[:4], tensors=TENSORS)),
        ("made with other calibration data", dict(model=MODEL, data=iter([x[:4]]), tensors=TENSORS)),
        ("made with another method", dict(model=MODEL, data=x, tensors=TENSORS[1:])),
        ("made with another method", dict(model=MODEL, data=x, tensors=TENSORS, bins=64)),
    ]
    before = file.read_bytes()
    for words, settings in cases:
        with pytest.raises(CourseError, match=rf"state.npz is not used: it was {words}.*\n.*\n.*Delete"):
            collect(**settings, batch=4, checkpoint=file)
        assert file.read_bytes() == before, "a refused checkpoint stays"
    file.write_bytes(before[:1000])
    with pytest.raises(DamagedFileError, match="not a checkpoint"):
        collect(MODEL, x, TENSORS, batch=4, checkpoint=file)


def test_a_saved_calibration_is_refused_by_name(tmp_path):
    x = zoo.images(8)
    made = calibrate(MODEL, x, method("percentile", percent=99.9), TENSORS)
    path = made.save(tmp_path / "scales.json")
    wanted = fingerprint(MODEL, x, method("percentile", percent=99.9))
    assert Calibration.load(path, wanted) == made == Calibration.load(path)
    assert made.amax("image") == pytest.approx(127 * made.scales["image"])
    for words, other in [
        ("another model", fingerprint(zoo.concat_net(), x, made.method)),
        ("other calibration data", fingerprint(MODEL, x[1:], made.method)),
        ("another method", fingerprint(MODEL, x, method("percentile", percent=99))),
    ]:
        with pytest.raises(CourseError, match=f"scales.json is not used: it was made with {words}"):
            Calibration.load(path, other)
    with pytest.raises(MissingFileError):
        Calibration.load(tmp_path / "none.json")
    path.write_text('{"scales": 3}')
    with pytest.raises(DamagedFileError, match="not a calibration"):
        Calibration.load(path)


def test_wrong_data_is_named():
    x = zoo.images(4)
    for data, error, words in [
        ({"picture": x}, ShapeError, "The data is for inputs picture"),
        (x[:, :, :16, :8, None], CourseError, "does not run on image float32"),
        (x.astype(np.float64), CourseError, "does not run on image float64"),
        (x[:0], CourseError, "There is no calibration data"),
        ([], CourseError, "There is no calibration data"),
        ([np.float32(3)], CourseError, "no array of numbers"),
    ]:
        with pytest.raises(error, match=words):
            collect(MODEL, data, TENSORS)
    with pytest.raises(CourseError, match="'relu' cannot be observed.*\n.*no tensor of this name"):
        collect(MODEL, x, ["relu"])
    with pytest.raises(CourseError, match="'conv.weight' cannot be observed.*\n.*not a float32 activation"):
        collect(MODEL, x, ["conv.weight"])
    with pytest.raises(CourseError, match="no calibration method 'kl'"):
        calibrate(MODEL, None, "kl")
    with pytest.raises(CourseError, match="batches of 0"):
        collect(MODEL, x, batch=0)


def test_fingerprints_do_not_depend_on_how_data_is_handed_over():
    x = zoo.images(8)
    assert (
        fingerprint(MODEL, x, "m", batch=4)
        == fingerprint(MODEL, [x[:4], {"image": x[4:]}], "m")
        == fingerprint(MODEL.SerializeToString(deterministic=True), x, "m", batch=4)
    )
    assert isinstance(fingerprint(MODEL, x, "m"), Fingerprint)


def test_what_was_counted_of_an_array_is_not_counted_again(monkeypatch):
    x = zoo.images(7)
    first = collect(MODEL, x, TENSORS, batch=4)
    first["image"].add(np.ones(3, np.float32))  # of the caller: what is kept stays as it was
    runs = []
    monkeypatch.setattr(module, "inner_tensors", lambda *given: runs.append(given) or inner_tensors(*given))
    again = collect(MODEL, x.copy(), TENSORS, batch=4)
    assert not runs and again["image"] == histogram(x) and again.fingerprint == first.fingerprint
    for other in (x + 1, x[:4]):
        assert collect(MODEL, other, TENSORS, batch=4).fingerprint != first.fingerprint
    assert collect(MODEL, x, TENSORS, batch=4, bins=64)["image"].bins == 64
    assert collect(MODEL, x, TENSORS[:1], batch=4).tensors.keys() == {TENSORS[0]}
    assert len(runs) == 4
