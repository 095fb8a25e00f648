"""Arrays from the features of photos: shared colors, matches between two photos, classes by their names.

Axes: h w token grid, D feature, C classes, M matches, N patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError
from tips_bench.features.affinity import mutual, top_matches, unit
from tips_bench.features.prompts import check_prompts, fill
from tips_bench.pictures.panels import pca_basis

MAX_NAMES = 32
FINER = 4  # cells of a class map for each patch, along an axis


@dataclass(frozen=True)
class PatchMatches:
    """Pairs of patches that are each other's nearest, best first. first_M, second_M: their rows, line by line. cosines_M: of each pair."""

    first_M: np.ndarray
    second_M: np.ndarray
    cosines_M: np.ndarray


@dataclass(frozen=True)
class ClassMap:
    """labels_HW uint8: the place of the best class's name. cosines_HW float32: of the cell with that name."""

    labels_HW: np.ndarray
    cosines_HW: np.ndarray


def shared_colors(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    """[h,w,3] uint8 of each photo's [h,w,D]: the first three principal components of the patches of all photos, as red, green and blue."""
    basis = pca_basis(features)
    return [basis.colors(features_hwD) for features_hwD in features]


def similarity(query_D: np.ndarray, features_hwD: np.ndarray) -> np.ndarray:
    """[h,w] float32: cosines of a patch with those of a photo. The page computes the same from packed features."""
    return (unit(torch.from_numpy(features_hwD)) @ unit(torch.from_numpy(query_D))).numpy()


def patch_matches(first_hwD: np.ndarray, second_hwD: np.ndarray) -> PatchMatches:
    """Mutual nearest neighbors by the cosine of their features."""
    first_ND, second_ND = (unit(torch.from_numpy(features_hwD)).flatten(0, 1) for features_hwD in (first_hwD, second_hwD))
    there = top_matches(first_ND, second_ND, 1)
    rows_N = there.rows_Qk[:, 0]
    kept_N = mutual(rows_N, top_matches(second_ND, first_ND, 1).rows_Qk[:, 0])
    first_M, second_M, cosines_M = torch.nonzero(kept_N)[:, 0], rows_N[kept_N], there.similarities_Qk[kept_N, 0]
    order_M = cosines_M.argsort(descending=True, stable=True)
    return PatchMatches(*(values_M[order_M].numpy() for values_M in (first_M, second_M, cosines_M)))


def class_embeddings(encoder: Encoder, names: Sequence[str], template: str) -> np.ndarray:
    """[C,D] unit text embeddings in the space of patches. Errors: no names or too many, a template without {}, an encoder without text."""
    if not encoder.spec.has_text:
        raise UserError("this encoder has no text tower, so classes cannot be found by their names", where=encoder.spec.name)
    if not 1 <= len(names) <= MAX_NAMES:
        raise UserError(f"{len(names)} class names", fix=f"Type 1 to {MAX_NAMES}, with commas between them.")
    try:
        check_prompts([template])
    except ValueError as error:
        raise UserError(f"the template is not usable: {error}", fix="Type for example: a photo of a {}") from error
    with torch.inference_mode():
        texts_CD = encoder.encode_patch_text([fill([template], name)[0] for name in names])
    return unit(texts_CD).cpu().numpy()


def class_map(features_hwD: np.ndarray, texts_CD: np.ndarray) -> ClassMap:
    """The best of the classes in each cell of a grid FINER times finer than the patches'; cosines between patches are interpolated.

    Errors: patches and texts of different length.
    """
    if features_hwD.shape[-1] != texts_CD.shape[-1]:
        problem = f"its patches have {features_hwD.shape[-1]} features and its texts {texts_CD.shape[-1]}: they cannot be compared"
        raise UserError(problem, fix="Choose another encoder.")
    cosines_hwC = unit(torch.from_numpy(features_hwD)) @ torch.from_numpy(texts_CD).T
    finer_1CHW = F.interpolate(cosines_hwC.permute(2, 0, 1)[None], scale_factor=FINER, mode="bilinear")
    best = finer_1CHW[0].max(0)
    return ClassMap(best.indices.numpy().astype(np.uint8), best.values.numpy())
