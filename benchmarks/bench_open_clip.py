"""A contrastive step beside open_clip's trainer, at the same towers: speed and memory, whole and in pieces.

    python benchmarks/bench_open_clip.py [--recipe tips-nano] [--batch 64] [--pieces 4] [--steps 5] [--rounds 3] [--set KEY=VALUE]

The contrastive loss of one list of captions is what both have. open_clip's `train_one_epoch` trains the towers, initial weights and
temperature of the recipe, with its own loss, its optimizer (AdamW, as its `main` makes it), its schedule, and its accumulation of gradients
where the batch comes in pieces. Captions have 4 tokens to the longest of the recipe, each number as often; open_clip takes them as its
loader gives them, filled up to the longest. Images are floating-point numbers for open_clip, as its loader gives them, and bytes here.
Losses of the first step must agree. Figures are those of bench_training.py.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from open_clip.loss import ClipLoss
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from benchmarks.bench_training import Measured, allocated_mb, by_turns, measure, noise, print_against
from tips_bench.memory import peak_memory_mb
from tips_bench.ranks import World
from tips_bench.training.batches import Batch
from tips_bench.training.recipe import AdamWPart, Recipe
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.step import Learner
from tips_bench.training.student import Student

CONTRASTIVE_ALONE = ["method.self_distillation=null", "method.patches=null", "method.teacher=null"]
NEAR = 0.02  # relative: in bfloat16, open_clip's logits are in bfloat16 too


class AsOpenClip(nn.Module):
    """The towers of a recipe as open_clip's trainer takes a model."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.vision, self.text = student.vision, student.text
        self.logit_scale = nn.Parameter(-student.log_temperature.detach()[0])

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        """text: ids, 0 where a text is filled up."""
        return {
            "image_features": F.normalize(self.vision(image, layers=()).globals_BKD[:, 0], dim=-1),
            "text_features": F.normalize(self.text.encode(text, (text == 0).long()), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


class Batches:
    """One batch again and again, in pieces, as `train_one_epoch` takes its data. times: processor time when each step begins."""

    def __init__(self, batch: Batch, pieces: int, steps: int) -> None:
        images, texts = batch.global_B3HW.float() / 255, batch.texts[0].ids_BL
        self.pieces = list(zip(images.chunk(pieces), texts.chunk(pieces), strict=True))
        self.num_batches, self.num_samples = steps * pieces, steps * len(images)
        self.steps, self.times = steps, [0.0]
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        self.times = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.steps):
            self.times.append(time.process_time())
            yield from self.pieces
        self.times.append(time.process_time())


def measure_open_clip(recipe: Recipe, images: int, pieces: int, steps: int) -> Measured:
    """As `measure`. Errors: another loss than ours."""
    torch.set_num_threads(1)
    learner, batch = Learner(recipe, World(0, 1, torch.device("cpu"))), noise(recipe, images)
    wanted = float(learner.losses(batch, 0)["contrastive"])
    model = AsOpenClip(learner.student)
    optimizer = optimizer_of(model, recipe)
    del learner
    losses: list[float] = []

    def loss(**features: Any) -> dict[str, Tensor]:
        found = ClipLoss()(**features)
        losses.append(float(next(iter(found.values())).detach()))
        return found

    def train(data: Batches) -> None:
        schedule = cosine_lr(optimizer, recipe.stages[0].learning_rate, 10, 1000)
        train_one_epoch(model, {"train": data}, loss, 0, optimizer, None, schedule, None, arguments(recipe, images, pieces))

    data = Batches(batch, pieces, steps + 1)
    train(data)
    if not math.isclose(losses[0], wanted, rel_tol=NEAR):
        raise SystemExit(f"the loss of the first step is {losses[0]} in open_clip's trainer, and {wanted} here")
    resident = peak_memory_mb()
    seconds = min(after - before for before, after in zip(data.times[1:], data.times[2:], strict=False))
    return Measured(seconds, allocated_mb(lambda: train(Batches(batch, pieces, 1))), resident)


def optimizer_of(model: nn.Module, recipe: Recipe) -> AdamW:
    """open_clip_train.main, lines 335 to 351 of version 3.3.0."""
    rule = recipe.optimizer.rule
    assert isinstance(rule, AdamWPart)
    spared = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    groups = [{"params": spared, "weight_decay": 0.0}, {"params": decayed, "weight_decay": recipe.optimizer.weight_decay[0]}]
    return AdamW(groups, lr=recipe.stages[0].learning_rate, betas=rule.betas, eps=rule.eps)


def arguments(recipe: Recipe, images: int, pieces: int) -> SimpleNamespace:
    """The options of open_clip's trainer that `train_one_epoch` reads."""
    return SimpleNamespace(
        device="cpu",
        precision="amp_bf16" if recipe.running.precision == "bf16" else "fp32",
        distill=False,
        accum_freq=pieces,
        skip_scheduler=False,
        horovod=False,
        grad_clip_norm=recipe.optimizer.clip_norm,
        rank=0,
        local_rank=0,
        log_local=False,
        log_every_n_steps=recipe.running.log_every,
        batch_size=images // pieces,
        world_size=1,
        wandb=False,
    )


def compare(recipe: Recipe, images: int, pieces: int, steps: int, rounds: int) -> None:
    # so that a pass over captions has as many of them, in pieces too
    smaller = {"micro_batch": images // pieces, "text_groups": max(1, recipe.running.text_groups // pieces)}
    ours = recipe.model_copy(update={"running": recipe.running.model_copy(update=smaller)})
    print(f"{recipe.name}, {images} images in {pieces} pieces", flush=True)
    works: dict[str, tuple[Any, ...]] = {
        "ours": (measure, ours, images, steps),
        "open_clip's trainer": (measure_open_clip, recipe, images, pieces, steps),
    }
    print_against(by_turns(rounds, works), images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tips-nano")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pieces", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    chosen = parser.parse_args()
    settings = [f"running.precision={chosen.precision}", "running.micro_batch=null", "method.contrastive.captions=[[web]]"]
    recipe = load_recipe(chosen.recipe, [*settings, *CONTRASTIVE_ALONE, *chosen.set])
    for pieces in (1, chosen.pieces):
        compare(recipe, chosen.batch, pieces, chosen.steps, chosen.rounds)


if __name__ == "__main__":
    main()
