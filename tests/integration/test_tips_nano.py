"""The shipped model: small enough, what its recipe says, the same to transformers, and worth more than its random twin."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tips_bench.catalog import shipped
from tips_bench.encoders.load import load_encoder, resolve_model_card
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.training.recipe import Recipe
from tips_bench.training.recipe_files import load_recipe

FOLDER = shipped("model_zoo") / "tips-nano"
PIXELS = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
TEXTS = ["a living room with a grey sofa", "small kitchen - pinterest", "there is a lamp"]


def test_all_its_files_together_stay_below_12_mb() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 12e6


def test_it_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("tips-nano", device="cpu")
    assert encoder.encode_image(PIXELS).globals_BKD.shape == (2, 2, 256) and encoder.encode_text(TEXTS).shape == (3, 256)


def test_transformers_gives_the_same_embeddings() -> None:
    from transformers import Tipsv2Model

    theirs = Tipsv2Model.from_pretrained(FOLDER, dtype=torch.float32).eval()
    ours = load_encoder("tips-nano", device="cpu")
    ids_TL, paddings_TL = Tokenizer(FOLDER / "tokenizer.model")(TEXTS)
    with torch.no_grad():
        seen = theirs.vision_model(PIXELS).last_hidden_state
        said = theirs.text_model(input_ids=ids_TL, attention_mask=1 - paddings_TL).pooler_output
    features = ours.encode_image(PIXELS)
    torch.testing.assert_close(features.globals_BKD, seen[:, :2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features.patches[0].flatten(1, 2), seen[:, 2:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(F.normalize(ours.encode_text(TEXTS), dim=-1), F.normalize(said, dim=-1), rtol=1e-5, atol=1e-5)


def test_its_recipe_is_the_shipped_one_and_its_log_ends_with_that_recipes_last_step() -> None:
    recipe = load_recipe("tips-nano")
    used = Recipe.model_validate(json.loads((FOLDER / "recipe.json").read_text(encoding="utf-8")))
    told = {"sources", "notes", "title"}
    assert used.model_dump(exclude=told) == recipe.model_copy(update={"data": used.data}).model_dump(exclude=told)
    assert used.data.model_dump(exclude={"shards"}) == recipe.data.model_dump(exclude={"shards"})
    lines = [json.loads(line) for line in (FOLDER / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[-1] == {"step": recipe.steps, "event": "finished"}
    assert all(line["contrastive"] > 0 for line in lines if "loss" in line)


def test_its_card_and_its_random_twins_state_one_architecture() -> None:
    card, twin = resolve_model_card("tips-nano"), resolve_model_card("tips-nano-random")
    assert card.architecture == twin.architecture
    model = load_recipe("tips-nano").model
    vision = load_encoder(card, device="cpu").tower.config
    assert vision.to_dict() | {"name": ""} == model.vision_config.to_dict() | {"name": ""}
    assert card.parameters == sum(parameter.numel() for parameter in load_encoder(card, device="cpu").tower.parameters())
