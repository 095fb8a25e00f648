"""What a batch gives without being learned from: the losses on held-out shards, and samples whose numbers are not finite."""

from __future__ import annotations

from itertools import islice

import torch

from tips_bench.errors import UserError
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.ranks import World
from tips_bench.training.batches import Batch, TrainingData
from tips_bench.training.distributed import add_up
from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_data import HeldOutPart
from tips_bench.training.shard_files import shard_path
from tips_bench.training.sources import Found, find_shards, shard_order
from tips_bench.training.step import EMBEDDINGS, Learner


class HeldOut:
    """The first batches of the held-out shards, the same ones each time: their crops, captions and masks, too.

    trained_on: the shards of the recipe. Errors: shards that are trained on, too; fewer samples than one pass over the batches takes.
    """

    def __init__(self, recipe: Recipe, part: HeldOutPart, tokenizer: Tokenizer | None, world: World, trained_on: Found) -> None:
        self.part, self.tokenizer, self.world = part, tokenizer, world
        self.recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"shards": part.shards, "sources": []})})
        self.found = world.told(lambda: find_shards(self.recipe))
        trained, own = ({shard_path(name).absolute() for one in found for name, _, _ in one} for found in (trained_on, self.found))
        shared = trained & own
        if shared:
            fix = "Hold out shards that the run does not train on."
            raise UserError(f"the shard {sorted(shared)[0].name} is trained on, too", where="data.held_out.shards", fix=fix)
        samples = shard_order(self.recipe, self.found).samples
        wanted = part.batches * max(stage.batch for stage in recipe.stages)
        if samples < wanted:
            fix = "Hold out more shards, or lower data.held_out.batches."
            raise UserError(f"the shards hold {samples} samples, and {wanted} are asked for", where="data.held_out", fix=fix)

    def losses(self, learner: Learner, number: int) -> dict[str, float]:
        """The mean losses over all batches and ranks, as "held_out/contrastive" and so on. number: of the step, from 0."""
        stage = self.recipe.stages[self.recipe.stage_at(number)[0]]
        data = TrainingData(self.recipe, self.tokenizer, rank=self.world.rank, world=self.world.size, found=self.found)
        found = [learner.losses(batch, number) for batch in islice(data.batches(stage, self.world.device), self.part.batches)]
        names = list(found[0])
        sums = add_up(torch.stack([torch.stack([terms[name].float() for name in names]) for terms in found]).sum(0))
        means = (sums / (len(found) * self.world.size)).tolist()
        return {f"held_out/{name}": mean for name, mean in zip(names, means, strict=True) if name != "temperature"}


def suspects(learner: Learner, batch: Batch, number: int) -> list[str]:
    """Names of this rank's samples whose embeddings are not finite; of a piece whose losses alone are not, all. Every rank calls it."""
    found: list[str] = []
    for here, out in learner.forward(batch, number, dropping=True):
        names = batch.names[here]
        embeddings = [value for name, value in out.items() if name in EMBEDDINGS]
        bad_B = torch.stack([~value.isfinite().all(2).all(0) for value in embeddings]).any(0).tolist() if embeddings else []
        if any(bad_B):
            found += [name for name, bad in zip(names, bad_B, strict=True) if bad]
        elif not all(bool(value.isfinite().all()) for value in out.values()):
            found += names
    return found
