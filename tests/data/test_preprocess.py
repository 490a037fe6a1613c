"""Preprocessing against other people's code: Pillow and torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from course.data import preprocess
from course.errors import DtypeError, ShapeError

LEVEL = 1 / 255 / min(preprocess.IMAGENET_STD)
"""One of 256 grey levels, in the classifier's units."""


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def photograph(height: int, width: int) -> np.ndarray:
    """A smooth picture with some noise, uint8 [H, W, 3]."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 17) + np.cos(y / 11), np.cos((x + y) / 23), np.sin(x * y / 5000)], -1)
    picture = 128 + 60 * waves
    return (picture + random.normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8)


def test_classifier_matches_torchvision_to_rounding(pixels: np.ndarray) -> None:
    reference = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Resize((224, 224), v2.InterpolationMode.BILINEAR, antialias=True),
            v2.Normalize(preprocess.IMAGENET_MEAN, preprocess.IMAGENET_STD),
        ]
    )
    expected = torch.stack([reference(image) for image in pixels]).numpy()
    actual = preprocess.classifier(pixels)
    assert actual.dtype == np.float32 and actual.shape == (3, 3, 224, 224) and actual.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_classifier_matches_pillow_within_a_grey_level(pixels: np.ndarray) -> None:
    """Pillow rounds to whole grey levels twice, after the columns and after the rows; we do not round."""
    large = np.stack([np.asarray(Image.fromarray(image).resize((224, 224), Image.BILINEAR)) for image in pixels])
    expected = (large / 255 - preprocess.IMAGENET_MEAN) / preprocess.IMAGENET_STD
    difference = np.abs(preprocess.classifier(pixels) - expected.transpose(0, 3, 1, 2))
    assert difference.max() < 1.01 * LEVEL and difference.mean() < 0.4 * LEVEL


def test_classifier_returns_what_it_was_given(pixels: np.ndarray) -> None:
    tensor = preprocess.classifier(torch.from_numpy(pixels))
    assert isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), preprocess.classifier(pixels))
    read_only = pixels.copy()
    read_only.setflags(write=False)
    np.testing.assert_array_equal(preprocess.classifier(read_only), tensor.numpy())


@pytest.mark.parametrize("shape", [(32, 32, 3), (1, 3, 32, 32), (0, 32, 32, 3), (1, 32, 32, 4)])
def test_classifier_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="shape"):
        preprocess.classifier(np.zeros(shape, np.uint8))


def test_classifier_refuses_scaled_pixels() -> None:
    with pytest.raises(DtypeError, match="float32"):
        preprocess.classifier(np.zeros((1, 32, 32, 3), np.float32))


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (300, 300), (100, 150)])
def test_imagenet_matches_torchvisions_own_transform(size: tuple[int, int]) -> None:
    image = photograph(*size)
    reference = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    expected = reference(Image.fromarray(image)).numpy()[None]
    actual = preprocess.imagenet(image)
    assert actual.shape == (1, 3, 224, 224) and actual.dtype == np.float32
    difference = np.abs(actual - expected)
    assert difference.max() < 1.01 * LEVEL and difference.mean() < 0.02 * LEVEL


@pytest.mark.parametrize("size", [(320, 320), (240, 500), (700, 400), (90, 60), (33, 1000)])
@pytest.mark.parametrize("target", [320, (256, 416)])
def test_detector_matches_pillow(size: tuple[int, int], target: int | tuple[int, int]) -> None:
    image = photograph(*size)
    actual, box = preprocess.detector(image, target)
    height, width = (target, target) if isinstance(target, int) else target
    scale = min(height / size[0], width / size[1])
    inner = Image.fromarray(image).resize((round(size[1] * scale), round(size[0] * scale)), Image.BILINEAR)
    sheet = Image.new("RGB", (width, height), (114, 114, 114))
    sheet.paste(inner, ((width - inner.width) // 2, (height - inner.height) // 2))
    assert actual.shape == (1, 3, height, width) and actual.dtype == np.float32
    assert 0 <= actual.min() and actual.max() <= 1
    difference = np.abs(actual[0] * 255 - np.asarray(sheet, np.float32).transpose(2, 0, 1))
    assert difference.max() < 2.01 and difference.mean() < 0.1  # PyTorch's filter weights have fewer bits
    if size == (height, width):
        assert difference.max() < 1e-4 and box.scale == 1 and (box.left, box.top) == (0, 0)


def test_letterbox_turns_boxes_back() -> None:
    _, box = preprocess.detector(photograph(240, 500), 320)
    assert box.scale == 0.64 and (box.left, box.top) == (0, 83)
    boxes = np.float32([[10, 20, 200, 220], [0, 0, 500, 240]])
    np.testing.assert_allclose(box.to_input(boxes)[1], [0, 83, 320, 236.6], rtol=1e-6)
    np.testing.assert_allclose(box.to_image(box.to_input(boxes)), boxes, atol=1e-3)
    cut = box.to_image(np.float32([-50, 0, 1000, 320]))
    np.testing.assert_array_equal(cut, [0, 0, 500, 240])


def test_a_spot_lands_where_the_letterbox_says() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:240, 300:340] = 255
    inputs, box = preprocess.detector(image, 320)
    x1, y1, x2, y2 = box.to_input(np.float32([300, 200, 340, 240])).round().astype(int)
    bright = np.argwhere(inputs[0, 0] > 0.5)
    assert (bright.min(0) == [y1, x1]).all() and (bright.max(0) + 1 == [y2, x2]).all()


@pytest.mark.parametrize("size", [300, 0, (320, 100), -32])
def test_detector_refuses_sizes_off_its_grid(size: int | tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="multiples of 32"):
        preprocess.detector(photograph(50, 50), size)


def test_detector_refuses_batches_and_floats() -> None:
    with pytest.raises(ShapeError, match=r"\(1, 50, 50, 3\)"):
        preprocess.detector(photograph(50, 50)[None], 320)
    with pytest.raises(DtypeError, match="float64"):
        preprocess.detector(photograph(50, 50) / 255, 320)
