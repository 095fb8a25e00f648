"""J, F and labels that follow a video, against what the sources' own code gave on random masks and features (data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tips_bench.features.propagation import Propagation, PropagationOptions, ids_of, on_grid, one_hot
from tips_bench.metrics.videos import boundary, object_sums, region

DATA = Path(__file__).parent / "data"
WAYS = {
    "dino": {"radius": 2, "window": "square", "temperature": 0.1, "upsample": "input"},
    "notebook": {"radius": 2.5, "window": "circle", "temperature": 0.2, "upsample": "nearest"},
}


def masks(name: str, shape: tuple[int, ...]) -> np.ndarray:
    with np.load(DATA / "davis2017_scores.npz") as data:
        return np.unpackbits(data[name])[: np.prod(shape)].reshape(shape).astype(bool)


def test_j_and_f_are_those_of_davis2017_evaluation() -> None:
    with np.load(DATA / "davis2017_scores.npz") as data:
        shape, expected = tuple(data["shape"]), [*zip(data["J"], data["F"], strict=True), (data["big_J"], data["big_F"])]
    pairs = [*zip(masks("truth", shape), masks("predicted", shape), strict=True)]
    pairs.append((masks("big_truth", (480, 854)), masks("big_predicted", (480, 854))))
    found = [(region(*pair), boundary(*pair)) for pair in pairs]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_mean_recall_and_decay_are_those_of_davis2017_evaluation() -> None:
    with np.load(DATA / "davis2017_scores.npz") as data:
        for length, statistics in zip(data["lengths"], data["statistics"], strict=True):
            np.testing.assert_allclose(object_sums(data["J"][:length], data["F"][:length])[1:], statistics, rtol=0, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_labels_follow_a_video_as_in_the_source_and_give_its_masks_in_every_pixel(way: str) -> None:
    """One frame is there twice, so that more than k patches are equally near."""
    with np.load(DATA / "label_propagation.npz") as data:
        features_ThwD, first_HW, inner = torch.from_numpy(data["features"]), data["first"], tuple(data["inner"].tolist())
        ids_THW, labels = data[f"{way}_ids"], data[f"{way}_labels"]
    labels_ThwC = labels.transpose(0, 2, 3, 1) if way == "dino" else labels
    options = PropagationOptions(type="propagation", context=3, top_k=5, **WAYS[way])
    carried = Propagation(options)
    carried.give(features_ThwD[0], one_hot(on_grid(first_HW, features_ThwD.shape[1:3]), 3))
    for frame in range(1, len(features_ThwD)):
        found_hwC = carried.follow(features_ThwD[frame])
        np.testing.assert_allclose(found_hwC, labels_ThwC[frame - 1], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(ids_of(found_hwC, options, inner, first_HW.shape), ids_THW[frame])
        carried.keep(features_ThwD[frame], found_hwC)
