"""Which captions are an image's nearest and which images a caption's, in tiles, exactly, with ties broken against the model.

Embeddings are unit vectors rounded to multiples of 2**-26, which is finer than single precision at the length of 1. A similarity is
then a whole number of 2**-52, and by Cauchy and Schwarz so small that every partial sum of it is exact in double precision, in
whatever order a library adds. So equal vectors tie, and no size of a tile, number of threads or device can change a rank. The
matrix of all similarities never exists.

Axes: I images, T texts, D feature, J the own captions of an image, nearest first, cut at the greatest rank; i t rows of a tile;
k the ranks of `metrics.retrieval`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tips_bench.metrics.retrieval import COUNTS, RANKS, image_counts
from tips_bench.progress import bar

FRACTION_BITS = 26
TILE = (2048, 8192)  # images, texts
ROWS = 4096


def fixed_point(embeddings_ND: np.ndarray) -> np.ndarray:
    """Unit vectors in units of 2**-26, int32 [N,D]; a vector of zeros stays one."""
    wide_ND = np.ascontiguousarray(embeddings_ND, np.float64)
    length_N1 = np.sqrt(np.square(wide_ND).sum(axis=1, keepdims=True))
    unit_ND = np.divide(wide_ND, length_N1, out=np.zeros_like(wide_ND), where=length_N1 > 0)
    return np.rint(unit_ND * (1 << FRACTION_BITS)).astype(np.int32)


def count_images(
    images_ID: np.ndarray, texts_TD: np.ndarray, starts: np.ndarray, *, tile: tuple[int, int] = TILE, device: torch.device | str = "cpu"
) -> np.ndarray:
    """counts_IM of `image_counts` for each image.

    images_ID, texts_TD: of `fixed_point`; a memory map is read in pieces. starts: int [I+1]; the captions of image i are the texts from
    starts[i] on, up to starts[i+1], at least one. tile: images and texts whose similarities are held at once.
    """
    own_T = _own(images_ID, texts_TD, starts)
    least_IJ = _nearest_own(own_T, starts)
    at_least_IJ, before_T = _compare(images_ID, texts_TD, own_T, least_IJ, tile, torch.device(device))
    counts = np.zeros((len(images_ID), COUNTS), np.int64)
    for image, (start, end) in enumerate(itertools.pairwise(starts)):
        own_J = np.sort(own_T[start:end])[::-1]
        nearest_J = own_J[: least_IJ.shape[1]]
        others_J = at_least_IJ[image, : len(nearest_J)] - (own_J >= nearest_J[:, None]).sum(axis=1)
        places_J = others_J + np.arange(len(nearest_J))
        own_k, hits_k = ([int((places < rank).sum()) for rank in RANKS] for places in (places_J, before_T[start:end]))
        counts[image] = image_counts(np.array(own_k), np.array(hits_k), int(end - start))
    return counts


def _own(images_ID: np.ndarray, texts_TD: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """own_T: the similarity of each text and its image."""
    owners_T = np.repeat(np.arange(len(images_ID)), np.diff(starts))
    own_T = np.empty(len(texts_TD))
    for start, end in _pieces(len(texts_TD), ROWS):
        products_tD = images_ID[owners_T[start:end]].astype(np.float64) * texts_TD[start:end]
        own_T[start:end] = products_tD.sum(axis=1)
    return own_T


def _nearest_own(own_T: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """least_IJ: the greatest of each image's own similarities, falling; infinity where it has fewer captions."""
    numbers_I = np.diff(starts)
    least_IJ = np.full((len(numbers_I), min(max(RANKS), int(numbers_I.max()))), np.inf)
    for image, (start, end) in enumerate(itertools.pairwise(starts)):
        falling = np.sort(own_T[start:end])[::-1][: least_IJ.shape[1]]
        least_IJ[image, : len(falling)] = falling
    return least_IJ


def _compare(
    images_ID: np.ndarray, texts_TD: np.ndarray, own_T: np.ndarray, least_IJ: np.ndarray, tile: tuple[int, int], device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """(at_least_IJ, before_T): texts at least as near as each own caption, it included; other images at least as near as a text's own."""
    at_least_IJ = torch.zeros(least_IJ.shape, dtype=torch.int64, device=device)
    before_T = torch.full(own_T.shape, -1, dtype=torch.int64, device=device)  # its own image is as near as itself
    own, least = torch.from_numpy(own_T).to(device), torch.from_numpy(least_IJ).to(device)
    with bar("comparing images and texts", len(images_ID) * len(texts_TD)) as advance:
        for top, bottom in _pieces(len(images_ID), tile[0]):
            images_iD = _wide(images_ID[top:bottom], device)
            for left, right in _pieces(len(texts_TD), tile[1]):
                similar_it = images_iD @ _wide(texts_TD[left:right], device).T
                before_T[left:right] += _count(similar_it >= own[left:right], 0)
                for place in range(least.shape[1]):
                    at_least_IJ[top:bottom, place] += _count(similar_it >= least[top:bottom, place, None], 1)
                advance(similar_it.numel())
    return at_least_IJ.cpu().numpy(), before_T.cpu().numpy()


def _count(true_it: Tensor, axis: int) -> Tensor:
    """How many are true along an axis; on a CPU by numpy, which is ten times as fast at it as torch."""
    if true_it.is_cuda:
        return true_it.sum(dim=axis)
    return torch.from_numpy(np.count_nonzero(true_it.numpy(), axis=axis))


def _wide(numbers_ND: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers_ND)).to(device, torch.float64)


def _pieces(length: int, size: int) -> Iterator[tuple[int, int]]:
    yield from ((start, min(start + size, length)) for start in range(0, length, size))
