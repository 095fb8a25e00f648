"""Whole runs of retrieval: the numbers of a plain computation, whatever the batches, after a kill, with a cache, from the command line."""

from __future__ import annotations

import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from tests.helpers.caption_sets import change, coco
from tests.helpers.kills import Killed
from tests.helpers.text_models import small_tips
from tips_bench import load_encoder
from tips_bench.cli.app import app
from tips_bench.data.base import CaptionReader
from tips_bench.data.captions import coco_karpathy
from tips_bench.encoders.base import Encoder, EncoderSpec, ImageFeatures
from tips_bench.encoders.tips import TipsEncoder
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.features.extract import Extractor
from tips_bench.metrics.retrieval import metric_names
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record, load_record
from tips_bench.rooms.writing.writers import write_rooms

IMAGES = 14
SMALL = ["image.short_side=56", "task.data.generator_options.val=14", "task.data.generator_options.size=56"]
VARYING = {"cost", "created", "command", "pictures", "per_sample"}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the rooms of SMALL."""
    root = tmp_path_factory.mktemp("rooms")
    write_rooms("coco-captions", root / "rooms/retrieval-v2", seed=0, train=0, val=IMAGES, size=56, frames_per_scene=1, workers=1)
    return root


@pytest.fixture
def model(tmp_path: Path) -> str:
    return small_tips(tmp_path)


def run(model: str, rooms: Path, out: Path, protocol: str = "retrieval-224", **options) -> Record:
    return evaluate("rooms-retrieval", model, protocol, out=out, data_root=rooms, overrides=SMALL, **options)


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


def counts(record: Record, out: Path, model: str) -> np.ndarray:
    folder = out / "rooms-retrieval" / Path(model).stem
    return np.load(folder / record.per_sample)["counts"]


@torch.inference_mode()
def plain(model: str, rooms: Path, token: int) -> dict[str, float]:
    """R@k of both directions from one matrix in float64, as CLIP_benchmark defines them; ties, of which there are none, aside."""
    encoder, reader = load_encoder(model, device="cpu"), coco_karpathy(rooms / "rooms/retrieval-v2", "test")
    images, texts, owners = [], [], []
    for index, captions in enumerate(reader.captions):
        pixels = torch.from_numpy(reader.load(index).image_HW3.copy()).permute(2, 0, 1)[None] / 255
        images.append(encoder.encode_image(pixels).globals_BKD[0, token])
        texts += [encoder.encode_text([text])[0] for text in captions]
        owners += [index] * len(captions)
    similar_IT = F.normalize(torch.stack(images).double(), dim=1) @ F.normalize(torch.stack(texts).double(), dim=1).T
    right_IT = torch.tensor(owners)[None] == torch.arange(len(images))[:, None]
    found = {}
    for k in (1, 5, 10):
        top = right_IT.gather(1, similar_IT.topk(k, dim=1).indices)
        found[f"image-to-text R@{k}"] = 100 * top.any(1).double().mean().item()
        found[f"image-to-text recall@{k}"] = 100 * (top.sum(1) / right_IT.sum(1)).double().mean().item()
        found[f"text-to-image R@{k}"] = 100 * right_IT.T.gather(1, similar_IT.T.topk(k, dim=1).indices).any(1).double().mean().item()
    return found


def test_the_numbers_are_those_of_one_plain_matrix_for_each_token(rooms, model, tmp_path):
    record = run(model, rooms, tmp_path / "out", "retrieval-224-both")
    values = {name: metric.value for name, metric in record.metrics.items()}
    assert list(values) == metric_names(2)
    for token, suffix in enumerate(["", " (token 1)"]):
        for name, value in plain(model, rooms, token).items():
            assert values[name + suffix] == pytest.approx(value, abs=1e-4)
    one, other = (
        evaluate("rooms-retrieval", model, out=tmp_path / token, data_root=rooms, overrides=[*SMALL, f"probe.tokens=[{token}]"])
        for token in "01"
    )
    assert one.metrics == {name: record.metrics[name] for name in metric_names(1)}
    assert all(record.metrics[f"{name} (token 1)"] == metric for name, metric in other.metrics.items())


def test_what_a_record_says(rooms, model, tmp_path):
    record = run(model, rooms, tmp_path / "out", pictures=2)
    assert record.family == "retrieval" and record.primary == "text-to-image R@1" and record.selection is None
    assert (record.dataset.n, record.dataset.train_n, record.dataset.classes) == (IMAGES, 0, [])
    assert record.cost.image_forwards == IMAGES and record.cost.encoder_s > 0
    encoder, reader = load_encoder(model, device="cpu"), coco_karpathy(rooms / "rooms/retrieval-v2", "test")
    said = [text for captions in reader.captions for text in captions]
    assert record.probe == {"captions": len(said), "captions cut": encoder.cut_texts(said)}
    low, high = record.metrics["text-to-image R@1"].ci95
    assert low <= record.metrics["text-to-image R@1"].value <= high and record.metrics["text-to-image R@1"].n == IMAGES
    path = next((tmp_path / "out").rglob("retrieval-224-*.json"))
    assert load_record(path) == record == load_scored(path).record
    assert len(record.pictures) == 3 and all((path.parent / name).is_file() for name in record.pictures)
    assert not list(path.parent.glob(".*"))


class Knowing(Encoder):
    """Knows of each image and each caption to which image of a set it belongs."""

    def __init__(self, reader: CaptionReader) -> None:
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.spec = EncoderSpec(
            name="knowing", patch_size=14, embed_dim=len(reader), depth=1, mean=(0, 0, 0), std=(1, 1, 1), resolution=56, global_tokens=1,
            has_text=True, weights_sha256="none", license="none",
        )  # fmt: skip
        self.owner = {text: index for index, captions in enumerate(reader.captions) for text in captions}
        pixels = [torch.from_numpy(reader.load(index).image_HW3).permute(2, 0, 1) / 255 for index in range(len(reader))]
        self.images = torch.stack(pixels).flatten(1)

    def _encode(self, pixels_B3HW, layers, norm, values):
        near_B = torch.cdist(pixels_B3HW.flatten(1), self.images).argmin(1)
        globals_BKD = F.one_hot(near_B, self.spec.embed_dim).float()[:, None]
        patches = [torch.zeros(len(near_B), 4, 4, self.spec.embed_dim)] * len(layers)
        return ImageFeatures(globals_BKD, patches, [globals_BKD] * len(layers))

    def encode_text(self, texts):
        return F.one_hot(torch.tensor([self.owner[text] for text in texts]), self.spec.embed_dim).float()


def test_a_users_own_encoder_that_knows_everything_scores_a_hundred(rooms, tmp_path, monkeypatch):
    reader = coco_karpathy(rooms / "rooms/retrieval-v2", "test")
    module = types.ModuleType("users_own")
    module.build = lambda: Knowing(reader)
    monkeypatch.setitem(sys.modules, "users_own", module)
    record = run("users_own:build", rooms, tmp_path / "out")
    values = {name: metric.value for name, metric in record.metrics.items()}
    most = np.mean([min(1, 5 / len(captions)) for captions in reader.captions])
    assert {values[name] for name in values if "recall" not in name} == {100.0}
    assert values["image-to-text recall@10"] == 100 and values["image-to-text recall@5"] == pytest.approx(100 * most)
    assert record.probe == {"captions": sum(map(len, reader.captions))}  # it does not tell how many texts it cuts


def test_tips_nano_finds_rooms_above_chance_and_its_random_twin_does_not(tmp_path):
    small = ["task.data.generator_options.val=40"]
    nano, random = (
        evaluate("rooms-retrieval", name, "retrieval-224-both", out=tmp_path / "out", data_root=tmp_path / "data", overrides=small)
        for name in ("tips-nano", "tips-nano-random")
    )
    for name in ("image-to-text R@", "text-to-image R@"):
        for suffix in ("", " (token 1)"):
            for k in (1, 5, 10):
                chance = 100 * k / 40
                assert nano.metrics[f"{name}{k}{suffix}"].ci95[0] > chance
                assert random.metrics[f"{name}{k}{suffix}"].ci95[0] <= chance


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_any_batch_gives_the_same_counts(rooms, model, tmp_path, batch):
    first = run(model, rooms, tmp_path / "a", batch_size=3)
    second = run(model, rooms, tmp_path / "b", batch_size=batch, workers=1)
    assert first.metrics == second.metrics and np.array_equal(counts(first, tmp_path / "a", model), counts(second, tmp_path / "b", model))


@pytest.mark.parametrize(("method", "calls"), [("image", 1), ("image", 4), ("text", 0), ("text", 1)])
def test_a_killed_run_is_taken_up_to_the_same_record(rooms, model, tmp_path, method, calls):
    whole = run(model, rooms, tmp_path / "a", batch_size=2)
    owner, name = (Extractor, "embed") if method == "image" else (TipsEncoder, "encode_text")
    inner, count = getattr(owner, name), itertools.count()

    def dying(self, argument):
        if (method == "image" or len(argument) > 1) and next(count) >= calls:
            raise Killed
        return inner(self, argument)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, dying)
        run(model, rooms, tmp_path / "b", batch_size=2)
    assert not list((tmp_path / "b").rglob("retrieval-*.json"))
    resumed = run(model, rooms, tmp_path / "b", batch_size=2)
    assert stable(resumed) == stable(whole) and resumed.cost.resumed
    assert resumed.cost.image_forwards == (0 if method == "text" else IMAGES - 2 * calls)
    assert np.array_equal(counts(whole, tmp_path / "a", model), counts(resumed, tmp_path / "b", model))


def test_cached_embeddings_serve_every_protocol_of_the_same_images_without_the_backbone(rooms, model, tmp_path, monkeypatch):
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    plain_run = run(model, rooms, tmp_path / "a", pictures=1)
    filled = run(model, rooms, tmp_path / "b", cache=True, pictures=1)
    reused = run(model, rooms, tmp_path / "c", cache=True)
    both = run(model, rooms, tmp_path / "d", "retrieval-224-both", cache=True)
    assert plain_run.metrics == filled.metrics == reused.metrics
    assert [record.cost.image_forwards for record in (filled, reused, both)] == [IMAGES, 0, 0]
    limited = run(model, rooms, tmp_path / "e", cache=True, limit=5)
    assert (limited.cost.image_forwards, limited.dataset.n) == (0, 5), "an image is known by its pixels"


def test_cached_texts_are_not_those_of_another_text_tower(rooms, model, tmp_path, monkeypatch):
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "cache"))
    first = run(model, rooms, tmp_path / "a", cache=True)
    encode = TipsEncoder.encode_text
    monkeypatch.setattr(TipsEncoder, "encode_text", lambda self, texts: encode(self, texts).flip(1))
    other = run(model, rooms, tmp_path / "b", cache=True)
    assert other.cost.image_forwards == 0
    assert other.metrics == run(model, rooms, tmp_path / "c").metrics != first.metrics


@pytest.mark.parametrize("model_name", ["tips-tiny-random", "pixels", "dinov2-s14"])
def test_an_encoder_without_text_is_refused_before_anything_is_read(model_name, tmp_path):
    with pytest.raises(UserError, match="has no text tower, and the task compares images with text"):
        evaluate("rooms-retrieval", model_name, out=tmp_path / "out", data_root=tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["probe.tokens=[2]"], r"probe\.tokens = \[2\]: encoder 'text-tiny' has 2 that can be compared with text"),
        (["probe.tokens=[0, 1, 2]"], "has 2 that can be compared with text"),
        (["probe.tokens=[1, 0]"], r"probe\.tokens = \[1, 0\]: .*one token, or several from 0 on"),
        (["probe.tokens=[]"], "one token, or several"),
        (["probe.token=0"], r"no key named 'probe\.token'.*probe\.tokens"),
        (["task.data.options.captions=7"], "captions, expected 7.*`tips-bench data check rooms-retrieval` lists all faults"),
    ],
)
def test_a_wrong_override_is_one_sentence_and_costs_nothing(rooms, model, tmp_path, monkeypatch, overrides, message):
    monkeypatch.setattr(Extractor, "embed", lambda *_: pytest.fail("the encoder was used"))
    with pytest.raises(UserError, match=message) as error:
        evaluate("rooms-retrieval", model, out=tmp_path / "out", data_root=rooms, overrides=[*SMALL, *overrides])
    assert "\n" not in str(error.value) and not list((tmp_path / "out").rglob("*.json"))


def test_a_set_with_faults_is_not_scored_and_a_look_lists_them(model, tmp_path, monkeypatch):
    root = coco(tmp_path / "data/coco")
    change(root / "annotations/captions_val2014.json", lambda data: data["annotations"].append({"id": 1, "image_id": 8, "caption": "x"}))
    monkeypatch.setenv("TIPS_BENCH_DATA", str(tmp_path / "data"))
    done = CliRunner().invoke(app, ["run", "--task", "coco-retrieval", "--model", model, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2 and "caption 1 is of image 8, which is not there, and 1 more faults" in done.output.replace("\n", " ")
    looked = CliRunner().invoke(app, ["data", "check", "coco-retrieval", "--json"])
    assert looked.exit_code == 1
    assert len(json.loads(looked.stdout)[0]["faults"]) == 3  # and 4 images where 5,000 are expected


def test_the_command_line_scores_compares_and_checks(rooms, model, tmp_path):
    settings = [argument for assignment in SMALL for argument in ("--set", assignment)]
    for seed in (0, 1):
        arguments = ["--task", "rooms-retrieval", "--model", model, "--weights", f"random:{seed}", "--data-root", str(rooms)]
        done = CliRunner().invoke(app, ["run", *arguments, "--out", str(tmp_path / "out"), *settings])
        assert done.exit_code == 0, done.output
        assert "text-to-image R@1" in done.stdout
    first, second = sorted((tmp_path / "out").rglob("retrieval-224-*.json"))
    compared = CliRunner().invoke(app, ["compare", str(first), str(second), "--json"])
    assert compared.exit_code == 0, compared.output
    assert "text-to-image R@1" in compared.stdout
    checked = CliRunner().invoke(app, ["check", str(first), "--against", str(first)])
    assert checked.exit_code == 0, checked.output
