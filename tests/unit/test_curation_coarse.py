"""The first look at many pairs rules out no pair that cv2's own correlation, one pair after another, lets pass."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import ImageOps

from tests.helpers.curation import drawing
from tips_bench.corpus.curation import coarse
from tips_bench.corpus.curation.coarse import may_agree
from tips_bench.corpus.curation.looks import COARSE, FLAT, SLACK, Thumbnail, coarse_sizes, look_at, overlays

SCALE = 0.5


def thumbnails() -> list[Thumbnail]:
    """Of drawings, and of copies of some: cropped, mirrored, gray, half of one gray level, or all of it."""
    images = [drawing(number, 120, (160, 130, 200)[number % 3]) for number in range(14)]
    images += [images[0].crop((20, 10, 130, 100)), ImageOps.mirror(images[1]), ImageOps.mirror(images[2].crop((0, 0, 120, 110)))]
    arrays = [np.array(image) for image in images]
    arrays += [np.where(np.arange(120)[:, None, None] < 60, arrays[3], 255), np.full_like(arrays[0], 250), arrays[4] // 16 + 100]
    arrays[5][:, :80] = 255
    return [Thumbnail(*look_at(one.astype(np.uint8))[1:], one.shape[1] / one.shape[0]) for one in arrays]


def coarse_agreement(part: Thumbnail, whole: Thumbnail) -> float:
    """The best correlation by cv2 of the small thumbnails, as `overlays` computes it first."""
    found = [-1.0]
    stretch = part.aspect / whole.aspect
    for turned in (part, part.mirrored) if part.gray_SS.std() >= FLAT else ():
        ones = [cv2.resize(side.gray_SS, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for side in (turned, whole)]
        for aspect in (1.0,) if 1 / 1.02 < stretch < 1.02 else (1.0, stretch):
            for size in coarse_sizes(aspect, SCALE):
                small_hw = cv2.resize(ones[0], size[::-1], interpolation=cv2.INTER_AREA)
                values = cv2.matchTemplate(ones[1], small_hw, cv2.TM_CCOEFF_NORMED)
                found.append(float(np.nan_to_num(values, posinf=0, neginf=0).max()))
    return max(found)


@pytest.mark.parametrize("at_once", [3, 2048])
@pytest.mark.parametrize("wanted", [0.6, 0.85, 0.95])
def test_a_pair_is_ruled_out_only_if_cv2_rules_it_out(wanted: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "AT_ONCE", at_once)
    ones = thumbnails()
    pairs_P2 = np.array([(one, other) for one in range(len(ones)) for other in range(one)])
    may_P = may_agree(ones, ones, pairs_P2, SCALE, wanted)
    best_P = np.array([max(coarse_agreement(ones[a], ones[b]), coarse_agreement(ones[b], ones[a])) for a, b in pairs_P2.tolist()])
    assert may_P[best_P >= wanted - SLACK].all() and not may_P[best_P < wanted - SLACK - 0.03].any()
    assert 0 < may_P.sum() < len(may_P)
    overlaid_P = np.array([any(True for _ in overlays(ones[a], ones[b], SCALE, wanted)) for a, b in pairs_P2.tolist()])
    assert overlaid_P.any() and may_P[overlaid_P].all()


def test_of_no_pairs_nothing_is_looked_at() -> None:
    assert may_agree([], [], np.zeros((0, 2), np.int64), SCALE, 0.9).shape == (0,)
