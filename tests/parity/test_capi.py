"""Segmentation by the pixels of the nearest patches against what facebookresearch/capi 98b4fa1 computes on the same features (capi.npz)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from tips_bench.data.base import IGNORE
from tips_bench.metrics import segmentation
from tips_bench.probes.training_free.patch_knn import PatchKnnOptions, PixelBlocks, choose, head_of, standard_of
from tips_bench.probes.training_free.patch_memory import PatchMemory
from tips_bench.ranks import ALONE

DATA = np.load(Path(__file__).parent / "data" / "capi.npz")
GRID, SIDE, CLASSES = (4, 4), 4, 5
OPTIONS = PatchKnnOptions(type="patch-knn", k=[1, 3, 10, 30], distance=["cosine", "euclidean"])
NAMES: dict[str, Literal["cosine", "euclidean"]] = {"cosine": "cosine", "L2": "euclidean"}


class Sample:
    def __init__(self, labels_HW: np.ndarray) -> None:
        self.labels_HW = labels_HW


class Context:
    """What a choice reads of a run."""

    class extractor:
        world = ALONE

    class encoder:
        device = torch.device("cpu")


def labels(name: str, role: str) -> np.ndarray:
    """Our ids: the source's 1 to 5 are 0 to 4, and its 0 is IGNORE."""
    found = DATA[f"{name}_{role}_labels"]
    return np.where(found == 0, IGNORE, found - 1).astype(np.uint8)


def memory(name: str) -> PatchMemory:
    """Of the kept images, and after them of the held-out ones."""
    counted = PixelBlocks(SIDE, CLASSES)
    features_ND = np.concatenate([DATA[f"{name}_{role}_features"].reshape(-1, 12) for role in ("kept", "val")])
    maps = [*labels(name, "kept"), *labels(name, "val")]
    blocks_NV = np.concatenate([counted.of(Sample(labels_HW), GRID, (16, 16), (0, 0, 0, 0)) for labels_HW in maps])
    return PatchMemory(features_ND, blocks_NV, np.flatnonzero(counted.there(blocks_NV)), np.arange(17) * 16)


def predicted(name: str, k: int, distance: str) -> np.ndarray:
    whole = memory(name)
    head = head_of(whole, standard_of(whole, list(range(12))), CLASSES, k, NAMES[distance])
    features_Nhw = torch.from_numpy(DATA[f"{name}_test_features"]).unflatten(1, GRID)
    return head(features_Nhw).argmax(1).numpy().astype(np.uint8)


@pytest.mark.parametrize("k", OPTIONS.k)
@pytest.mark.parametrize("distance", NAMES)
def test_pixels_and_scores_are_the_sources(k: int, distance: str) -> None:
    found, truth = predicted("whole", k, distance), labels("whole", "test")
    np.testing.assert_array_equal(found, DATA[f"whole_{k}_{distance}"] - 1)
    scores = segmentation.scores(sum(segmentation.count(*pair, CLASSES) for pair in zip(found, truth, strict=True)))
    assert scores["mIoU"] == pytest.approx(100 * float(DATA[f"whole_{k}_{distance}_mIoU"]), abs=1e-9)
    assert scores["aAcc"] == pytest.approx(100 * float(DATA[f"whole_{k}_{distance}_acc"]), abs=1e-9)


@pytest.mark.parametrize("k", OPTIONS.k)
@pytest.mark.parametrize("distance", NAMES)
def test_where_the_source_predicts_a_class_that_has_gaps_around_it_ours_is_the_same(k: int, distance: str) -> None:
    theirs = DATA[f"gaps_{k}_{distance}"]
    assert (theirs == 0).any()
    np.testing.assert_array_equal(predicted("gaps", k, distance)[theirs > 0], theirs[theirs > 0] - 1)


def test_scores_on_held_out_images_and_the_choice_are_the_sources() -> None:
    whole, context = memory("whole"), Context()
    standard, places = standard_of(whole, list(range(12))), list(range(12, 16))
    kept = replace(whole, rows_M=whole.rows_M[whole.rows_M < 12 * 16])
    heads = [head_of(kept, standard, CLASSES, *point) for point in OPTIONS.grid]
    choice: Any = choose(context, OPTIONS, heads, whole, places)  # type: ignore[arg-type]
    np.testing.assert_allclose(choice.scores, 100 * DATA["whole_held_out"], rtol=0, atol=1e-9)
    k, distance = DATA["whole_chosen"]
    assert OPTIONS.grid[choice.index] == (int(k), NAMES[str(distance)])


def test_labels_are_brought_to_the_input_as_pillow_does_it() -> None:
    labels_HW = np.random.default_rng(0).integers(200, size=(37, 53)).astype(np.uint8)
    blocks_PV = PixelBlocks(14, 200).of(Sample(labels_HW), (16, 16), (224, 224), (0, 0, 0, 0))
    map_HW = blocks_PV.reshape(16, 16, 14, 14).swapaxes(1, 2).reshape(224, 224)
    np.testing.assert_array_equal(map_HW, np.asarray(Image.fromarray(labels_HW).resize((224, 224), Image.Resampling.NEAREST)))
