"""Recipe files: found, read with overrides, and the source of every figure.

recipe = load_recipe("recipes/tips-nano.yaml", ["stages.0.steps=100"])
"""

from __future__ import annotations

import json
import math
import os
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

from tips_bench.cards import override, parse, read_yaml
from tips_bench.catalog import card_files, shipped_card_files
from tips_bench.errors import UserError, unknown_name
from tips_bench.plain_data import leaves
from tips_bench.training.recipe import Recipe
from tips_bench.training.schedule import first_taught, start_at

OURS = "ours:"
"""How a source begins whose value no paper states."""
SET_BY_USER = f"{OURS} set by the user"
"""The source of what was given with --set."""
_START = "method.teacher.start"


def load_recipe(name: str, assignments: list[str] | None = None, *, resumed: Recipe | None = None, done: int = 0) -> Recipe:
    """A recipe by its name, or one from a .yaml file, with "a.b=value" assignments applied; their sources become ours.

    resumed: the recipe of a run that is to go on after `done` steps; what its user had set is set again, before the assignments. If its
    teacher teaches already, it does so from the same step on, whatever the assignments say of the length of the run.
    Errors: an unknown name or key; a value that does not fit; a `name` that is not its file's.
    """
    path, told = find_recipe(name), assignments or []
    if resumed is None:
        return _read(path, told)
    recipe = _read(path, [*_assignments_of(resumed), *told])
    first = math.ceil(first_taught(resumed))
    moved = first <= done and first < recipe.steps and first != math.ceil(first_taught(recipe))
    if moved and recipe.method.teacher is not None and not any(_names(assignment, _START) for assignment in told):
        recipe = _read(path, [*_assignments_of(resumed), *told, f"{_START}={start_at(first, recipe.steps)!r}"])
    return recipe


def _names(assignment: str, key: str) -> bool:
    """Whether an assignment is to a key, or to a part that holds it."""
    return f"{key}.".startswith(f"{assignment.partition('=')[0]}.")


def _read(path: Path, assignments: list[str]) -> Recipe:
    data = read_yaml(path)
    for assignment in assignments:
        key = assignment.partition("=")[0]
        data = override(data, [assignment])
        if isinstance(sources := data.get("sources", {}), dict):  # what is no dict is refused below
            kept = {known: source for known, source in sources.items() if not known.startswith(f"{key}.")}
            data["sources"] = kept | {key: SET_BY_USER}
    recipe = parse(Recipe, data, where=path)
    if recipe.name != path.stem:
        raise UserError(
            f"name = {recipe.name!r}, but the file is {path.name}",
            where=path,
            fix="Give the recipe the name of its file, or rename the file.",
        )
    return recipe


def _assignments_of(recipe: Recipe) -> list[str]:
    """What a user had set in a recipe, as "a.b=value" with the value as JSON, which is YAML."""
    values = recipe.model_dump(mode="json")
    keys = [key for key, source in recipe.sources.items() if source == SET_BY_USER]
    return [f"{key}={json.dumps(reduce(_at, key.split('.'), values))}" for key in keys]


def _at(node: Any, part: str) -> Any:
    return node[int(part)] if isinstance(node, list) else node[part]


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with tips-bench."""
    return shipped_card_files("recipe")


def list_recipes() -> tuple[list[Recipe], list[UserError]]:
    """All recipes, shipped and the user's own, sorted by name, and what is wrong with those that cannot be read."""
    recipes, faults = [], []
    for path in card_files("recipe").values():
        try:
            recipes.append(load_recipe(str(path)))
        except UserError as error:
            faults.append(error)
    return recipes, faults


def find_recipe(name: str) -> Path:
    """The file of a recipe by its name; a path to a .yaml file is taken as it is, or looked up by its name if it is not there."""
    path = Path(os.path.expanduser(name))
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        if path.parent != Path("recipes"):
            raise UserError("no such recipe file", where=path)
    known = card_files("recipe")
    if path.stem not in known:
        raise unknown_name("recipe", path.stem, known)
    return known[path.stem]


class Figure(NamedTuple):
    """A value of a recipe and where it comes from. source: None where the recipe names none. ours: no paper states it."""

    key: str
    value: Any
    source: str | None

    @property
    def ours(self) -> bool:
        return self.source is not None and self.source.startswith(OURS)


def figures(recipe: Recipe) -> list[Figure]:
    """Every value of what decides the result: data, model, method, optimizer and stages. The nearest key above a value gives its source."""
    return [
        Figure(key, value, _source(key, recipe.sources))
        for part in ("data", "model", "method", "optimizer", "stages", "schedules")
        for key, value in leaves(recipe.model_dump(mode="json")[part], part)
    ]


def _source(key: str, sources: dict[str, str]) -> str | None:
    while key:
        if key in sources:
            return sources[key]
        key = key.rpartition(".")[0]
    return None
