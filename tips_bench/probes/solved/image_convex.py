"""The probe `whole-convex`: multinomial logistic regression on features of whole images, to its one optimum.

As `convex` on patches, with an image in a patch's place: no learning rate, no seed, one backbone pass over each split. The penalty is
chosen by top-1 accuracy on held-out training images. Axes: N images, F features of an image, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tips_bench.cards import parse
from tips_bench.data.split import Split
from tips_bench.features.cache import from_disk
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding, encode_images
from tips_bench.probes.base import Fit
from tips_bench.probes.image_heads import Affine, AffineHeads
from tips_bench.probes.linear_head import LinearHead
from tips_bench.probes.solved.patch_bank import Bank
from tips_bench.probes.solved.patch_convex import SolverOptions, fit_bank
from tips_bench.probes.solved.patches import CHUNK_ROWS


class ImageConvexProbe:
    """Built from a card's `probe` mapping."""

    reads_train = True
    load = staticmethod(AffineHeads.load)

    def __init__(self, options: dict[str, Any], where: object) -> None:
        self.options = parse(SolverOptions, options, where=where, prefix="probe.")

    def embedding(self, extractor: Extractor) -> ImageEmbedding:
        """What of an image is looked at."""
        return ImageEmbedding.tokens(extractor)

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Encode the training images, choose the penalty off a held-out part of them, solve on all of them."""
        embedding = self.embedding(context.extractor)
        store = encode_images(context.extractor, train, embedding, context.scratch, "train-whole")
        labels = OneHot(train.reader.labels_N[train.indices], len(train.reader.classes))
        beside = {"counts": labels, "area": np.ones(len(train), np.uint8)}
        fit = fit_bank(self.options, context, train, Bank(store, train.indices, beside), accuracy)
        head = Affine(np.arange(embedding.dim), fit.head.weight_CD[None], fit.head.bias_C[None])
        report = {("images" if name == "patches" else name): value for name, value in fit.report.items()}
        return Fit(AffineHeads([head], None), report, fit.choice, fit.warnings)


@dataclass(frozen=True)
class OneHot:
    """Labels as rows of a table that is never whole: 1,000 bytes an image of ImageNet. labels_N: classes. classes: C."""

    labels_N: np.ndarray
    classes: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, C)."""
        return len(self.labels_N), self.classes

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The rows, uint8."""
        found_NC = np.zeros((len(rows), self.classes), np.uint8)
        found_NC[np.arange(len(rows)), self.labels_N[rows]] = 1
        return found_NC


def accuracy(head: LinearHead, bank: Bank, rows: np.ndarray, device: torch.device) -> float:
    """Top-1 accuracy in percent of rows of a bank of images."""
    right = 0
    for start in range(0, len(rows), CHUNK_ROWS):
        part = rows[start : start + CHUNK_ROWS]
        features_NF = from_disk(bank.arrays["features"][part]).to(device)
        predicted_N = head(features_NF[:, None, None])[:, :, 0, 0].argmax(1).cpu().numpy()
        right += int((bank.arrays["counts"].labels_N[part] == predicted_N).sum())
    return 100 * right / len(rows)
