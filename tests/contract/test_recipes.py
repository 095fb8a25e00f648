"""All shipped recipes: each parses, every figure has a source, and what the papers state is what stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tips_bench.errors import UserError
from tips_bench.models.configs import text_config, vision_config
from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_files import OURS, figures, find_recipe, load_recipe, shipped_recipes

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(shipped_recipes())
PAPER = re.compile(r"(TIPS|TIPSv2) \(arXiv \d{4}\.\d{5}\)|google-deepmind/tips, ")
V2 = ["tipsv2-g14", "tipsv2-l14", "tipsv2-so400m14", "tipsv2-b14", "tipsv2-s14"]
DISTILLED = [f"{version}-{size}14" for version in ("tips", "tipsv2") for size in ("s", "b", "l", "so400m")]


def test_every_size_of_both_versions_has_a_recipe() -> None:
    assert {f"{version}-{size}14" for version in ("tips", "tipsv2") for size in ("s", "b", "l", "so400m", "g")} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_names_a_paper_or_says_that_it_is_ours(name: str) -> None:
    for figure in figures(load_recipe(name)):
        assert figure.source, figure.key
        assert figure.ours or PAPER.match(figure.source), figure
        assert not figure.ours or len(figure.source.removeprefix(OURS).strip()) > 5, figure


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_source_speaks_of_a_figure(name: str) -> None:
    recipe = load_recipe(name)
    keys = [figure.key for figure in figures(recipe)]
    # One that a row of the ablation switches off leaves the sources of its parts in the base.
    off = [f"method.{part}" for part in ("self_distillation", "patches", "teacher") if getattr(recipe.method, part) is None]
    idle = [
        source
        for source in recipe.sources
        if not any(key == source or key.startswith(f"{source}.") for key in keys) and not source.startswith(tuple(off))
    ]
    assert not [source for source in idle if not source.startswith("method.patches.mask")], idle


def test_sources_that_are_no_dict_are_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"_base_: {ROOT / 'recipes' / 'tips-nano.yaml'}\nname: own\nsources: null\n")
    with pytest.raises(UserError, match="sources"):
        load_recipe(str(path), ["seed=1"])


@pytest.mark.parametrize("name", V2)
def test_v2_has_the_figures_of_its_paper(name: str) -> None:
    recipe = load_recipe(name)
    low, high = recipe.stages
    assert (low.global_px, low.local_px, high.global_px, high.local_px) == (224, 98, 448, 140)
    assert (low.steps, low.batch, high.steps, high.batch) == (90_000, 8192, 9_000, 4096)
    assert recipe.data.crops.local_count == 6 and recipe.model.vision_config.position_grid == (32, 32)
    assert recipe.method.contrastive and recipe.method.contrastive.synthetic == "uniform"
    assert recipe.method.patches and (recipe.method.patches.weight, recipe.method.patches.patches) == (2.0, "all")
    assert recipe.method.self_distillation and recipe.method.self_distillation.weight == 1.0
    assert recipe.optimizer.rule.type == "adafactor"


@pytest.mark.parametrize("name", ["tips-g14", "tips-b14-scratch"])
def test_v1_masks_three_quarters_and_has_a_whole_teacher(name: str) -> None:
    method = load_recipe(name).method
    assert method.patches and method.patches.mask and (method.patches.mask.ratio, method.patches.patches) == (0.75, "masked")
    assert method.patches.head.prototypes == 32 * 1024
    assert method.teacher and method.teacher.kind == "ema"
    assert method.contrastive and method.contrastive.captions == [["web"], ["synthetic"]] and method.contrastive.synthetic == "first"


def test_v1_ablations_are_seventy_epochs_of_116_million_pairs() -> None:
    (stage,) = load_recipe("tips-b14-scratch").stages
    assert stage.steps * stage.batch == pytest.approx(70 * 116e6, rel=2e-3)


@pytest.mark.parametrize("name", DISTILLED)
def test_distilled_sizes_have_a_frozen_teacher_and_no_mask(name: str) -> None:
    method = load_recipe(name).method
    assert method.teacher and method.teacher.kind == "frozen" and method.teacher.run == f"runs/{name.split('-')[0]}-g14"
    assert method.patches and method.patches.mask is None and method.patches.patches == "all"


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name.startswith("tips") and name.split("-")[1] in ("b14", "l14", "so400m14", "g14")]
)
def test_the_towers_are_the_published_ones(name: str) -> None:
    model, published = load_recipe(name).model, name.removesuffix("-scratch")
    assert model.vision_config == vision_config(published) and model.text_config == text_config(published)


def test_rows_of_the_ablation_differ_in_their_method_alone() -> None:
    rows = [load_recipe(name) for name in NAMES if name.startswith("ablation-")]
    assert len(rows) == 8

    def rest(recipe: Recipe) -> dict:
        return recipe.model_dump(exclude={"name", "title", "method", "sources"})

    assert all(rest(row) == rest(rows[0]) for row in rows)
    assert rows[0].model == load_recipe("tips-nano").model
    methods = [row.method for row in rows]
    captions = [method.contrastive.captions for method in methods if method.contrastive]
    assert captions == [[["web"]], [["synthetic"]], [["web", "synthetic"]], *[[["web"], ["synthetic"]]] * 5]
    assert [method.self_distillation is not None for method in methods] == [False] * 4 + [True] * 4
    assert [method.patches.patches if method.patches else None for method in methods] == [None] * 5 + ["masked", "all", "all"]
    assert [method.teacher.kind if method.teacher else None for method in methods] == [None] * 4 + ["ema", "ema", "ema", "ema-heads"]


def test_what_a_user_sets_is_no_longer_said_to_be_a_paper_s() -> None:
    recipe = load_recipe("tipsv2-g14", ["method.patches.weight=1.5", "optimizer.rule={type: adamw, betas: [0.9, 0.99], eps: 1.0e-8}"])
    said = {figure.key: figure for figure in figures(recipe)}
    assert said["method.patches.weight"].value == 1.5 and said["method.patches.weight"].ours
    assert said["optimizer.rule.type"].source == "ours: set by the user"
    assert not said["method.self_distillation.weight"].ours


def test_batches_of_the_published_recipes_come_from_many_shards() -> None:
    mixed = {name: load_recipe(name).data.mix for name in shipped_recipes() if name.startswith("tips") and name != "tips-nano"}
    assert set(mixed.values()) == {64} and len(mixed) > 9
    assert load_recipe("tips-nano").data.mix is None


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("method.patches.wieght=1", "there is no key named 'method.patches.wieght'"),
        ("stages.0.steps=0", "stages.0.steps = 0"),
        ("stages.0.warmup=90000", "leave none of 90000"),
        ("stages.0.global_px=220", "multiples of the patch size 14"),
        ("data.crops.local_count=0", "self_distillation needs local crops"),
        ("data.crops.local_scale=[0.5, 0.1]", "local_scale"),
        ("method.teacher=null", "need a teacher"),
        ("method.teacher.start=1.5", "method.teacher.start"),
        ("method.teacher.kind=frozen", "a frozen teacher has no momentum"),
        ("method.patches.mask=null", None),
        ("method.contrastive.captions=[[web], [synthetic], [web]]", "uses 3 global tokens, the image tower has 2"),
        ("method.contrastive.captions=[[web, web]]", "each named once"),
        ("model.text={embed_dim: 768, num_heads: 12}", "the towers' widths differ: 1536 and 768"),
        ("model.vision={depht: 3}", "there is no config field named 'depht'"),
        ("data.tokenizer={file: a, train_on: 5}", "give either a file"),
        ("optimizer.rule.type=sgd", "optimizer.rule"),
    ],
)
def test_what_does_not_fit_is_one_sentence(assignment: str, said: str | None) -> None:
    if said is None:
        assert load_recipe("tipsv2-g14", [assignment]).method.patches.mask is None  # type: ignore[union-attr]
        return
    with pytest.raises(UserError) as raised:
        load_recipe("tipsv2-g14", [assignment])
    assert said in str(raised.value) and "\n" not in str(raised.value) and len(str(raised.value)) < 300


def test_an_unknown_recipe_suggests_near_ones_and_a_missing_file_is_said_to_be_missing() -> None:
    with pytest.raises(UserError, match=r"'tips-nanno'.*'tips-nano'"):
        load_recipe("tips-nanno")
    with pytest.raises(UserError, match=r"mine\.yaml: no such recipe file"):
        load_recipe("mine.yaml")
    assert find_recipe("recipes/tips-nano.yaml").is_file()


def test_steps_belong_to_stages() -> None:
    recipe = load_recipe("tipsv2-b14")
    assert recipe.steps == 99_000
    assert [recipe.stage_at(step) for step in (0, 89_999, 90_000, 98_999)] == [(0, 0), (0, 89_999), (1, 0), (1, 8_999)]
