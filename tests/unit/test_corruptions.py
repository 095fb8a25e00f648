"""data/corruptions: what holds for every kind of the registry CORRUPTIONS."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.frost import drawn
from tips_bench.data.corruptions import frost
from tips_bench.data.varied import corrupted
from tips_bench.errors import UserError
from tips_bench.registry import CORRUPTIONS, Corruption

KINDS = CORRUPTIONS.in_order()


@pytest.fixture(autouse=True)
def _drawn_frost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frost, "photograph", drawn)


def test_photographs_of_frost_that_cannot_be_brought_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(frost, "ADDRESS", "http://127.0.0.1:1/frost")
    monkeypatch.setattr("tips_bench.fetch.time.sleep", lambda seconds: None)
    with pytest.raises(UserError, match=r"photograph of frost frost\d"):
        corrupted(scene(), "frost", 3, "a")


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """A colored gradient with a box and some noise."""
    y_HW, x_HW = np.mgrid[:height, :width]
    image_HW3 = np.stack([60 + 130 * x_HW / width, 190 - 120 * y_HW / height, 110 + 40 * np.sin(x_HW / 5)], -1)
    image_HW3[height // 4 : height // 2, width // 4 : width // 2] = [200, 40, 40]
    noise_HW3 = np.random.default_rng(3).normal(0, 5, image_HW3.shape)
    return np.clip(image_HW3 + noise_HW3, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_any_size_of_image_keeps_its_size_at_every_strength_and_is_not_changed_in_place(kind: str) -> None:
    for height, width in ((48, 64), (33, 32), (40, 17)):
        image_HW3 = scene(height, width)
        before_HW3 = image_HW3.copy()
        for strength in (1, 2, 3, 4, 5):
            found_HW3 = corrupted(image_HW3, kind, strength, "a")
            assert found_HW3.shape == image_HW3.shape and found_HW3.dtype == np.uint8
            assert not np.array_equal(found_HW3, image_HW3)
        assert np.array_equal(image_HW3, before_HW3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_id_gives_the_same_bytes_and_a_random_kind_differs_between_ids(kind: str) -> None:
    image_HW3 = scene()
    first, again, other = (corrupted(image_HW3, kind, 3, id) for id in ("a", "a", "b"))
    fixed = {"defocus-blur", "gaussian-blur", "zoom-blur", "brightness", "contrast", "saturate", "pixelate", "jpeg-compression"}
    assert np.array_equal(first, again) and np.array_equal(first, other) == (kind in fixed)


@pytest.mark.parametrize(
    "kind", sorted(set(KINDS) - {"frost", "saturate", "spatter", "snow", "fog", "glass-blur", "elastic-transform", "pixelate"})
)
def test_a_greater_strength_changes_more(kind: str) -> None:
    image_HW3 = scene()
    means = [np.abs(corrupted(image_HW3, kind, strength, "a").astype(int) - image_HW3).mean() for strength in (1, 2, 3, 4, 5)]
    assert means == sorted(means) and means[-1] > 1.3 * means[0]


@pytest.mark.parametrize("kind", ["fog", "brightness", "saturate", "spatter", "snow", "contrast", "motion-blur"])
def test_black_and_white_images_are_taken(kind: str) -> None:
    for value in (0, 255):
        image_HW3 = np.full((40, 40, 3), value, dtype=np.uint8)
        for strength in (1, 3, 5):
            corrupted(image_HW3, kind, strength, "a")


@pytest.mark.parametrize(
    "kind", ["motion-blur", "zoom-blur", "glass-blur", "elastic-transform", "defocus-blur", "pixelate", "gaussian-blur"]
)
def test_what_only_moves_or_averages_pixels_leaves_an_even_image_even(kind: str) -> None:
    image_HW3 = np.full((40, 56, 3), (200, 90, 30), dtype=np.uint8)
    assert np.abs(corrupted(image_HW3, kind, 3, "a").astype(int) - image_HW3).max() <= 2  # rounded down twice


def test_noise_is_as_large_as_its_constant_says() -> None:
    gray_HW3 = np.full((200, 200, 3), 128, dtype=np.uint8)
    assert corrupted(gray_HW3, "gaussian-noise", 1, "a").std() / 255 == pytest.approx(0.08, rel=0.02)
    assert corrupted(gray_HW3, "shot-noise", 1, "a").std() / 255 == pytest.approx((128 / 255 / 60) ** 0.5, rel=0.02)
    assert corrupted(gray_HW3, "speckle-noise", 1, "a").std() / 255 == pytest.approx(0.15 * 128 / 255, rel=0.02)
    hit = corrupted(gray_HW3, "impulse-noise", 5, "a")
    assert (hit != 128).mean() == pytest.approx(0.27, abs=0.005) and (hit == 255).mean() == pytest.approx(0.135, abs=0.005)


def test_a_kind_of_a_plugin_that_returns_no_such_image_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORRUPTIONS._entries, "halves", Corruption(lambda image_HW3, strength, rng: image_HW3[::2]))
    with pytest.raises(UserError, match="corruption halves"):
        corrupted(scene(), "halves", 1, "a")
