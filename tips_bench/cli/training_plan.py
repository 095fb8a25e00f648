"""`train --dry-run`: what a recipe needs on so many GPUs, printed before anything of it runs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from tips_bench.cli.output import print_json, print_line, print_table, print_text
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.training.recipe import Recipe

_OF_A_DAY = {"days": 1.0, "hours": 24.0, "minutes": 24 * 60.0, "seconds": 24 * 3600.0}


def print_plan(recipe: Recipe, ranks: int, gpu: str, *, as_json: bool = False) -> None:
    """Memory of a rank, operations, steps and time of each stage, and numbers of ranks that fit.

    gpu: a name of `estimate.MACHINES`. Errors: an unknown one.
    """
    from tips_bench.errors import unknown_name
    from tips_bench.training.estimate import MACHINES, SHARE, estimate
    from tips_bench.training.rank_counts import listed_counts, ranks_that_fit

    if gpu not in MACHINES:
        raise unknown_name("GPU", gpu, MACHINES, where="--device")
    stages = estimate(recipe, ranks)
    if as_json:
        days_of = {stage.name: {name: stage.days(ranks, machine) for name, machine in MACHINES.items()} for stage in stages}
        print_json([{**asdict(stage), "peak": stage.peak, "days": days_of[stage.name]} for stage in stages])
        return
    where = f"{counted(ranks, 'rank')}{_groups(recipe, ranks)}"
    print_text(f"{recipe.name} on {where}: GB (10^9 bytes) of a rank in the fullest moment of a step")
    print_text(_held(recipe, ranks))
    if recipe.method.teacher is not None and recipe.method.teacher.kind == "frozen":
        print_text(_taught_by(recipe))
    rows = [["images", *(str(stage.images) for stage in stages)], ["passes", *(str(stage.pieces) for stage in stages)]]
    rows += [[part, *(_figures(stage.memory[part] / 1e9) for stage in stages)] for part in stages[0].memory]
    rows += [["together", *(_figures(stage.peak / 1e9) for stage in stages)], ["fullest in", *(stage.moment for stage in stages)]]
    print_table(["", *(stage.name for stage in stages)], rows)
    print_line("")
    print_text(f"time, if {SHARE:.0%} of a GPU's peak in bfloat16 is reached (assumed, not measured)")
    days = {name: [stage.days(ranks, machine) for stage in stages] for name, machine in MACHINES.items()}
    time, in_a_day = _largest(_OF_A_DAY, max(map(sum, days.values())))
    work, in_a_tera = _largest({"TFLOP": 1.0, "GFLOP": 1e3}, max(stage.operations for stage in stages) / 1e12)
    rows = [
        [
            stage.name,
            f"{stage.steps:,}",
            _figures(stage.operations / 1e12 * in_a_tera),
            *(_figures(days[name][index] * in_a_day) for name in MACHINES),
        ]
        for index, stage in enumerate(stages)
    ]
    whole = ["together", f"{recipe.steps:,}", "", *(_figures(sum(days[name]) * in_a_day) for name in MACHINES)]
    print_table(["stage", "steps", f"{work} a step", *(f"{time}, {name}" for name in MACHINES)], [*rows, whole])
    fullest, memory = max(stage.peak for stage in stages), MACHINES[gpu].memory
    verdict = "fits" if fullest < 0.9 * memory else "does not fit"
    print_text(f"The fullest stage {verdict} into nine tenths of the {memory / 1e9:.0f} GB of one {gpu}.")
    if verdict != "fits":
        print_text("Lower running.micro_batch, set running.activation_checkpointing=true, or use more ranks with running.parallel=fsdp.")
    print_text(f"The batches can be shared by {listed_counts(ranks_that_fit(recipe), ranks)} ranks, among other numbers.")


def _largest(units: dict[str, float], value: float) -> tuple[str, float]:
    """The first unit, with its factor, in which a value is at least 1; the last one, if it is in none."""
    return next(((unit, factor) for unit, factor in units.items() if value * factor >= 1), list(units.items())[-1])


def _figures(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{digits}f}"


def _groups(recipe: Recipe, ranks: int) -> str:
    """How hsdp divides the ranks."""
    from tips_bench.training.distributed import ranks_of_a_copy
    from tips_bench.training.stage_sizes import MACHINE_RANKS

    if recipe.running.parallel != "hsdp":
        return ""
    size = ranks_of_a_copy(recipe.running, ranks, machine=MACHINE_RANKS)
    assumed = "" if recipe.running.shard_ranks else " (GPUs of one machine, assumed)"
    return f", in {counted(ranks // size, 'group')} of {size}{assumed}"


def _held(recipe: Recipe, ranks: int) -> str:
    """What a rank holds a part of, and what it holds whole."""
    from tips_bench.training.stage_sizes import StageSizes

    sizes = StageSizes(recipe, recipe.stages[0], ranks)
    if sizes.cut == 1:
        return "Each rank holds all weights, gradients and optimizer state."
    outside, everything = (_figures(count / 1e6) for count in (sizes.outside_blocks, sizes.everything))
    return (
        f"Each rank holds 1/{sizes.cut} of the weights, gradients and optimizer state. Of {everything} million parameters, {outside} "
        "million are in no block; they are put together for the whole step, the others block by block."
    )


def _taught_by(recipe: Recipe) -> str:
    """How large the frozen teacher is, and who says so."""
    from tips_bench.training.runs import recipe_of_teacher

    part, theirs = recipe.method.teacher, recipe_of_teacher(recipe)
    run = None if part is None else part.run
    if theirs is None:
        return f"There is no run {run} and no recipe of that name: the frozen teacher is assumed to be as large as the student."
    vision = theirs.model.vision_config
    return f"The frozen teacher is that of {run}, by the recipe {theirs.name}: {vision.depth} blocks, {vision.embed_dim} wide."
