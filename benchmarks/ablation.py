"""The papers' ablation at small scale: eight recipes and two seeds, each trained, exported and scored on held-out rooms.

    python benchmarks/ablation.py --shards 'rooms/train-{000..031}.tar' --out ablation/
    python benchmarks/ablation.py --shards 'rooms/train-{000..031}.tar' --out late/ --begin step-12000/
    python benchmarks/ablation.py --shards 'rooms/train-{000..015}.tar' --out long/ --steps 2000

With --begin, a folder that `export` wrote, rows (d) to (g) train on from its towers, for half the steps at a fifth of the rate and with
their teachers from the first step. With --steps, each row has this number of steps, and a name of its own.

All rows read captions with one tokenizer, trained on both kinds. What is there is kept: a run goes on from its newest checkpoint, and a
model that has its record is not scored again. All rows of one seed come before the next seed, and two processes may take one seed each.
scripts/ablation_page.py writes docs/ablation.md from the records.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tips_bench.evaluation.run import evaluate
from tips_bench.training.captions import TOKENIZER, tokenizer_file
from tips_bench.training.loop import train
from tips_bench.training.recipe_files import load_recipe, shipped_recipes
from tips_bench.training.runs import export
from tips_bench.training.sources import shard_order

BOTH = "ablation-d-two-tokens"
# What changes where towers are there to begin with.
LATE = ["stages.0.steps=400", "stages.0.warmup=20", "stages.0.learning_rate=1.0e-4", "stages.0.final_learning_rate=1.0e-6"]
# Tasks with their protocols, None for the default.
TASKS = [
    ("rooms-seg", None),
    ("rooms-depth", None),
    ("rooms-normals", None),
    ("rooms-zeroshot", None),
    ("rooms-zeroshot", "tips-slide-84"),
    ("rooms-retrieval", None),
]


def rows() -> list[str]:
    """The recipes, (a) to (g), with one between (f) and (g)."""
    return [name for name in shipped_recipes() if name.startswith("ablation-")]


def late_rows() -> list[str]:
    """Those that train what the towers were trained with, and more."""
    return [name for name in rows() if name >= BOTH]


def tokenizer(shards: str, out: Path, begin: Path | None) -> Path:
    """That of the towers to begin with, or of the row with both kinds of caption."""
    if begin is not None:
        return begin / TOKENIZER
    recipe = load_recipe(BOTH, [f"data.shards={shards}"])
    out.mkdir(parents=True, exist_ok=True)
    return tokenizer_file(recipe, shard_order(recipe), out)


def beginning(row: str, begin: Path) -> list[str]:
    """What a row changes in its recipe to train on from the towers in a folder."""
    taught = load_recipe(row).method.teacher is not None
    return [*LATE, *(["method.teacher.start=0.0"] if taught else []), *(f"model.begin.{tower}={begin}" for tower in ("vision", "text"))]


def called(row: str, seed: int, begin: Path | None, steps: int | None) -> str:
    """The name of a run and its model."""
    part = "late" if begin is not None else "ablation" if steps is None else "long"
    return f"{row.replace('ablation', part, 1)}-seed{seed}"


def trained(row: str, seed: int, shards: str, out: Path, begin: Path | None, steps: int | None) -> Path | None:
    """The exported model of a row; None where the run was told to stop."""
    name = called(row, seed, begin, steps)
    model, run = out / "models" / name, out / "runs" / name
    if not model.is_dir():
        changes = [*([] if begin is None else beginning(row, begin)), *([] if steps is None else [f"stages.0.steps={steps}"])]
        spoken = [f"data.tokenizer.file={tokenizer(shards, out, begin).resolve()}", "data.tokenizer.train_on=null"]
        if train(load_recipe(row, [f"data.shards={shards}", f"seed={seed}", *spoken, *changes]), run, resume=True) == "preempted":
            return None
        export(run, model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", required=True, help="Image-text shards of rooms, as data.shards of a recipe.")
    parser.add_argument("--out", type=Path, default=Path("ablation"), help="Folder of runs, models and records.")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--rows", nargs="*", help="All recipes otherwise, in their order.")
    parser.add_argument("--begin", type=Path, help="Folder of an exported model to train on from.")
    parser.add_argument("--steps", type=int, help="Steps of each row. Default: as in its recipe.")
    parser.add_argument("--train-only", action="store_true", help="Score nothing.")
    arguments = parser.parse_args()
    if arguments.begin is not None and arguments.steps is not None:
        parser.error("--steps is for rows from first weights: those of --begin have steps of their own")
    tasks = [] if arguments.train_only else TASKS
    for seed in arguments.seeds:
        for row in arguments.rows or (rows() if arguments.begin is None else late_rows()):
            model = trained(row, seed, arguments.shards, arguments.out, arguments.begin, arguments.steps)
            if model is None:
                return
            for task, protocol in tasks:
                evaluate(task, str(model), protocol, out=arguments.out / "records")


if __name__ == "__main__":
    main()
