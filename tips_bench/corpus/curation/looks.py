"""What an image looks like: perceptual hashes, and a thumbnail that can be laid over a part of another.

Hashes find images that were resized, compressed, blurred, recolored or mirrored. Thumbnails tell in addition whether one image is a part
of the other: the smaller one is moved over the larger one at many scales, and the best correlation of gray values counts. There, colors
are compared, too.

Axes: H W pixels of an image, S = SIDE pixels of a thumbnail, C = COARSE pixels, h w pixels of a part, N and M images, 4 hashes.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageOps

from tips_bench.errors import UserError

SIDE = 48
COARSE = 24  # pixels a side of the first look, and of the colors
SLACK = 0.1  # of correlation, that a coarse look may miss of a fine one
STEP = 1.035  # from one scale to the next: less than two pixels of SIDE
REFINED = 2  # times that a size is changed by a pixel: without it, parts of an image lost up to 0.03 of correlation
ENOUGH = 128  # pixels of the shorter side: hashes and thumbnails of more cost time and see nothing else
SAME_ASPECT = 1.02
FLAT = 3.0  # gray levels of standard deviation, below which a thumbnail looks like a part of anything
EDGE = 6  # gray levels between two neighbors, above which something can be seen there
COLORLESS = 2.0  # root mean square of Cb and Cr, below which an image has no colors to compare: it may be a gray copy


def check_imagehash() -> None:
    """Errors: imagehash is not installed."""
    if importlib.util.find_spec("imagehash") is None:
        fix = "Install it: `pip install 'tips-bench[corpus]'`."
        raise UserError("curation needs imagehash, which is not installed", where="corpus curate", fix=fix)


@dataclass(frozen=True)
class Thumbnail:
    """gray_SS: uint8. colors_CC2: uint8, Cb and Cr of JPEG, 128 where there is no color. aspect: width over height of the image."""

    gray_SS: np.ndarray
    colors_CC2: np.ndarray
    aspect: float

    @property
    def mirrored(self) -> Thumbnail:
        return Thumbnail(self.gray_SS[:, ::-1], self.colors_CC2[:, ::-1], self.aspect)


def look_at(image_HW3: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(hashes_4: uint64, the DCT hash and the gradient hash of 8 x 8 bits, and both of the mirrored image; gray_SS, colors_CC2).

    The hashes are those of imagehash (`phash`, `dhash`), of an image that was reduced by a whole factor where it is large.
    """
    import imagehash

    image = Image.fromarray(image_HW3)
    factor = max(1, min(image.size) // ENOUGH)
    gray, small = image.convert("L").reduce(factor), image.reduce(factor)
    hashes = [hash(side) for side in (gray, ImageOps.mirror(gray)) for hash in (imagehash.phash, imagehash.dhash)]
    bits_464 = np.array([found.hash.reshape(-1) for found in hashes], bool)
    hashes_4 = np.packbits(bits_464, axis=1).view(">u8")[:, 0].astype(np.uint64)
    colors = small.resize((COARSE, COARSE), Image.Resampling.LANCZOS).convert("YCbCr")
    return hashes_4, np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.LANCZOS)), np.asarray(colors)[..., 1:]


def hash_distances(hashes_N4: np.ndarray, others_M4: np.ndarray) -> np.ndarray:
    """[N,M] uint8: bits by which the nearest of both hashes differ, as the images are or one of them mirrored."""
    return hash_bits(hashes_N4[:, None], others_M4[None])


def hash_bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The same of arrays [...,4] that are laid beside each other, uint8 [...]."""
    pairs = ((0, 0), (1, 1), (0, 2), (1, 3))
    return np.minimum.reduce([np.bitwise_count(one[..., own] ^ other[..., theirs]) for own, theirs in pairs])


@dataclass(frozen=True)
class Overlay:
    """One thumbnail laid over a part of another where their gray values agree best.

    agreement: correlation of the gray values. colors: cosine of the colors, 1 where one of the two has none; brightness, contrast and
    saturation leave it as it is. area: of the part, as a share of the whole. edges: share of its pixels that differ from a neighbor, in
    the one of the two in which there are fewer: how much there is to see.
    """

    agreement: float
    colors: float
    area: float
    edges: float


def overlays(one: Thumbnail, other: Thumbnail, least_scale: float, wanted: float) -> Iterator[Overlay]:
    """One thumbnail over a part of the other, the other over a part of the one, mirrored or not, where the agreement is `wanted` or more.

    A part has the aspect of its image, or it was stretched to the whole of the other.
    """
    for part, whole in ((one, other), (other, one)):
        if part.gray_SS.std() < FLAT:
            continue
        stretch = part.aspect / whole.aspect
        aspects = (1.0,) if 1 / SAME_ASPECT < stretch < SAME_ASPECT else (1.0, stretch)
        for turned in (part, part.mirrored):
            best = max(_at_sizes(turned.gray_SS, whole.gray_SS, list(_sizes(aspect, least_scale)), wanted) for aspect in aspects)
            if best.agreement >= wanted:
                yield _seen(turned, whole, best)


@dataclass(frozen=True, order=True)
class _Fit:
    """size: height and width in pixels of the whole. corner: top and left there."""

    agreement: float
    size: tuple[int, int] = (SIDE, SIDE)
    corner: tuple[int, int] = (0, 0)


def _sizes(aspect: float, least_scale: float) -> Iterator[tuple[float, float]]:
    """(height, width) of a part as shares of the whole, the largest first. aspect: width over height of these shares."""
    height, width = min(1.0, 1 / aspect), min(1.0, aspect)
    while min(height, width) >= least_scale:
        yield height, width
        height, width = height / STEP, width / STEP


def _at_sizes(part_SS: np.ndarray, whole_SS: np.ndarray, sizes: list[tuple[float, float]], wanted: float) -> _Fit:
    """The best fit at these sizes: every other one on small thumbnails, then those near the best, then pixel by pixel.

    Its agreement is 0 where the small thumbnails rule `wanted` out.
    """
    part_CC, whole_CC = (cv2.resize(image, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for image in (part_SS, whole_SS))
    coarse = [_fit(part_CC, whole_CC, _pixels(size, COARSE)).agreement for size in sizes[::2]]
    place = int(np.argmax(coarse)) if coarse else 0
    if not coarse or coarse[place] < wanted - SLACK:
        return _Fit(0.0)
    near = {_pixels(size, SIDE) for size in sizes[max(0, 2 * place - 2) : 2 * place + 3]}
    fit = functools.cache(lambda size: _fit(part_SS, whole_SS, size))  # a size is near to several
    best: _Fit = max(fit(size) for size in near)
    for _ in range(REFINED):
        height, width = best.size
        around = [(height + down, width + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        best = max(fit(size) for size in around if max(size) <= SIDE)
    return best


def _pixels(size: tuple[float, float], side: int) -> tuple[int, int]:
    return max(2, round(side * size[0])), max(2, round(side * size[1]))


def _fit(part_SS: np.ndarray, whole_SS: np.ndarray, size: tuple[int, int]) -> _Fit:
    """The best over all places, of the part brought to a size in pixels of the whole."""
    small_hw = cv2.resize(part_SS, size[::-1], interpolation=cv2.INTER_AREA)
    _, found, _, (left, top) = cv2.minMaxLoc(cv2.matchTemplate(whole_SS, small_hw, cv2.TM_CCOEFF_NORMED))
    return _Fit(found if np.isfinite(found) else 0.0, size, (top, left))


def _seen(part: Thumbnail, whole: Thumbnail, fit: _Fit) -> Overlay:
    (height, width), (top, left) = fit.size, fit.corner
    place = slice(top, top + height), slice(left, left + width)
    grays = cv2.resize(part.gray_SS, (width, height), interpolation=cv2.INTER_AREA), whole.gray_SS[place]
    whole_SS2 = cv2.resize(whole.colors_CC2, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    part_hw2 = cv2.resize(part.colors_CC2, (width, height), interpolation=cv2.INTER_LINEAR)
    return Overlay(fit.agreement, _alike(part_hw2, whole_SS2[place]), height * width / SIDE**2, min(map(_edges, grays)))


def _alike(one_hw2: np.ndarray, other_hw2: np.ndarray) -> float:
    """Cosine of colors."""
    one_E, other_E = (colors_hw2.astype(np.float64).ravel() - 128 for colors_hw2 in (one_hw2, other_hw2))
    lengths = [float(np.linalg.norm(colors_E)) for colors_E in (one_E, other_E)]
    if min(lengths) < COLORLESS * (one_E.size / 2) ** 0.5:
        return 1.0
    return float(one_E @ other_E) / (lengths[0] * lengths[1])


def _edges(gray_hw: np.ndarray) -> float:
    """Share of the pixels that differ from the one below or to the right."""
    levels_hw = gray_hw.astype(np.int16)
    down_hw, right_hw = np.abs(np.diff(levels_hw, axis=0))[:, :-1], np.abs(np.diff(levels_hw, axis=1))[:-1]
    return float(((down_hw > EDGE) | (right_hw > EDGE)).mean())
