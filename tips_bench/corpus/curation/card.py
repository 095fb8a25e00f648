"""What a curation does, with every number. Values that no paper states are ours; docs/curation.md says how they were chosen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tips_bench.plain_yaml import override
from tips_bench.strict import Strict, parse


class CellCard(Strict):
    """Of many images, those that look alike are put into one cell, and copies are looked for in cells alone.

    above: of how many images; up to so many, all pairs are compared. images: of a cell, on average. visited: in how many cells copies of an
    image are looked for by its embedding, those with the nearest centroids; it lies in the first. visited_by_hash: the same by its hashes,
    and as many by those of its mirrored self. sample: images for each cell that the centroids are found from. iterations: of k-means.
    """

    above: int = Field(1_000_000, ge=0)
    images: int = Field(32768, gt=0)
    visited: int = Field(4, gt=0, le=64)
    visited_by_hash: int = Field(2, gt=0, le=64)
    sample: int = Field(64, gt=0)
    iterations: int = Field(10, gt=0)


class DuplicateCard(Strict):
    """When two images are the same picture.

    neighbors: how many candidates each image has by its embedding, and as many by its hashes. bits: of 64, by which a hash of a candidate
    differs at most. largest: how many of all images within these bits are candidates because they have the most pixels. rounds: how often,
    at most, the images that stay for the two of a pair are compared, too, see `again`; 0 = never. agreement: the correlation of the gray
    values of both thumbnails, one of them laid over a part of the other, from which two images are the same picture. like_bits,
    like_agreement: a lower agreement is enough where hashes differ by so few bits. colors: the least cosine of their colors.
    plain_agreement: the agreement that is needed where one image is laid over less than plain_area of the other and less than plain_edges
    of its pixels differ from a neighbor: what shows little fits somewhere by chance. least_scale: the smallest part, as a share of a side,
    that one image may show of the other. cells: how a large corpus is looked through.
    """

    neighbors: int = Field(8, gt=0, le=256)
    bits: int = Field(14, ge=0, le=64)
    largest: int = Field(1, ge=0, le=256)
    rounds: int = Field(16, ge=0)
    agreement: float = Field(0.945, gt=0, le=1)
    like_bits: int = Field(8, ge=0, le=64)
    like_agreement: float = Field(0.85, gt=0, le=1)
    colors: float = Field(0.8, ge=-1, le=1)
    plain_agreement: float = Field(0.98, gt=0, le=1)
    plain_area: float = Field(0.4, ge=0, le=1)
    plain_edges: float = Field(0.3, ge=0, le=1)
    least_scale: float = Field(0.5, gt=0.2, le=1)
    cells: CellCard = CellCard()


class ContaminationCard(Strict):
    """splits: of the tasks, whose images may not be in the corpus. neighbors: as of `DuplicateCard`, of each of these sets by itself."""

    splits: list[Literal["train", "test"]] = Field(["test"], min_length=1)
    neighbors: int = Field(8, gt=0, le=256)


class NearCard(Strict):
    """per_query: how many of the nearest images each image of the named sets brings in; DINOv2 (arXiv 2304.07193, appendix A) has 4."""

    per_query: int = Field(4, gt=0)


class BalanceCard(Strict):
    """Hierarchical k-means, as "Automatic Data Curation for Self-Supervised Learning" has it (Vo et al., arXiv 2405.15613, section 3).

    members: of each level, the lowest first, how many points there are for each cluster on average, or more where a level would have more
    than `most_clusters`. iterations: of k-means. rounds: how often the centroids of a level are found again from the nearest points of each
    cluster alone. nearest: how many these are.
    """

    members: list[int] = Field([64, 16, 8], min_length=1)
    most_clusters: int = Field(16384, gt=0)
    iterations: int = Field(20, gt=0)
    rounds: int = Field(3, ge=0)
    nearest: int = Field(8, gt=0)


class CurationCard(Strict):
    """duplicates, contamination, near, balance: see there. samples: of each shard that is written."""

    duplicates: DuplicateCard = DuplicateCard()
    contamination: ContaminationCard = ContaminationCard()
    near: NearCard = NearCard()
    balance: BalanceCard = BalanceCard()
    samples: int = Field(4096, gt=0)


def curation_card(assignments: list[str]) -> CurationCard:
    """The card with "a.b=value" assignments applied. Errors: a key that is none, a value that does not fit."""
    return parse(CurationCard, override(CurationCard().model_dump(mode="json"), assignments), where="--set")
