"""Whole runs with DPT heads on generated rooms: released ones as they are, trained ones after a kill too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from tests.helpers.dpt_heads import OUTPUTS, random_head, write_head
from tests.helpers.kills import Killed, dying
from tips_bench.cards import load_card
from tips_bench.data.images import resize, to_pixels
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.features.extract import Extractor
from tips_bench.metrics import depth as depth_metric
from tips_bench.registry import READERS
from tips_bench.rooms.writing.writers import write_rooms

SIZE, TRAIN, VAL = 84, 6, 4
PROTOCOLS = ["dpt-official", "dpt-probe3d", "dpt-tips"]
FAMILIES = {
    "depth": {"reader": "depth-folder", "options": {"max_depth": 10.0}, "primary": "RMSE"},
    "normals": {"reader": "normals-folder", "options": {}, "primary": "RMSE"},
    "segmentation": {"reader": "folder", "options": {}, "primary": "mIoU"},
}
SMALL = [
    "image.short_side=84",
    "probe.channels=16",
    "probe.bins=32",
    "probe.epochs=2",
    "probe.batch_size=2",
    "probe.augment.size=84",
    "probe.checkpoint_every=2",
]
VARYING = {"cost", "created", "command", "pictures", "per_sample", "git_commit", "git_dirty"}


def stable(record):
    """What must not differ between two runs of the same thing."""
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Small rooms in the plain layout."""
    root = tmp_path_factory.mktemp("rooms")
    write_rooms(root=root / "rooms", layout="rooms", seed=0, train=TRAIN, val=VAL, size=SIZE, frames_per_scene=2)
    return root


@pytest.fixture
def place(rooms, tmp_path, monkeypatch):
    """The working directory: cards of one task a family over the rooms, and of a model with random released heads."""
    tasks, models = tmp_path / "tips-bench-cards/tasks", tmp_path / "tips-bench-cards/model_zoo"
    tasks.mkdir(parents=True)
    models.mkdir()
    for family, own in FAMILIES.items():
        data = {"reader": own["reader"], "root": "rooms", "splits": {"train": "train", "test": "val"}}
        words = dict.fromkeys(["license", "citation", "homepage", "how_to_get"], "none")
        card = {"name": f"tiny-{family}", "family": family, "title": "Tiny", "version": 1, "data": data, "options": own["options"]}
        card |= {"protocol": "dpt-official", "protocols": PROTOCOLS, "primary": own["primary"], **words}
        (tasks / f"tiny-{family}.yaml").write_text(yaml.safe_dump(card))
    classes = len(READERS.get("folder")(rooms / "rooms", "val").classes)
    heads = {}
    for kind, layout in (("depth", "torch"), ("normals", "flax"), ("segmentation", "hub")):
        outputs = classes if kind == "segmentation" else OUTPUTS[kind]
        path = write_head(tmp_path / f"{kind}.bin", random_head(kind, 192, outputs=outputs), kind, layout)
        heads[kind] = {"path": str(path)}
    model = load_card("model", "tips-tiny-random").model_dump(mode="json") | {"name": "with-heads", "heads": heads}
    (models / "with-heads.yaml").write_text(yaml.safe_dump(model))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", str(rooms))
    return tmp_path


def kill_after(monkeypatch, calls):
    """Let the encoder die on its n-th call."""
    monkeypatch.setattr(Extractor, "_encode", dying(Extractor._encode, calls))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_released_head_is_scored_without_training(place, family):
    record = evaluate(f"tiny-{family}", "with-heads", out=place / "out", pictures=1)
    assert record.comparable and not record.deviations
    assert record.probe["head"] == f"{family}.bin" and len(record.probe["head_sha256"]) == 64
    assert (record.dataset.n, record.dataset.train_n, record.dataset.train_split) == (VAL, 0, "")
    assert record.cost.image_forwards == VAL and len(record.pictures) == 2
    assert all(np.isfinite(record.metrics[name].value) for name in record.metrics)


def test_the_score_of_a_released_head_is_that_of_its_own_forward_pass(place, rooms):
    """Each image through the tower, the head and torch's own interpolation, by hand."""
    record = evaluate("tiny-depth", "with-heads", out=place / "out")
    encoder, head = load_encoder("with-heads", device="cpu"), random_head("depth", 192)
    reader, rule = READERS.get("depth-folder")(rooms / "rooms", "val"), depth_metric.DepthRule(max_depth=10.0)
    sums = []
    for index in range(VAL):
        sample = reader.load(index)
        pixels = to_pixels(resize(sample.image_HW3, (448, 448), "bilinear", "torchvision"))[None]
        seen = encoder.encode_image(pixels, layers=(0, 1, 2, 3))
        with torch.no_grad():
            fused = head.dpt([(tokens[:, 0], patches) for tokens, patches in zip(seen.layer_globals, seen.patches, strict=True)]).relu()
            weights = head.head(fused.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).relu() + 0.001
        meters = torch.einsum("bchw,c->bhw", weights / weights.sum(1, keepdim=True), torch.linspace(0.001, 10, weights.shape[1]))
        meters = F.interpolate(F.interpolate(meters[None], (448, 448), mode="bilinear"), (SIZE, SIZE), mode="bilinear")[0, 0]
        sums.append(depth_metric.count(meters.numpy(), sample.depth_HW, rule))
    for name, value in depth_metric.summary(np.sum(sums, 0)).items():
        assert record.metrics[name].value == pytest.approx(float(value), rel=1e-4), name


def test_nyu_is_scored_with_its_test_images_alone_and_its_own_crop(place, tmp_path):
    """The shipped task, on rooms in the layout of NYU Depth V2, the training images gone."""
    root = tmp_path / "data/nyu"
    write_rooms(root=root, layout="nyu", seed=0, train=2, val=2, size=112, frames_per_scene=2)
    (root / "nyu_train.txt").unlink()
    record = evaluate("nyu-depth", "with-heads", "dpt-official", out=place / "out", data_root=tmp_path / "data")
    assert "has 2 samples, not the" in str(record.deviations[0]) and (record.dataset.n, record.dataset.train_n) == (2, 0)
    assert record.metrics["RMSE"].value > 0 and record.cards["task"]["options"]["crop"] == "nyu-eigen"


def test_another_file_under_the_same_name_is_another_record(place, monkeypatch):
    monkeypatch.setattr("tips_bench.evaluation.run.git_state", lambda package: ("abc", False))
    monkeypatch.setattr("tips_bench.evaluation.report.git_state", lambda package: ("abc", False))
    first = evaluate("tiny-normals", "with-heads", out=place / "out")
    write_head(place / "normals.bin", random_head("normals", 192, seed=9), "normals", "flax")
    second = evaluate("tiny-normals", "with-heads", out=place / "out")
    assert first.probe["head_sha256"] != second.probe["head_sha256"]
    assert first.metrics["RMSE"].value != second.metrics["RMSE"].value
    assert len(list((place / "out").rglob("dpt-official-*.json"))) == 2


def test_a_released_head_on_other_weights_is_a_deviation(place):
    record = evaluate("tiny-depth", "with-heads", weights="random:5", out=place / "out")
    assert not record.comparable and "own weights" in str(record.deviations[0])


def test_a_model_without_the_head_is_refused_before_anything_is_loaded(place, monkeypatch):
    monkeypatch.setattr("tips_bench.evaluation.run.load_encoder", lambda *a, **b: pytest.fail("loaded"))
    with pytest.raises(UserError, match="'tips-tiny-random' has no released heads, and the protocol needs one for depth"):
        evaluate("tiny-depth", "tips-tiny-random", out=place / "out")
    with pytest.raises(UserError, match="has released heads only for depth, normals"):
        evaluate("tiny-segmentation", "with-heads", out=place / "out", overrides=['model.heads={"depth": {}, "normals": {}}'])
    assert not (place / "out").exists()


def test_the_head_of_another_set_or_kind_is_refused(place):
    other = write_head(place / "other.npz", random_head("segmentation", 192, outputs=4), "segmentation", "torch")
    with pytest.raises(UserError, match="4 values for each pixel"):
        evaluate("tiny-segmentation", "with-heads", out=place / "out", overrides=[f"model.heads.segmentation.path={other}"])
    with pytest.raises(UserError, match="no DPT head for normals"):
        evaluate("tiny-normals", "with-heads", out=place / "out", overrides=[f"model.heads.normals.path={place / 'segmentation.bin'}"])
    with pytest.raises(UserError, match="even steps from"):
        evaluate("tiny-depth", "with-heads", out=place / "out", overrides=["probe.depths=[0.001, 80.0]"])


@pytest.mark.parametrize("family", ["depth", "normals"])
@pytest.mark.parametrize("protocol", ["dpt-probe3d", "dpt-tips"])
def test_a_killed_training_goes_on_to_the_same_head(place, family, protocol):
    options = {"protocol": protocol, "overrides": SMALL, "workers": 0}
    whole = evaluate(f"tiny-{family}", "tips-tiny-random", out=place / "a", **options)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 4)
        evaluate(f"tiny-{family}", "tips-tiny-random", out=place / "b", **options)
    resumed = evaluate(f"tiny-{family}", "tips-tiny-random", out=place / "b", **options)
    assert stable(resumed) == stable(whole) and resumed.cost.resumed
    assert whole.probe["iterations"] == 2 * TRAIN / 2 and whole.selection is None
    assert (whole.cost.image_forwards, resumed.cost.image_forwards) == (2 * TRAIN + VAL, 2 * TRAIN - 2 * 4 + VAL)


def test_seed_and_workers(place):
    options = {"protocol": "dpt-probe3d", "overrides": SMALL}
    first, forked, other = (
        evaluate("tiny-depth", "tips-tiny-random", out=place / str(i), workers=w, seed=s, **options)
        for i, (w, s) in enumerate([(0, 0), (2, 0), (0, 1)])
    )
    assert stable(first) == stable(forked)
    assert other.probe["loss"] != first.probe["loss"]


@pytest.mark.parametrize(("family", "protocol"), [("depth", "dpt-probe3d"), ("depth", "dpt-tips"), ("normals", "dpt-tips")])
def test_training_learns(place, family, protocol):
    longer = [*SMALL[:3], "probe.epochs=20", "probe.lr=2.0e-3", *SMALL[4:]]
    short, long = (
        evaluate(f"tiny-{family}", "tips-tiny-random", protocol=protocol, overrides=overrides, out=place / name, workers=0)
        for name, overrides in (("short", [*SMALL[:3], "probe.epochs=0.3", *SMALL[4:]]), ("long", longer))
    )
    assert long.metrics["RMSE"].value < 0.9 * short.metrics["RMSE"].value


def test_a_head_takes_four_layers(place):
    with pytest.raises(UserError, match="has 1 layers, but the head needs 4"):
        evaluate("tiny-depth", "tips-tiny-random", protocol="dpt-tips", overrides=["features.layers=[-1]"], out=place / "out")


def test_a_loss_that_is_not_finite_ends_the_run(place):
    with pytest.raises(UserError, match="diverged at iteration"):
        evaluate(
            "tiny-depth", "tips-tiny-random", protocol="dpt-tips", overrides=[*SMALL, "probe.lr=1.0e+30"], out=place / "out", workers=0
        )
