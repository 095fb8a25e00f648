"""The scans of a reader with their lifted features, from a cache where there is one.

Axes: N points, D feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tips_bench.data.scans import Scan, ScanReader
from tips_bench.features.cache import DISK_TYPES, FeatureCache, from_disk, to_disk
from tips_bench.features.extract import Extractor
from tips_bench.features.lifting import Lifted, LiftingOptions, lift

MOST_FRAMES = (1 << 16) - 1


@dataclass(frozen=True)
class LiftedScan:
    """One scan. features_ND: in the run's precision. number_N: frames that see each point. frames, skipped: with a pose, without."""

    index: int
    scan: Scan
    features_ND: Tensor
    number_N: Tensor
    frames: int
    skipped: int


def lifted_scans(
    reader: ScanReader, indices: list[int], extractor: Extractor, options: LiftingOptions, cache: FeatureCache | None = None
) -> Iterator[LiftedScan]:
    """This rank's part of the scans, in the order of `indices`.

    cache: lifted features are kept on it if it is a cache; a work folder keeps none.
    """
    indices, extractor = list(extractor.world.share(indices)), extractor.alone()
    if cache is None or not cache.persistent:
        for index in indices:
            yield _lifted(reader, index, extractor, options)
        return
    arrays: dict[str, tuple[tuple[int, ...], str]] = {
        "features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype]),
        "number": ((), "uint16"),
    }
    rows = [reader.points(index) for index in range(len(reader))]
    store = cache.open("lifted", rows, arrays, reader.split, options.model_dump_json())
    missing = set(store.missing())
    for index in indices:
        if index in missing:
            found = _lifted(reader, index, extractor, options)
            store.write(index, features=to_disk(found.features_ND), number=found.number_N.clamp(max=MOST_FRAMES).cpu().numpy())
            yield found
        else:
            device, frames = extractor.encoder.device, reader.frames(index)
            features_ND = from_disk(store.read(index, "features")).to(device)
            number_N = torch.from_numpy(store.read(index, "number").astype("int64")).to(device)
            yield LiftedScan(index, reader.load(index), features_ND, number_N, len(frames), frames.skipped)
    cache.finish(store)


def _lifted(reader: ScanReader, index: int, extractor: Extractor, options: LiftingOptions) -> LiftedScan:
    scan, frames = reader.load(index), reader.frames(index)
    found: Lifted = lift(scan.points_N3, frames, extractor, options, where=f"{reader.name}: {scan.id}")
    features_ND = found.features_ND.to(extractor.encoder.dtype)
    return LiftedScan(index, scan, features_ND, found.number_N, len(frames), frames.skipped)
