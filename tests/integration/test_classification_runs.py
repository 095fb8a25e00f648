"""Whole runs on labelled images: kNN, linear heads, the convex classifier and class names, after a kill, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F
from typer.testing import CliRunner

from tests.helpers.kills import killed_after
from tests.helpers.text_models import small_tips
from tests.helpers.whole_sets import write_classes
from tips_bench import load_encoder
from tips_bench.cards import FeatureCard, load_card
from tips_bench.cli.app import app
from tips_bench.data.imagefolder import imagefolder
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.features import class_prompts as class_names
from tips_bench.features.extract import Extractor
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record, load_record

TRAIN, VAL = {"wall": 12, "red_sofa": 12, "table": 12}, {"wall": 6, "red_sofa": 5, "table": 6}
KNN = ["image.short_side=42", "image.crop=28", "probe.k=[1,5,9]"]
LINEAR = [
    "image.short_side=42",
    "image.crop=28",
    "features.layers=[-2,-1]",
    "probe.blocks=[1,2]",
    "probe.iterations=9",
    "probe.batch_size=6",
    "probe.lr=[0.01,0.3,30000]",
    "probe.crops.size=28",
    "probe.checkpoint_every=4",
    "selection.fraction=0.25",
]
CONVEX = ["image.short_side=42", "image.crop=28", "probe.penalties=[0.1,0.001]", "selection.fraction=0.25"]
VARYING = {"cost", "created", "command", "pictures", "per_sample"}


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the set in data/things and a task card `things` beside it; the working directory."""
    for split, images, seed in (("train", TRAIN, 0), ("val", VAL, 100)):
        write_classes(tmp_path / "data" / "things" / split, images, seed=seed)
    card = {
        "name": "things",
        "family": "classification",
        "title": "Three things of three colours",
        "version": 1,
        "data": {"reader": "imagefolder", "root": "things", "splits": {"train": "train", "test": "val"}},
        "protocol": "knn-dinov2",
        "protocols": ["knn-dinov2", "knn-20", "classifier-dinov2", "convex-classifier", "zeroshot-112"],
        "primary": "top1",
        "license": "none",
        "citation": "none",
        "homepage": "",
        "how_to_get": "It is drawn.",
    }
    (tmp_path / "tips-bench-cards" / "tasks").mkdir(parents=True)
    (tmp_path / "tips-bench-cards" / "tasks" / "things.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    return tmp_path


def run(out: Path, protocol: str = "knn-dinov2", model: str = "tips-tiny-random", overrides: list[str] = KNN, **options) -> Record:
    return evaluate("things", model, protocol, out=out, overrides=overrides, **options)


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


def killed(out: Path, calls: int, **options) -> None:
    """Let the encoder die at its n-th batch."""
    with killed_after(calls):
        run(out, **options)


@torch.inference_mode()
def tokens(model: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """First global tokens [N,D] of a split and its labels, image by image."""
    encoder, reader = load_encoder(model, device="cpu"), imagefolder(Path("data/things"), split)
    protocol = load_card("protocol", "knn-dinov2", ["image.short_side=42", "image.crop=28"])
    extractor = Extractor(encoder, protocol.image, FeatureCard())
    found = [encoder.encode_image(extractor.pixels(reader.load(index).image_HW3)[None]).globals_BKD[0, 0] for index in range(len(reader))]
    return torch.stack(found).double().numpy(), reader.labels_N


def test_knn_is_that_of_scikit_learn_and_says_what_it_did(things):
    record = run(things / "out", pictures=2, batch_size=3)
    (train_ND, labels_N), (test_ND, truth_N) = tokens("tips-tiny-random", "train"), tokens("tips-tiny-random", "val")
    scores = []
    for k in (1, 5, 9):
        theirs = KNeighborsClassifier(k, weights=lambda distance: np.exp((1 - distance) / 0.07), algorithm="brute", metric="cosine")
        scores.append(100 * theirs.fit(train_ND, labels_N).score(test_ND, truth_N))
    values = {name: metric.value for name, metric in record.metrics.items()}
    assert values["top1"] == pytest.approx(scores[record.selection.choice]) and values["top1-best-on-test"] == pytest.approx(max(scores))
    assert values["top5"] == 100 and record.probe == {"k": [1, 5, 9][record.selection.choice], "images": 36}
    assert record.selection.held_out == 4 and record.selection.grid == [{"k": 1}, {"k": 5}, {"k": 9}]
    assert record.selection.choice == int(np.argmax(record.selection.scores))
    assert record.cost.image_forwards == 36 + 17 and record.dataset.classes == ["red_sofa", "table", "wall"]
    path = next((things / "out").rglob("knn-dinov2-*.json"))
    assert load_record(path) == record == load_scored(path).record
    assert len(record.pictures) == 3 and all((path.parent / name).is_file() for name in record.pictures)
    assert not list(path.parent.glob(".*"))


def test_any_batch_and_a_cache_give_the_same_record(things):
    first = run(things / "a", batch_size=1)
    filled, reused = (run(things / out, batch_size=1, cache=True) for out in "bc")
    assert stable(first) == stable(filled) == stable(reused) and reused.cost.image_forwards == 0
    large = run(things / "d", batch_size=16, workers=1)
    assert large.metrics == first.metrics and large.selection == first.selection


@pytest.mark.parametrize("calls", [0, 7, 15])
def test_a_killed_knn_run_is_taken_up_to_the_same_record(things, calls):
    whole = run(things / "a", batch_size=3)
    killed(things / "b", calls, batch_size=3)
    resumed = run(things / "b", batch_size=3)
    assert stable(resumed) == stable(whole) and resumed.cost.image_forwards == 53 - 3 * calls


def test_raw_pixels_have_no_token_but_a_mean(things):
    with pytest.raises(UserError, match="has 0 global tokens"):
        run(things / "out", model="pixels")
    record = run(things / "out", model="pixels", overrides=[*KNN, "features.global_token=null"])
    assert record.metrics["top1"].value > 60, "colours tell the classes apart"


def test_more_neighbours_than_images_are_a_warning_in_the_record(things):
    record = run(things / "out", "knn-20", overrides=KNN[:2], limit=6)
    assert "k = 20 is more than the 6 training images, which all vote then" in map(str, record.deviations) and record.selection is None
    assert set(record.metrics) == {"top1", "top5"}


def test_all_linear_heads_are_trained_in_one_pass_and_one_is_chosen_off_the_scored_split(things):
    record = run(things / "out", "classifier-dinov2", overrides=LINEAR, workers=0, pictures=1)
    grid = record.selection.grid
    assert len(grid) == 12 and grid[5] == {"blocks": 1, "mean": 1, "lr": 30000.0} and record.selection.held_out == 9
    assert record.cost.image_forwards == 9 * 6 + 9 + 17
    assert record.selection.choice == int(np.argmax(record.selection.scores))
    assert record.probe["lr"] == grid[record.selection.choice]["lr"] and record.probe["iterations"] == 9
    assert record.metrics["top1-best-on-test"].value >= record.metrics["top1"].value
    load_scored(next((things / "out").rglob("classifier-dinov2-*.json")))


@pytest.mark.parametrize("calls", [3, 7, 10])
def test_a_killed_linear_run_goes_on_to_the_same_heads(things, calls):
    options = {"protocol": "classifier-dinov2", "overrides": LINEAR, "workers": 0, "batch_size": 6}
    whole = run(things / "a", **options)
    killed(things / "b", calls, **options)
    resumed = run(things / "b", **options)
    assert stable(resumed) == stable(whole) and resumed.cost.image_forwards < whole.cost.image_forwards + 1


def test_the_convex_classifier_is_chosen_by_accuracy(things):
    record = run(things / "out", "convex-classifier", overrides=CONVEX)
    assert record.probe["converged"] and record.probe["images"] == 36 and set(record.metrics) == {"top1", "top5"}
    shares = [score * record.selection.held_out / 100 for score in record.selection.scores if score is not None]
    assert record.selection.metric == "top1" and shares == pytest.approx(np.round(shares)), "accuracies of a few images"
    assert record.metrics["top1"].value > 50
    load_scored(next((things / "out").rglob("convex-classifier-*.json")))


@torch.inference_mode()
def plain_zero_shot(model: str, side: int, prompts: list[str]) -> tuple[float, float]:
    """Top-1 and, of three classes, top-2 from one matrix of cosines in float64."""
    encoder, reader = load_encoder(model, device="cpu"), imagefolder(Path("data/things"), "val")
    names = [name.replace("_", " ") for name in reader.classes]
    texts_CPD = torch.stack([torch.stack([encoder.encode_text([prompt.format(name)])[0] for prompt in prompts]) for name in names])
    classes_CD = F.normalize(F.normalize(texts_CPD.double(), dim=-1).mean(1), dim=-1)
    right = []
    extractor = Extractor(encoder, load_card("protocol", "zeroshot-112", [f"image.short_side={side}"]).image, FeatureCard())
    for index in range(len(reader)):
        sample = reader.load(index)
        image_D = encoder.encode_image(extractor.pixels(sample.image_HW3)[None]).globals_BKD[0, 0].double()
        order = (F.normalize(image_D, dim=0) @ classes_CD.T).argsort(descending=True)
        right.append(int(order[0]) == sample.label)
    return 100 * float(np.mean(right)), 100.0


def test_class_names_are_compared_as_in_one_plain_matrix(things):
    model = small_tips(things)
    prompts = ["a {} on the left", "{}"]
    overrides = ["image.short_side=56", f"probe.prompts={prompts}"]
    record = run(things / "out", "zeroshot-112", model, overrides, pictures=1, batch_size=4)
    values = record.metrics["top1"].value, record.metrics["top5"].value
    assert values == pytest.approx(plain_zero_shot(model, 56, prompts))
    assert record.probe == {"classes": 3, "prompts": 2} and record.dataset.train_n == 0 and record.cost.image_forwards == 17
    other = run(things / "other", "zeroshot-112", model, [*overrides, "probe.token=1"])
    assert other.metrics["top5"].value == 100.0
    with pytest.raises(UserError, match=r"probe\.token = 2: encoder .* has 2 that can be compared with text"):
        run(things / "other", "zeroshot-112", model, [*overrides, "probe.token=2"])


def test_an_encoder_without_text_and_wrong_names_are_told_before_any_work(things):
    with pytest.raises(UserError, match="has no text tower, and the task compares images with text"):
        run(things / "out", "zeroshot-112", overrides=[])
    model = small_tips(things)
    for names, words in (("[a, b]", "2 names for the 3 classes"), ("openai-imagenet", "1000 names for the 3 classes")):
        with pytest.raises(UserError, match=words):
            run(things / "out", "zeroshot-112", model, [f"task.options.class_names={names}"])
    for prompts in ("[a photo]", "[]", "['{} {x}']"):
        with pytest.raises(UserError, match=r"probe\.prompts"):
            run(things / "out", "zeroshot-112", model, [f"probe.prompts={prompts}"])
    assert not (things / "out").exists()


def test_openais_names_and_prompts_are_the_ones_that_were_checked(monkeypatch):
    wnids = [f"n{number:08d}" for number in range(1000)]
    names = class_names.names_of("openai-imagenet", wnids, where="here")
    assert (names[0], names[-1], len(set(names))) == ("tench", "toilet paper", 998)
    prompts = class_names.prompts_of("openai-80")
    assert len(prompts) == 80 and prompts[0] == "a bad photo of a {}." and all(prompt.count("{}") == 1 for prompt in prompts)
    monkeypatch.setitem(class_names._SHA256, "openai-80", "0" * 64)
    with pytest.raises(UserError, match="open_clip's list has the checksum"):
        class_names.prompts_of("openai-80")


def test_splits_of_other_classes_are_told(things):
    (things / "data" / "things" / "val" / "wall").rename(things / "data" / "things" / "val" / "roof")
    with pytest.raises(UserError, match="have different classes: 'roof' is only in one of them"):
        run(things / "out")


def test_the_command_line_runs_compares_and_checks(things):
    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    sets = [part for override in KNN for part in ("--set", override)]
    for out, seed in (("a", "random:0"), ("b", "random:1")):
        done = invoke("run", "--task", "things", "--model", "tips-tiny-random", "--weights", seed, "--out", out, *sets)
        assert done.exit_code == 0, done.output
    records = [next(Path(out).rglob("knn-dinov2-*.json")) for out in "ab"]
    compared = invoke("compare", *records, "--json")
    assert compared.exit_code == 0 and json.loads(compared.output)["primary"] == "top1"
    assert invoke("data", "check", "things").exit_code == 0
    (things / "data" / "things" / "val" / "empty").mkdir()
    broken = invoke("data", "check", "things", "--json")
    assert broken.exit_code == 1 and "'empty' holds no image" in broken.output
    refused = invoke("run", "--task", "things", "--model", "tips-tiny-random", "--out", "c")
    assert refused.exit_code == 2 and "holds no image" in refused.output


def test_a_cache_lets_another_protocol_start_from_the_features(things):
    first = run(things / "out", cache=True)
    second = run(things / "out", "convex-classifier", overrides=CONVEX, cache=True)
    alone = run(things / "alone", "convex-classifier", overrides=CONVEX)
    assert (first.cost.image_forwards, second.cost.image_forwards) == (53, 0) and second.metrics == alone.metrics
