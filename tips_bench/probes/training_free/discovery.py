"""One object of an image from its patch features alone: LOST and TokenCut.

LOST (Simeoni et al., BMVC 2021; valeoai/LOST fcedbec, object_discovery.py:23-120): the patch that is similar to the fewest others is the
seed; of the patches that are similar to few, those similar to the seed say together which patches belong to the object.

TokenCut (Wang et al., CVPR 2022; YangtaoWANG95/TokenCut fed52cd, object_discovery.py:12-93): a graph of patches, with an edge of 1 between
similar ones and a weak one between all others, is cut in two by the second eigenvector of its normalized Laplacian.

In both, the object is the connected patches round the seed, side by side or one above the other, and its box is the answer. Of patches with
one degree the lower comes first, which the source leaves to PyTorch's sort.

Axes: h w grid, P = h w patches, D feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import label
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from tips_bench.features.affinity import unit

ROWS = 1 << 7  # patches whose products with all others are held at once, and fit into the second-level cache
SMALL = 256  # patches up to which a full decomposition is no slower
VECTORS = 20  # of the subspace in which the second eigenvector is looked for
RESTARTS = 120  # after which a full decomposition takes over


@dataclass(frozen=True)
class Found:
    """One object, in patches. box_4: left, top, right, bottom, the last two outside. mask_hw: its patches. seed: (row, column).

    map_hw: what it was told by, for pictures. full: whether a full decomposition had to be made. uncut: whether no two parts of the image
    could be told apart, so that the whole image is the object.
    """

    box_4: np.ndarray
    mask_hw: np.ndarray
    seed: tuple[int, int]
    map_hw: np.ndarray
    full: bool = False
    uncut: bool = False


def lost(features_hwD: Tensor, candidates: int) -> Found:
    """The object that LOST finds. candidates: so many patches that are similar to few may say what belongs to it."""
    grid, features_PD = features_hwD.shape[:2], features_hwD.flatten(0, 1).float()
    degree_P = _degrees(features_PD)
    lowest_c = degree_P.argsort(stable=True)[:candidates]
    seed = int(lowest_c[0])
    speakers_s = lowest_c[features_PD[lowest_c] @ features_PD[seed] > 0]
    support_P = features_PD @ features_PD[speakers_s].sum(0)
    map_hw = -degree_P.unflatten(0, grid).cpu().numpy().astype(np.float64)
    return _around(seed, (support_P > 0).unflatten(0, grid).cpu().numpy(), map_hw)


def _degrees(features_PD: Tensor) -> Tensor:
    """[P]: to how many other patches each has a positive product. Each pair is multiplied once."""
    degree_P = -(features_PD.square().sum(1) > 0).float()  # a patch is no neighbor of itself
    for first in range(0, len(features_PD), ROWS):
        block_pD = features_PD[first : first + ROWS]
        similar_pQ = (block_pD @ features_PD[first:].T).gt_(0)  # to itself and the patches after it
        degree_P[first : first + ROWS] += similar_pQ.sum(1)
        degree_P[first + ROWS :] += similar_pQ[:, ROWS:].sum(0)
    return degree_P


def tokencut(features_hwD: Tensor, threshold: float, weak: float) -> Found:
    """The object that TokenCut finds. threshold: the cosine above which two patches are similar. weak: the edge between all others.

    Where all patches are similar, or no two are, every vector is a second eigenvector, and rounding would choose the object: it is the
    whole image then.
    """
    grid, features_PD = features_hwD.shape[:2], unit(features_hwD.flatten(0, 1))
    similar_PP = (features_PD @ features_PD.T > threshold).double().cpu().numpy()
    pairs = int(similar_PP.sum() - similar_PP.trace())
    if pairs in (0, len(similar_PP) * (len(similar_PP) - 1)):
        return Found(np.array([0, 0, grid[1], grid[0]]), np.ones(grid, bool), (0, 0), np.zeros(grid), uncut=True)
    vector_P, full = second_eigenvector(similar_PP, weak)
    side_P = vector_P > vector_P.mean()
    seed = int(np.abs(vector_P).argmax())
    if not side_P[seed]:
        side_P, vector_P = ~side_P, -vector_P
    return _around(seed, side_P.reshape(grid), vector_P.reshape(grid), full)


def second_eigenvector(similar_PP: np.ndarray, weak: float) -> tuple[np.ndarray, bool]:
    """(v_P, full): v of the second smallest eigenvalue of (D - W) v = lambda D v, where W is 1 for similar patches and `weak` for others.

    similar_PP: float64, 1 or 0. v = D^-1/2 u, where u belongs to the second greatest eigenvalue of D^-1/2 W D^-1/2. The greatest is 1,
    with D^1/2 1, which is taken out of the way, so that Lanczos looks for one eigenvector at the end of the spectrum, to the precision of
    float64. full: whether it did not settle, and a full decomposition was made instead.
    """
    patches = len(similar_PP)
    root_P = np.sqrt(weak * patches + (1 - weak) * similar_PP.sum(1))
    found_P = None if patches <= SMALL else _lanczos(similar_PP, weak, root_P)
    if found_P is not None:
        return found_P / root_P, False
    weights_PP = (weak + (1 - weak) * similar_PP) / root_P / root_P[:, None]
    _, vectors_P1 = eigh(weights_PP, subset_by_index=[patches - 2, patches - 2])
    return vectors_P1[:, 0] / root_P, patches > SMALL


def _lanczos(similar_PP: np.ndarray, weak: float, root_P: np.ndarray) -> np.ndarray | None:
    """The eigenvector of the second greatest eigenvalue of D^-1/2 W D^-1/2; None where it does not settle. root_P: of the degrees."""
    first_P = root_P / np.linalg.norm(root_P)

    def apply(x_P: np.ndarray) -> np.ndarray:
        x_P = x_P.ravel()
        x_P = (x_P - first_P * (first_P @ x_P)) / root_P
        y_P = (weak * x_P.sum() + (1 - weak) * (similar_PP @ x_P)) / root_P
        return y_P - first_P * (first_P @ y_P)

    start_P = np.random.Generator(np.random.Philox(key=len(root_P))).standard_normal(len(root_P))
    operator = LinearOperator(similar_PP.shape, matvec=apply, dtype=np.float64)
    try:
        _, vectors_P1 = eigsh(operator, k=1, which="LA", v0=start_P, ncv=VECTORS, maxiter=RESTARTS)
    except ArpackError:
        return None
    return vectors_P1[:, 0]


def _around(seed: int, inside_hw: np.ndarray, map_hw: np.ndarray, full: bool = False) -> Found:
    """The connected patches round the seed, of those inside; the seed alone where it is outside itself, as with features of zero."""
    row, column = divmod(seed, inside_hw.shape[1])
    labels_hw, _ = label(inside_hw)
    mask_hw = labels_hw == labels_hw[row, column]
    if not inside_hw[row, column]:
        mask_hw = np.zeros_like(mask_hw)
        mask_hw[row, column] = True
    rows, columns = np.nonzero(mask_hw)
    box_4 = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    return Found(box_4, mask_hw, (row, column), map_hw, full)
