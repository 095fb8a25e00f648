"""PCK by difficulty: against plain loops over pairs, and in what it refuses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tips_bench.errors import UserError
from tips_bench.metrics.difficulty import KINDS, LEVELS, DifficultyCounts
from tips_bench.metrics.matches import ALPHAS

TENTH = ALPHAS.index(0.10)


def drawn(pairs: int = 60, categories: int = 3) -> list[SimpleNamespace]:
    """Pairs with points that are found or not; nobody's occlusion is of the last level."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(pairs):
        difficulty = tuple(int(draw.integers(len(levels) - (kind == "occlusion"))) for kind, levels in KINDS.items())
        within_AK = draw.random((len(ALPHAS), draw.integers(1, 9))) < 0.5
        found.append(SimpleNamespace(difficulty=difficulty, kind=int(draw.integers(categories)), within_AK=within_AK))
    return found


def test_each_level_has_the_values_of_its_pairs_alone() -> None:
    pairs, counts = drawn(), DifficultyCounts.for_classes(["a", "b", "c"])
    for number, pair in enumerate(pairs):
        counts.update(str(number), "g", counts.observe(pair.within_AK, pair, where="here"))
    values = counts.compute()
    assert len(values) == 2 * len(LEVELS) == 28
    for place, (kind, levels) in enumerate(KINDS.items()):
        for level, name in enumerate(levels):
            chosen = [pair for pair in pairs if pair.difficulty[place] == level]
            image, category = (values[f"{by} PCK@0.10 {kind} {name}"] for by in ("image", "category"))
            if not chosen:
                assert np.isnan(image) and np.isnan(category)
                continue
            assert image == pytest.approx(100 * np.mean([pair.within_AK[TENTH].mean() for pair in chosen]), abs=1e-9)
            parts = [np.concatenate([pair.within_AK[TENTH] for pair in chosen if pair.kind == one]) for one in {p.kind for p in chosen}]
            assert category == pytest.approx(100 * np.mean([part.mean() for part in parts]), abs=1e-9)


def test_data_that_tell_no_difficulty_are_refused() -> None:
    pair = SimpleNamespace(difficulty=None, kind=0)
    with pytest.raises(UserError, match=r"how difficult.*Leave the metric"):
        DifficultyCounts.for_classes(["a"]).observe(np.ones((len(ALPHAS), 1), bool), pair, where="a set: a pair")


def test_counts_that_no_pair_can_have_are_refused() -> None:
    counts, pair = DifficultyCounts.for_classes(["a", "b", "c"]), drawn(1)[0]
    wrong = counts.observe(pair.within_AK, pair, where="here")
    wrong[0, 0, 3] += 1
    with pytest.raises(UserError, match="contradict"):
        counts.update("1", "g", wrong)
