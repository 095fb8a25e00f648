"""A run's folder belongs to one process: started for a recipe, resumed with it, or with what its user says is to change.

RUN/recipe.json   what the run is trained with now; its log tells of every change
RUN/.lock         held by the process that trains
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError
from tips_bench.files import cannot_write, write_text
from tips_bench.plain_data import leaves
from tips_bench.training import checkpoint
from tips_bench.training.captions import TOKENIZER
from tips_bench.training.log import LOG_FILE, read_log
from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_files import SET_BY_USER
from tips_bench.training.runs import RECIPE_FILE, read_recipe

LOCK_FILE = ".lock"
SEEN_WITHIN_S = 60.0
Changes = dict[str, tuple[Any, Any]]
"""Key of a recipe -> its value before and now."""

_SAID_ONLY = re.compile(r"(sources|notes|title)(\.|$)")
# What may change when a run goes on: how steps are computed and what is scored on the way. Shards may lie elsewhere; that they are the
# same ones is seen from their names and sizes.
_FREE = re.compile(
    r"(running|evaluation|data\.workers|data\.shards|data\.sources\.\d+\.shards|data\.held_out|method\.contrastive\.chunk)(\.|$)"
)
# What may change where its user says so with --set: what helps a run that diverged, and how long it is. The contrastive temperature is
# learned, so that another start of it would change nothing.
_IF_TOLD = re.compile(
    r"(stages\.\d+\.(steps|batch|learning_rate|final_learning_rate|warmup)|optimizer\.(weight_decay|clip_norm)"
    r"|data\.(skip_steps|broken_shards)|method\.\w+\.(weight|sharpening\.\w+)|method\.teacher\.(momentum|start)|schedules\.\w+)$"
)

_RATES = ("learning_rate", "final_learning_rate", "warmup")  # a batch may change to be shared by other ranks, who must share all

_FROM_THE_START = (
    "The run has followed it from the first step. Use its own recipe; or export the model, and start another run from it, with"
    " model.begin and another --out."
)
_NO_STAGE = (
    "Schedules and the order of the steps follow from the stages. Make the last one longer with --set stages.N.steps=VALUE; or export the"
    " model, and start another run from it, with model.begin and another --out."
)


@contextmanager
def claimed(run: Path, recipe: Recipe, *, resume: bool) -> Iterator[Changes]:
    """This process alone trains in a run's folder until the block ends; yields what the recipe changes in a run that goes on.

    What a run left there that had no checkpoint yet goes. A start that fails before its first step leaves no folder that was not there.
    Errors: another process trains there; a run that is there already, or that was started with another recipe.
    """
    if run.exists() and not run.is_dir():
        raise UserError("this is a file, not a folder", where=run, fix="Give another --out.")
    made = [folder for folder in (run, *run.parents) if not folder.exists()]
    with _locked(run):
        try:
            yield _begin(run, recipe, resume=resume)
        except BaseException:
            if run in made and not _has_learned(run):
                shutil.rmtree(run, ignore_errors=True)
                with suppress(OSError):  # something else lies there by now
                    for folder in made[1:]:
                        folder.rmdir()
            raise


def raise_if_not_shared(run: Path) -> None:
    """On a rank of another machine, once the first one has claimed the folder. Errors: the folder here is another one.

    A file that one machine has written may be seen by others half a minute later.
    """
    until = time.monotonic() + SEEN_WITHIN_S
    while not (run / RECIPE_FILE).is_file():
        if time.monotonic() > until:
            problem = f"{socket.gethostname()} does not see what the first rank has written here"
            raise UserError(problem, where=run, fix="Give --out a folder on a disk that all machines share.")
        time.sleep(0.2)


def write_recipe(run: Path, recipe: Recipe) -> None:
    """What the run is trained with from now on."""
    write_text(run / RECIPE_FILE, json.dumps(recipe.model_dump(mode="json"), indent=1) + "\n")


@contextmanager
def _locked(run: Path) -> Iterator[None]:
    # A lock of POSIX: it ends with this process, and those that read the data do not inherit it, as they would one of flock.
    try:
        run.mkdir(parents=True, exist_ok=True)
        file = (run / LOCK_FILE).open("a")
    except OSError as error:
        raise cannot_write(run, error) from error
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            fix = "Wait until it has ended, or give another --out."
            raise UserError("another process trains in this folder", where=run, fix=fix) from error
        except OSError as error:
            raise cannot_write(run / LOCK_FILE, error) from error
        yield


def _has_learned(run: Path) -> bool:
    return checkpoint.newest(run) is not None or ((run / LOG_FILE).is_file() and any("loss" in line for line in read_log(run)))


def _begin(run: Path, recipe: Recipe, *, resume: bool) -> Changes:
    state = checkpoint.newest_state(run)
    if state is None:
        for left in (TOKENIZER, LOG_FILE):
            (run / left).unlink(missing_ok=True)
        write_recipe(run, recipe)
        return {}
    if not resume:
        raise UserError("this folder already contains a run", where=run, fix="Add --resume to continue it, or give another --out.")
    before = read_recipe(run)
    changes = _changes(before, recipe)
    _check_told(run, changes, recipe)
    _check_stages(run, before, recipe, state.step)
    return changes


def _changes(before: Recipe, now: Recipe) -> Changes:
    old, new = (dict(leaves(recipe.model_dump(mode="json"))) for recipe in (before, now))
    if len(before.stages) != len(now.stages):
        return {"stages": (len(before.stages), len(now.stages))}
    keys = sorted(key for key in {*old, *new} if not _SAID_ONLY.match(key))
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def _check_told(run: Path, changes: Changes, recipe: Recipe) -> None:
    """Errors: a change that no run can make, or that nobody asked for."""
    if (stages := changes.get("stages")) is not None:
        raise UserError(f"the run has {stages[0]} stages, and this recipe {stages[1]}", where=run, fix=_NO_STAGE)
    others = [key for key in changes if not _FREE.match(key)]
    if refused := [key for key in others if not _IF_TOLD.match(key)]:
        raise UserError(f"the run was started with another {', '.join(refused)}", where=run, fix=_FROM_THE_START)
    if untold := [key for key in others if not _is_told(key, recipe.sources)]:
        fix = f"To change it, say so: --set {untold[0]}=VALUE. Otherwise use its own recipe, or another --out."
        raise UserError(f"the run was started with another {', '.join(untold)}", where=run, fix=fix)


def _is_told(key: str, sources: dict[str, str]) -> bool:
    return any(source == SET_BY_USER and f"{key}.".startswith(f"{told}.") for told, source in sources.items())


def _check_stages(run: Path, before: Recipe, now: Recipe, step: int) -> None:
    """Errors: another length or rate of a stage that is over, or a length that is shorter than what is done of it."""
    start = 0
    for index, (old, new) in enumerate(zip(before.stages, now.stages, strict=True)):
        done = step - start
        over, own = done > old.steps, min(done, old.steps)
        changed = [name for name in _RATES if getattr(old, name) != getattr(new, name)]
        if changed and (over or done == old.steps == new.steps):
            problem, fix = "the run is past that stage: this would change nothing", "Leave it as it was, or change a later stage."
            raise UserError(problem, where=f"{run}: stages.{index}.{changed[0]}", fix=fix)
        if done >= 0 and (new.steps < own or (over and new.steps != old.steps)):
            problem = f"the run has done {own} of {old.steps} steps of that stage"
            fix = "A stage that is over keeps its length, and one that runs can end no earlier than now."
            raise UserError(problem, where=f"{run}: stages.{index}.steps = {new.steps}", fix=fix)
        start += old.steps
