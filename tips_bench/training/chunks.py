"""A rank's samples read, cropped and tokenised, chunk by chunk, by one worker of several or without any.

All that is random about a sample comes from the recipe's seed and the sample's number.

Axes in tensor names: M whole samples of a chunk, H W pixels, K captions of a sample, L tokens of a text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tips_bench.errors import UserError
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.training import captions, crops
from tips_bench.training.recipe import Recipe, StagePart
from tips_bench.training.shard_files import ShardFault
from tips_bench.training.shards import Cursor, Draw, SampleFault
from tips_bench.training.sources import Order

CHUNK = 16  # draws
BROKEN_SHARD = "broken shard"
Taken = list[list[int]]
"""Which samples earlier ranks have drawn: by a rule of n numbers, one is taken if its number is less than that at its number % n."""
_CROPS, _CAPTIONS, _MASKS, _WINDOWS = 2, 3, 4, 5  # streams of random numbers beside those of shards; kept apart, so that recipes share them


@dataclass(frozen=True)
class Outcome:
    """What came of a draw. whole: it can be used."""

    number: int
    name: str
    after: Cursor
    faults: tuple[str, ...]
    whole: bool


@dataclass(frozen=True)
class Chunk:
    """What a worker sends: the outcome of each draw, and of those M that are whole the stacked tensors of `Reader.sample`."""

    outcomes: list[Outcome]
    tensors: list[Tensor]


class Reader(IterableDataset):
    """A rank's draws from a cursor on, as chunks; among several workers, chunk after chunk in turns. A UserError is sent, not raised."""

    def __init__(
        self,
        recipe: Recipe,
        stage: StagePart,
        tokenizer: Tokenizer | None,
        order: Order,
        cursor: Cursor,
        rank: int,
        world: int,
        taken: Taken,
    ) -> None:
        super().__init__()
        self.recipe, self.stage, self.tokenizer = recipe, stage, tokenizer
        self.order, self.cursor, self.rank, self.world, self.taken = order, cursor, rank, world, taken
        self.lost: set[Path] = set()  # shards that broke since the run began
        self.kinds = captions.wanted_kinds(recipe.method.contrastive)

    def __iter__(self) -> Iterator[Chunk | UserError]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        draws = (draw for draw in self.order.draws(self.cursor, self.rank, self.world) if not self._is_taken(draw.number))
        try:
            for number in count():
                due = islice(draws, CHUNK)  # a draw must be read before the next one comes
                if number % workers == worker:
                    yield self.chunk(due)
                else:
                    deque(due, maxlen=0)
        except UserError as error:
            yield error

    def _is_taken(self, number: int) -> bool:
        return any(number < rule[number % len(rule)] for rule in self.taken)

    def chunk(self, draws: Iterable[Draw]) -> Chunk:
        outcomes, rows = [], []
        for draw in draws:
            faults: tuple[str, ...]
            name, whole = draw.path.name, False
            try:
                if draw.path in self.lost:
                    raise SampleFault(BROKEN_SHARD)
                name = draw.name
                row, faults = self.sample(draw)
                rows.append(row)
                whole = True
            except SampleFault as fault:
                faults = (str(fault),)
            except ShardFault:
                if self.recipe.data.broken_shards == "stop":
                    raise
                self.lost.add(draw.path)
                faults = (BROKEN_SHARD,)
            outcomes.append(Outcome(draw.number, name, draw.after, faults, whole))
        return Chunk(outcomes, [torch.stack(column) for column in zip(*rows, strict=True)])

    def sample(self, draw: Draw) -> tuple[list[Tensor], tuple[str, ...]]:
        """A sample's tensors, and faults that do not matter.

        They are [global, *locals, windows_V2 and mask_P if there are any, ids_KL and paddings_KL if there are captions].
        """
        method, part = self.recipe.method, self.recipe.data.crops
        members = draw.read(*crops.EXTENSIONS, *(captions.EXTENSIONS if self.kinds else ()))
        said = captions.read_captions(members, self.kinds) if self.kinds else None
        image_3HW = crops.read_image(members)
        sizes = self.stage.global_px, self.stage.local_px
        whole, parts = crops.crops(image_3HW, part, self.recipe.local_count, *sizes, self.random(_CROPS, draw))
        tensors = [whole, *parts]
        if self.recipe.model.positions == "window":
            tensors.append(self.windows([whole, *parts], draw))
        if method.patches is not None and method.patches.mask is not None:
            grid = self.stage.global_px // self.recipe.model.vision_config.patch_size
            tensors.append(crops.random_mask(grid, method.patches.mask, self.random(_MASKS, draw)))
        if said is None or method.contrastive is None or self.tokenizer is None:
            return tensors, ()
        texts = captions.choose(said, method.contrastive, self.random(_CAPTIONS, draw))
        return [*tensors, *self.tokenizer(texts, self.recipe.data.max_tokens)], said.empty

    def windows(self, views: list[Tensor], draw: Draw) -> Tensor:
        """windows_V2: where each view stands in the table of positions."""
        vision, rng = self.recipe.model.vision_config, self.random(_WINDOWS, draw)
        sides = (view.shape[-1] // vision.patch_size for view in views)
        return torch.tensor([[int(rng.integers(rows - side + 1)) for rows in vision.position_grid] for side in sides])

    def random(self, stream: int, draw: Draw) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, stream, draw.number])
