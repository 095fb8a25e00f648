"""Patch features of single images as maps in a store, for samples that are made of several images, and where their patches lie.

Axes: h w token grid, D feature, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.errors import UserError
from tips_bench.features.affinity import unit
from tips_bench.features.cache import DISK_TYPES, FeatureCache, from_disk, to_disk
from tips_bench.features.extract import Extractor, Images
from tips_bench.features.store import ResumableArray
from tips_bench.files import digest
from tips_bench.progress import bar


@dataclass(frozen=True)
class Grid:
    """Where the patches of an image lie. hw: their number. size: (height, width) of the image. inner: of the network's input in pixels.

    before, padded: (top, left) pixels added before the input, and (height, width) with all that is added.
    """

    hw: tuple[int, int]
    size: tuple[int, int]
    inner: tuple[int, int]
    before: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, extractor: Extractor, size: tuple[int, int]) -> Grid:
        """Of an image of this size."""
        inner = extractor.inner_size(*size)
        left, top, right, bottom = (0, 0, 0, 0) if extractor.image.fit == "enlarge" else extractor.padding(*inner)
        return cls(extractor.grid(*size), size, inner, (top, left), (inner[0] + top + bottom, inner[1] + left + right))

    @property
    def whole(self) -> bool:
        """Whether the patches cover the image and nothing else."""
        return self.padded == self.inner

    def shares(self, points_K2: np.ndarray) -> np.ndarray:
        """(x, y) as shares of the map's width and height, float64. points_K2: in pixels of the image, from its edge."""
        size, inner, before, padded = (np.array(pair[::-1], dtype=np.float64) for pair in (self.size, self.inner, self.before, self.padded))
        return (points_K2 / size * inner + before) / padded

    def pixels(self, shares_K2: np.ndarray) -> np.ndarray:
        """The inverse of `shares`."""
        size, inner, before, padded = (np.array(pair[::-1], dtype=np.float64) for pair in (self.size, self.inner, self.before, self.padded))
        return (shares_K2 * padded - before) / inner * size


class PatchMaps:
    """Maps of some images, by their index. grids: of each."""

    def __init__(self, store: ResumableArray, grids: dict[int, Grid], device: torch.device) -> None:
        self.grids, self._store, self._device = grids, store, device
        self._item = {index: item for item, index in enumerate(grids)}

    def __getitem__(self, index: int) -> Tensor:
        """features_hwD of an image in float32."""
        rows = self._store.arrays["features"][self._store.rows(self._item[index])]
        return from_disk(np.array(rows)).to(self._device).float().unflatten(0, self.grids[index].hw)

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()


def encode_maps(
    extractor: Extractor, images: Images, indices: Sequence[int], names: Sequence[str], cache: FeatureCache, name: str
) -> PatchMaps:
    """The maps of the images of a reader at some indices; each is encoded once, by one of the ranks, and what an earlier try encoded is
    taken up.

    names: of the images, which say what the store holds. Errors: a protocol that cuts images.
    """
    if extractor.image.crops or extractor.image.fit in ("corner", "drop"):
        fix = "Set image.shape to square or aspect, image.fit to pad, stretch or enlarge, and image.crop to null."
        raise UserError("the protocol cuts images, and points are looked for everywhere in them", where="protocol", fix=fix)
    grids = {index: Grid.of(extractor, images.size(index)) for index in indices}
    arrays: dict[str, Any] = {"features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype])}
    store = cache.open(name, [grid.hw[0] * grid.hw[1] for grid in grids.values()], arrays, digest(*names))
    item = {index: place for place, index in enumerate(grids)}
    missing, order = store.missing(), list(grids)
    with bar(f"features of {name}", len(grids)) as advance:
        advance(len(grids) - len(missing))
        for batch, _, pixels_B3HW in extractor.batches(images, [order[place] for place in missing]):
            features_BhwD = extractor.encode(pixels_B3HW).features_BhwD
            for index, features_hwD in zip(batch, features_BhwD, strict=True):
                store.write(item[index], features=to_disk(features_hwD.flatten(0, 1)))
            advance(len(batch))
    return PatchMaps(store.join(), grids, extractor.encoder.device)


def position_basis(extractor: Extractor, size: tuple[int, int], components: int) -> Tensor:
    """[D, components]: directions in which patches of a black image differ, which tell of positions alone.

    visinf/INSID3 f1c9622 (models/insid3.py:236-251): left singular vectors of the image's unit features less their mean over patches.
    size: (height, width) of an image. The same on every rank.
    """
    pixels_13HW = torch.zeros(1, 3, *extractor.inner_size(*size))

    def directions() -> Tensor:
        features_PD = unit(extractor.alone().encode(pixels_13HW).features_BhwD.flatten(0, 2)).double().cpu()
        if components >= min(features_PD.shape):
            problem = f"probe.debias = {components}, and there are {features_PD.shape[0]} patches of {features_PD.shape[1]} features"
            raise UserError(problem, where="protocol", fix="Set it to a smaller number, or to null.")
        return torch.linalg.svd((features_PD - features_PD.mean(0)).T, full_matrices=False).U[:, :components]

    return extractor.world.told(directions).to(extractor.encoder.device, torch.float32)


def without(features_hwD: Tensor, basis_Dc: Tensor) -> Tensor:
    """Unit features less their parts along some directions, at length 1 again."""
    features_hwD = unit(features_hwD)
    return F.normalize(features_hwD - (features_hwD @ basis_Dc) @ basis_Dc.T, dim=-1)
