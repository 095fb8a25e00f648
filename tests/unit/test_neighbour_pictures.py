"""Pictures of neighbours and guesses: right ones in green, long names cut, the same bytes again."""

from __future__ import annotations

import numpy as np

from tips_bench.pictures.neighbors import NOT_COUNTED, RIGHT, SHOWN, guess_panel, neighbor_panel


def image(side: int, gray: int) -> np.ndarray:
    return np.full((side, 2 * side, 3), gray, np.uint8)


def greens(panel_HW3: np.ndarray) -> int:
    return int((panel_HW3 == RIGHT).all(-1).sum())


def test_right_neighbours_are_framed_in_green() -> None:
    found = [(image(30 + place, 40 * place), f"name {place}", place in (1, 3)) for place in range(SHOWN + 2)]
    panel_HW3 = neighbor_panel(image(50, 10), "truth", found)
    none_HW3 = neighbor_panel(image(50, 10), "truth", [(picture, text, False) for picture, text, _ in found])
    assert greens(panel_HW3) > 1000 and greens(none_HW3) == 0 and panel_HW3.shape == none_HW3.shape
    assert np.array_equal(panel_HW3, neighbor_panel(image(50, 10), "truth", found[:SHOWN]))


def test_an_image_without_neighbours_and_a_name_of_any_length_are_drawn() -> None:
    assert neighbor_panel(image(4, 0), "x" * 300, []).shape == neighbor_panel(image(400, 0), "", []).shape
    panel_HW3 = guess_panel(image(30, 90), "a\nname", [("wrong (0.1)", False), ("right (0.05)", True)] * 4)
    assert greens(panel_HW3) > 10 and panel_HW3.dtype == np.uint8


def test_what_does_not_count_is_framed_in_yellow() -> None:
    panel_HW3 = neighbor_panel(image(50, 10), "truth", [(image(30, 90), "junk", None), (image(30, 90), "wrong", False)])
    assert int((panel_HW3 == NOT_COUNTED).all(-1).sum()) > 1000 and greens(panel_HW3) == 0
