"""Several sources of shards: how often each is drawn from, whatever the ranks are and wherever a run goes on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.helpers.pretraining import recipe as tiny
from tests.helpers.pretraining import write_recipe
from tests.helpers.shards import sample, write_shard
from tips_bench.errors import UserError
from tips_bench.training.batches import TrainingData
from tips_bench.training.loop import train
from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.shards import Cursor, Draw
from tips_bench.training.sources import BLOCK, WeightedOrder, shard_order

START = Cursor()
SIZES = {"web": 30, "rooms": 7, "books": 12}
WEIGHTS = {"web": 5.0, "rooms": 4.0, "books": 1.0}


def write_sources(folder: Path) -> list[dict[str, object]]:
    """A source for each of SIZES, as a recipe names them; the numbers of their samples differ."""
    found: list[dict[str, object]] = []
    for number, (name, size) in enumerate(SIZES.items()):
        for shard, first in enumerate(range(0, size, 10)):
            samples = [sample(1000 * number + one) for one in range(first, min(first + 10, size))]
            write_shard(folder / f"{name}-{shard}.tar", samples)
        found.append({"shards": f"{folder}/{name}-*.tar", "weight": WEIGHTS[name]})
    return found


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return tiny("", data__shards=[], data__sources=write_sources(tmp_path_factory.mktemp("sources")), method__contrastive=None)


def drawn(recipe: Recipe, count: int, cursor: Cursor = START, rank: int = 0, world: int = 1) -> list[Draw]:
    return list(itertools.islice(shard_order(recipe).draws(cursor, rank, world), count))


def keys(draws: list[Draw]) -> list[tuple[int, str]]:
    return [(draw.number, draw.entry.key) for draw in draws]


def test_sources_come_by_their_weights_and_each_goes_through_epochs_of_its_own(mixed: Recipe) -> None:
    draws = drawn(mixed, 4 * BLOCK)
    for number, (name, size) in enumerate(SIZES.items()):
        own = [draw.entry.key for draw in draws if draw.path.name.startswith(name)]
        assert len(own) / len(draws) == pytest.approx(WEIGHTS[name] / 10, abs=0.02)
        epochs = [own[first : first + size] for first in range(0, len(own) - size, size)]
        assert all(sorted(epoch) == [f"{1000 * number + one:06d}" for one in range(size)] for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs[:9]}) == 9
    assert [draw.number for draw in draws] == list(range(len(draws)))


def test_the_epoch_is_that_of_the_source_that_is_slowest(mixed: Recipe) -> None:
    for draw in drawn(mixed, 300):
        epochs = [max(0, count - 1) // size for count, size in zip(draw.after.of_sources, SIZES.values(), strict=True)]
        assert draw.after.epoch == min(epochs)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_share_one_order_of_sources(mixed: Recipe, world: int) -> None:
    whole = keys(drawn(mixed, BLOCK + 90))
    for rank in range(world):
        assert keys(drawn(mixed, len(whole[rank::world]), rank=rank, world=world)) == whole[rank::world]


@pytest.mark.parametrize("stop", [1, 29, 500, BLOCK - 1, BLOCK, BLOCK + 1])
def test_a_cursor_keeps_the_place_in_each_source(mixed: Recipe, stop: int) -> None:
    whole = drawn(mixed, stop + 40)
    kept = json.loads(json.dumps(whole[stop - 1].after.numbers))
    assert keys(drawn(mixed, 40, Cursor.of(kept))) == keys(whole[stop:])


def test_a_run_with_other_ranks_shares_what_is_left_of_each_source(mixed: Recipe) -> None:
    """Two ranks make five batches of 6, then three ranks go on: together they see what one rank sees."""
    recipe = mixed.model_copy(update={"stages": [mixed.stages[0].model_copy(update={"batch": 6})]})

    def seen(data: TrainingData, batches: int) -> list[int]:
        return [int(one) for batch in itertools.islice(data.batches(recipe.stages[0]), batches) for one in batch.samples_B]

    two = [TrainingData(recipe, None, rank=rank, world=2) for rank in range(2)]
    first = [one for data in two for one in seen(data, 5)]
    places = json.loads(json.dumps([data.state_dict() for data in two]))
    three = [TrainingData(recipe, None, rank=rank, world=3, places=places) for rank in range(3)]
    assert sorted(first + [one for data in three for one in seen(data, 5)]) == list(range(60))
    for place in places:
        place["taken"] = [[90, 80], [70, 71, 72]]  # as ranks before these had left it to both of them
    newest, *before = TrainingData(recipe, None, rank=1, world=3, places=places).taken
    assert len(newest) == 2 and before == [[90, 80], [70, 71, 72]]


def test_sources_with_like_shards_are_drawn_in_different_orders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_shard(tmp_path / f"{name}.tar", [sample(number) for number in range(20)])
    sources = [{"shards": f"{tmp_path}/{name}.tar", "weight": 1} for name in ("a", "b")]
    order = shard_order(tiny("", data__shards=[], data__sources=sources))
    assert isinstance(order, WeightedOrder)
    first, second = (next(one.pools()).samples_N2.tolist() for one in order.orders)
    assert sorted(first) == sorted(second) and first != second


def test_other_weights_are_another_order_and_one_source_is_named_in_one_way(mixed: Recipe, tmp_path: Path) -> None:
    sources = [source.model_copy(update={"weight": 1.0}) for source in mixed.data.sources]
    equal = mixed.model_copy(update={"data": mixed.data.model_copy(update={"sources": sources})})
    assert shard_order(equal).identity != shard_order(mixed).identity
    with pytest.raises(ValidationError, match="either shards, or sources"):
        tiny("a.tar", data__sources=[{"shards": "b.tar", "weight": 1}])
    write_shard(tmp_path / "a.tar", [sample(1)])
    with pytest.raises(UserError, match=r"a\.tar: the shard is in two sources"):
        shard_order(tiny("", data__shards=[], data__sources=[{"shards": f"{tmp_path}/a.tar", "weight": 1}] * 2))


def test_a_run_learns_from_sources_given_on_the_command_line_and_goes_on_with_them(tmp_path: Path) -> None:
    write_sources(tmp_path)
    path = write_recipe(tmp_path / "tiny.yaml", "", steps=6, data__shards=[], running={"log_every": 1, "checkpoint_every": 2})
    given = [f"data.sources=[{{shards: {tmp_path}/web-*.tar, weight: 2}}, {{shards: {tmp_path}/rooms-*.tar, weight: 1}}]"]
    assert train(load_recipe(str(path), given), tmp_path / "run", device="cpu") == "finished"
    assert train(load_recipe(str(path), given), tmp_path / "run", resume=True, device="cpu") == "finished"
    with pytest.raises(UserError, match=r"started with another data\.sources\.1\.weight"):
        train(load_recipe(str(path), [*given, "data.sources.1.weight=3"]), tmp_path / "run", resume=True, device="cpu")


def test_a_source_that_cannot_be_used_is_told_of_before_the_first_step(tmp_path: Path) -> None:
    write_shard(tmp_path / "b.tar", [sample(number, json=None) for number in range(3)])
    sources = [*write_sources(tmp_path), {"shards": f"{tmp_path}/b.tar", "weight": 0.01}]
    with pytest.raises(UserError) as found:
        train(tiny("", data__shards=[], data__sources=sources), tmp_path / "run", device="cpu")
    assert "none of the first 3 samples can be used" in str(found.value) and "b.tar" in str(found.value)
