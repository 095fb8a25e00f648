"""The probe `whole-convex`: multinomial logistic regression on features of whole images, to its one optimum.

As `convex` on patches, with an image in a patch's place: no learning rate, no seed, one backbone pass over each split. The penalty is
chosen by top-1 accuracy on held-out training images. Axes: N images, F features of an image, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tips_bench.cards import parse
from tips_bench.features.extract import Extractor
from tips_bench.features.store import from_disk
from tips_bench.features.whole import Whole, encode_whole
from tips_bench.probes.bank import Bank
from tips_bench.probes.base import Fit, FitContext
from tips_bench.probes.convex import SolverOptions, fit_bank
from tips_bench.probes.head import LinearHead
from tips_bench.probes.softmax import CHUNK_ROWS
from tips_bench.probes.whole import Affine, AffineHeads


class WholeConvexProbe:
    """Built from a card's `probe` mapping."""

    load = staticmethod(AffineHeads.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(SolverOptions, options, where=where, prefix="probe.")

    def whole(self, extractor: Extractor) -> Whole:
        """What of an image is looked at."""
        return Whole.tokens(extractor)

    def fit(self, context: FitContext) -> Fit:
        """Encode the training images, choose the penalty off a held-out part of them, solve on all of them."""
        whole = self.whole(context.extractor)
        store = encode_whole(context.extractor, context.reader, context.indices, whole, context.shelf, "train-bank", one_hot=True)
        fit = fit_bank(self.options, context, Bank(store, context.indices), accuracy)
        head = Affine(np.arange(whole.dim), fit.head.weight_CD[None], fit.head.bias_C[None])
        report = {("images" if name == "patches" else name): value for name, value in fit.report.items()}
        return Fit(AffineHeads([head], None), report, fit.choice, fit.warnings)


def accuracy(head: LinearHead, bank: Bank, rows: np.ndarray, device: torch.device) -> float:
    """Top-1 accuracy in percent of rows of a bank of images."""
    right = 0
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        features_NF = from_disk(bank.store.arrays["features"][part]).to(device)
        predicted_N = head(features_NF[:, None, None])[:, :, 0, 0].argmax(1).cpu().numpy()
        right += int(bank.store.arrays["counts"][part, predicted_N].sum())
    return 100 * right / len(rows)
