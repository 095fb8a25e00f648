"""LOST, TokenCut and CorLoc against numbers that their sources' own code computed (see data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from tips_bench.adapters.object_discovery import in_pixels
from tips_bench.metrics.discovery import is_correct
from tips_bench.probes.training_free import discovery

DATA = np.load(Path(__file__).parent / "data" / "discovery.npz")
CASES = range(15)
TIED = 6  # several patches have the lowest degree, and the source's sort does not state which of them comes first


def features(case: int) -> torch.Tensor:
    return torch.from_numpy(DATA[f"features/{case}"])


def pixels(found: discovery.Found, case: int) -> np.ndarray:
    size = tuple(DATA[f"size/{case}"].tolist())
    return in_pixels(found.box_4, 16, size, size)


@pytest.mark.parametrize("case", CASES)
def test_lost_finds_the_seed_the_degrees_and_the_box_of_its_source(case: int) -> None:
    found = discovery.lost(features(case), int(DATA[f"lost/candidates/{case}"]))
    degree_P = -found.map_hw.ravel()
    np.testing.assert_array_equal(degree_P, DATA[f"lost/degree/{case}"])
    seed, theirs = found.seed[0] * found.mask_hw.shape[1] + found.seed[1], int(DATA[f"lost/seed/{case}"])
    assert degree_P[seed] == degree_P[theirs] == degree_P.min() and seed == np.flatnonzero(degree_P == degree_P.min())[0]
    if case != TIED:
        assert seed == theirs
        np.testing.assert_array_equal(pixels(found, case), DATA[f"lost/box/{case}"])


@pytest.mark.parametrize("small", [0, 1 << 20])
@pytest.mark.parametrize("case", CASES)
def test_tokencut_finds_the_vector_the_patches_and_the_box_of_its_source(case: int, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SMALL", small)  # by Lanczos' method, and by a full decomposition
    found = discovery.tokencut(features(case), 0.2, 1e-5)
    theirs_hw = DATA[f"tokencut/vector/{case}"]
    assert not found.full
    np.testing.assert_allclose(found.map_hw / np.linalg.norm(found.map_hw), theirs_hw / np.linalg.norm(theirs_hw), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(found.mask_hw, DATA[f"tokencut/mask/{case}"])
    np.testing.assert_array_equal(pixels(found, case), DATA[f"tokencut/box/{case}"])


@pytest.mark.parametrize("seed", range(3))
def test_the_second_eigenvector_solves_the_generalized_problem(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SMALL", 0)
    similar_PP = np.random.default_rng(seed).random((80, 80)) < 0.1
    similar_PP |= similar_PP.T | np.eye(80, dtype=bool)
    weights_PP = np.where(similar_PP, 1.0, 1e-5)
    degrees_PP = np.diag(weights_PP.sum(1))
    values, vectors = eigh(degrees_PP - weights_PP, degrees_PP, subset_by_index=[1, 1])
    vector_P, full = discovery.second_eigenvector(similar_PP, 1e-5)
    assert not full
    np.testing.assert_allclose((degrees_PP - weights_PP) @ vector_P, values[0] * degrees_PP @ vector_P, atol=1e-9)
    assert abs(vectors[:, 0] @ vector_P) == pytest.approx(np.linalg.norm(vectors[:, 0]) * np.linalg.norm(vector_P), rel=1e-9)


def test_a_box_is_correct_where_the_source_says_so_and_by_plain_fractions() -> None:
    for box_4, boxes_N4, correct in zip(DATA["overlap/predicted"], DATA["overlap/true"], DATA["overlap/correct"], strict=True):
        assert is_correct(box_4, boxes_N4) == correct
        assert is_correct(box_4, boxes_N4) == any(plain_iou(box_4.tolist(), true_4.tolist()) >= 0.5 for true_4 in boxes_N4)


def plain_iou(one: list[int], other: list[int]) -> float:
    cells = [{(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])} for box in (one, other)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])
