"""Composed scenes and industrial surfaces: the same bytes everywhere, exact boxes, honest errors."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from course.data import scenes, surfaces
from course.data.scenes import ObjectPool, scene, shipped_pool
from course.data.surfaces import surface
from course.errors import CourseError, DtypeError, ShapeError

HASH_SCRIPT = """
import hashlib
from course.data.scenes import scene
from course.data.surfaces import surface
digest = hashlib.sha256()
for seed in (0, 7, 2 ** 100):
    made = scene(seed, 160)
    digest.update(made.image.tobytes() + made.boxes.tobytes() + made.labels.tobytes())
    digest.update(surface(seed, 64).image.tobytes() + surface(seed, 64).mask.tobytes())
print(digest.hexdigest())
"""


def flat_pool(photograph: int, cloth: int) -> ObjectPool:
    """Objects without content: photographs of one grey, garments that fill their tile with one grey."""
    return ObjectPool(
        np.full((3, 32, 32, 3), photograph, np.uint8), np.arange(3), np.full((3, 28, 28), cloth, np.uint8), np.arange(3)
    )


def same(a: scenes.Scene, b: scenes.Scene) -> bool:
    return np.array_equal(a.image, b.image) and np.array_equal(a.boxes, b.boxes) and np.array_equal(a.labels, b.labels)


def test_a_seed_gives_the_same_bytes_in_every_process():
    hashes = {
        subprocess.run([sys.executable, "-c", HASH_SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    digest = hashlib.sha256()
    for seed in (0, 7, 2**100):
        made = scene(seed, 160)
        digest.update(made.image.tobytes() + made.boxes.tobytes() + made.labels.tobytes())
        digest.update(surface(seed, 64).image.tobytes() + surface(seed, 64).mask.tobytes())
    assert hashes == {digest.hexdigest() + "\n"}


def test_seed_and_split_make_the_scene():
    assert same(scene(3), scene(3))
    assert not same(scene(3), scene(4))
    pool = shipped_pool("public")
    assert not same(scene(3, split="public", pool=pool), scene(3, split="secret", pool=pool))


def test_form_of_a_scene():
    counts, labels = [], set()
    for seed in range(60):
        made = scene(seed, 160)
        assert made.image.dtype == np.uint8 and made.image.shape == (160, 160, 3)
        assert made.boxes.dtype == np.float32 and made.boxes.shape == (len(made.labels), 4)
        assert made.labels.dtype == np.int64
        assert (made.boxes >= 0).all() and (made.boxes <= 160).all()
        assert (made.boxes[:, 2:] - made.boxes[:, :2] >= 4).all()
        counts.append(len(made.labels))
        labels |= set(made.labels.tolist())
    assert min(counts) >= 2 and max(counts) <= 10 and 5 < np.mean(counts) < 8
    assert labels == set(range(20)) and len(scenes.CLASSES) == 20


def lonely(boxes: np.ndarray, gap: int) -> list[int]:
    """Indices of boxes that stay further than `gap` pixels from every other box."""

    def apart(a, b):
        return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]

    return [i for i, a in enumerate(boxes) if all(apart(a, b) for j, b in enumerate(boxes) if j != i)]


@pytest.mark.parametrize("kind", ["photographs", "garments"])
def test_boxes_are_exact(kind):
    """Two scenes that differ only in what the objects show differ exactly inside the boxes."""
    other = flat_pool(0, 255) if kind == "photographs" else flat_pool(255, 120)
    checked = 0
    for seed in range(60):
        first, second = scene(seed, 200, pool=flat_pool(255, 255)), scene(seed, 200, pool=other)
        assert np.array_equal(first.boxes, second.boxes)
        for i in lonely(first.boxes, gap=2):
            if (first.labels[i] >= 10) != (kind == "photographs"):
                continue
            x0, y0, x1, y1 = first.boxes[i].astype(int)
            left, top = max(x0 - 2, 0), max(y0 - 2, 0)
            around = np.s_[top : y1 + 2, left : x1 + 2]
            rows, columns = np.nonzero((first.image[around] != second.image[around]).any(2))
            assert [
                left + columns.min(),
                top + rows.min(),
                left + columns.max() + 1,
                top + rows.max() + 1,
            ] == first.boxes[i].tolist()
            checked += 1
    assert checked >= 15


def test_an_object_that_would_hide_another_is_not_placed():
    rng = np.random.default_rng(0)
    owner = np.zeros((100, 100), np.uint8)
    total, visible = [1], [1]
    assert scenes._place(rng, np.ones((30, 30), bool), owner, total, visible) is not None
    before = owner.copy()
    assert scenes._place(rng, np.ones((400, 400), bool), owner, total, visible) is None
    assert np.array_equal(owner, before) and len(total) == 2


def test_most_of_an_object_can_be_seen():
    rng = np.random.default_rng(1)
    owner = np.zeros((120, 120), np.uint8)
    total, visible = [1], [1]
    for _ in range(40):
        scenes._place(rng, np.ones((40, 40), bool), owner, total, visible)
    assert len(total) > 4
    for k in range(1, len(total)):
        assert visible[k] == np.count_nonzero(owner == k) >= 0.4 * 1600


def test_size_scales_the_scene():
    small, large = scene(5, 160), scene(5, 320)
    assert np.array_equal(small.labels, large.labels)
    assert np.abs(small.boxes * 2 - large.boxes).max() <= 8
    assert scene(5, (96, 224)).image.shape == (96, 224, 3)


def test_splits_share_no_object():
    public, calibration = shipped_pool("public"), shipped_pool("calibration")
    for a, b in ((public.cifar, calibration.cifar), (public.fashion, calibration.fashion)):
        assert len(a) == len(b) == 1000
        assert not {x.tobytes() for x in a} & {x.tobytes() for x in b}


@pytest.mark.parametrize(
    "call",
    [
        lambda: scene(0, split="hidden"),
        lambda: scene(-1),
        lambda: scene(0, 32),
        lambda: scene(0, (320, 20)),
        lambda: surface(-1),
        lambda: surface(0, 8),
        lambda: surface(0, defect="dent"),
        lambda: surface(0, material="wood"),
    ],
)
def test_bad_arguments_have_a_way_out(call):
    with pytest.raises(CourseError) as caught:
        call()
    assert "Next step:" in str(caught.value)


def test_a_pool_of_another_form_is_refused():
    good = flat_pool(1, 1)
    with pytest.raises(DtypeError):
        ObjectPool(good.cifar / 255, good.cifar_labels, good.fashion, good.fashion_labels)
    with pytest.raises(ShapeError):
        ObjectPool(good.cifar, good.cifar_labels[:2], good.fashion, good.fashion_labels)
    with pytest.raises(ShapeError):
        ObjectPool(good.cifar, good.cifar_labels, good.fashion[:, :20], good.fashion_labels)


@pytest.mark.parametrize("material", surfaces.MATERIALS)
def test_a_defect_changes_the_surface_where_the_mask_says(material):
    for seed in range(6):
        good = surface(seed, 128, None, material)
        assert good.label == 0 and not good.mask.any()
        assert good.image.dtype == np.uint8 and good.image.shape == (128, 128, 3) and good.image.std() > 3
        for label, defect in enumerate(surfaces.DEFECTS, 1):
            made = surface(seed, 128, defect, material)
            assert made.label == label and made.mask.dtype == bool
            changed = (made.image != good.image).any(2)
            assert not changed[~made.mask].any()
            assert changed[made.mask].mean() > 0.5
            assert 0.0005 < made.mask.mean() < 0.35


def test_the_seed_chooses_material_and_defect():
    made = [surface(seed, 32) for seed in range(60)]
    assert {s.label for s in made} == set(range(5))
    assert len({s.image.tobytes() for s in made}) == 60
