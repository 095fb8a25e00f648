"""The scans of a reader with their lifted features.

Axes: N points, D feature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from tips_bench.data.scans import Scan, ScanReader
from tips_bench.features.extract import Extractor
from tips_bench.features.lifting import Lifted, LiftingOptions, lift


@dataclass(frozen=True)
class LiftedScan:
    """One scan. features_ND: in the run's precision. number_N: frames that see each point. frames, skipped: with a pose, without."""

    index: int
    scan: Scan
    features_ND: Tensor
    number_N: Tensor
    frames: int
    skipped: int


def lifted_scans(reader: ScanReader, indices: list[int], extractor: Extractor, options: LiftingOptions) -> Iterator[LiftedScan]:
    """This rank's part of the scans, in the order of `indices`."""
    for index in extractor.world.share(indices):
        yield _lifted(reader, index, extractor.alone(), options)


def _lifted(reader: ScanReader, index: int, extractor: Extractor, options: LiftingOptions) -> LiftedScan:
    scan, frames = reader.load(index), reader.frames(index)
    found: Lifted = lift(scan.points_N3, frames, extractor, options, where=f"{reader.name}: {scan.id}")
    features_ND = found.features_ND.to(extractor.encoder.dtype)
    return LiftedScan(index, scan, features_ND, found.number_N, len(frames), frames.skipped)
