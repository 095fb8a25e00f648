"""From shards to batches: the same however many processes read them, resumed in mid-epoch, no fault fatal and none silent."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds
from torch import Tensor
from typer.testing import CliRunner

from tests.helpers.shards import picture, sample, small_recipe, write_shard, write_shards
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.rooms.writing.writers import Manifest, write_rooms
from tips_bench.training.batches import Batch, TrainingData
from tips_bench.training.captions import read_captions, train_tokenizer
from tips_bench.training.crops import crops, random_mask, read_image
from tips_bench.training.recipe import StagePart
from tips_bench.training.shards import Cursor, expand_shards
from tips_bench.training.sources import shard_order

COUNTS = [14, 9, 20]
TOTAL = sum(COUNTS)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_shards(tmp_path_factory.mktemp("shards"), COUNTS)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    train_tokenizer([f"web {n} a long account of room {n}" for n in range(50)], path, 40)
    return Tokenizer(path)


def take(data: TrainingData, count: int, stage: StagePart | None = None) -> list[Batch]:
    batches = data.batches(stage or data.recipe.stages[0])
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def tensors(batch: Batch) -> list[Tensor]:
    assert batch.mask_BP is not None
    texts = [tensor for text in batch.texts for tensor in (text.ids_BL, text.paddings_BL)]
    return [batch.global_B3HW, *batch.locals, *texts, batch.mask_BP, batch.samples_B]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.equal(b) for one, other in zip(first, second, strict=True) for a, b in zip(tensors(one), tensors(other), strict=True)
    )


def test_a_batch_is_what_its_samples_are_cropped_masked_and_said_to_be(pattern: str, tokenizer: Tokenizer) -> None:
    recipe = small_recipe(pattern)
    length = recipe.data.max_tokens
    (batch,) = take(TrainingData(recipe, tokenizer), 1)
    assert [tuple(tensor.shape) for tensor in tensors(batch)] == [
        (6, 3, 56, 56), (6, 3, 28, 28), (6, 3, 28, 28), *[(6, length)] * 4, (6, 16), (6,),
    ]  # fmt: skip
    assert batch.mask_BP is not None and batch.mask_BP.sum(1).tolist() == [12] * 6
    assert batch.samples_B.tolist() == list(range(6))
    by_hand = itertools.islice(shard_order(recipe).draws(TrainingData(recipe, tokenizer).cursor), 6)
    for row, draw in enumerate(by_hand):
        members = draw.read("jpg", "json")
        whole, parts = crops(read_image(members), recipe.data.crops, recipe.local_count, 56, 28, np.random.default_rng([0, 2, draw.number]))
        assert batch.global_B3HW[row].equal(whole) and all(a[row].equal(b) for a, b in zip(batch.locals, parts, strict=True))
        mask_P = random_mask(4, recipe.method.patches.mask, np.random.default_rng([0, 4, draw.number]))  # type: ignore[union-attr, arg-type]
        assert batch.mask_BP[row].equal(mask_P)
        said = read_captions(members, ["web", "synthetic"])
        assert batch.texts[0].ids_BL[row].equal(tokenizer(said.web, length)[0][0])
        assert any(batch.texts[1].ids_BL[row].equal(ids_L) for ids_L in tokenizer(said.synthetic, length)[0])


def test_batches_are_the_same_again_and_with_any_number_of_workers(pattern: str, tokenizer: Tokenizer) -> None:
    one = take(TrainingData(small_recipe(pattern), tokenizer), 16)
    for workers in (0, 1, 2):
        assert same(one, take(TrainingData(small_recipe(pattern, f"data.workers={workers}"), tokenizer), 16))
    assert not same(one, take(TrainingData(small_recipe(pattern, "seed=1"), tokenizer), 16))


def test_reading_leaves_the_global_random_state_alone(pattern: str, tokenizer: Tokenizer) -> None:
    before = torch.get_rng_state()
    take(TrainingData(small_recipe(pattern, "data.workers=1"), tokenizer), 2)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_see_what_one_sees(pattern: str, tokenizer: Tokenizer, world: int) -> None:
    recipe = small_recipe(pattern)
    (alone,) = [torch.cat([batch.global_B3HW for batch in take(TrainingData(recipe, tokenizer), 12)])]
    for rank in range(world):
        batches = take(TrainingData(recipe, tokenizer, rank=rank, world=world), 12)
        assert len(batches[0].global_B3HW) == 6 // world
        assert torch.cat([batch.global_B3HW for batch in batches]).equal(alone[rank::world])
        assert torch.cat([batch.samples_B for batch in batches]).tolist() == list(range(72))[rank::world]


@pytest.mark.parametrize(("workers", "stop"), [(0, 3), (2, 3), (0, 10), (1, 13)])
def test_a_run_that_stops_in_mid_epoch_goes_on_as_if_it_had_not(pattern: str, tokenizer: Tokenizer, workers: int, stop: int) -> None:
    recipe = small_recipe(pattern)
    whole = TrainingData(recipe, tokenizer)
    batches = take(whole, 20)
    first = TrainingData(recipe, tokenizer)
    assert same(take(first, stop), batches[:stop])
    state = json.loads(json.dumps(first.state_dict()))
    resumed = TrainingData(small_recipe(pattern, f"data.workers={workers}"), tokenizer, places=[state])
    assert same(take(resumed, 20 - stop), batches[stop:])
    assert resumed.state_dict() == whole.state_dict() and resumed.report.drawn == 120


def test_a_second_stage_goes_on_behind_the_first_at_its_own_size(pattern: str, tokenizer: Tokenizer) -> None:
    recipe = small_recipe(pattern)
    data = TrainingData(recipe, tokenizer)
    take(data, 2)
    (large,) = take(data, 1, recipe.stages[0].model_copy(update={"global_px": 84, "local_px": 42, "batch": 4}))
    assert large.global_B3HW.shape == (4, 3, 84, 84) and large.locals[0].shape == (4, 3, 42, 42)
    assert large.samples_B.tolist() == [12, 13, 14, 15] and large.mask_BP is not None and large.mask_BP.shape == (4, 36)


def test_wildcards_name_the_same_shards_as_braces(pattern: str) -> None:
    folder = Path(pattern).parent
    assert expand_shards([f"{folder}/train-*.tar"]) == expand_shards([pattern])
    with pytest.raises(UserError, match=r"val-\*\.tar: 1 of 1 shards are missing"):
        expand_shards([f"{folder}/val-*.tar"])


def test_recipes_that_differ_in_their_method_see_the_same_crops(pattern: str, tokenizer: Tokenizer) -> None:
    plain = ["method.patches=null", "method.self_distillation=null", "method.teacher=null", "method.contrastive.captions=[[web]]"]
    (full,), (bare,) = (take(TrainingData(small_recipe(pattern, *more), tokenizer), 1) for more in ([], plain))
    assert bare.global_B3HW.equal(full.global_B3HW) and bare.mask_BP is None and len(bare.texts) == 1
    assert bare.texts[0].ids_BL.equal(full.texts[0].ids_BL)
    (silent,) = take(TrainingData(small_recipe(pattern, "method.contrastive=null", "method.teacher.start=0"), None), 1)
    assert silent.texts == [] and silent.global_B3HW.equal(full.global_B3HW)


FAULTY = {
    "no image": {"jpg": None},
    "broken image": {"jpg": picture(1)[:-80]},
    "no captions": {"json": None},
    "broken captions": {"json": b"{"},
    "empty web caption": {"json": b'{"web": "", "synthetic": "b"}'},
    "no synthetic caption": {"json": b'{"web": "a"}'},
    "empty synthetic caption": {"json": b'{"web": "a", "synthetic": ["", "b"]}'},  # the other one is used
}


def faulty(folder: Path) -> str:
    """A shard of whole samples and, from 000100 on, one of each fault."""
    bad = [sample(100 + number, **members) for number, members in enumerate(FAULTY.values())]
    write_shard(folder / "train-000.tar", [one for number, other in enumerate(bad) for one in (sample(number), other)])
    return f"{folder}/train-000.tar"


@pytest.mark.parametrize("workers", [0, 2])
def test_faults_are_skipped_counted_and_reported_with_an_example(tmp_path: Path, tokenizer: Tokenizer, workers: int) -> None:
    recipe = small_recipe(faulty(tmp_path), f"data.workers={workers}", "stages.0.batch=9")
    data = TrainingData(recipe, tokenizer)
    used = torch.cat([batch.samples_B for batch in take(data, 5)]).tolist()
    keys = [draw.entry.key for draw in itertools.islice(shard_order(recipe).draws(Cursor()), data.report.drawn)]
    fault_of = {f"{100 + number:06d}": fault for number, fault in enumerate(FAULTY)}
    assert data.report.faults == Counter(fault_of[key] for key in keys if key in fault_of)
    assert used == [number for number, key in enumerate(keys) if fault_of.get(key) in (None, "empty synthetic caption")]
    assert data.report.skipped == len(keys) - len(used)
    assert data.report.examples == {fault: f"train-000.tar: {key}" for key, fault in fault_of.items()}
    lost = data.report.faults["broken captions"]
    assert str(data.report).startswith(
        f"skipped {data.report.skipped} of {len(keys)} samples: broken captions {lost} (train-000.tar: 000103), broken image "
    )


def test_a_resumed_run_counts_every_fault_once(tmp_path: Path, tokenizer: Tokenizer) -> None:
    recipe = small_recipe(faulty(tmp_path), "stages.0.batch=2")
    whole, first = TrainingData(recipe, tokenizer), TrainingData(recipe, tokenizer)
    take(whole, 15)
    take(first, 7)
    resumed = TrainingData(recipe, tokenizer, places=[first.state_dict()])
    take(resumed, 8)
    assert resumed.report == whole.report


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_without_one_usable_sample_stops_the_run_and_says_why(tmp_path: Path, tokenizer: Tokenizer, workers: int) -> None:
    write_shard(tmp_path / "a.tar", [sample(number, jpg=None) for number in range(5)])
    data = TrainingData(small_recipe(f"{tmp_path}/a.tar", f"data.workers={workers}"), tokenizer)
    with pytest.raises(UserError, match=r"not one sample of the shards can be used \(skipped \d+ of \d+ samples: no image"):
        take(data, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_shard_stops_the_run_in_one_sentence_that_names_it(tmp_path: Path, tokenizer: Tokenizer, workers: int) -> None:
    pattern = write_shards(tmp_path, [4, 4])
    shard = tmp_path / "train-001.tar"
    shard.write_bytes(shard.read_bytes()[:3000])
    with pytest.raises(UserError) as raised:
        take(TrainingData(small_recipe(pattern, f"data.workers={workers}"), tokenizer), 4)
    assert str(raised.value).startswith(f"{shard}: not a complete, uncompressed tar file") and "\n" not in str(raised.value)


def test_a_worker_that_is_killed_stops_the_run_in_one_sentence(pattern: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(members: dict[str, bytes]) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr("tips_bench.training.crops.read_image", killed)
    with pytest.raises(UserError, match=r"data\.workers: a process that reads the data was killed"):
        take(TrainingData(small_recipe(pattern, "data.workers=1"), tokenizer), 1)


def test_a_state_of_another_run_is_refused(pattern: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    state = TrainingData(small_recipe(pattern), tokenizer).state_dict()
    other = write_shards(tmp_path, [5])
    for recipe, said in ((small_recipe(other), "other shards"), (small_recipe(pattern, "seed=1"), "another seed")):
        with pytest.raises(UserError, match=rf"the checkpoint was written with .*{said}"):
            TrainingData(recipe, tokenizer, places=[state])


def test_a_batch_that_ranks_cannot_share_and_a_tokenizer_too_large_are_refused(pattern: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"batch = 6 cannot be divided equally among 4 ranks"):
        take(TrainingData(small_recipe(pattern), tokenizer, world=4), 1)
    with pytest.raises(UserError, match="the tokenizer has 40 pieces, the text tower embeds 39"):
        TrainingData(small_recipe(pattern, "model.text.vocab_size=39"), tokenizer)


ROOMS = {"seed": 3, "train": 5, "val": 2, "size": 64, "frames_per_scene": 2}


def test_rooms_are_written_as_shards_that_webdataset_and_the_trainer_read(tmp_path: Path, tokenizer: Tokenizer) -> None:
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in ROOMS.items()]
    done = CliRunner().invoke(app, ["data", "rooms", str(tmp_path / "rooms"), "--layout", "webdataset", "--workers", "1", *arguments])
    assert done.exit_code == 0 and "5 + 2 images" in done.stdout
    assert sorted(path.name for path in (tmp_path / "rooms").iterdir()) == ["manifest.json", "train-000.tar", "val-000.tar"]
    assert Manifest.read(tmp_path / "rooms").faults(tmp_path / "rooms") == []
    theirs = list(wds.WebDataset(str(tmp_path / "rooms" / "train-000.tar"), shardshuffle=False))
    assert [one["__key__"] for one in theirs] == ["train00000_00", "train00000_01", "train00001_00", "train00001_01", "train00002_00"]
    write_rooms("rooms", tmp_path / "plain", workers=1, **ROOMS)
    listed = [json.loads(line) for line in (tmp_path / "plain" / "captions.jsonl").read_text().splitlines()]
    for one, plain in zip(theirs, listed, strict=False):
        said = json.loads(one["json"])
        assert (said["web"], said["synthetic"][0]) == (plain["web"], plain["synthetic"])
        assert said["synthetic"][0].startswith(said["synthetic"][-1].removesuffix("."))
        assert one["jpg"] == (tmp_path / "plain" / plain["image"]).read_bytes()
    data = TrainingData(small_recipe(f"{tmp_path}/rooms/train-000.tar"), tokenizer)
    (batch,) = take(data, 1)
    assert batch.global_B3HW.shape == (6, 3, 56, 56) and data.report.faults == {}


def test_shards_of_rooms_are_the_same_bytes_with_two_processes_and_hold_a_set_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tips_bench.rooms.writing import layouts

    monkeypatch.setattr(layouts.WebDataset, "images_per_shard", 2)
    first = write_rooms("webdataset", tmp_path / "one", workers=1, **ROOMS)
    second = write_rooms("webdataset", tmp_path / "two", workers=2, **ROOMS)
    assert first.files == second.files
    assert list(first.files) == ["train-000.tar", "train-001.tar", "train-002.tar", "val-000.tar"]
