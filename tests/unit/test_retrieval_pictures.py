"""Pictures of what was found: the true ones are green, and anything that a set may hold can be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.segmentation_sets import picture
from tips_bench.pictures.retrieval import FALSE, TRUE, Finding, panel


def finding(true: int | None, caption: str = "A dog.", shape: tuple[int, int] = (30, 40), number: int = 5) -> Finding:
    return Finding(
        image_HW3=picture(0, *shape),
        caption=caption,
        captions=[(f"{caption} {place}", place == true) for place in range(number)],
        images=[(picture(place, *shape), place == true) for place in range(number)],
    )


def pixels(panel_HW3: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((panel_HW3 == color).all(axis=-1).sum())


def test_the_true_caption_and_the_true_image_are_green():
    assert pixels(panel(finding(None)), TRUE) == 0 < pixels(panel(finding(None)), FALSE)
    first, last = panel(finding(0)), panel(finding(4))
    for drawn in (first, last):
        assert pixels(drawn, TRUE) > 500
    lower = first.shape[0] // 2
    columns = [np.flatnonzero((drawn[lower:] == TRUE).all(axis=-1).any(axis=0)).mean() for drawn in (first, last)]
    assert columns[0] < 200 < 700 < columns[1]


def test_the_same_finding_gives_the_same_picture():
    assert np.array_equal(panel(finding(1)), panel(finding(1)))


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (7, 7)])
def test_images_of_any_shape_and_captions_of_any_length_fit_the_panel(shape):
    plain, long = panel(finding(2)), panel(finding(2, caption="word " * 400 + "x" * 600 + "\x1b[31m\n\u4e2d", shape=shape, number=3))
    assert plain.shape == long.shape and plain.dtype == np.uint8


def test_an_empty_caption_and_a_pool_of_one_can_be_drawn():
    assert panel(finding(0, caption="", number=1)).ndim == 3
