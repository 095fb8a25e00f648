"""Names of clusters and their mIoU against numbers that NeCo's own code computed (see data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tips_bench.metrics.segmentation import count, summary
from tips_bench.probes.training_free.kmeans import classes_of

DATA = np.load(Path(__file__).parent / "data" / "neco.npz")


@pytest.mark.parametrize("case", range(5))
def test_clusters_have_the_classes_and_the_score_of_the_source(case: int) -> None:
    labels, clusters, (number, classes) = DATA[f"labels/{case}"], DATA[f"clusters/{case}"], DATA[f"of/{case}"].tolist()
    pixels_KC = np.zeros((number, classes), np.int64)
    np.add.at(pixels_KC, (clusters, labels), 1)
    named = classes_of(pixels_KC, one_to_one=number == classes)[clusters]
    np.testing.assert_array_equal(named, DATA[f"named/{case}"])
    counts_3C = count(named[None], labels[None], classes)
    assert float(summary(counts_3C)["mIoU"]) == pytest.approx(100 * float(DATA[f"miou/{case}"]), abs=1e-9)
