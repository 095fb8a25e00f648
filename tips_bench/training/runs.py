"""What a run was trained with and what it has learned, for whoever comes after: an export, a frozen teacher."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tips_bench.cards import parse
from tips_bench.catalog import card_files
from tips_bench.errors import UserError
from tips_bench.files import cannot_write, temporary_folder, write_text
from tips_bench.models.files.checkpoints import export_huggingface
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower
from tips_bench.training import checkpoint
from tips_bench.training.captions import TOKENIZER
from tips_bench.training.history import history_page, read_history
from tips_bench.training.recipe import MethodPart, Recipe
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.teacher import Teacher, parts_with_heads

RECIPE_FILE = "recipe.json"
CARD = "README.md"
"""Of an export: which run it is from, and what happened to that."""
EXPORTED = ("config.json", "preprocessor_config.json", TOKENIZER, "model.safetensors", CARD)
"""The files of an export; the first says what the others are."""
Weights = Literal["student", "teacher"]
Stored = Literal["fp32", "fp16"]
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}


@dataclass(frozen=True)
class Export:
    """A model that was written. folder: in Hugging Face layout. step: how many steps it had learned."""

    folder: Path
    step: int


def read_recipe(run: Path) -> Recipe:
    """The recipe a run is trained with. Errors: a folder that is no run's."""
    path = run / RECIPE_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"this is not the folder of a training run: {error}", where=path, fix="Give the folder that was --out of `tips-bench train`."
        ) from error
    return parse(Recipe, values, where=path)


def steps_done(run: Path) -> int:
    """Of a run, at its newest checkpoint; 0 where it has none."""
    newest = checkpoint.newest(run)
    return 0 if newest is None else checkpoint.step_of(newest) or 0


def export(
    run: Path, to: Path, *, weights: Weights = "student", step: int | None = None, stored: Stored = "fp32", overwrite: bool = False
) -> Export:
    """Writes a run's towers and tokenizer as a folder in Hugging Face layout, which transformers and `load_encoder` read.

    weights: "teacher" takes the image tower that is a running mean of the student's. step: of its checkpoint, the newest otherwise.
    stored: the precision of the file, half of which is half as large. overwrite: write into a folder that holds other files, too.
    An earlier export in the folder is replaced as a whole.
    Errors: a run without such a checkpoint, or whose teacher has no such tower; a folder that is no export.
    """
    _check_target(to, overwrite=overwrite)
    recipe, folder = read_recipe(run), _checkpoint(run, step)
    if weights == "teacher" and (recipe.method.teacher is None or recipe.method.teacher.kind != "ema"):
        raise UserError("the teacher of this run has no encoder of its own to export", where=run, fix="Use --weights student.")
    vision, text = VisionTower(recipe.model.vision_config), TextTower(recipe.model.text_config)
    log_temperature = torch.zeros(1)
    wanted = {f"{weights}.vision.{name}": value for name, value in vision.state_dict().items()}
    wanted |= {f"student.text.{name}": value for name, value in text.state_dict().items()}
    wanted["student.log_temperature"] = log_temperature
    learned = checkpoint.load(folder, wanted, together=False).step
    text.temperature = math.exp(log_temperature.item())
    with _whole_export(to) as folder:
        export_huggingface(folder, vision, text, resolution=recipe.resolution, dtype=_DTYPES[stored])
        # without a contrastive loss the text tower has learned nothing, and without a tokenizer nobody takes it for one that has
        if recipe.method.contrastive is not None:
            (folder / TOKENIZER).write_bytes(tokenizer_of(run, recipe).read_bytes())
        write_text(folder / CARD, history_page(recipe.title, recipe.name, learned, read_history(run)))
        # safetensors lets nobody else read its file; the others are as the user's umask says
        shutil.copymode(folder / "config.json", folder / "model.safetensors")
    return Export(to, learned)


def _check_target(to: Path, *, overwrite: bool) -> None:
    if to.exists() and not to.is_dir():
        raise UserError("this is a file, not a folder", where=to, fix="Name another folder.")
    others = sorted(path.name for path in to.iterdir() if path.name not in EXPORTED) if to.is_dir() else []
    if others and not overwrite:
        fix = "Name another folder, or give --overwrite: other files stay as they are."
        raise UserError(f"the folder holds files that no export wrote, the first is {others[0]!r}", where=to, fix=fix)


@contextmanager
def _whole_export(to: Path) -> Iterator[Path]:
    """A folder beside `to`, whose files take the place of an earlier export's when the block ends well.

    config.json goes first and comes last: without it nobody takes the folder for a model, should the process be killed in between.
    """
    to = to.absolute()
    try:
        with temporary_folder(to) as temporary:
            yield temporary
            if not to.exists():
                os.replace(temporary, to)
                return
            for name in EXPORTED:
                (to / name).unlink(missing_ok=True)
            for name in reversed(EXPORTED):
                if (temporary / name).exists():
                    os.replace(temporary / name, to / name)
    except OSError as error:
        raise cannot_write(to, error) from error


def tokenizer_of(run: Path, recipe: Recipe) -> Path:
    """The tokenizer of a run, trained or copied into its folder when it began. Errors: there is none."""
    path = run / TOKENIZER
    if not path.is_file():
        raise UserError("the run has no tokenizer", where=path, fix=f"Copy the one that {recipe.name!r} was trained with there.")
    return path


def recipe_of_teacher(recipe: Recipe) -> Recipe | None:
    """What a frozen teacher is trained by: the recipe of its run, else the one with the name of its run, if one of them is there."""
    part = recipe.method.teacher
    if part is None or part.run is None:
        return None
    run = Path(os.path.expanduser(part.run))
    if (run / RECIPE_FILE).is_file():
        return read_recipe(run)
    return load_recipe(run.name) if run.name in card_files("recipe") else None


def frozen_teacher(recipe: Recipe) -> Teacher | None:
    """The model of an earlier run, if the recipe's teacher is one. Errors: no run, or one whose heads do not fit the student's."""
    part = recipe.method.teacher
    if part is None or part.kind != "frozen":
        return None
    if part.run is None:
        raise UserError("a frozen teacher needs the folder of a run", where="method.teacher.run", fix="Give --set method.teacher.run=RUN.")
    run = Path(os.path.expanduser(part.run))
    theirs = read_recipe(run)
    teacher = Teacher(_with_heads_of(recipe.method, theirs.method, run), theirs.model.vision_config, theirs.model.vision_config.embed_dim)
    kind = theirs.method.teacher.kind if theirs.method.teacher else "frozen"
    # what that run taught with: its teacher where that followed the student, else the student that it taught
    owners = {
        "vision": "teacher" if kind == "ema" else "student",
        "heads": "student" if kind == "frozen" else "teacher",
        "centers": "teacher",
    }
    wanted = {f"{owners[name.partition('.')[0]]}.{name}": value for name, value in teacher.state_dict().items()}
    checkpoint.load(_checkpoint(run, None), wanted, together=False)
    return teacher


def _with_heads_of(method: MethodPart, theirs: MethodPart, run: Path) -> MethodPart:
    """Our losses with the heads of the teacher's run."""
    parts, changed = parts_with_heads(theirs), {}
    for name, part in parts_with_heads(method).items():
        if name not in parts:
            raise UserError(f"that run had no {name}, so its teacher has no head for it", where=f"method.teacher.run = {run}")
        if parts[name].head.prototypes != part.head.prototypes:
            problem = f"{part.head.prototypes} prototypes, and the teacher's has {parts[name].head.prototypes}"
            raise UserError(problem, where=f"method.{name}.head.prototypes", fix="Use the same number of prototypes as the teacher.")
        changed[name] = part.model_copy(update={"head": parts[name].head})
    return method.model_copy(update=changed)


def _checkpoint(run: Path, step: int | None) -> Path:
    kept = checkpoint.whole_ones(run)
    if not kept:
        raise UserError("the run has no checkpoint yet", where=run, fix="Continue the training with --resume.")
    if step is None:
        return kept[-1]
    folder = checkpoint.folder_at(run, step)
    if folder not in kept:
        steps = ", ".join(str(checkpoint.read_state(one).step) for one in kept)
        raise UserError(f"the run has no checkpoint of step {step}", where=run, fix=f"It has kept {steps}.")
    return folder
