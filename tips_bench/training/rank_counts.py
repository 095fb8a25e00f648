"""Numbers of ranks that can share the batches of a recipe equally."""

from __future__ import annotations

import math

from tips_bench.errors import UserError
from tips_bench.training.recipe import Recipe, StagePart

_BELOW, _ABOVE = 3, 2  # counts that are listed


def images_of_a_rank(recipe: Recipe, stage: StagePart, ranks: int) -> int:
    """Of one step of a stage. Errors: a batch that the ranks cannot share."""
    if stage.batch % ranks:
        index = recipe.stages.index(stage) if stage in recipe.stages else 0
        lower = stage.batch // ranks * ranks
        other = f"--set stages.{index}.batch={lower or ranks}"
        fix = f"Use {listed_counts(ranks_that_fit(recipe), ranks)} ranks, or another batch, also when a run is resumed: {other}."
        raise UserError(f"batch = {stage.batch} cannot be divided equally among {ranks} ranks", where=f"stage {stage.name!r}", fix=fix)
    return stage.batch // ranks


def check_ranks(recipe: Recipe, ranks: int) -> None:
    """Errors: a stage, of all, whose batch the ranks cannot share."""
    for stage in recipe.stages:
        images_of_a_rank(recipe, stage, ranks)


def ranks_that_fit(recipe: Recipe) -> list[int]:
    """All numbers that divide the batch of every stage; with hsdp, of groups of `shard_ranks`."""
    common, running = math.gcd(*(stage.batch for stage in recipe.stages)), recipe.running
    group = (running.shard_ranks or 1) if running.parallel == "hsdp" else 1
    return [ranks for ranks in range(group, common + 1, group) if common % ranks == 0] or [1]


def listed_counts(counts: list[int], near: int) -> str:
    """Some of the counts, those that are nearest to a number: "64, 128 or 256"."""
    chosen = [count for count in counts if count <= near][-_BELOW:] + [count for count in counts if count > near][:_ABOVE]
    return " or ".join(filter(None, [", ".join(map(str, chosen[:-1])), str(chosen[-1])]))
