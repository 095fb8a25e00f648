"""Soft labels of patches are histograms of the label pixels that fall into them."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.probes.patch_labels import patch_counts
from tips_bench.probes.solved.patch_bank import choose


def brute_force(labels, grid, inner, padding, classes):
    left, top, right, bottom = padding
    counts = np.zeros((grid[0], grid[1], classes), dtype=np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            row = ((y + 0.5) * inner[0] / labels.shape[0] + top) / (inner[0] + top + bottom) * grid[0]
            column = ((x + 0.5) * inner[1] / labels.shape[1] + left) / (inner[1] + left + right) * grid[1]
            if labels[y, x] < classes:
                counts[int(row + 1e-9), int(column + 1e-9), labels[y, x]] += 1
    return counts.reshape(-1, classes)


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_counts_equal_those_of_a_loop_over_pixels(height, width, h, w, pad, seed):
    labels = np.random.default_rng(seed).choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
    patch = 4
    padding = (pad, 0, min(pad, 1), pad)
    inner = (h * patch - padding[1] - padding[3], w * patch - padding[0] - padding[2])
    if min(inner) < 1:
        return
    found = patch_counts(labels, (h, w), inner, padding, 3)
    assert np.array_equal(found, brute_force(labels, (h, w), inner, padding, 3))
    assert found.sum() == (labels < 3).sum()


def test_chosen_patches_depend_on_the_id_and_take_labelled_ones_first():
    labeled = np.arange(100) % 3 == 0
    first, second = choose("a", labeled, 20), choose("b", labeled, 20)
    assert np.array_equal(first, choose("a", labeled, 20)) and not np.array_equal(first, second)
    assert labeled[first].all() and len(set(first)) == 20
    assert labeled[choose("a", labeled, 60)].sum() == labeled.sum()
