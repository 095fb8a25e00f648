"""Whole runs: the same number however it is come by, and after a kill."""

import json
import os
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.kills import Killed, dying
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.features.extract import Extractor
from tips_bench.metrics.boundary_iou import BoundaryCounts
from tips_bench.metrics.spec import PERCENT, MetricSpec
from tips_bench.probes.trained.loop import Training
from tips_bench.registry import METRICS
from tips_bench.results.comparison import compare
from tips_bench.results.record import load_record

SMALL = ["image.short_side=84", "probe.max_patches=600"]
LINEAR = [
    "image.short_side=84",
    "inference.window=70",
    "inference.stride=42",
    "probe.iterations=8",
    "probe.batch_size=2",
    "probe.warmup=2",
    "probe.checkpoint_every=3",
    "probe.augment.crop_size=70",
    "probe.augment.short_side=84",
]
VARYING = {"cost", "created", "command", "pictures", "pictured", "per_sample"}


def stable(record):
    """What must not differ between two runs of the same thing."""
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


def kill_after(monkeypatch, calls):
    """Let the encoder die on its n-th call."""
    monkeypatch.setattr(Extractor, "_encode", dying(Extractor._encode, calls))


def test_convex_learns_and_says_what_it_did(shapes):
    record = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, pictures=2)
    assert record.metrics["mIoU"].value > 30
    low, high = record.metrics["mIoU"].ci95
    assert low <= record.metrics["mIoU"].value <= high
    assert record.probe["converged"] and record.cost.image_forwards == 14 + 8
    assert not record.comparable and list(map(str, record.deviations)) == [
        "protocol.image.short_side = 84 (card: 448)",
        "protocol.probe.max_patches = 600 (card: 2000000)",
    ]
    path = next((shapes / "out" / "shapes" / "pixels").glob("convex-*.json"))
    assert load_record(path) == record and record.path == path
    assert all((path.parent / name).is_file() for name in [record.per_sample, *record.pictures])
    assert len(record.pictures) == 3 and not list(path.parent.glob(".*"))
    assert list(record.picture_of.values()) == record.pictures[1:] and record.samples()["mIoU"].idxmin() in record.pictured


@pytest.mark.parametrize("model", ["pixels", "tips-tiny-random"])
def test_convex_twice_and_with_any_batch_size_is_the_same_record(shapes, model):
    first = evaluate("shapes", model, out=shapes / "a", overrides=SMALL, batch_size=1)
    second = evaluate("shapes", model, out=shapes / "b", overrides=SMALL, batch_size=1)
    large = evaluate("shapes", model, out=shapes / "c", overrides=SMALL, batch_size=16, workers=1)
    assert stable(first) == stable(second)
    assert large.metrics == first.metrics and large.per_class == first.per_class
    assert large.probe["loss"] == pytest.approx(first.probe["loss"], rel=1e-6)
    counts = [np.load(shapes / run / "shapes" / model / first.per_sample)["counts"] for run in "ac"]
    assert np.array_equal(*counts)


def test_the_order_in_which_files_are_listed_changes_nothing(shapes, monkeypatch):
    first = evaluate("shapes", "pixels", out=shapes / "a", overrides=SMALL)
    scandir, listdir = os.scandir, os.listdir

    class Reverse:
        def __init__(self, *arguments):
            with scandir(*arguments) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        close = __exit__

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.entries)

    monkeypatch.setattr(os, "listdir", lambda *a: sorted(listdir(*a), reverse=True))
    monkeypatch.setattr(os, "scandir", Reverse)
    second = evaluate("shapes", "pixels", out=shapes / "b", overrides=SMALL)
    monkeypatch.undo()
    assert stable(first) == stable(second)


@pytest.mark.parametrize("calls", [2, 5, 8])
def test_a_killed_convex_run_is_taken_up_to_the_same_record(shapes, calls):
    whole = evaluate("shapes", "pixels", out=shapes / "a", overrides=SMALL)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, calls)
        evaluate("shapes", "pixels", out=shapes / "b", overrides=SMALL, batch_size=2)
    assert not list((shapes / "b").rglob("*.json.*")) and not list((shapes / "b").rglob("convex-*.json"))
    resumed = evaluate("shapes", "pixels", out=shapes / "b", overrides=SMALL, batch_size=2)
    assert resumed.metrics == whole.metrics and resumed.cost.resumed
    assert resumed.cost.image_forwards < 22


@pytest.mark.parametrize("protocol", ["linear-dinov2", "linear-dinov3"])
def test_a_killed_linear_run_goes_on_with_optimiser_and_schedule(shapes, protocol):
    whole = evaluate("shapes", "tips-tiny-random", protocol=protocol, out=shapes / "a", overrides=LINEAR, workers=0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 5)
        evaluate("shapes", "tips-tiny-random", protocol=protocol, out=shapes / "b", overrides=LINEAR, workers=0)
    resumed = evaluate("shapes", "tips-tiny-random", protocol=protocol, out=shapes / "b", overrides=LINEAR, workers=0)
    assert stable(resumed) == stable(whole)
    assert (whole.selection is None) == (protocol == "linear-dinov2") and whole.cost.image_forwards > resumed.cost.image_forwards


def test_multi_scale_evaluation_sees_each_image_at_every_scale_and_mirrored(shapes):
    overrides = [*LINEAR, "inference.scales=[1.0, 1.5]", "probe.augment.ratio=[1.0, 1.5]"]
    record = evaluate("shapes", "tips-tiny-random", "linear-dinov2-ms", out=shapes / "a", overrides=overrides, workers=0)
    # windows of 70 px every 42 px: 2 x 2 at the first scale; 3 x 3, and 3 x 4 on the two widest, at the second; each mirrored, too
    assert record.cost.image_forwards == 8 * 2 + 2 * (8 * 4 + 6 * 9 + 2 * 12)
    assert 0 < record.metrics["mIoU"].value <= 100


def test_decoding_in_worker_processes_gives_the_same_heads(shapes):
    records = [
        evaluate("shapes", "pixels", protocol="linear-dinov2", out=shapes / str(workers), overrides=LINEAR, workers=workers)
        for workers in (0, 2)
    ]
    assert stable(records[0]) == stable(records[1])


def test_a_grid_is_one_backbone_pass_and_is_chosen_off_the_scored_split(shapes):
    record = evaluate("shapes", "tips-tiny-random", protocol="linear-tips", out=shapes / "a", overrides=LINEAR, workers=0)
    assert len(record.selection.grid) == 8 == len(record.selection.scores)
    assert record.selection.held_out == 1 and record.selection.choice == int(np.argmax(record.selection.scores))
    crops, windows = 8 * 2, 4
    assert record.cost.image_forwards == crops + windows * (record.selection.held_out + 8)


def test_a_checkpoint_of_other_options_is_not_taken_up(shapes, monkeypatch):
    seen = []
    resume = Training._resume

    def watched(self, trainee):
        found = resume(self, trainee)
        seen.append(found[0])
        return found

    monkeypatch.setattr(Training, "_resume", watched)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 5)
        evaluate("shapes", "pixels", protocol="linear-dinov2", out=shapes / "a", overrides=LINEAR, workers=0)
    evaluate("shapes", "pixels", protocol="linear-dinov2", out=shapes / "a", overrides=[*LINEAR, "probe.lr=[0.01]"], workers=0)
    evaluate("shapes", "pixels", protocol="linear-dinov2", out=shapes / "a", overrides=LINEAR, workers=0)
    assert seen == [0, 0, 3]


def test_cached_features_give_the_same_record_without_the_backbone(shapes):
    plain = evaluate("shapes", "tips-tiny-random", out=shapes / "a", overrides=SMALL)
    filled = evaluate("shapes", "tips-tiny-random", out=shapes / "b", overrides=SMALL, cache=True)
    reused = evaluate("shapes", "tips-tiny-random", out=shapes / "c", overrides=SMALL, cache=True)
    assert plain.metrics == filled.metrics == reused.metrics
    assert (filled.cost.image_forwards, reused.cost.image_forwards) == (22, 0)
    other = evaluate("shapes", "tips-tiny-random", out=shapes / "d", overrides=["image.short_side=70", SMALL[1]], cache=True)
    seeded = evaluate("shapes", "tips-tiny-random", weights="random:1", out=shapes / "d", overrides=SMALL, cache=True)
    assert other.cost.image_forwards == seeded.cost.image_forwards == 22


@pytest.mark.parametrize("place", ["images/val", "labels/val", "images/train"])
def test_a_file_replaced_by_another_of_its_size_makes_a_new_record_and_new_features(shapes, place, monkeypatch):
    monkeypatch.setattr("tips_bench.evaluation.run.git_state", lambda folder: ("abc", False))
    monkeypatch.setattr("tips_bench.evaluation.report.git_state", lambda folder: ("abc", False))
    folder = shapes / "data" / "shapes" / place
    for file in folder.iterdir():
        Image.open(file).save(file, compress_level=0)  # the size is then that of the pixels
    first = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, cache=True)
    size, file = (folder / "003.png").stat().st_size, folder / "003.png"
    Image.fromarray(np.asarray(Image.open(file))[::-1]).save(file, compress_level=0)
    assert file.stat().st_size == size
    second = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, cache=True)
    assert second.path != first.path and second.cost.image_forwards == (1 if "images" in place else 0)
    names = [name for name, value in first.dataset if value != getattr(second.dataset, name)]
    assert names == ["train_content_fingerprint" if "train" in place else "content_fingerprint"]
    with pytest.raises(UserError, match="contents of the"):
        compare(first, second)


def test_records_of_before_contents_were_hashed_still_compare(shapes):
    first = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL)
    old = json.loads(first.path.read_text())
    del old["dataset"]["content_fingerprint"], old["dataset"]["train_content_fingerprint"]
    (first.path.parent / "old.json").write_text(json.dumps(old))
    assert compare(first.path.parent / "old.json", first).verdict == "cannot tell"


def test_bf16_is_recorded_and_close(shapes):
    full = evaluate("shapes", "tips-tiny-random", out=shapes / "a", overrides=SMALL)
    half = evaluate("shapes", "tips-tiny-random", out=shapes / "a", overrides=SMALL, dtype="bf16")
    assert half.cost.dtype == "bf16" and abs(half.metrics["mIoU"].value - full.metrics["mIoU"].value) < 5
    assert len(list((shapes / "a").rglob("convex-*.json"))) == 2


def test_a_limit_is_a_deviation_and_changes_the_fingerprint(shapes):
    record = evaluate("shapes", "pixels", out=shapes / "a", overrides=SMALL, limit=5)
    whole = evaluate("shapes", "pixels", out=shapes / "a", overrides=SMALL)
    assert (record.dataset.n, record.dataset.train_n) == (5, 5) and record.limit == 5
    assert "limit = 5 images of each split" in map(str, record.deviations)
    assert record.dataset.fingerprint != whole.dataset.fingerprint


def test_the_record_is_plain_json_that_stands_alone(shapes):
    evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL)
    data = json.loads(next((shapes / "out").rglob("convex-*.json")).read_text())
    assert next(iter(data)) == "schema" and data["cards"]["protocol"]["probe"]["max_patches"] == 600
    assert data["weights_sha256"] and data["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["probe.penalty=1"], "there is no key named 'probe.penalty'"),
        (["probe.penalties=[]"], "probe.penalties"),
        (["features.layers=[99]"], "has 1 block"),
        (["features.global_token=0"], "global tokens"),
        (["probe.type=magic"], "there is no probe named 'magic'"),
        (["image.short_side=0"], "image.short_side"),
        (["inference.mode=slide"], "needs window and stride"),
        (["task.data.reader=none"], "there is no reader named 'none'"),
        (["probe.max_patches=3"], "less than the number of images, 14"),
    ],
)
def test_a_wrong_override_is_one_sentence(shapes, overrides, words):
    with pytest.raises(UserError) as error:
        evaluate("shapes", "pixels", out=shapes / "out", overrides=overrides)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert not list((shapes / "out").rglob("*.json"))


def test_a_finished_record_of_this_commit_is_kept_and_not_scored_again(shapes, monkeypatch, caplog):
    monkeypatch.setattr("tips_bench.evaluation.run.git_state", lambda folder: ("abc", False))
    monkeypatch.setattr("tips_bench.evaluation.report.git_state", lambda folder: ("abc", False))
    first = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 0)
        assert evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL) == first
        assert f"this is the record of {first.created}" in caplog.text and "rerun" in caplog.text
        with pytest.raises(Killed):
            evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, rerun=True)
        assert "scored again" in caplog.text and "--rerun" in caplog.text
    drawn = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, pictures=1)
    assert len(drawn.pictures) == 2 and drawn.metrics == first.metrics
    more = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, pictures=2)
    assert len(more.pictures) == 3 and "it has 1 of 2 pictures" in caplog.text
    assert {file.name for file in more.path.parent.glob("*.png")} == set(more.pictures)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 0)
        assert evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, pictures=1) == more
    everything = evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, pictures=500)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 0)
        assert evaluate("shapes", "pixels", out=shapes / "out", overrides=SMALL, pictures=500) == everything


def test_data_that_are_not_there_are_told_with_how_to_get_them_and_under_which_folder(tmp_path):
    with pytest.raises(UserError) as error:
        evaluate("amstertime", "tips-nano", out=tmp_path / "out", data_root=tmp_path / "sets")
    assert str(error.value).startswith(f"{tmp_path}/sets/amstertime/new: cannot read") and "Unpack the data set of" in str(error.value)
    assert str(error.value).endswith(f"Here, {tmp_path}/sets takes the place of data.")


class Renamed(BoundaryCounts):
    """A metric that gives a number by the name of one that segmentation has."""

    specs: ClassVar[dict[str, MetricSpec]] = {"mIoU": PERCENT}


@pytest.mark.parametrize(
    ("task", "metric", "words"),
    [
        ("shapes", "renamed", "two metrics give a number named 'mIoU'"),
        ("shapes", "boundary-io", "Did you mean 'boundary-iou'"),
        ("rooms-depth", "boundary-iou", "is for segmentation, zeroshot-segmentation, not for depth"),
        ("rooms-knn", "boundary-iou", "classification has no metrics beside its own"),
    ],
)
def test_a_metric_that_cannot_stand_beside_a_familys_own_is_refused_first(shapes, tmp_path, monkeypatch, task, metric, words):
    monkeypatch.setitem(METRICS._entries, "renamed", Renamed)
    with pytest.raises(UserError, match=re.escape(words)):
        evaluate(task, "pixels", out=tmp_path / "out", metrics=[metric])
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("rooms"))
