"""The figures of the lessons on the API: nothing covers anything, and they show what they were given."""

from __future__ import annotations

import numpy as np
import pytest

from course import plot
from course.plot import api as plot_api
from tests.plot.test_plot import texts


def maps() -> plot.Figure:
    rng = np.random.default_rng(0)
    features = rng.random((64, 56, 56))
    image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    rows = {"PyTorch": features, "by hand": features, "tensorrt": features}
    return plot_api.feature_maps(image, rows, [1, 4, 40, 63])


FIGURES = {"objects": plot_api.objects, "lifetimes": plot_api.lifetimes, "feature maps": maps}


@pytest.mark.parametrize("name", FIGURES)
def test_no_text_covers_another_or_leaves_the_figure(name: str) -> None:
    figure = FIGURES[name]()
    boxes = list(texts(figure).items())
    for index, (one, a) in enumerate(boxes):
        assert a[0] >= -1 and a[1] >= -1 and a[2] <= figure.bbox.width + 1 and a[3] <= figure.bbox.height + 1, one
        for other, b in boxes[index + 1 :]:
            apart = a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1
            assert apart, f"{one!r} and {other!r} overlap"


def test_all_eight_objects_are_there() -> None:
    shown = " ".join(texts(plot_api.objects()))
    names = ("Logger", "Builder", "Network", "Config", "plan", "Runtime", "Engine", "Context")
    assert all(name in shown for name in names)


def test_rows_of_one_channel_share_their_scale() -> None:
    """Half the values must look half as dark, not the same."""
    image, full = np.zeros((4, 4, 3), np.uint8), np.ones((2, 3, 3))
    figure = plot_api.feature_maps(image, {"one": full, "half": full / 2}, [0, 1])
    limits = {axis.images[0].get_clim() for axis in figure.axes if axis.images[0].get_array().ndim == 2}
    assert limits == {(0, 1)}
