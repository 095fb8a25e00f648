"""The probe `kmeans`: segmentation without labels. Patches of the scored split are clustered, and clusters are named by the labels after.

Protocol of NeCo and others before it (vpariza/NeCo 3932160, experiments/overcluster/eval_overcluster.py:217-257, experiments/utils.py:
573-616): features are standardized, brought to their first principal components and clustered by k-means; with a cluster for each class,
Hungarian matching gives each class the cluster so that the sum of intersections over unions is the greatest; with more clusters than
classes, a cluster has the class that most of its pixels bear.

Axes: N patches, D feature, P principal components, K clusters, C classes, S patches that k-means is fitted on; small letters: a block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tips_bench.cards import Strict, parse
from tips_bench.data.split import Split
from tips_bench.errors import UserError
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.features.geometry import Kind
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.base import Fit
from tips_bench.probes.solved.patch_bank import fill

ROWS = 1 << 14  # patches of a block
POINTS = 256  # of a cluster that k-means is fitted on, as faiss has it (max_points_per_centroid)
SURE = 1e-5  # of the longest point: by so much a center must be nearer than another, for float64 to be right about it without a second look


class KMeansOptions(Strict):
    """clusters: null = one for each class, by Hungarian matching. components: principal components that are kept. iterations: of k-means
    at most. restarts: fits from other first centers, of which the closest is kept. max_patches, patches_per_image: of the split, in all
    and of an image.
    """

    type: Literal["kmeans"]
    clusters: int | None = Field(gt=1)
    components: int = Field(gt=0)
    iterations: int = Field(gt=0)
    restarts: int = Field(gt=0)
    max_patches: int = Field(gt=0)
    patches_per_image: int = Field(gt=0)


@dataclass(frozen=True)
class Components:
    """mean_D, weight_DP: float64; (features - mean) @ weight are standardized features on their principal components."""

    mean_D: Tensor
    weight_DP: Tensor

    def __call__(self, features_ND: Tensor) -> Tensor:
        """[N,P] float64."""
        return (features_ND.double() - self.mean_D.to(features_ND.device)) @ self.weight_DP.to(features_ND.device)


def principal(blocks: Iterable[Tensor], dim: int, components: int) -> Components:
    """Of all features, read block by block twice. blocks: an iterable of [n,D] that can be read again. A constant feature has weight 0."""
    number, total_D = 0, torch.zeros(dim, dtype=torch.float64)
    for block_nD in blocks:
        number, total_D = number + len(block_nD), total_D + block_nD.double().sum(0).cpu()
    mean_D, square_DD = total_D / number, torch.zeros(dim, dim, dtype=torch.float64)
    for block_nD in blocks:
        centered_nD = block_nD.double() - mean_D.to(block_nD.device)
        square_DD += (centered_nD.T @ centered_nD).cpu()
    deviation_D = (square_DD.diagonal() / number).sqrt()
    scale_D = torch.where(deviation_D > 0, 1 / deviation_D, 0.0)
    _, vectors_DD = torch.linalg.eigh(square_DD / number * scale_D * scale_D[:, None])
    return Components(mean_D, scale_D[:, None] * vectors_DD.flip(1)[:, :components])


def nearest(points_NP: Tensor, centers_KP: Tensor) -> tuple[Tensor, Tensor]:
    """(cluster of each point, int64 [N]; its squared distance [N]); of equally near centers the first."""
    parts = []
    for points_nP in points_NP.split(ROWS):
        parts.append(_squares(points_nP, centers_KP).min(1))
    labels_N = torch.cat([part.indices for part in parts])
    return labels_N, torch.cat([part.values for part in parts]) + points_NP.square().sum(1)


def _squares(points_nP: Tensor, centers_KP: Tensor) -> Tensor:
    """[n,K]: squared distances, less the squared length of each point."""
    return (points_nP @ (-2 * centers_KP.T)).add_(centers_KP.square().sum(1))


def kmeans(points_SP: Tensor, clusters: int, *, iterations: int, restarts: int, seed: int) -> tuple[Tensor, float]:
    """(centers_KP, the sum of squared distances to them), the best of several fits. Errors: fewer points than clusters.

    A fit starts from as many points, drawn by the seed, and ends when no point changes its cluster. A cluster that has lost all its points
    begins again at the point that is farthest from its center.
    """
    if len(points_SP) < clusters:
        raise UserError(f"{len(points_SP)} patches cannot make {clusters} clusters", fix="Use more images, or fewer clusters.")
    generator = np.random.Generator(np.random.Philox(key=seed))
    best: tuple[Tensor, float] | None = None
    for _ in range(restarts):
        first_K = torch.from_numpy(generator.choice(len(points_SP), clusters, replace=False)).to(points_SP.device)
        found = _fit(points_SP, points_SP[first_K], iterations)
        if best is None or found[1] < best[1]:
            best = found
    assert best is not None
    return best


def _fit(points_SP: Tensor, centers_KP: Tensor, iterations: int) -> tuple[Tensor, float]:
    """(centers_KP, the sum of squared distances to them), from these first centers.

    Only points that may have another nearest center than before are compared with all of them (Hamerly, Making k-means even faster, SDM
    2010): near_S is no less than the distance of a point to its own center, other_S no more than that to any other.
    """
    square_S = points_SP.square().sum(1)
    slack = SURE * float(square_S.max().sqrt())
    labels_S, near_S, other_S = _two_nearest(points_SP, square_S, centers_KP)
    for _ in range(iterations):
        empty = (torch.bincount(labels_S, minlength=len(centers_KP)) == 0).any()
        distances_S = nearest(points_SP, centers_KP)[1] if empty else near_S  # they count only where a cluster is empty
        before_KP, centers_KP = centers_KP, _means(points_SP, labels_S, distances_S, len(centers_KP))
        step_K = (centers_KP - before_KP).norm(dim=1)
        near_S, other_S = near_S + step_K[labels_S], other_S - step_K.max()
        doubtful_n = (near_S + slack >= other_S).nonzero()[:, 0]
        before_n, points_nP = labels_S[doubtful_n], points_SP.index_select(0, doubtful_n)
        labels_S[doubtful_n], near_S[doubtful_n], other_S[doubtful_n] = _two_nearest(points_nP, square_S[doubtful_n], centers_KP)
        if torch.equal(before_n, labels_S[doubtful_n]):
            break
    return centers_KP, float(nearest(points_SP, centers_KP)[1].sum())


def _two_nearest(points_SP: Tensor, square_S: Tensor, centers_KP: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(cluster of each point, the distance to its center, that to the second nearest), each [S]. square_S: squared lengths of points."""
    squares_SK = _squares(points_SP, centers_KP)
    least_S, labels_S = squares_SK.min(1)
    second_S = squares_SK.scatter_(1, labels_S[:, None], torch.inf).amin(1)
    return labels_S, (least_S + square_S).clamp(min=0).sqrt(), (second_S + square_S).clamp(min=0).sqrt()


def _means(points_SP: Tensor, labels_S: Tensor, distances_S: Tensor, clusters: int) -> Tensor:
    """[K,P]: summed on the CPU, in the order of the points, so that it is the same in every run."""
    points, labels = points_SP.cpu(), labels_S.cpu()
    sums_KP = torch.zeros(clusters, points.shape[1], dtype=points.dtype).index_add_(0, labels, points)
    numbers_K = torch.bincount(labels, minlength=clusters)
    centers_KP = sums_KP / numbers_K.clamp(min=1)[:, None]
    empty = torch.nonzero(numbers_K == 0)[:, 0]
    if len(empty):
        centers_KP[empty] = points[distances_S.cpu().argsort(descending=True, stable=True)[: len(empty)]]
    return centers_KP.to(points_SP.device)


def classes_of(pixels_KC: np.ndarray, one_to_one: bool) -> np.ndarray:
    """The class of each cluster, int64 [K]. pixels_KC: how many pixels of a class lie in a cluster.

    one_to_one: each class has one cluster, so that the sum of intersections over unions is the greatest; clusters without a class get the
    first. Else each cluster has the class of most of its pixels, the first of equal ones.
    """
    pixels_KC = np.asarray(pixels_KC, dtype=np.float64)
    if not one_to_one:
        return pixels_KC.argmax(1)
    unions_KC = pixels_KC.sum(1, keepdims=True) + pixels_KC.sum(0) - pixels_KC
    clusters, classes = linear_sum_assignment(pixels_KC / np.maximum(unions_KC, 1), maximize=True)
    class_K = np.zeros(len(pixels_KC), dtype=np.int64)
    class_K[clusters] = classes
    return class_K


@dataclass(frozen=True)
class ClusterHead:
    """Features to the class of the nearest center. class_K: of each; classes: how many there are."""

    components: Components
    centers_KP: Tensor
    class_K: Tensor
    classes: int
    interpolation: ClassVar[Kind] = "nearest"

    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,C,h,w] float32: 1 for the class of a patch, 0 for all others."""
        labels, _ = nearest(self.components(features_NhwD.flatten(0, 2)), self.centers_KP.to(features_NhwD.device))
        classes = self.class_K.to(features_NhwD.device)[labels].unflatten(0, features_NhwD.shape[:3])
        return torch.nn.functional.one_hot(classes, self.classes).permute(0, 3, 1, 2).float()

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        arrays = {"mean": self.components.mean_D, "weight": self.components.weight_DP, "centers": self.centers_KP, "class": self.class_K}
        save_npz(path, classes=np.array(self.classes), **{name: array.cpu().numpy() for name, array in arrays.items()})

    @classmethod
    def load(cls, path: Path) -> ClusterHead:
        """Read what `save` wrote. Errors: a broken file."""
        return read_npz(path, "clusters", cls._of)

    @classmethod
    def _of(cls, data: Any) -> ClusterHead:
        mean_D, weight_DP, centers_KP, class_K = (torch.from_numpy(data[name]) for name in ("mean", "weight", "centers", "class"))
        return cls(Components(mean_D, weight_DP), centers_KP, class_K, int(data["classes"]))


@dataclass(frozen=True)
class _Rows:
    """Rows of a bank's features, in blocks on a device; can be read again."""

    features_ND: np.ndarray
    device: torch.device

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(0, len(self.features_ND), ROWS):
            yield self.take(slice(first, first + ROWS))

    def take(self, rows: slice | np.ndarray) -> Tensor:
        """[n,D] of some rows."""
        return from_disk(np.ascontiguousarray(self.features_ND[rows])).to(self.device)


class KMeansProbe:
    """Built from a card's `probe` mapping; fitted on the scored split itself, whose labels name the clusters."""

    reads_train = False
    reads_test = True

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(KMeansOptions, options, where=where, prefix="probe.")

    def fit(self, context: RunContext, test: Split) -> Fit:
        """Cluster the patches of the scored split. The first rank does, and the others read what it found."""
        options, classes = self.options, len(test.reader.classes)
        bank = fill(context, test, options.max_patches, options.patches_per_image, labeled_first=False)
        path = context.folder / "clusters.npz"

        def make() -> ClusterHead:
            if not path.is_file():
                rows = _Rows(bank.arrays["features"], context.encoder.device)
                solve(rows, bank.arrays["counts"], options, classes, context.seed).save(path)
            return ClusterHead.load(path)

        head = context.extractor.world.first(make)
        number = len(bank.arrays["features"])
        return Fit(head, {"patches": number, "clusters": len(head.centers_KP), "fitted on": min(number, POINTS * len(head.centers_KP))})

    def load(self, path: Path) -> ClusterHead:
        """A head that was saved."""
        return ClusterHead.load(path)


def solve(rows: _Rows, counts_NC: np.ndarray, options: KMeansOptions, classes: int, seed: int) -> ClusterHead:
    """Components, centers and the classes of clusters. counts_NC: pixels of each class in each patch. Errors: too few patches."""
    number, dim = rows.features_ND.shape
    clusters = options.clusters or classes
    components = principal(rows, dim, min(options.components, dim))
    chosen_S = np.sort(np.random.Generator(np.random.Philox(key=seed)).permutation(number)[: POINTS * clusters])
    points_SP = torch.cat([components(rows.take(part)) for part in np.array_split(chosen_S, -(-len(chosen_S) // ROWS))])
    centers_KP, _ = kmeans(points_SP, clusters, iterations=options.iterations, restarts=options.restarts, seed=seed)
    pixels_KC, first = torch.zeros(clusters, classes, dtype=torch.int64), 0
    for block_nD in rows:
        labels_n, _ = nearest(components(block_nD), centers_KP)
        counts_nC = torch.from_numpy(counts_NC[first : first + len(block_nD)].astype(np.int64))
        pixels_KC.index_add_(0, labels_n.cpu(), counts_nC)
        first += len(block_nD)
    class_K = torch.from_numpy(classes_of(pixels_KC.numpy(), options.clusters is None))
    return ClusterHead(components, centers_KP.cpu(), class_K, classes)
