"""Drop path and dropout: their rates, what they depend on, and that they are timm's on average and nothing at a rate of zero."""

from __future__ import annotations

from typing import Any

import pytest
import timm.layers
import torch

from tests.helpers.pretraining import ALONE, random_batch, recipe, rows_of
from tips_bench.models.configs import VisionConfig
from tips_bench.models.dropping import BlockPaths, Dropout, DropPaths, KeptRows
from tips_bench.models.layers import Block, Mlp
from tips_bench.models.vision import VisionTower
from tips_bench.training.step import Learner

CPU = torch.device("cpu")
SAMPLES_B = torch.arange(20_000)
BOTH = {"path": 0.4, "path_growth": "uniform", "text": 0.2}


def kept(paths: DropPaths, samples_B: torch.Tensor = SAMPLES_B, views: tuple[int, ...] = (0,)) -> torch.Tensor:
    """[blocks, branches, rows]: which rows are kept."""
    plan = paths.plan(samples_B, views, CPU)
    assert plan is not None
    rows = len(samples_B) * len(views)
    whole = KeptRows(torch.arange(rows), 1.0)
    found = torch.zeros(len(plan), 2, rows, dtype=torch.bool)
    for index, block in enumerate(plan):
        for branch, part in enumerate(block or (whole, whole)):
            found[index, branch, part.rows_R] = True
            assert part.factor == pytest.approx(1 / (1 - paths.rates[index]))
    return found


@pytest.mark.parametrize(("growth", "rates"), [("uniform", [0.4] * 5), ("linear", [0.0, 0.1, 0.2, 0.3, 0.4])])
def test_each_block_has_its_rate_and_branches_views_and_blocks_are_independent(growth: Any, rates: list[float]) -> None:
    paths = DropPaths(3, depth=5, rate=0.4, growth=growth)
    assert paths.rates == pytest.approx(rates)
    found = kept(paths, views=(0, 1)).unflatten(2, (2, -1)).double()
    for block, rate in enumerate(rates):
        # five standard deviations of the mean of so many
        assert found[block].mean(dim=-1).flatten().tolist() == pytest.approx([1 - rate] * 4, abs=5 * 0.5 / len(SAMPLES_B) ** 0.5)
    dropping = found[1:].flatten(0, 2)
    together = torch.corrcoef(torch.cat([dropping[:, 1:], dropping[:, :-1]])) - torch.eye(2 * len(dropping))
    assert together.abs().max() < 5 / len(SAMPLES_B) ** 0.5


def test_a_sample_drops_the_same_in_any_batch_and_another_with_another_seed() -> None:
    paths = DropPaths(3, depth=3, rate=0.5, growth="uniform")
    whole = kept(paths, SAMPLES_B[:64], (4,))
    assert torch.equal(whole[..., 32:], kept(paths, SAMPLES_B[32:64], (4,)))
    assert not torch.equal(whole, kept(DropPaths(4, depth=3, rate=0.5, growth="uniform"), SAMPLES_B[:64], (4,)))
    assert not torch.equal(whole, kept(paths, SAMPLES_B[:64] + 2**40, (4,)))


def test_kept_rows_are_timms_drop_path_where_the_same_samples_are_dropped() -> None:
    """timm multiplies every row by zero or by the factor; here kept rows alone are computed."""
    torch.manual_seed(0)
    block = Block(16, 2, Mlp(16, 32, activation="gelu-erf"), eps=1e-6, init_values=0.5)
    x_BND = torch.randn(6, 5, 16)
    rows = (torch.tensor([0, 2, 5]), torch.tensor([1, 2]))
    found = block(x_BND, None, BlockPaths(*(KeptRows(rows_R, 1.25) for rows_R in rows)))
    scales = [torch.zeros(6, 1, 1).index_fill(0, rows_R, 1.25) for rows_R in rows]
    assert block.ls1 is not None and block.ls2 is not None
    x_BND = x_BND + scales[0] * block.ls1.gamma * block.attn.proj(block.attn.attend(block.attn.qkv(block.norm1(x_BND))))
    torch.testing.assert_close(found, x_BND + scales[1] * block.ls2.gamma * block.mlp(block.norm2(x_BND)))


def test_the_mean_of_many_draws_is_that_of_timms_drop_path() -> None:
    x_BN = torch.ones(len(SAMPLES_B), 1)
    torch.manual_seed(0)
    theirs = timm.layers.drop_path(x_BN, 0.3, training=True)
    ours = torch.zeros_like(x_BN)
    plan = DropPaths(0, depth=1, rate=0.3, growth="uniform").plan(SAMPLES_B, (0,), CPU)
    assert plan is not None and plan[0] is not None
    ours[plan[0].mlp.rows_R] = plan[0].mlp.factor
    assert ours.unique().tolist() == pytest.approx(theirs.unique().tolist())
    assert (ours.mean() - theirs.mean()).abs() < 5 * (2 * 0.3 / 0.7 / len(SAMPLES_B)) ** 0.5


def test_dropout_has_its_rate_in_each_place_and_the_same_values_beside_longer_padding() -> None:
    dropout = Dropout.of_texts(1, SAMPLES_B[:500], rate=0.1, device=CPU)
    assert dropout is not None
    dropped = dropout(torch.ones(500, 12, 64))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.9])
    gone = (dropped == 0).double()
    assert gone.mean().item() == pytest.approx(0.1, abs=5 * 0.3 / gone.numel() ** 0.5)
    for axes, count in (((0, 1), 6000), ((0, 2), 32000), ((1, 2), 768)):
        assert (gone.mean(dim=axes) - 0.1).abs().max() < 5 * 0.3 / count**0.5
    for axis in range(3):
        neighbours = torch.stack([gone.narrow(axis, start, gone.shape[axis] - 1).flatten() for start in (0, 1)])
        assert torch.corrcoef(neighbours)[0, 1].abs() < 5 / neighbours.shape[1] ** 0.5
    assert torch.equal(dropped[:, :7], dropout(torch.ones(500, 7, 64)))
    assert torch.equal(dropped[100:], Dropout(dropout.key_T[100:], 0.1)(torch.ones(400, 12, 64)))
    assert not torch.equal(dropped, dropout.at(1)(torch.ones(500, 12, 64)))


def test_a_rate_of_zero_leaves_every_bit() -> None:
    assert DropPaths(0, depth=3, rate=0.0).plan(SAMPLES_B, (0,), CPU) is None
    assert Dropout.of_texts(0, SAMPLES_B, rate=0.0, device=CPU) is None
    config = VisionConfig(name="tiny", embed_dim=32, depth=2, num_heads=2, mlp_dim=64, position_grid=(4, 4))
    tower, pixels = VisionTower.random(config, 0), torch.rand(2, 3, 56, 56)
    assert torch.equal(tower(pixels, paths=[None, None]).globals_BKD, tower(pixels).globals_BKD)


def test_what_is_dropped_changes_the_losses_and_not_what_the_seed_decides_beside() -> None:
    batch = random_batch()
    plain, dropped, again = (Learner(recipe(model__dropout=part), ALONE).step(batch, 0) for part in ({}, BOTH, BOTH))
    assert dropped == again and dropped["contrastive"] != plain["contrastive"] and dropped["patches"] != plain["patches"]


@pytest.mark.parametrize("kind", ["ema", "ema-heads"])
def test_losses_that_are_only_measured_drop_nothing(kind: str) -> None:
    batch, teacher = random_batch(), {"kind": kind, "momentum": [0.9, 1.0]}
    plain, learner = (Learner(recipe(model__dropout=part, method__teacher=teacher), ALONE) for part in ({}, BOTH))
    assert learner.losses(batch, 0) == plain.losses(batch, 0)
    assert learner.step(batch, 0)["contrastive"] != float(plain.losses(batch, 0)["contrastive"])  # the next step drops again


def test_a_bad_step_is_looked_at_with_what_it_dropped() -> None:
    learner, batch = Learner(recipe(model__dropout=BOTH), ALONE), random_batch()
    ((_, again),) = list(learner.forward(batch, 0, dropping=True))
    report = learner.step(batch, 0)
    for name in ("self_distillation", "patches"):
        assert float(again[name]) == pytest.approx(report[name], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("running", [{"micro_batch": 3}, {"activation_checkpointing": True}, {"text_groups": 5}])
@pytest.mark.parametrize("kind", ["ema", "ema-heads"])
def test_how_a_step_is_computed_does_not_change_what_is_dropped(running: dict[str, Any], kind: str) -> None:
    teacher = {"kind": kind, "momentum": [0.9, 1.0]}
    plain, other = (
        Learner(recipe(model__dropout=BOTH, method__teacher=teacher, running=how), ALONE) for how in ({"text_groups": 2}, running)
    )
    for number in range(2):
        a, b = (learner.step(random_batch(seed=number, shortest=2), number) for learner in (plain, other))
        for name, value in a.items():
            assert b[name] == pytest.approx(value, rel=1e-4 if name == "grad_norm" else 1e-5, abs=1e-5), name


def test_parts_of_a_batch_drop_what_the_whole_batch_drops() -> None:
    """As other ranks have them: the embeddings of a part are those of its samples in the whole batch."""
    learner = Learner(recipe(model__dropout=BOTH), ALONE)
    batch = random_batch()
    whole, part = (learner.student(learner._piece(one, slice(0, 8)), None, embed_only=True) for one in (batch, rows_of(batch, slice(3, 6))))
    for name in ("image_KBD", "text_KBD"):
        torch.testing.assert_close(part[name], whole[name][:, 3:6], rtol=1e-5, atol=1e-6)
