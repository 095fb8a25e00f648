"""A training step: its time beside a plain one, memory against the batch, and what a teacher of heads alone saves.

    python benchmarks/bench_training.py [--recipe tips-nano] [--batch 64] [--steps 5] [--precision bf16] [--text-groups 8]

Images and captions are noise: the cost does not depend on what they show. The plain step has the same weights, losses and optimiser, and
is written as the equations are: a forward pass for each view and each list of captions, full matrices of similarities and of scores.
Each part is measured in a process of its own, whose peak memory is the operating system's.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.training.batches import Batch, Texts
from tips_bench.training.distributed import World
from tips_bench.training.recipe import MethodPart, Recipe
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.step import Learner
from tips_bench.training.teacher import PATCHES, SELF_DISTILLATION, Teacher, parts_with_heads, temperatures

BATCHES = (256, 1024, 4096)
PIECE = 64  # images of one forward pass, for memory against the batch


def noise(recipe: Recipe, images: int) -> Batch:
    """A batch as the recipe's data would give it."""
    generator, stage, vision = torch.Generator().manual_seed(0), recipe.stages[0], recipe.model.vision_config
    grid = stage.global_px // vision.patch_size

    def crop(px: int) -> Tensor:
        return torch.randint(0, 256, (images, 3, px, px), generator=generator, dtype=torch.uint8)

    def texts(longest: int) -> Texts:
        """Of 4 to `longest` tokens, each number as often, padded as the recipe's data pads them."""
        ids_BL = torch.randint(2, recipe.model.text_config.vocab_size, (images, recipe.data.max_tokens), generator=generator)
        lengths_B1 = torch.randint(4, longest + 1, (images, 1), generator=generator)
        paddings_BL = (torch.arange(recipe.data.max_tokens) >= lengths_B1).long()
        return Texts(ids_BL * (1 - paddings_BL), paddings_BL)

    order_BP = torch.rand(images, grid * grid, generator=generator).argsort(dim=1)
    mask = recipe.method.patches.mask if recipe.method.patches else None
    return Batch(
        crop(stage.global_px),
        [crop(stage.local_px) for _ in range(recipe.local_count)],
        [texts(16), texts(recipe.data.max_tokens)],  # web captions are short
        None if mask is None else order_BP < round(mask.ratio * grid * grid),
        torch.arange(images),
    )


def plain_losses(learner: Learner, batch: Batch, number: int) -> Tensor:
    """The weighted sum of the losses of TIPSv2, one thing after another."""
    student, teacher, method = learner.student, cast("Teacher", learner.teacher), learner.recipe.method
    pixels = batch.global_B3HW.float() / 255
    whole = student.vision(pixels)
    image_BKD, own = F.normalize(whole.globals_BKD.float(), dim=-1), torch.arange(len(pixels))
    total = torch.zeros(())
    assert method.contrastive is not None
    for token, texts in enumerate(batch.texts):
        text_BD = F.normalize(student.text(texts.ids_BL, texts.paddings_BL).float(), dim=-1)
        logits_BB = image_BKD[:, token] @ text_BD.T / student.temperature
        loss = (F.cross_entropy(logits_BB, own) + F.cross_entropy(logits_BB.T, own)) / 2
        total = total + method.contrastive.weight * loss / len(batch.texts)
    target = whole if teacher.vision is None else teacher.vision(pixels)
    masked = student.vision(pixels, mask_BP=batch.mask_BP)
    views = {
        SELF_DISTILLATION: [student.vision(crop.float() / 255).globals_BKD[:, 0] for crop in batch.locals],
        PATCHES: [masked.patches[0].flatten(0, 2)],
    }
    targets = {SELF_DISTILLATION: target.globals_BKD[:, 0], PATCHES: target.patches[0].flatten(0, 2)}
    for name, part in parts_with_heads(method).items():
        warmth = temperatures(part.sharpening, number, learner.recipe.steps)
        with torch.no_grad():
            scores_NC = scores(teacher, name, targets[name])
            said_NC = ((scores_NC - teacher.centers[name].mean_C) / warmth.teacher).softmax(dim=1)
            teacher.centers[name].observe(scores_NC, said_NC)
        for view_ND in views[name]:
            log_NC = (scores(student, name, view_ND) / warmth.student).log_softmax(dim=1)
            total = total - part.weight / len(views[name]) * (said_NC * log_NC).sum(dim=1).mean()
    return total


def scores(owner: Any, name: str, x_ND: Tensor) -> Tensor:
    return owner.heads[name](x_ND).float() @ owner.heads[name].weight_CE.T


def plain_step(learner: Learner, batch: Batch, number: int) -> None:
    """As `Learner.step`, written out."""
    with torch.autocast("cpu", torch.bfloat16, enabled=learner.running.precision == "bf16"):
        loss = plain_losses(learner, batch, number)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(learner.student.parameters(), learner.recipe.optimizer.clip_norm or float("inf"))
    learner._update(number)
    learner.optimizer.zero_grad(set_to_none=True)


def measure(recipe: Recipe, images: int, steps: int, plain: bool = False) -> tuple[float, float]:
    """Seconds a step, the fastest of `steps` after one that warms up, and the peak of memory in MB."""
    learner, batch = Learner(recipe, World(0, 1, torch.device("cpu"))), noise(recipe, images)
    step: Callable[[Batch, int], Any] = (lambda batch, number: plain_step(learner, batch, number)) if plain else learner.step
    times = []
    for number in range(steps + 1):
        start = time.perf_counter()
        step(batch, number)
        times.append(time.perf_counter() - start)
    return min(times[1:] or times), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(*arguments: Any) -> tuple[float, float]:
    """`measure` in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def with_teacher(recipe: Recipe, kind: str) -> Recipe:
    method = recipe.method.model_dump()
    return recipe.model_copy(update={"method": MethodPart.model_validate({**method, "teacher": {**method["teacher"], "kind": kind}})})


def compare_with_plain(recipe: Recipe, batch: int, steps: int) -> None:
    ours, plain = apart(recipe, batch, steps), apart(recipe, batch, steps, True)
    for name, (seconds, memory) in (("ours", ours), ("plain", plain)):
        print(f"{name:6} {batch / seconds:7.1f} images/s  {memory:7.0f} MB", flush=True)
    print(f"ours is {plain[0] / ours[0]:.2f} times as fast, with {ours[1] / plain[1]:.2f} times the memory", flush=True)


def memory_by_batch(recipe: Recipe) -> None:
    """Peak memory of one step in pieces, the contrastive loss over the whole batch."""
    pieces = recipe.model_copy(update={"running": recipe.running.model_copy(update={"micro_batch": PIECE})})
    peaks = [apart(pieces, batch, 0)[1] for batch in BATCHES]
    for batch, peak in zip(BATCHES, peaks, strict=True):
        print(f"batch {batch:5} in pieces of {PIECE}: {peak:6.0f} MB, {peak / peaks[0]:.2f} times that of {BATCHES[0]}", flush=True)


def compare_teachers(recipe: Recipe, batch: int, steps: int) -> None:
    found = {}
    for kind in ("ema", "ema-heads"):
        chosen = with_teacher(recipe, kind)
        learner = Learner(chosen, World(0, 1, torch.device("cpu")))
        assert learner.teacher is not None
        kept = sum(parameter.numel() for owner in (learner.student, learner.teacher) for parameter in owner.parameters())
        found[kind] = (kept, *apart(chosen, batch, steps))
        print(f"{kind:10} {kept / 1e6:6.2f} M parameters  {batch / found[kind][1]:6.1f} images/s  {found[kind][2]:6.0f} MB", flush=True)
    parameters, seconds, memory = (heads / full for heads, full in zip(found["ema-heads"], found["ema"], strict=True))
    print(f"heads alone: {parameters:.2f} times the parameters, {seconds:.2f} the time, {memory:.2f} the memory", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tips-nano")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--text-groups", type=int, help="Those of the recipe otherwise.")
    arguments = parser.parse_args()
    running = [f"running.precision={arguments.precision}"]
    if arguments.text_groups is not None:
        running.append(f"running.text_groups={arguments.text_groups}")
    recipe = load_recipe(arguments.recipe, [*running, "method.teacher.start=0"])
    compare_with_plain(recipe, arguments.batch, arguments.steps)
    memory_by_batch(recipe)
    compare_teachers(recipe, arguments.batch, arguments.steps)


if __name__ == "__main__":
    main()
