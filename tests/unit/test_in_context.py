"""The probe in-context: what is remembered, how neighbors vote, and that a training image gets its own labels back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.contexts import Fitting, fitting
from tests.helpers.walls import Walls
from tips_bench.cards import FeatureCard, ImageCard, WindowCard
from tips_bench.data.base import IGNORE, SegmentationSample
from tips_bench.data.crops.resized_labels import ResizedLabelsCard, resized_labels
from tips_bench.encoders.user import wrap
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Upsampling, Windows
from tips_bench.metrics.depth import DepthRule
from tips_bench.probes.patch_labels import patch_counts
from tips_bench.probes.pixel_targets import DepthTarget
from tips_bench.probes.solved.sufficient_statistics import patch_targets
from tips_bench.probes.training_free.in_context import InContextHead, InContextProbe
from tips_bench.probes.training_free.patch_memory import rare_first

PATCH, SIDE, CLASSES = 8, 40, 3
OPTIONS = {"type": "in-context", "k": 1, "temperature": 0.02, "memory": None, "selection": "rare"}
CROPS = {"scale": [0.5, 2.0], "ratio": [0.75, 1.333], "jitter": 0.1, "jitter_p": 0.5}


class Shapes:
    """Six images of noise, so that no patch is like another, with label maps of blocks and some void."""

    name, split, root, remarks = "shapes", "train", "", ()
    classes = [str(number) for number in range(CLASSES)]
    ids = [f"image{number}" for number in range(6)]
    groups, fingerprint = ids, "shapes"

    def __len__(self) -> int:
        return len(self.ids)

    def size(self, index: int) -> tuple[int, int]:
        return SIDE, SIDE

    def load(self, index: int) -> SegmentationSample:
        draw = np.random.default_rng(index)
        labels_HW = draw.integers(CLASSES, size=(10, 10)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        labels_HW[:PATCH, :PATCH] = IGNORE
        return SegmentationSample(self.ids[index], self.ids[index], draw.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8), labels_HW)


def patches(pixels_B3HW: torch.Tensor) -> torch.Tensor:
    """The pixels of each patch as its features, from their middle."""
    cells = pixels_B3HW.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5)
    return cells.flatten(3) - 0.5


def context(folder: Path, reader: Any, shape: str = "square", batch_size: int = 4, seed: int = 0) -> Fitting:
    extractor = Extractor(wrap(patches, "cpu"), ImageCard(short_side=SIDE, shape=shape), FeatureCard(), batch_size, workers=1)
    return fitting(extractor, reader, folder, seed=seed)


def fit(found: Fitting, **changes: Any) -> Any:
    return InContextProbe(OPTIONS | changes, "here").fit(*found)


def counts(sample: SegmentationSample) -> np.ndarray:
    grid = (SIDE // PATCH, SIDE // PATCH)
    return patch_counts(sample.labels_HW, grid, (SIDE, SIDE), (0, 0, 0, 0), CLASSES)


def test_an_image_of_the_memory_scores_the_ceiling_of_its_soft_labels(tmp_path: Path) -> None:
    found = context(tmp_path, Shapes())
    head = fit(found).head
    for prediction in found.context.inference.predict(found.reader, found.indices, [head]):
        counts_PC = torch.from_numpy(counts(prediction.sample)).float()
        own_Chw = (counts_PC / counts_PC.sum(1, keepdim=True)).nan_to_num().T.unflatten(1, (5, 5))
        upsampling = Upsampling.of((5, 5), (0, 0, 0, 0), Windows.of((SIDE, SIDE), WindowCard()), (SIDE, SIDE))
        # the void patch at the top left has no label of its own and takes a neighbor's, which reaches as far as the next patch's middle
        rest = np.s_[PATCH + 4 :, PATCH + 4 :]
        np.testing.assert_array_equal(prediction.predicted_SHW[0][rest], upsampling.argmax(own_Chw).numpy()[rest])


def test_neighbors_vote_with_a_softmax_of_their_cosines(tmp_path: Path) -> None:
    found = context(tmp_path, Shapes())
    head = fit(found, k=7, temperature=0.1).head
    features_1hwD = found.extractor.encode(torch.rand(1, 3, SIDE, SIDE)).features_BhwD
    keys, votes = [], []
    for index in found.indices:
        sample = found.reader.load(index)
        keys.append(found.extractor.encode(found.extractor.pixels(sample.image_HW3)[None]).features_BhwD[0].flatten(0, 1))
        votes.append(counts(sample))
    keys_ND, votes_NC = torch.cat(keys).double().numpy(), np.concatenate(votes).astype(float)
    keys_ND, votes_NC = keys_ND[votes_NC.any(1)], votes_NC[votes_NC.any(1)]
    keys_ND /= np.linalg.norm(keys_ND, axis=1, keepdims=True)
    for query_D, share_C in zip(features_1hwD[0].flatten(0, 1).double().numpy(), head(features_1hwD)[0].flatten(1).T, strict=True):
        cosine_N = keys_ND @ (query_D / np.linalg.norm(query_D))
        near = np.argsort(-cosine_N)[:7]
        weight_k = np.exp((cosine_N[near] - cosine_N[near].max()) / 0.1)
        shares_kC = votes_NC[near] / votes_NC[near].sum(1, keepdims=True)
        np.testing.assert_allclose(share_C, weight_k @ shares_kC / weight_k.sum(), atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"search": {"type": "ivf", "lists": 4, "probes": 4}}, {"temperature": None, "k": 5}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_saved_head_votes_alike(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = context(tmp_path, Shapes())
    head = fit(found, **changes).head
    head.save(tmp_path / "head.npz")
    features_NhwD = found.extractor.encode(torch.rand(2, 3, SIDE, SIDE)).features_BhwD
    assert torch.equal(InContextHead.load(tmp_path / "head.npz")(features_NhwD), head(features_NhwD))


def test_the_memory_holds_the_same_number_of_patches_of_each_image(tmp_path: Path) -> None:
    done = fit(context(tmp_path, Shapes()), memory=6 * 4 + 5)
    assert done.report == {"patches": 24, "images": 6, "k": 1, "search": "exact"} and not done.warnings
    with pytest.raises(UserError, match="memory = 5 is less than the 6 images"):
        fit(context(tmp_path, Shapes()), memory=5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_approximate_search_is_said_with_its_recall(tmp_path: Path) -> None:
    done = fit(context(tmp_path, Shapes()), k=3, search={"type": "ivf", "lists": 8, "probes": 1})
    assert 0 < done.report["recall"] < 1
    assert done.warnings == [f"neighbors are found by ivf, which finds {done.report['recall']:.1%} of the 3 nearest"]


def test_more_neighbors_than_patches_all_vote(tmp_path: Path) -> None:
    done = fit(context(tmp_path, Shapes()), k=1000)
    assert "k = 1000 is more than the 144 patches" in done.warnings[0]
    assert done.head(torch.rand(1, 5, 5, 3 * PATCH**2)).isfinite().all()


def test_what_a_killed_run_remembered_is_not_seen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"passes": 2, "augment": CROPS, "memory": 60}
    whole = fit(context(tmp_path / "whole", Shapes()), **options).head.search
    encode, left = Extractor.encode, [2]

    def dying(self: Extractor, pixels_N3HW: torch.Tensor) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return encode(self, pixels_N3HW)

    monkeypatch.setattr(Extractor, "encode", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(context(tmp_path / "killed", Shapes()), **options)
    left[0] = 10
    again = context(tmp_path / "killed", Shapes())
    resumed = fit(again, **options).head.search
    assert again.extractor.meter.image_forwards == 12 - 8
    np.testing.assert_array_equal(resumed.features_ND, whole.features_ND)


def test_crops_depend_on_the_seed_the_image_and_the_pass(tmp_path: Path) -> None:
    options = {"passes": 2, "augment": CROPS}
    one, other, seeded = (
        fit(context(tmp_path / str(place), Shapes(), batch_size=size, seed=seed), **options).head.search.features_ND
        for place, (size, seed) in enumerate([(4, 0), (5, 0), (4, 1)])
    )
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, seeded) and not np.array_equal(one[:25], one[150:175])


def test_crops_need_a_square_and_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="crops are made for segmentation"):
        fit(context(tmp_path, Shapes(), shape="aspect"), augment=CROPS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 2}, "several passes need augment"),
        ({"distance": "euclidean", "search": {"type": "ivf", "lists": 2, "probes": 1}}, "euclidean needs an exact search"),
        ({"augment": CROPS | {"scale": [2, 1]}}, "least, greatest"),
    ],
)
def test_options_that_contradict_each_other_are_user_errors(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InContextProbe(OPTIONS | changes, "here")


def test_patches_of_rare_classes_are_remembered_first_and_void_ones_last() -> None:
    votes_PC = np.zeros((100, 3), np.int64)
    votes_PC[:90, 0], votes_PC[90:95, 1] = 64, 64  # five of a rare class, five without a label
    there_P = votes_PC.any(1)
    picked = [rare_first(f"image{number}", votes_PC, there_P, 10) for number in range(50)]
    assert np.mean([np.isin(np.arange(90, 95), rows).mean() for rows in picked]) > 0.9
    assert not any(np.isin(np.arange(95, 100), rows).any() for rows in picked)
    assert set(rare_first("image0", votes_PC, there_P, 97)) >= set(range(95))
    np.testing.assert_array_equal(picked[0], rare_first("image0", votes_PC, there_P, 10))
    assert not np.array_equal(picked[0], picked[1])


def test_depth_is_that_of_the_patches_found(tmp_path: Path) -> None:
    target, reader = DepthTarget(DepthRule(max_depth=10.0)), Walls("depth")
    found = context(tmp_path, reader)
    head = InContextProbe(OPTIONS | {"selection": "even"}, "here", target).fit(*found).head
    sample = reader.load(0)
    features_1hwD = found.extractor.encode(found.extractor.pixels(sample.image_HW3)[None]).features_BhwD
    truth = patch_targets(*target.truth(sample), (5, 5), (SIDE, SIDE), (0, 0, 0, 0))
    known_P = truth.weight_P > 0
    np.testing.assert_allclose(head(features_1hwD)[0, 0].flatten()[known_P], truth.mean_PT[known_P, 0], rtol=1e-5)


def test_a_crop_has_the_labels_of_its_pixels() -> None:
    labels_HW = np.random.default_rng(0).integers(3, size=(6, 6)).astype(np.uint8).repeat(10, 0).repeat(10, 1)
    sample = SegmentationSample("one", "one", (80 * labels_HW)[..., None].repeat(3, 2), labels_HW)
    card = ResizedLabelsCard(scale=(0.3, 2.0), ratio=(0.75, 1.333), jitter=0.0, jitter_p=0.0)
    for number in range(20):
        found, pixels_3HW = resized_labels(sample, card, 48, 0, number)
        near = np.abs(pixels_3HW[0].numpy() * 255 / 80 - found.labels_HW) < 0.25  # elsewhere pixels are mixed
        assert pixels_3HW.shape == (3, 48, 48) and near.mean() > 0.6
    again, _ = resized_labels(sample, card, 48, 0, 19)
    np.testing.assert_array_equal(again.labels_HW, found.labels_HW)
