"""A bank of points of the training scans, with features lifted from their frames.

Axes: N points of a scan, R rows of the bank, D feature, C classes.
"""

from __future__ import annotations

import numpy as np
import torch

from tips_bench.data.split import Split
from tips_bench.features.cache import DISK_TYPES, to_disk
from tips_bench.features.context import RunContext
from tips_bench.features.lifted import lifted_scans
from tips_bench.features.lifting import LiftingOptions
from tips_bench.files import digest
from tips_bench.probes.solved.patch_bank import Bank, choose
from tips_bench.progress import bar


def fill_points(context: RunContext, train: Split, lifting: LiftingOptions, quota: int) -> Bank:
    """Lift the scans that are not in the bank yet; at most `quota` points of each, those that are labelled and seen first."""
    extractor, reader, indices = context.extractor, train.reader, train.indices
    classes = len(reader.classes)
    rows = [min(quota, reader.points(index)) for index in indices]
    arrays: dict[str, tuple[tuple[int, ...], str]] = {
        "features": ((extractor.dim,), DISK_TYPES[extractor.encoder.dtype]),
        "counts": ((classes,), "uint8"),
        "area": ((), "uint8"),
    }
    store = context.scratch.open("points", rows, arrays, digest(*train.ids), quota, lifting.model_dump_json())
    item = {index: position for position, index in enumerate(indices)}
    missing = store.missing()
    with bar("features of the training split", len(indices), "scans") as advance:
        advance(len(indices) - len(missing))
        for found in lifted_scans(reader, [indices[position] for position in missing], extractor, lifting):
            labels_N, position = found.scan.labels_N, item[found.index]
            usable_N = (labels_N < classes) & (found.number_N > 0).cpu().numpy()
            picked = choose(found.scan.id, usable_N, rows[position])
            counts_RC = np.zeros((len(picked), classes), np.uint8)
            used_R = usable_N[picked]
            counts_RC[used_R, labels_N[picked[used_R]]] = 1
            features_RD = found.features_ND
            if len(picked) < len(labels_N):  # else it would be a copy of all
                features_RD = features_RD[torch.from_numpy(picked).to(features_RD.device)]
            store.write(position, features=to_disk(features_RD), counts=counts_RC, area=np.ones(len(picked), np.uint8))
            advance()
    return Bank(store.join(), indices)
