"""`train --dry-run`: what a recipe needs on so many GPUs, printed before anything of it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tips_bench.cli.output import print_line, print_table

if TYPE_CHECKING:
    from tips_bench.training.recipe import Recipe


def print_plan(recipe: Recipe, ranks: int, gpu: str) -> None:
    """Memory of a rank, operations, steps and days of each stage. gpu: a name of `estimate.MACHINES`. Errors: an unknown one."""
    from tips_bench.errors import unknown_name
    from tips_bench.training.estimate import MACHINES, SHARE, estimate

    if gpu not in MACHINES:
        raise unknown_name("GPU", gpu, MACHINES, where="--device")
    stages = estimate(recipe, ranks)
    parts = list(stages[0].memory)
    print_line(f"{recipe.name} on {ranks} ranks{_groups(recipe, ranks)}: GB (10^9 bytes) of a rank in the fullest moment of a step")
    print_table(
        ["stage", "images", "passes", *parts, "together", "fullest in"],
        [
            [
                stage.name,
                str(stage.images),
                str(stage.pieces),
                *(f"{stage.memory[part] / 1e9:.2f}" for part in parts),
                f"{stage.peak / 1e9:.1f}",
                stage.moment,
            ]
            for stage in stages
        ],
    )
    print_line(f"time, if {SHARE:.0%} of a GPU's peak in bfloat16 is reached (assumed, not measured)")
    days = {name: [stage.days(ranks, machine) for stage in stages] for name, machine in MACHINES.items()}
    rows = [
        [stage.name, f"{stage.steps:,}", f"{stage.operations / 1e12:,.0f}", *(f"{days[name][index]:.1f}" for name in MACHINES)]
        for index, stage in enumerate(stages)
    ]
    whole = ["together", f"{recipe.steps:,}", "", *(f"{sum(days[name]):.1f}" for name in MACHINES)]
    print_table(["stage", "steps", "TFLOP a step", *(f"days, {name}" for name in MACHINES)], [*rows, whole])
    fullest, memory = max(stage.peak for stage in stages), MACHINES[gpu].memory
    verdict = "fits" if fullest < 0.9 * memory else "does not fit"
    print_line(f"The fullest stage {verdict} into nine tenths of the {memory / 1e9:.0f} GB of one {gpu}.")
    if verdict != "fits":
        print_line("Lower running.micro_batch, set running.activation_checkpointing=true, or use more ranks with running.parallel=fsdp.")


def _groups(recipe: Recipe, ranks: int) -> str:
    """How hsdp divides the ranks."""
    from tips_bench.training.distributed import ranks_of_a_copy
    from tips_bench.training.stage_sizes import MACHINE_RANKS

    if recipe.running.parallel != "hsdp":
        return ""
    size = ranks_of_a_copy(recipe.running, ranks, machine=MACHINE_RANKS)
    assumed = "" if recipe.running.shard_ranks else " (GPUs of one machine, assumed)"
    return f", in {ranks // size} groups of {size}{assumed}"
