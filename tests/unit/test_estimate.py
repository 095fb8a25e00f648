"""evaluation/estimate.py and sharing.py: what evaluations would ask of the backbone, from their cards alone."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.evaluation import hours
from tips_bench.evaluation.counting import crops
from tips_bench.evaluation.estimate import estimate, shared_passes
from tips_bench.evaluation.passes import images_kept, note_passes
from tips_bench.evaluation.run import RunOptions
from tips_bench.evaluation.sharing import job_key, unchanged_images_key
from tips_bench.evaluation.spec import Spec, resolve
from tips_bench.executors.evaluations import jobs_of
from tips_bench.features.trial import Rate


def spec(task: str, protocol: str | None, model: str = "tips-nano", **options: Any) -> Spec:
    return resolve(task, model, protocol, **options)


@pytest.mark.parametrize(
    ("task", "protocol", "images"),
    [
        ("rooms-seg", "convex-224", 480 + 160),
        ("rooms-zeroshot", "tips-values-224", 160),
        ("ade20k", "convex", 20210 + 2000),
        ("ade20k", "linear-tips", 160_000 * 8 + 2000 * 2),
        ("imagenet-knn", "knn-dinov2", 1_281_167 + 50_000),
        ("rooms-video", "video-224", 480),
        ("rooms-scannet", "convex-points", 192 + 80),
        ("rooms-keypoints", "keypoints-224", 719),
        ("scannet-pairs", "views-probe3d-scannet", 2 * 1500),
        ("spair", "spair-dift", 1800),
        ("scannet", "convex-points", 0),
        ("mose", "video-dino", 0),
    ],
)
def test_one_evaluation_costs_its_splits_its_windows_and_its_crops(task: str, protocol: str, images: int) -> None:
    card = spec(task, protocol)
    if protocol == "linear-tips":
        probe, window = card.applied.probe, card.applied.inference
        assert window.mode == "slide"
        images = probe["iterations"] * probe["batch_size"] + 2000 * 2  # two windows cover an image of 4:3
    (found,) = estimate([card], "fp32")
    assert (found.alone, found.shared, found.disk) == (images, images, 0)


def test_a_limit_holds_for_each_split() -> None:
    limited = [("ade20k", "convex"), ("spair", "spair-dift"), ("rooms-video", "video-224"), ("scannet", "convex-points")]
    found = estimate([spec(*names, limit=6) for names in limited], "fp32")
    assert [one.alone for one in found] == [12, 12, 6 * 20, 0], "two images a pair, 20 frames a clip, and of scans it is not known"


def test_of_rooms_as_many_images_are_counted_as_the_settings_ask_for() -> None:
    few = [f"task.data.generator_options.{option}" for option in ("train=8", "val=6", "frames_per_scene=2")]
    names = [
        ("rooms-seg", "convex-224"),
        ("rooms-scannet", "convex-points"),
        ("rooms-retrieval", "retrieval-224"),
        ("rooms-landmarks", None),
    ]
    found = estimate([spec(*name, overrides=few) for name in names], "fp32")
    assert [one.alone for one in found[:3]] == [8 + 6, 8 + 6, 6]
    assert found[3].alone == 5 + 1, "both splits are drawn of `val`: 300 + 60 of 360 images become 5 + 1 of 6"
    whole = 'task.data.generator_options={"layout": "rooms", "train": 4, "val": 2}'
    assert estimate([spec("rooms-seg", "convex-224", overrides=[whole])], "fp32")[0].alone == 6


@pytest.mark.parametrize("task", ["rooms-video", "rooms-keypoints", "rooms-views", "rooms-navi-pairs", "rooms-pf-pascal", "rooms-scannet"])
def test_what_clips_scans_and_pairs_are_made_of_is_said_by_the_cards_of_rooms(task: str) -> None:
    data = spec(task, None).task.data
    assert data.images.keys() == data.expected.keys()


def test_evaluations_of_the_same_images_share_a_pass_and_others_do_not() -> None:
    specs = [
        spec("rooms-seg", "convex-224"),
        spec("rooms-depth", "convex-depth-224"),
        spec("rooms-depth", "convex-depth-224", "tips-nano-random"),
        spec("rooms-depth", "convex-depth"),
        spec("rooms-zeroshot", "tips-values-224"),
    ]
    found = estimate(specs, "fp32")
    assert [one.shared for one in found] == [640, 0, 640, 640, 160]
    assert [one.disk > 0 for one in found] == [True, False, False, False, False]
    assert estimate(specs, "bf16")[0].disk == found[0].disk / 2


def test_oxford_and_paris_are_other_images_and_the_million_more_are_the_same() -> None:
    specs = [spec(task, "roxford") for task in ("roxford5k", "rparis6k", "roxford5k-1m", "rparis6k-1m")]
    found = estimate(specs, "fp32")
    oxford, paris, more, queries = 4993, 6322, 1_001_001, 70
    alone = [oxford + queries, paris + queries, oxford + more + queries, paris + more + queries]
    assert [one.alone for one in found] == alone
    assert [one.shared for one in found] == [oxford + queries, paris + queries, more, 0]
    (limited,) = estimate([spec("rparis6k-1m", "roxford", limit=100)], "fp32")
    assert limited.alone == 170, "a hundred of the database, and all queries"


def test_splits_of_one_name_and_other_numbers_are_other_images() -> None:
    found = estimate([spec("nyu-depth", "convex-depth"), spec("nyu-labelled", "convex-depth"), spec("voc2012", "convex")], "fp32")
    assert [one.shared for one in found] == [24_231 + 654, 795, 1464 + 1449]


def test_what_is_kept_for_later_runs_is_all_that_is_read_again() -> None:
    alone = [spec("ade20k", "convex"), spec("ade20k", "linear-tips"), spec("zeroshot-ade150", "clearclip", "tips-b14")]
    assert [one.disk > 0 for one in estimate(alone, "fp32", keep=True)] == [True, True, False]
    (found,) = estimate([spec("ade20k", "convex", "tips-l14")], "bf16", keep=True)
    assert found.disk == 22210 * 32 * 43 * 1024 * 2, "patches of 448 x 597 pixels by 14 x 1024 numbers x 2 bytes"


def test_of_whole_images_vectors_are_kept_and_no_patches() -> None:
    (found,) = estimate([spec("imagenet-knn", "knn-dinov2")], "fp16", keep=True)
    assert found.disk / (1_281_167 + 50_000) == 2 * 256 * 2


def test_what_half_of_the_free_disk_does_not_take_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec("rooms-seg", "convex-224"), spec("rooms-depth", "convex-depth-224")]
    needed = sum(one.disk for one in estimate(specs, "fp32"))
    for free, jobs, shares in ((2 * needed, 1, True), (2 * needed - 1, 1, False), (8 * needed, 4, True), (8 * needed - 1, 4, False)):
        monkeypatch.setattr("tips_bench.evaluation.estimate.free_bytes", lambda _, free=free: free)
        with shared_passes(specs, RunOptions(out=tmp_path), jobs=jobs) as sharing:
            assert [shared is not None for shared in sharing] == [shares, shares]


def test_a_plan_is_printed_and_nothing_is_evaluated(tmp_path: Path) -> None:
    arguments = ["run", "--task", "rooms-seg,rooms-depth", "--model", "tips-nano", "--dry-run", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-3].split() == ["all", "1,280", "640", "0.2"], "both read the same layer"
    assert not (tmp_path / "out").exists()


def test_a_plan_is_json_where_it_is_asked_for() -> None:
    run = ["run", "--task", "rooms-seg,scannet", "--model", "tips-nano", "--protocol", "convex-224,convex-points", "--dry-run", "--json"]
    rows = json.loads(CliRunner().invoke(app, run).stdout)
    assert [row["images"] for row in rows] == [640, None] and rows[0]["disk_bytes"] is not None and rows[0]["hours"] is None


def test_a_plan_says_of_which_evaluations_it_does_not_know_the_images() -> None:
    arguments = ["run", "--task", "rooms-video,mose", "--model", "tips-nano", "--dry-run"]
    lines = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).stdout.splitlines()
    assert [line.split()[3:] for line in lines if "video-" in line] == [["480", "480", "0.0"], ["-", "-", "-"]]
    assert lines[-2:] == [
        "-: not known, for the card does not say how many images there are.",
        "Not here: the data of mose. How to get them: tips-bench show TASK.",
    ]


def test_cards_that_do_not_fit_together_cost_nothing_and_hinder_no_other() -> None:
    broken = spec("rooms-seg", "convex-224", overrides=["probe.type=magic"])
    found = estimate([broken, spec("rooms-depth", "convex-depth-224")], "fp32")
    assert [one.alone for one in found] == [0, 640]
    assert found[1].shared == 640, "the first encodes nothing that the second could take"


def test_a_plan_with_a_model_that_fails_ends_with_status_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fails_on_import.py").write_text("raise RuntimeError('no')\n")
    done = CliRunner().invoke(app, ["run", "--task", "rooms-seg", "--model", "tips-nano,fails_on_import:build", "--dry-run"])
    assert done.exit_code == 2 and "640" in done.stdout and "fails_on_import" in done.stderr


@pytest.mark.parametrize(
    ("task", "protocol", "sizes"),
    [
        ("rooms-seg", "convex-224", {(224, 299): 480 + 160}),
        ("ade20k", "convex", {(448, 597): 20210 + 2000}),
        ("ade20k", "linear-tips", {(512, 512): 40_000 * 16 + 2000 * 2}),
        ("kitti-depth", "linear-dinov2-kitti", None),
        ("rooms-scannet", "convex-points", {(238, 317): 192 + 80}),
        ("scannet", "convex-points", {}),
    ],
)
def test_what_is_left_is_counted_by_the_size_that_the_network_gets(task: str, protocol: str, sizes: dict[Any, int] | None) -> None:
    (found,) = estimate([spec(task, protocol)], "fp32")
    assert sum(found.sizes.values()) == (found.shared if sizes != {} else 0)
    if sizes is None:
        assert found.sizes[352, 704] == crops(found.spec)
    else:
        assert found.sizes == sizes


def options(**changed: Any) -> RunOptions:
    return RunOptions(device="cpu", **changed)


def test_hours_are_what_is_left_over_the_speed_of_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def rate_of(encoder: Any, batch_size: int, height: int, width: int) -> Rate:
        tried.append((encoder.spec.name, batch_size, height, width))
        return Rate(batch_size, 1e6 / (height * width), 0)

    monkeypatch.setattr(hours, "rate_of", rate_of)
    specs = [spec("rooms-seg", "convex-224"), spec("rooms-depth", "convex-depth-224"), spec("rooms-seg", "convex", "pixels")]
    specs += [spec("scannet", "convex-points")]
    found = estimate(specs, "fp32")
    in_hours = hours.encoder_hours(found, options(batch_size=2), pytest.fail)
    per_pixel = 640 / 1e6 / 3600
    assert in_hours == [pytest.approx(224 * 308 * per_pixel), 0, pytest.approx(448 * 602 * per_pixel), None]
    assert sorted(tried) == [("pixels", 2, 448, 602), ("tips-nano", 2, 224, 308)], "once each, in whole patches"
    assert hours.hours_of_jobs(found, [1.0, 2.0, 2.5, None], 1) == (3, 3.0, 5.5)
    assert hours.hours_of_jobs(found, [1.0, 2.0, 2.5, None], 2) == hours.hours_of_jobs(found, [1.0, 2.0, 2.5, None], None) == (3, 3.0, 3.0)


def test_a_model_that_cannot_be_tried_is_said_and_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(card: Any, *_: Any) -> Any:
        raise UserError("its package is not installed", where=card.name)

    monkeypatch.setattr(hours, "load_encoder", load)
    said: list[UserError] = []
    found = estimate([spec("rooms-seg", "convex-224")], "fp32")
    assert hours.encoder_hours(found, options(), said.append) == [None] and len(said) == 1


@pytest.mark.parametrize(
    ("on", "last"),
    [
        ([], "come on top."),
        (["--on", "local", "--jobs", "2"], "2 jobs, 2 at a time."),
        (["--on", "slurm", "--slurm", "gpus_per_node=8,array_parallelism=1"], "2 jobs, 1 at a time, each by 8 ranks."),
        (["--on", "ray", "--ray", "ranks=4"], "2 jobs, all at a time, each by 4 ranks."),
    ],
)
def test_a_plan_with_a_trial_prints_hours(monkeypatch: pytest.MonkeyPatch, on: list[str], last: str) -> None:
    monkeypatch.setattr(hours, "rate_of", lambda encoder, batch, *size: Rate(batch, 640 / 3600 / 2, 0))
    run = ["run", "--task", "rooms-seg,rooms-depth", "--model", "tips-nano,pixels", "--dry-run", "--trial", "--device", "cpu", *on]
    done = CliRunner().invoke(app, run, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    (total,) = (line.split() for line in lines if line.startswith("all "))
    assert total[-1] == "4.0", "two hours for each model"
    assert lines[-1].endswith(last)
    if on:
        hours_said = {"local": "2.0", "slurm": "0.5", "ray": "0.5"}[on[1]]
        assert lines[-1].startswith(f"--on {on[1]}: {hours_said} hours from start to end")


def test_a_trial_without_a_plan_is_said() -> None:
    done = CliRunner().invoke(app, ["run", "--task", "rooms-seg", "--model", "tips-nano", "--trial"])
    assert done.exit_code == 2 and "Add --dry-run" in done.stderr


def test_probes_trained_on_crops_are_jobs_of_their_own_and_those_of_one_fit_are_one() -> None:
    specs = [
        spec("ade20k", "convex"),
        spec("ade20k", "hummingbird"),
        spec("ade20k", "linear-dinov3"),
        spec("ade20k+fog-3", "linear-dinov3"),
    ]
    keys = [job_key(one) for one in specs]
    assert keys[2] == keys[3] and len(set(keys)) == len({unchanged_images_key(one) for one in specs[:2]}) + 1
    done = [len(job["arguments"]["evaluations"]) for job in jobs_of(specs, vars(RunOptions(metrics=[])))]
    assert sorted(done) == sorted(Counter(keys).values())
    changed = spec("ade20k", "linear-dinov3", overrides=["probe.iterations=7"])
    assert job_key(changed) != keys[2] and unchanged_images_key(changed) == unchanged_images_key(specs[2])


def test_a_note_of_what_is_kept_counts_the_files_that_are_still_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path))
    folder, whole, few = tmp_path / "features" / "an-encoder", spec("ade20k", "convex"), spec("ade20k", "convex", limit=100)
    folder.mkdir(parents=True)
    for name in ("part-a.index", "part-b.index"):
        (folder / name).touch()
    note_passes(few, "fp32", "cpu", folder)
    kept = partial(images_kept, precision="fp32", device=None)
    assert [one.shared for one in estimate([whole, few], "fp32", keep=True, kept=kept)] == [20210 + 2000 - 200, 0]
    note_passes(whole, "fp32", "cpu", folder)
    note_passes(few, "fp32", "cpu", folder)  # does not take the place of the larger one
    assert estimate([whole], "fp32", keep=True, kept=kept)[0].shared == 0
    for other in ({"precision": "bf16", "device": None}, {"precision": "fp32", "device": "cuda"}):
        assert estimate([whole], "fp32", keep=True, kept=partial(images_kept, **other))[0].shared == 22210
    assert estimate([spec("ade20k", "hummingbird")], "fp32", keep=True, kept=kept)[0].shared == 22210, "other layers"
    (folder / "part-a.index").unlink()
    assert estimate([whole], "fp32", keep=True, kept=kept)[0].shared == 22210 - 20210 // 2 - 1000
