"""evaluation/estimate.py and sharing.py: what evaluations would ask of the backbone, from their cards alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.evaluation.estimate import estimate, shared_passes
from tips_bench.evaluation.run import RunOptions
from tips_bench.evaluation.spec import Spec, resolve


def spec(task: str, protocol: str, model: str = "tips-nano", **options: Any) -> Spec:
    return resolve(task, model, protocol, **options)


@pytest.mark.parametrize(
    ("task", "protocol", "images"),
    [
        ("rooms-seg", "convex-224", 480 + 160),
        ("rooms-zeroshot", "tips-values-224", 160),
        ("ade20k", "convex", 20210 + 2000),
        ("ade20k", "linear-tips", 160_000 * 8 + 2000 * 2),
        ("imagenet-knn", "knn-dinov2", 1_281_167 + 50_000),
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
    (found,) = estimate([spec("ade20k", "convex", limit=100)], "fp32")
    assert found.alone == 200


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
    for free, shares in ((2 * needed, True), (2 * needed - 1, False)):
        monkeypatch.setattr("tips_bench.evaluation.estimate.free_bytes", lambda _, free=free: free)
        with shared_passes(specs, RunOptions(out=tmp_path)) as sharing:
            assert [shared is not None for shared in sharing] == [shares, shares]


def test_a_plan_is_printed_and_nothing_is_evaluated(tmp_path: Path) -> None:
    arguments = ["run", "--task", "rooms-seg,rooms-depth", "--model", "tips-nano", "--plan", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-3].split() == ["all", "1,280", "640", "0.2"], "both read the same layer"
    assert not (tmp_path / "out").exists()


def test_cards_that_do_not_fit_together_cost_nothing_and_hinder_no_other() -> None:
    broken = spec("rooms-seg", "convex-224", overrides=["probe.type=magic"])
    found = estimate([broken, spec("rooms-depth", "convex-depth-224")], "fp32")
    assert [one.alone for one in found] == [0, 640]
    assert found[1].shared == 640, "the first encodes nothing that the second could take"


def test_a_plan_with_a_model_that_fails_ends_with_status_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("raise RuntimeError('no')\n")
    done = CliRunner().invoke(app, ["run", "--task", "rooms-seg", "--model", "tips-nano,mine:build", "--plan"])
    assert done.exit_code == 2 and "640" in done.stdout and "mine" in done.stderr
