"""A training step: its time beside a plain one, memory against the batch, and what a teacher of heads alone saves.

    python benchmarks/bench_training.py [--recipe tips-nano] [--batch 64] [--steps 5] [--rounds 3] [--precision bf16] [--set KEY=VALUE]
    python benchmarks/bench_training.py --recipe tipsv2-b14 --batch 4 --steps 2 --rounds 1 --only plain

Images and captions are noise: the cost does not depend on what they show. The plain step has the same weights and losses, and is written
as the equations are: a forward pass for each view and each list of captions, full matrices of similarities and of scores, and torch's
AdamW as it comes. Each part is measured in a process of its own on one thread, in processor time, so that what else runs on the machine
matters little. Rounds take turns, and the fastest step counts. Memory is what torch's allocator gives out at the fullest moment, and the
peak that the operating system counts, in which libraries are included.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.profiler import ProfilerActivity, profile

from tips_bench.memory import peak_memory_mb
from tips_bench.models.heap import keep_freed_memory
from tips_bench.ranks import World
from tips_bench.training.batches import Batch, Texts
from tips_bench.training.recipe import AdamWPart, MethodPart, Recipe
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.step import Learner
from tips_bench.training.teacher import PATCHES, SELF_DISTILLATION, Teacher, parts_with_heads, temperatures

Step = Callable[[Batch, int], Any]
BATCHES = (256, 1024, 4096)
PIECE = 64  # images of one forward pass, for memory against the batch


@dataclass(frozen=True)
class Measured:
    """A step: processor seconds, and MB at its fullest moment that torch's allocator has given out and that are resident."""

    seconds: float
    allocated: float
    resident: float


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
    lists = len(recipe.method.contrastive.captions) if recipe.method.contrastive else 0
    return Batch(
        crop(stage.global_px),
        [crop(stage.local_px) for _ in range(recipe.local_count)],
        [texts(longest) for longest in (16, recipe.data.max_tokens)[2 - lists :]],  # web captions, the first of two lists, are short
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


def plain_step(learner: Learner) -> Step:
    """As `Learner.step`, written out."""
    rule = learner.recipe.optimizer.rule
    assert isinstance(rule, AdamWPart)
    groups = [{"params": group["params"], "name": group["name"]} for group in learner.optimizer.param_groups]
    learner.optimizer = AdamW(groups, lr=0.0, betas=rule.betas, eps=rule.eps)

    def step(batch: Batch, number: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=learner.running.precision == "bf16"):
            loss = plain_losses(learner, batch, number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.student.parameters(), learner.recipe.optimizer.clip_norm or float("inf"))
        learner._update(number)
        learner.optimizer.zero_grad(set_to_none=True)

    return step


def our_step(learner: Learner) -> Step:
    keep_freed_memory()  # as `train` does on a CPU
    return learner.step


def measure(recipe: Recipe, images: int, steps: int, make: Callable[[Learner], Step] = our_step) -> Measured:
    """One step of a recipe that starts, on this process. steps: timed ones, after one that warms up."""
    torch.set_num_threads(1)
    learner, batch = Learner(recipe, World(0, 1, torch.device("cpu"))), noise(recipe, images)
    step = make(learner)
    times = []
    for number in range(steps + 1):
        start = time.process_time()
        step(batch, number)
        times.append(time.process_time() - start)
    resident = peak_memory_mb()
    return Measured(min(times[1:]), allocated_mb(lambda: step(batch, steps + 1)), resident)


def allocated_mb(run: Callable[[], Any]) -> float:
    """MB (10^6 bytes) that torch's allocator has given out at the fullest moment, what is alive before included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    with NamedTemporaryFile(suffix=".json") as trace:
        profiler.export_chrome_trace(trace.name)
        events = json.loads(Path(trace.name).read_text())["traceEvents"]
    return max(event["args"]["Total Allocated"] for event in events if event["name"] == "[memory]") / 1e6


def apart(work: Callable[..., Measured], *arguments: Any) -> Measured:
    """What `work` gives in a process of its own, which need not import anything anew."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(work, *arguments).result()


def by_turns(rounds: int, works: dict[str, tuple[Any, ...]]) -> dict[str, Measured]:
    """The best of several rounds. works: name -> the arguments of `apart`."""
    found: dict[str, list[Measured]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, arguments in works.items():
            found[name].append(apart(*arguments))
    return {name: Measured(*map(min, zip(*map(astuple, several), strict=True))) for name, several in found.items()}


def print_against(found: dict[str, Measured], images: int) -> None:
    """The first against each other."""
    for name, one in found.items():
        speed, memory = f"{images / one.seconds:7.1f} images a processor second", f"{one.allocated:7.0f} MB given out"
        print(f"{name:20} {speed}  {memory}  {one.resident:7.0f} MB resident")
    (name, ours), *others = found.items()
    for other, theirs in others:
        allocated, resident = ours.allocated / theirs.allocated, ours.resident / theirs.resident
        memory = f"{allocated:.2f} times the memory given out and {resident:.2f} times the resident memory"
        print(f"{name} is {theirs.seconds / ours.seconds:.2f} times as fast as {other}, with {memory}", flush=True)


def with_teacher(recipe: Recipe, kind: str) -> Recipe:
    method = recipe.method.model_dump()
    return recipe.model_copy(update={"method": MethodPart.model_validate({**method, "teacher": {**method["teacher"], "kind": kind}})})


def compare_with_plain(recipe: Recipe, batch: int, steps: int, rounds: int) -> None:
    works = {"ours": (measure, recipe, batch, steps, our_step), "plain": (measure, recipe, batch, steps, plain_step)}
    print_against(by_turns(rounds, works), batch)


def memory_by_batch(recipe: Recipe) -> None:
    """Peak memory of one step in pieces, the contrastive loss over the whole batch."""
    pieces = recipe.model_copy(update={"running": recipe.running.model_copy(update={"micro_batch": PIECE})})
    peaks = [apart(measure, pieces, batch, 1).resident for batch in BATCHES]
    for batch, peak in zip(BATCHES, peaks, strict=True):
        print(f"batch {batch:5} in pieces of {PIECE}: {peak:6.0f} MB, {peak / peaks[0]:.2f} times that of {BATCHES[0]}", flush=True)


def compare_teachers(recipe: Recipe, batch: int, steps: int, rounds: int) -> None:
    kinds = ("ema-heads", "ema")
    print_against(by_turns(rounds, {kind: (measure, with_teacher(recipe, kind), batch, steps) for kind in kinds}), batch)
    kept = []
    for kind in kinds:
        learner = Learner(with_teacher(recipe, kind), World(0, 1, torch.device("cpu")))
        assert learner.teacher is not None
        kept.append(sum(parameter.numel() for owner in (learner.student, learner.teacher) for parameter in owner.parameters()))
    print(f"heads alone: {kept[0] / kept[1]:.2f} times the parameters, {kept[1] / 1e6:.2f} M with an encoder", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tips-nano")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--only", choices=["plain", "batch", "teacher"])
    arguments = parser.parse_args()
    chosen = [f"running.precision={arguments.precision}", "running.micro_batch=null", "method.teacher.start=0", *arguments.set]
    recipe = load_recipe(arguments.recipe, chosen)
    if arguments.only in (None, "plain"):
        compare_with_plain(recipe, arguments.batch, arguments.steps, arguments.rounds)
    if arguments.only in (None, "batch"):
        memory_by_batch(recipe)
    if arguments.only in (None, "teacher"):
        compare_teachers(recipe, arguments.batch, arguments.steps, arguments.rounds)


if __name__ == "__main__":
    main()
