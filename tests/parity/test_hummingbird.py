"""In-context segmentation against what vpariza/open-hummingbird-eval 5e79da2 computes on the same features and labels (hummingbird.npz)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tips_bench.cards import WindowCard
from tips_bench.data.base import IGNORE
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.features.patch_search import PatchSearch
from tips_bench.metrics import matched_iou, segmentation
from tips_bench.probes.training_free.in_context import InContextHead
from tips_bench.probes.training_free.patch_memory import ClassVotes, rarity

DATA = np.load(Path(__file__).parent / "data" / "hummingbird.npz")
GRID, SIDE, CLASSES = (4, 4), 32, 5


def votes(unlabeled: str = "first-class") -> np.ndarray:
    """Counts of the training patches [N,C]."""
    counted = ClassVotes(CLASSES, unlabeled)

    class Sample:
        def __init__(self, labels_HW: np.ndarray) -> None:
            self.labels_HW = labels_HW

    return np.concatenate([counted.of(Sample(labels_HW), GRID, (SIDE, SIDE), (0, 0, 0, 0)) for labels_HW in DATA["train_labels"]])


@pytest.fixture(scope="module")
def shares_BChw() -> torch.Tensor:
    """What our head gives for the test images."""
    features_ND = DATA["train_features"].reshape(-1, DATA["train_features"].shape[-1])
    search = PatchSearch(features_ND, np.arange(len(features_ND)))
    head = InContextHead(search, votes(), shares=True, k=int(DATA["k"]), temperature=0.02)
    return head(torch.from_numpy(DATA["test_features"]).unflatten(1, GRID))


def predicted(shares_BChw: torch.Tensor) -> np.ndarray:
    windows = Windows.of((SIDE, SIDE), WindowCard())
    upsampling = Upsampling.of(GRID, (0, 0, 0, 0), windows, (SIDE, SIDE))
    return np.stack([upsampling.argmax(shares_Chw).numpy() for shares_Chw in shares_BChw])


def test_labels_of_the_memory_are_the_sources() -> None:
    counts_NC = votes()
    np.testing.assert_allclose(counts_NC / counts_NC.sum(1, keepdims=True), DATA["key_labels"], atol=1e-7)


def test_the_rank_of_a_patch_before_chance_is_the_sources() -> None:
    for counts_PC, scores_P in zip(votes().reshape(-1, 16, CLASSES), DATA["scores"], strict=True):
        np.testing.assert_array_equal(rarity(counts_PC), scores_P)


def test_shares_and_classes_are_the_sources(shares_BChw: torch.Tensor) -> None:
    np.testing.assert_allclose(shares_BChw.permute(0, 2, 3, 1).flatten(1, 2), DATA["shares"], atol=2e-6)
    np.testing.assert_array_equal(predicted(shares_BChw), DATA["predicted"])


def test_scores_with_and_without_the_match_are_the_sources(shares_BChw: torch.Tensor) -> None:
    maps_BHW, labels_BHW = predicted(shares_BChw), DATA["test_labels"]
    counts_3C = sum(segmentation.count(*pair, CLASSES) for pair in zip(maps_BHW, labels_BHW, strict=True))
    assert segmentation.summary(counts_3C)["mIoU"] == pytest.approx(100 * DATA["identity"], abs=1e-9)
    for maps, classes, score in (
        (maps_BHW, CLASSES, DATA["matched"]),
        (DATA["shuffle"].astype(np.uint8)[maps_BHW], CLASSES, DATA["matched_shuffled"]),
        (DATA["shuffle"].astype(np.uint8)[maps_BHW], CLASSES + 1, DATA["matched_six"]),
    ):
        counts_CC = sum(matched_iou.count(*pair, classes) for pair in zip(maps, labels_BHW, strict=True))
        assert matched_iou.summary(counts_CC)["mIoU_matched"] == pytest.approx(100 * score, abs=1e-9)


def test_unlabeled_pixels_may_be_left_out_instead() -> None:
    known = (DATA["train_labels"] != IGNORE).sum()
    assert votes("left-out").sum() == known < votes().sum() == DATA["train_labels"].size
