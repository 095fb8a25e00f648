"""Looks: hashes and thumbnails know an image again that was cropped, mirrored or stretched, and no other one."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.helpers.curation import drawing
from tips_bench.corpus.curation.alike import agreement
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.looks import COARSE, SIDE, Thumbnail, hash_distances, look_at, overlays


def thumbnail(image: Image.Image) -> Thumbnail:
    return Thumbnail(*look_at(np.asarray(image))[1:], image.width / image.height)


def agree(one: Image.Image, other: Image.Image, least_scale: float = 0.5) -> float:
    return agreement(thumbnail(one), thumbnail(other), DuplicateCard(least_scale=least_scale))


def wall(color: tuple[int, int, int], edge: int, width: int = 120) -> Image.Image:
    """A plain wall below a white ceiling."""
    image = Image.new("RGB", (width, 120), color)
    image.paste((235, 235, 235), (0, 0, width, edge))
    return image


def test_hashes_are_those_of_imagehash() -> None:
    image = drawing(0)
    hashes_4, thumbnail_SS, colors_CC2 = look_at(np.asarray(image))
    gray = image.convert("L")
    expected = [hash(side) for side in (gray, ImageOps.mirror(gray)) for hash in (imagehash.phash, imagehash.dhash)]
    assert [f"{one:016x}" for one in hashes_4.tolist()] == [str(one) for one in expected]
    assert thumbnail_SS.shape == (SIDE, SIDE) and thumbnail_SS.dtype == np.uint8
    assert colors_CC2.shape == (COARSE, COARSE, 2) and colors_CC2.dtype == np.uint8


def test_bits_are_counted_of_the_nearest_hash_mirrored_or_not() -> None:
    images = [drawing(1), ImageOps.mirror(drawing(1)), drawing(2)]
    hashes_N4 = np.stack([look_at(np.asarray(image))[0] for image in images])
    differ_NN = hash_distances(hashes_N4, hashes_N4)
    assert (differ_NN.diagonal() == 0).all()
    assert differ_NN[0, 1] == 0 and differ_NN[0, 2] > 8


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.crop((10, 6, 130, 96)),
        lambda image: image.crop((40, 5, 120, 115)),
        lambda image: ImageOps.mirror(image).crop((30, 20, 150, 110)),
        lambda image: image.resize((128, 128)),
        lambda image: image.resize((60, 45)),
        lambda image: Image.eval(image, lambda value: value // 2 + 60),
        lambda image: ImageEnhance.Color(image).enhance(0.4),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["crop", "higher crop", "mirrored crop", "stretched", "smaller", "paler", "less colorful", "gray"],
)
def test_an_image_agrees_with_a_changed_copy_whichever_comes_first(change) -> None:  # type: ignore[no-untyped-def]
    image = drawing(3)
    assert agree(image, change(image)) > 0.93 and agree(change(image), image) > 0.93


def test_other_images_do_not_agree() -> None:
    assert max(agree(drawing(4), drawing(seed)) for seed in range(5, 15)) < 0.9


def test_a_part_smaller_than_the_least_scale_does_not_agree() -> None:
    image = drawing(3)
    part = image.crop((20, 15, 72, 54))  # a third of a side
    assert agree(image, part, 0.3) > 0.93 > agree(image, part, 0.5)


def test_images_of_one_color_agree_with_nothing() -> None:
    plain = Image.new("RGB", (64, 64), (120, 10, 10))
    assert agree(plain, plain) == 0 and agree(plain, drawing(1)) == 0


def test_images_of_other_colors_are_not_the_same_picture_though_gray_values_agree() -> None:
    image = drawing(3)
    red, green, blue = image.split()
    other = Image.merge("RGB", (green, red, blue))
    found = [list(overlays(thumbnail(image), thumbnail(one), 0.5, 0.0)) for one in (image, other)]
    assert max(overlay.colors for overlay in found[0]) == pytest.approx(1) and max(overlay.colors for overlay in found[1]) < 0.8
    assert agree(wall((60, 110, 60), 50), wall((60, 110, 60), 50)) > 0.99
    assert agree(wall((60, 110, 60), 50), wall((140, 72, 60), 50)) == 0


def test_a_small_part_that_shows_little_has_to_agree_better_than_one_that_shows_much() -> None:
    strict = DuplicateCard(plain_agreement=0.999)
    one, other = wall((60, 110, 60), 30), wall((60, 110, 60), 60)
    other.paste((30, 60, 30), (0, 100, 120, 120))
    assert agree(one, other) > 0.98 and agreement(thumbnail(one), thumbnail(other), strict) == 0
    image = drawing(3)
    part = image.crop((40, 20, 130, 88))  # a third of the area
    assert 0.999 > agreement(thumbnail(image), thumbnail(part), strict) > 0.93
