"""PAMR against kakaobrain/tcl bc2b551, models/tcl/pamr.py.

data/pamr.npz: a random image with a flat part and random scores (numpy's default_rng, seed 0), and the refined scores for each "steps
dilations".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tips_bench.probes.training_free.pamr import Pamr, refine

DATA = Path(__file__).parent / "data" / "pamr.npz"


@pytest.mark.parametrize("case", ["1 1", "3 8 16", "10 1 2 4 8 12 24"])
def test_scores_are_refined_as_the_source_refines_them(case: str) -> None:
    steps, *dilations = map(int, case.split())
    with np.load(DATA, allow_pickle=False) as golden:
        image_3HW, scores_THW = torch.from_numpy(golden["image"]), torch.from_numpy(golden["scores"])
        found_THW = refine(scores_THW, image_3HW, Pamr(steps=steps, dilations=dilations))
        assert np.abs(found_THW.numpy() - golden[case]).max() < 1e-5
        assert torch.equal(scores_THW, torch.from_numpy(golden["scores"])), "what is given stays as it is"
