"""Looks: hashes and thumbnails know an image again that was cropped, mirrored or stretched, and no other one."""

from __future__ import annotations

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.helpers.curation import drawing
from tips_bench.corpus.curation.looks import SIDE, agreement, hash_distances, look_at


def look(image: Image.Image) -> tuple[np.ndarray, np.ndarray, float]:
    return *look_at(np.asarray(image)), image.width / image.height


def agree(one: Image.Image, other: Image.Image, least_scale: float = 0.5) -> float:
    (_, own_SS, own), (_, other_SS, others) = look(one), look(other)
    return agreement(own_SS, other_SS, (own, others), least_scale, 0.9)


def test_hashes_are_those_of_imagehash() -> None:
    image = drawing(0)
    hashes_4, thumbnail_SS = look_at(np.asarray(image))
    gray = image.convert("L")
    expected = [hash(side) for side in (gray, ImageOps.mirror(gray)) for hash in (imagehash.phash, imagehash.dhash)]
    assert [f"{one:016x}" for one in hashes_4.tolist()] == [str(one) for one in expected]
    assert thumbnail_SS.shape == (SIDE, SIDE) and thumbnail_SS.dtype == np.uint8


def test_bits_are_counted_of_the_nearest_hash_mirrored_or_not() -> None:
    images = [drawing(1), ImageOps.mirror(drawing(1)), drawing(2)]
    hashes_N4 = np.stack([look(image)[0] for image in images])
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
    ],
    ids=["crop", "higher crop", "mirrored crop", "stretched", "smaller", "paler"],
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
