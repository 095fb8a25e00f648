"""The probe patch-knn: what a patch keeps, how pixels vote, and that a training image gets its own labels back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.test_in_context import CLASSES, PATCH, SIDE, Shapes, context, patches
from tips_bench.data.base import IGNORE
from tips_bench.errors import UserError
from tips_bench.features.patch_search import PatchSearch, Standard
from tips_bench.probes.training_free.patch_knn import PatchKnnHead, PatchKnnProbe, PixelBlocks, pixel_votes, standard_of
from tips_bench.probes.training_free.patch_memory import PatchMemory

OPTIONS = {"type": "patch-knn", "k": [1, 3], "distance": ["cosine", "euclidean"]}


class Sample:
    id = "one"

    def __init__(self, labels_HW: np.ndarray) -> None:
        self.labels_HW = labels_HW


def fit(folder: Path, reader: Any = None, **changes: Any) -> Any:
    return PatchKnnProbe(OPTIONS | changes, "here").fit(*context(folder, reader or Shapes()))


def test_an_image_of_the_memory_gets_its_own_labels_back(tmp_path: Path) -> None:
    found = context(tmp_path, Shapes())
    done = PatchKnnProbe(OPTIONS | {"k": [1]}, "here").fit(*found)
    for prediction in found.context.inference.predict(found.reader, found.indices, [done.head]):
        labels_HW = prediction.sample.labels_HW
        known = labels_HW != IGNORE
        np.testing.assert_array_equal(prediction.predicted_SHW[0][known], labels_HW[known])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_saved_head_votes_alike(tmp_path: Path) -> None:
    head = fit(tmp_path).head
    head.save(tmp_path / "head.npz")
    features_NhwD = patches(torch.rand(2, 3, SIDE, SIDE))
    assert torch.equal(PatchKnnHead.load(tmp_path / "head.npz")(features_NhwD), head(features_NhwD))


def test_the_report_and_the_choice_say_what_was_tried(tmp_path: Path) -> None:
    done = fit(tmp_path)
    tried = [{"k": k, "euclidean": euclidean} for k in (1.0, 3.0) for euclidean in (0.0, 1.0)]
    assert done.choice.grid == tried and done.choice.held_out == 2 and len(done.choice.scores) == 4
    taken = tried[done.choice.index]
    assert done.choice.scores[done.choice.index] == max(done.choice.scores)
    assert (done.report["k"], done.report["distance"] == "euclidean") == (taken["k"], bool(taken["euclidean"]))
    assert done.report["patches"] == 6 * 24 and done.report["images"] == 6, "one patch of each image has no label"


def test_nothing_is_chosen_where_there_is_one_point(tmp_path: Path) -> None:
    done = fit(tmp_path, k=[200], distance=["cosine"])
    assert done.choice is None
    assert done.warnings == ["k = 200 is more than the 144 patches of the memory, which all vote then"]


def test_held_out_images_without_labels_are_a_user_error(tmp_path: Path) -> None:
    class Void(Shapes):
        def load(self, index: int) -> Any:
            sample = super().load(index)
            if index not in kept:
                sample.labels_HW[:] = IGNORE
            return sample

    found = context(tmp_path, Void())
    kept, _ = found.train.validation_places(found.context.selection)
    with pytest.raises(UserError, match="no held-out training image has a label"):
        PatchKnnProbe(OPTIONS, "here").fit(*found)


def test_labels_of_pixels_are_kept_with_the_padding_as_ignored() -> None:
    labels_HW = np.arange(6 * 6).reshape(6, 6).astype(np.uint8)
    blocks_PV = PixelBlocks(4, 36).of(Sample(labels_HW), (2, 2), (6, 6), (1, 1, 1, 1))
    expected = np.pad(labels_HW, 1, constant_values=IGNORE)
    np.testing.assert_array_equal(blocks_PV[1].reshape(4, 4), expected[:4, 4:])
    with pytest.raises(UserError, match="2 x 2 patches of 4 px do not cover"):
        PixelBlocks(4, 36).of(Sample(labels_HW), (2, 2), (6, 6), (0, 0, 0, 0))


def test_a_patch_without_a_label_on_half_of_its_pixels_is_not_remembered() -> None:
    blocks_NV = np.array([[0, 0, IGNORE, IGNORE], [2, 2, 2, IGNORE], [0, 1, 2, IGNORE], [0, 1, IGNORE, IGNORE]], np.uint8)
    np.testing.assert_array_equal(PixelBlocks(2, 3).there(blocks_NV), [False, True, False, False])


@pytest.mark.parametrize("seed", range(5))
def test_votes_are_those_of_a_loop(seed: int) -> None:
    draw = np.random.default_rng(seed)
    blocks_QkV = draw.integers(CLASSES + 1, size=(7, 3, 9)).astype(np.uint8)
    blocks_QkV[blocks_QkV == CLASSES] = IGNORE
    votes_QCV = pixel_votes(torch.from_numpy(blocks_QkV), CLASSES).numpy()
    for query, block_kV in enumerate(blocks_QkV):
        for pixel, shown_k in enumerate(block_kV.T):
            known = shown_k[shown_k != IGNORE] if (shown_k != IGNORE).any() else block_kV[block_kV != IGNORE]
            np.testing.assert_array_equal(votes_QCV[query, :, pixel], np.bincount(known, minlength=CLASSES))


def test_features_are_standardized_by_all_patches_of_the_images_named() -> None:
    features_ND = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32) * [1, 10, 0, 3] + [0, 5, 7, 100]
    memory = PatchMemory(features_ND.astype(np.float32), np.zeros((30, 1)), np.arange(5), np.array([0, 10, 20, 30]))
    seen_ND = standard_of(memory, [0, 2])(torch.from_numpy(memory.features_ND)).numpy()
    used_ND = np.delete(seen_ND, np.s_[10:20], 0)
    np.testing.assert_allclose(used_ND.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(used_ND.std(0), [1, 1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_neighbors_of_standardized_features_come_in_the_order_of_their_distance(distance: Any) -> None:
    draw = np.random.default_rng(1)
    features_ND, queries_QD = draw.standard_normal((200, 8)).astype(np.float32) * 3 + 5, draw.standard_normal((20, 8)) * 3 + 5
    standard = Standard(torch.full((8,), 5.0).double(), torch.linspace(1, 4, 8).double())
    rows_Qk = PatchSearch(features_ND, np.arange(200), distance=distance, standard=standard).ranked(torch.from_numpy(queries_QD), 6)
    keys_ND, seen_QD = ((array - 5.0) / np.linspace(1, 4, 8) for array in (features_ND, queries_QD))
    if distance == "cosine":
        keys_ND, seen_QD = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (keys_ND, seen_QD))
    distance_QN = np.linalg.norm(seen_QD[:, None] - keys_ND, axis=2)
    np.testing.assert_array_equal(rows_Qk, distance_QN.argsort(1)[:, :6])


def test_patches_have_the_size_of_the_encoders(tmp_path: Path) -> None:
    found = context(tmp_path, Shapes())
    assert PixelBlocks.of_grid(found.extractor, CLASSES).number == PATCH**2
