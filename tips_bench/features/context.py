"""What fits, scores and pictures of one evaluation share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tips_bench.cards import ModelCard, ProtocolCard, SelectionCard
from tips_bench.encoders.base import Encoder
from tips_bench.features.cache import FeatureCache
from tips_bench.features.extract import Extractor
from tips_bench.features.inference import Inference


@dataclass(frozen=True)
class RunContext:
    """One evaluation's encoder, cards and folders.

    extractor: the encoder over images. protocol, model: the cards as used. scratch: what a killed run takes up again, deleted at its
    end. texts: where embeddings of texts go: kept for later runs, or the scratch folder. seed: of all that is drawn. keep: writes the
    prediction of a sample, by its id; None = predictions are not kept.
    """

    extractor: Extractor
    protocol: ProtocolCard
    model: ModelCard
    scratch: FeatureCache
    texts: FeatureCache
    seed: int
    keep: Callable[[str, np.ndarray], None] | None = None

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder."""
        return self.extractor.encoder

    @property
    def inference(self) -> Inference:
        """Heads applied to images as the protocol says."""
        return Inference(self.extractor, self.protocol.inference)

    @property
    def selection(self) -> SelectionCard:
        """How much of the training split is held out to choose a hyper-parameter."""
        return self.protocol.selection

    @property
    def folder(self) -> Path:
        """The scratch folder: for files that a killed run takes up again."""
        return self.scratch.folder

    def alone(self) -> RunContext:
        """The same without other ranks."""
        scratch = FeatureCache(self.scratch.folder)
        texts = FeatureCache(self.texts.folder, self.texts.identity) if self.texts.persistent else scratch
        return replace(self, extractor=self.extractor.alone(), scratch=scratch, texts=texts)
