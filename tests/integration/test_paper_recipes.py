"""Recipes of published size, made small: every option that they have runs, on two ranks, through both stages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pretraining import write_shards
from tests.helpers.torchrun import torchrun
from tips_bench.plain_data import leaves
from tips_bench.training.log import read_log
from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_files import load_recipe, shipped_recipes

ROOT = Path(__file__).resolve().parents[2]
PAPER = [name for name in shipped_recipes() if name.startswith(("tips-", "tipsv2-")) and name != "tips-nano"]
# teachers first
RUN = ["tips-g14", "tips-b14", "tipsv2-g14", "tipsv2-b14"]
TOWER = "embed_dim: 32, depth: 2, num_heads: 2, mlp_dim: 64"
HEAD = "{prototypes: 64, layers: 3, hidden_dim: 32, bottleneck_dim: 16}"
SMALL = [
    f"model.vision={{{TOWER}, position_grid: [4, 4]}}",
    f"model.text={{{TOWER}, vocab_size: 40}}",
    f"method.self_distillation.head={HEAD}",
    f"method.patches.head={HEAD}",
    "data.tokenizer={train_on: 200}",
    "data.shuffle=16",
    "data.workers=1",
    "running.micro_batch=1",
]
STAGE = ["steps=1", "batch=4", "warmup=0", "local_px=28"]  # of one step, which has no warm-up


def smaller(name: str) -> list[str]:
    """What makes a recipe small and leaves every option as it is."""
    stages = len(load_recipe(name).stages)
    sizes = [f"stages.{stage}.{value}" for stage in range(stages) for value in [*STAGE, f"global_px={(56, 84)[stage]}"]]
    return SMALL + sizes


def options(recipe: Recipe) -> dict[str, Any]:
    """What is switched on or off or chosen by name, in what decides how a step is made."""
    values = recipe.model_dump(mode="json")
    found = {key: value for part in ("method", "optimizer", "running") for key, value in leaves(values[part], part)}
    names = ("method.teacher.run", "method.contrastive.captions")
    chosen = {key: value for key, value in found.items() if isinstance(value, str | bool | None) and not key.startswith(names)}
    config = recipe.model.vision_config.to_dict()
    return chosen | {
        "stages": len(recipe.stages),
        "ffn": config["ffn"],
        "initial": recipe.model.initial,
        "positions": recipe.model.positions,
    }


def test_the_recipes_that_run_here_have_every_option_of_those_that_are_shipped() -> None:
    ran = [options(load_recipe(name, smaller(name))) for name in RUN]
    for name in PAPER:
        for key, value in options(load_recipe(name)).items():
            assert any(found.get(key) == value for found in ran) or key == "stages", (name, key, value)


def test_recipes_of_published_size_run_when_made_small(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards")
    (tmp_path / "sets.json").write_text(json.dumps({name: [f"data.shards={shards}", *smaller(name)] for name in RUN}))
    script = ROOT / "tests" / "helpers" / "small_recipes.py"
    done = torchrun(2, script, "sets.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in RUN:
        lines = read_log(tmp_path / "runs" / name)
        assert lines[-1]["event"] == "finished" and lines[-1]["step"] == 2, name
        assert [line["step"] for line in lines if "loss" in line] == [1, 2], name


@pytest.mark.parametrize("name", RUN)
def test_what_is_made_small_keeps_its_options(name: str) -> None:
    assert options(load_recipe(name, smaller(name))) == options(load_recipe(name))
