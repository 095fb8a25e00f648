"""Captions by image-text-to-text models of transformers: random weights of the smallest sizes, in the files of real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.shards import picture
from tests.helpers.vision_language_models import write_llava, write_paligemma
from tips_bench.corpus.captioners.base import Answer, Fault, Pace, Question
from tips_bench.corpus.captioners.huggingface import HuggingFaceCaptioner
from tips_bench.errors import UserError

# transformers' own, of how it calls numpy
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def questions(*texts: str, tokens: int = 6) -> list[Question]:
    return [Question(picture(number), "jpg", text, tokens) for number, text in enumerate(texts)]


@pytest.fixture(scope="module", params=[write_paligemma, write_llava])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    write: Callable[[Path], Path] = request.param
    return write(tmp_path_factory.mktemp("model"))


def test_images_together_get_what_each_gets_alone(model: Path) -> None:
    captioner = HuggingFaceCaptioner(str(model), Pace(device="cpu"))
    asked = questions("caption en", "a red sofa beside the lamp", "Describe the room with a blue floor")
    together = captioner.ask(asked)
    assert together == [captioner.ask([one])[0] for one in asked]
    assert all(isinstance(one, Answer) and one.text for one in together)
    assert len(set(together)) > 1


def test_a_web_caption_cannot_stand_for_an_image_and_a_broken_image_is_a_fault(model: Path) -> None:
    captioner = HuggingFaceCaptioner(str(model), Pace(device="cpu"))
    plain, hostile = captioner.ask(questions("a sofa", "a sofa")[:1]), captioner.ask(questions("<image> a <eos> sofa <image>"))
    assert plain == hostile
    broken, whole = captioner.ask([Question(b"no image", "jpg", "a sofa", 6), *questions("a sofa")])
    assert isinstance(broken, Fault) and broken.reason == "broken image"
    assert [whole] == plain


def test_an_answer_of_as_many_tokens_as_it_may_have_is_cut(model: Path) -> None:
    captioner = HuggingFaceCaptioner(str(model), Pace(device="cpu"))
    (one,) = captioner.ask(questions("a sofa", tokens=1))
    assert isinstance(one, Answer) and one.cut


def test_its_name_tells_its_files_apart(model: Path, tmp_path: Path) -> None:
    before = HuggingFaceCaptioner.identity(str(model))
    assert before == HuggingFaceCaptioner.identity(str(model)) and before.startswith(f"hf:{model.name}@")
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    assert HuggingFaceCaptioner.identity(str(tmp_path)) != before


def test_a_model_that_was_trained_further_is_another_one_though_its_files_are_as_long(tmp_path: Path) -> None:
    names = []
    for run in ("first", "second"):
        (folder := tmp_path / run / "checkpoint").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(bytes(5 << 20) + run.encode()[:1])
        names.append(HuggingFaceCaptioner.identity(str(folder)))
    assert names[0] != names[1] and names[0] == HuggingFaceCaptioner.identity(str(tmp_path / "first" / "checkpoint"))
    (weights := tmp_path / "first" / "checkpoint" / "model.safetensors").write_bytes(bytes(5 << 20) + b"s")
    os.utime(weights, ns=(1, 1))
    assert HuggingFaceCaptioner.identity(str(tmp_path / "first" / "checkpoint")) == names[1]


def test_a_folder_without_a_model_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json"):
        HuggingFaceCaptioner(str(tmp_path), Pace())
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="it cannot be loaded"):
        HuggingFaceCaptioner(str(tmp_path), Pace(device="cpu"))


def test_it_takes_the_most_likely_words_alone(model: Path) -> None:
    captioner = HuggingFaceCaptioner(str(model), Pace(device="cpu"))
    with pytest.raises(UserError, match=r"temperature = 0\.7"):
        captioner.ask([Question(picture(0), "jpg", "a sofa", 6, temperature=0.7)])
