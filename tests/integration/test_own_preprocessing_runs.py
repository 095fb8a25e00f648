"""Runs in which each encoder has its own preprocessing: what the record says of it, and what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.text_models import small_tips
from tips_bench.encoders import resolve_model_card
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.results.record import Record
from tips_bench.rooms.writing.writers import write_rooms

IMAGES = 14


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    write_rooms("coco-captions", root / "rooms/retrieval-v2", seed=0, train=0, val=IMAGES, size=64, frames_per_scene=1, workers=1)
    return root


def run(model: str, rooms: Path, out: Path, protocol: str | None, *changed: str) -> Record:
    small = [
        f"task.data.generator_options.val={IMAGES}",
        "task.data.generator_options.size=64",
        "task.protocols=[retrieval-own,retrieval-tips]",
    ]
    return evaluate("rooms-retrieval", model, protocol, out=out, data_root=rooms, overrides=[*small, *changed])


def test_own_preprocessing_is_in_the_record_and_gives_the_numbers_of_the_same_fixed_protocol(rooms: Path, tmp_path: Path) -> None:
    model = small_tips(tmp_path)
    own = run(model, rooms, tmp_path / "a", "retrieval-own")
    assert own.cards["protocol"]["image"]["from_encoder"] is True
    assert own.cards["model"]["preprocessing"]["short_side"] == 56
    fixed = run(model, rooms, tmp_path / "a", "retrieval-tips").metrics
    assert {name: value.value for name, value in own.metrics.items()} == {name: value.value for name, value in fixed.items()}
    bicubic = run(model, rooms, tmp_path / "a", "retrieval-own", "model.preprocessing.interpolation=bicubic")
    assert bicubic.features_id != own.features_id and bicubic.path != own.path
    said = [(one.key, one.value, one.card_value) for one in bicubic.deviations if one.card == "model"]
    assert said == [("preprocessing.interpolation", "bicubic", "bilinear")]


def test_an_encoder_that_states_none_is_told_what_to_do(rooms: Path, tmp_path: Path) -> None:
    card = resolve_model_card(small_tips(tmp_path)).model_copy(update={"preprocessing": None})
    with pytest.raises(UserError, match=r"its own preprocessing of images is not known.*State it in the model's card"):
        run(card, rooms, tmp_path / "b", "retrieval-own")  # type: ignore[arg-type]


def test_text_retrieval_takes_each_encoders_own_preprocessing_by_default() -> None:
    from tips_bench.cards import load_card

    for task in ("coco-retrieval", "flickr30k-retrieval", "docci-retrieval"):
        assert load_card("task", task).protocol == "retrieval-own"
    assert load_card("task", "imagenet-zeroshot").protocol == "zeroshot-own"


def test_zero_shot_as_in_big_vision_asks_for_names_in_lower_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tips_bench.encoders.tips import TipsEncoder

    asked: list[str] = []
    encode = TipsEncoder.encode_text
    monkeypatch.setattr(TipsEncoder, "encode_text", lambda self, texts: asked.extend(texts) or encode(self, texts))
    write_rooms("class-crops", tmp_path / "rooms/classes-v1", seed=0, train=2, val=8, size=64, frames_per_scene=1, workers=1)
    options = {"train": 2, "val": 8, "size": 64, "frames_per_scene": 1}
    small = [f"task.data.generator_options.{key}={value}" for key, value in options.items()]
    record = evaluate(
        "rooms-zeroshot-classes", small_tips(tmp_path), "zeroshot-bigvision", out=tmp_path / "c", data_root=tmp_path, overrides=small
    )
    assert record.probe["prompts"] == 81
    assert all(text == text.lower() and "." not in text for text in asked if text not in record.dataset.classes)
