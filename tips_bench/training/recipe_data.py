"""The data of a recipe: shards, their order, captions as tokens, and crops."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from tips_bench.cards import Strict

Fraction = Annotated[float, Field(ge=0, le=1)]
Patterns = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


class CropsPart(Strict):
    """Random resized crops and horizontal flips, and nothing else. The sizes in pixels are the stage's.

    scale: least and most share of the image's area. ratio: least and most width / height. flip: its probability.
    """

    local_count: int = Field(ge=0)
    global_scale: tuple[Fraction, Fraction]
    local_scale: tuple[Fraction, Fraction]
    ratio: tuple[PositiveFloat, PositiveFloat]
    flip: Fraction
    interpolation: Literal["bilinear", "bicubic"]

    @model_validator(mode="after")
    def _ordered(self) -> CropsPart:
        for name in ("global_scale", "local_scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} = [{low}, {high}] is not a range above 0")
        return self


class TokenizerPart(Strict):
    """A SentencePiece model: a file or its address, or trained on the run's own captions to the text tower's vocabulary.

    train_on: how many captions.
    """

    file: str | None = None
    train_on: PositiveInt | None = None

    @model_validator(mode="after")
    def _one_way(self) -> TokenizerPart:
        if (self.file is None) == (self.train_on is None):
            raise ValueError("give either a file, or in train_on the number of captions to train one on")
        return self


class HeldOutPart(Strict):
    """Shards that nothing is learned from: the losses on their first batches go into the log. every: steps."""

    shards: Patterns
    every: PositiveInt = 1000
    batches: PositiveInt = 4


class SourcePart(Strict):
    """Shards that give a share of the samples: their weight over the sum of the weights of all sources."""

    shards: Patterns = Field(min_length=1)
    weight: PositiveFloat


class DataPart(Strict):
    """Image-text shards: tar files of images, each beside a .json or .txt with its captions.

    shards: paths or addresses such as s3://bucket/train-{000..031}.tar, with braces for ranges.
    sources: in place of shards, several sets of them, each with a weight. shuffle: samples of a source that are held back to draw from.
    mix: so many successive samples of a shard stay together in the order, so that a batch comes from many shards; null = all of a shard.
    broken_shards: "stop" at one that is no whole tar file, or that breaks or goes during the run; or "skip" it, or its samples, and say so.
    workers: processes on each rank that read and crop; the batches do not depend on it.
    skip_steps: pairs of a first step and a last one, from 1, whose batches are read and not learned from.
    """

    shards: Patterns = []
    sources: list[SourcePart] = []
    shuffle: PositiveInt
    mix: PositiveInt | None = None
    broken_shards: Literal["stop", "skip"] = "stop"
    workers: int = Field(0, ge=0)
    max_tokens: PositiveInt = 64
    tokenizer: TokenizerPart
    crops: CropsPart
    skip_steps: list[tuple[PositiveInt, PositiveInt]] = []
    held_out: HeldOutPart | None = None

    @model_validator(mode="after")
    def _named_one_way(self) -> DataPart:
        if self.shards and self.sources:
            raise ValueError("give either shards, or sources with their weights")
        return self

    @property
    def patterns(self) -> list[list[str]]:
        """What names the shards of each source; of one, where `shards` alone are named."""
        return [source.shards for source in self.sources] or [self.shards]
