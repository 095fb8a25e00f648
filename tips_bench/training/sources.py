"""Several sources of shards as one order of samples: how often each is drawn from is its weight.

Of which source a sample is, is drawn from the seed for blocks of BLOCK successive numbers. A source gives its samples in an order of its
own, epoch after epoch, however the others are: one with a large weight begins its next epoch while others are still in their first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

import numpy as np

from tips_bench.errors import UserError
from tips_bench.files import digest
from tips_bench.training.recipe import Recipe
from tips_bench.training.shard_files import ShardFiles, shard_path
from tips_bench.training.shard_index import stats_of
from tips_bench.training.shards import Cursor, Draw, ShardOrder, expand_shards

BLOCK = 1024  # draws
_SOURCES = 7  # stream of random numbers, beside those of shards and chunks


class WeightedOrder:
    """The order in which a run draws samples from several sources; to be used as a ShardOrder is."""

    def __init__(self, orders: list[ShardOrder], weights: list[float], *, seed: int) -> None:
        self.orders, self.weights, self.seed = orders, weights, seed

    @property
    def samples(self) -> int:
        """Of all sources."""
        return sum(order.samples for order in self.orders)

    @property
    def broken(self) -> list[Path]:
        """Shards that are left out."""
        return [path for order in self.orders for path in order.broken]

    @cached_property
    def identity(self) -> str:
        """Hex SHA-256 of what decides the order: the identity and the weight of each source, in the order given."""
        return digest("sources", *(f"{weight} {order.identity}" for order, weight in zip(self.orders, self.weights, strict=True)))

    def draws(self, cursor: Cursor, rank: int = 0, world: int = 1) -> Iterator[Draw]:
        """The samples of one of `world` ranks behind a cursor, without end. Errors: those of the sources' shards."""
        drawn_S = np.array(cursor.of_sources or [0] * len(self.orders))
        sources = [_Stream(order, int(count)) for order, count in zip(self.orders, drawn_S, strict=True)]
        block, offset = divmod(cursor.drawn, BLOCK)
        with closing(ShardFiles()) as files:
            while True:
                source_N = self._block(block)[offset:]
                drawn_NS = drawn_S + np.cumsum(source_N[:, None] == np.arange(len(sources)), axis=0)
                first = block * BLOCK + offset
                for place in range((rank - first) % world, len(source_N), world):
                    counts, source = drawn_NS[place].tolist(), source_N[place]
                    path, span = sources[source].sample(counts[source] - 1)
                    epoch = min(one.epoch(count) for one, count in zip(sources, counts, strict=True))
                    yield Draw(first + place, Cursor(epoch, 0, 0, first + place + 1, tuple(counts)), path, span, files)
                block, offset, drawn_S = block + 1, 0, drawn_NS[-1]

    def _block(self, block: int) -> np.ndarray:
        """source_N: int [BLOCK], of which source each sample of a block is."""
        share_S = np.array(self.weights) / sum(self.weights)
        return np.random.default_rng([self.seed, _SOURCES, block]).choice(len(share_S), size=BLOCK, p=share_S)


class _Stream:
    """The samples of one source by their numbers, counted from its first epoch on. drawn: none that is asked for has a lower number."""

    def __init__(self, order: ShardOrder, drawn: int) -> None:
        self.order = order
        self.pools = order.pools(drawn // order.samples)
        self.first, self.pool = drawn - drawn % order.samples, next(self.pools)

    def sample(self, number: int) -> tuple[Path, tuple[int, int]]:
        """The shard of a sample, and where it lies there. Numbers must not fall from call to call."""
        while number >= self.first + len(self.pool.samples_N2):
            self.first, self.pool = self.first + len(self.pool.samples_N2), next(self.pools)
        shard, sample = self.pool.samples_N2[number - self.first].tolist()
        return self.order.paths[shard], self.order.indexes[shard].span(sample)

    def epoch(self, drawn: int) -> int:
        """The one of the newest of so many samples."""
        return max(0, drawn - 1) // self.order.samples


Order = ShardOrder | WeightedOrder
Found = list[list[tuple[str, int, int]]]
"""Of each source, of each of its shards: its path or address, and its `Stat`."""


def find_shards(recipe: Recipe) -> Found:
    """What `shard_order` needs to know of a recipe's shards: what one rank tells the others, so that not each asks for every shard.

    Errors: those of `expand_shards`; a shard that cannot be read.
    """
    found = []
    for patterns in recipe.data.patterns:
        paths = expand_shards(patterns)
        found.append([(str(path), *stat) for path, stat in zip(paths, stats_of(paths), strict=True)])
    return found


def shard_order(recipe: Recipe, found: Found | None = None) -> Order:
    """The order of a recipe's shards. found: what is known of them. Errors: those of `find_shards`; a shard of two sources."""
    if recipe.data.sources:
        orders = source_orders(recipe, found)
        paths = [path for order in orders for path in order.paths]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise UserError("the shard is in two sources", where=twice, fix="Name each shard in one source of data.sources.")
        return WeightedOrder(orders, [source.weight for source in recipe.data.sources], seed=recipe.seed)
    return source_orders(recipe, found)[0]


def source_orders(recipe: Recipe, found: Found | None = None) -> list[ShardOrder]:
    """Of each source by itself; one, where a recipe names shards alone. found: what is known of them. Errors: those of `find_shards`."""
    data = recipe.data
    return [
        ShardOrder(
            [shard_path(name) for name, _, _ in shards],
            seed=recipe.seed,
            shuffle=data.shuffle,
            mix=data.mix,
            skip_broken=data.broken_shards == "skip",
            source=number,
            stats=[(size, changed_ns) for _, size, changed_ns in shards],
        )
        for number, shards in enumerate(find_shards(recipe) if found is None else found)
    ]
