"""What an image looks like: perceptual hashes, and a thumbnail that can be laid over a part of another.

Hashes find images that were resized, compressed, blurred, recolored or mirrored. Thumbnails tell in addition whether one image is a part
of the other: the smaller one is moved over the larger one at many scales, and the best correlation of gray values counts.

Axes: H W pixels of an image, S = SIDE pixels of a thumbnail, N and M images, 4 hashes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageOps

from tips_bench.errors import UserError

SIDE = 48
COARSE = 24  # pixels a side of the first look
SLACK = 0.1  # of correlation, that a coarse look may miss of a fine one
STEP = 1.035  # from one scale to the next: less than two pixels of SIDE
REFINED = 2  # times that a size is changed by a pixel: without it, parts of an image lost up to 0.03 of correlation
ENOUGH = 128  # pixels of the shorter side: hashes and thumbnails of more cost time and see nothing else
SAME_ASPECT = 1.02
FLAT = 3.0  # gray levels of standard deviation, below which a thumbnail looks like a part of anything


def check_imagehash() -> None:
    """Errors: imagehash is not installed."""
    if importlib.util.find_spec("imagehash") is None:
        fix = "Install it: `pip install 'tips-bench[corpus]'`."
        raise UserError("curation needs imagehash, which is not installed", where="corpus curate", fix=fix)


def look_at(image_HW3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(hashes_4: uint64, the DCT hash and the gradient hash of 8 x 8 bits, and both of the mirrored image; thumbnail_SS: uint8, gray).

    The hashes are those of imagehash (`phash`, `dhash`), of an image that was reduced by a whole factor where it is large.
    """
    import imagehash

    gray = Image.fromarray(image_HW3).convert("L")
    gray = gray.reduce(max(1, min(gray.size) // ENOUGH))
    hashes = [hash(side) for side in (gray, ImageOps.mirror(gray)) for hash in (imagehash.phash, imagehash.dhash)]
    bits_464 = np.array([found.hash.reshape(-1) for found in hashes], bool)
    hashes_4 = np.packbits(bits_464, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return hashes_4, np.asarray(gray.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def hash_distances(hashes_N4: np.ndarray, others_M4: np.ndarray) -> np.ndarray:
    """[N,M] uint8: bits by which the nearest of both hashes differ, as the images are or one of them mirrored."""
    pairs = ((0, 0), (1, 1), (0, 2), (1, 3))
    found = [np.bitwise_count(hashes_N4[:, own, None] ^ others_M4[None, :, other]) for own, other in pairs]
    return np.minimum.reduce(found)


def agreement(one_SS: np.ndarray, other_SS: np.ndarray, aspects: tuple[float, float], least_scale: float, wanted: float) -> float:
    """The best correlation of one thumbnail, mirrored or not, with a part of the other; 0 where a coarse look rules `wanted` out.

    aspects: width over height of each image. A part has the aspect of its image, or it was stretched to the whole of the other.
    """
    ratio = aspects[0] / aspects[1]
    ways = ((one_SS, other_SS, ratio), (other_SS, one_SS, 1 / ratio))
    turns = [(turned_SS, whole_SS, stretch) for part_SS, whole_SS, stretch in ways for turned_SS in (part_SS, part_SS[:, ::-1])]
    return max(_over(*turn, least_scale, wanted) for turn in turns)


def _over(part_SS: np.ndarray, whole_SS: np.ndarray, stretch: float, least_scale: float, wanted: float) -> float:
    """The best correlation of a thumbnail with a part of another. stretch: its aspect over the other's."""
    if part_SS.std() < FLAT:
        return 0.0
    aspects = (1.0,) if 1 / SAME_ASPECT < stretch < SAME_ASPECT else (1.0, stretch)
    return max(_at_sizes(part_SS, whole_SS, list(_sizes(aspect, least_scale)), wanted) for aspect in aspects)


def _sizes(aspect: float, least_scale: float) -> Iterator[tuple[float, float]]:
    """(height, width) of a part as shares of the whole, the largest first. aspect: width over height of these shares."""
    height, width = min(1.0, 1 / aspect), min(1.0, aspect)
    while min(height, width) >= least_scale:
        yield height, width
        height, width = height / STEP, width / STEP


def _at_sizes(part_SS: np.ndarray, whole_SS: np.ndarray, sizes: list[tuple[float, float]], wanted: float) -> float:
    """The best correlation at these sizes: every other one on small thumbnails, then those near the best, then pixel by pixel."""
    part_CC, whole_CC = (cv2.resize(image, (COARSE, COARSE), interpolation=cv2.INTER_AREA) for image in (part_SS, whole_SS))
    coarse = [_correlation(part_CC, whole_CC, _pixels(size, COARSE)) for size in sizes[::2]]
    place = int(np.argmax(coarse)) if coarse else 0
    if not coarse or coarse[place] < wanted - SLACK:
        return 0.0
    near = {_pixels(size, SIDE) for size in sizes[max(0, 2 * place - 2) : 2 * place + 3]}
    best = max((_correlation(part_SS, whole_SS, size), size) for size in near)
    for _ in range(REFINED):
        height, width = best[1]
        around = [(height + down, width + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        best = max((_correlation(part_SS, whole_SS, size), size) for size in around if max(size) <= SIDE)
    return best[0]


def _pixels(size: tuple[float, float], side: int) -> tuple[int, int]:
    return max(2, round(side * size[0])), max(2, round(side * size[1]))


def _correlation(part_SS: np.ndarray, whole_SS: np.ndarray, size: tuple[int, int]) -> float:
    """The best over all places, of the part brought to a size (height, width) in pixels of the whole."""
    small_hw = cv2.resize(part_SS, size[::-1], interpolation=cv2.INTER_AREA)
    found = float(cv2.matchTemplate(whole_SS, small_hw, cv2.TM_CCOEFF_NORMED).max())
    return found if np.isfinite(found) else 0.0
