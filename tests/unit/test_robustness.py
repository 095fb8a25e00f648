"""results/robustness.py, leaderboard/curves.py and the command: changed images beside clean ones, pair by pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.scored_records import pair, save_record
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.leaderboard.curves import save_curves
from tips_bench.metrics.segmentation import summary
from tips_bench.results.counts import Scored, load_scored
from tips_bench.results.record import DatasetIdentity, Record
from tips_bench.results.robustness import IN_PLACE, MOVING, robustness
from tips_bench.results.statistics import differences
from tips_bench.results.tables import layout
from tips_bench.variants import Changes

NUMBER, CLASSES = 40, 6


def counts(drop: float, seed: int = 0) -> np.ndarray:
    """Of the second model of a pair, worse by `drop`."""
    return pair(np.random.default_rng(seed), NUMBER, CLASSES, drop=drop)[:, 1]


def saved(folder: Path, drop: float, *, short_side: int = 448, **changes: Any) -> Record:
    """A record of rooms-seg with changes, worse by `drop`."""
    made = Changes(base="rooms-seg", **changes)
    data: dict[str, Any] = {"changes": made.model_dump(mode="json")} if made.name != "rooms-seg" else {}
    fingerprint = made.fingerprint("f" * 64) if made.changes_images else "f" * 64
    trained = "few" if made.few else made.fingerprint("e" * 64) if made.refit else "e" * 64
    data_set = DatasetIdentity(
        name="set",
        split="val",
        n=NUMBER,
        fingerprint=fingerprint,
        train_split="train",
        train_n=9,
        train_fingerprint=trained,
        classes=[f"class {index}" for index in range(CLASSES)],
    )
    protocol = {"name": "convex", "image": {"short_side": short_side}}
    return save_record(
        folder / f"{made.name}.json",
        counts(drop),
        task=made.name,
        dataset=data_set,
        protocol_hash=str(short_side) * 16,
        cards={"task": {"name": made.name, "data": data}, "protocol": protocol},
    )


def loaded(folder: Path) -> list[Scored]:
    return [load_scored(path) for path in sorted(folder.glob("*.json"))]


def test_a_curve_holds_the_clean_score_and_paired_differences(tmp_path: Path) -> None:
    clean = saved(tmp_path, 0.0)
    foggy = [saved(tmp_path, drop, kind="fog", strength=strength) for strength, drop in ((1, 0.05), (3, 0.2), (5, 0.4))]
    (curve,) = robustness(loaded(tmp_path)).curves
    assert (curve.task, curve.change, curve.axis, curve.reference) == ("rooms-seg", "fog", "corruption", clean.metrics["mIoU"].value)
    assert [point.x for point in curve.points] == [1, 3, 5]
    assert [point.score for point in curve.points] == [record.metrics["mIoU"].value for record in foggy]
    expected = differences(np.stack([counts(0.0), counts(0.2)], axis=1), [f"image-{i:05}" for i in range(NUMBER)], summary)["mIoU"]
    assert curve.points[1].difference == expected and curve.points[1].q >= expected.p
    kept = [record.metrics["mIoU"].value / clean.metrics["mIoU"].value for record in foggy]
    assert [point.kept for point in curve.points] == kept and curve.kept == pytest.approx(np.mean(kept))
    assert curve.mean.value == pytest.approx(np.mean([point.difference.value for point in curve.points]))
    assert curve.mean.interval is not None and curve.mean.interval[1] < 0


def test_kinds_that_move_pixels_are_a_mean_of_their_own(tmp_path: Path) -> None:
    saved(tmp_path, 0.0)
    for kind, strengths in (("fog", (1, 2)), ("snow", (2, 3)), ("glass-blur", (1,)), ("motion-blur", (1,))):
        for strength in strengths:
            saved(tmp_path, 0.1 * strength, kind=kind, strength=strength)
    overall = {one.sort: one for one in robustness(loaded(tmp_path)).overall}
    assert (overall[IN_PLACE].kinds, overall[IN_PLACE].strengths) == (["fog", "snow"], [2])
    assert (overall[MOVING].kinds, overall[MOVING].strengths) == (["glass-blur", "motion-blur"], [1])


def test_each_axis_has_the_task_without_it_as_its_reference(tmp_path: Path) -> None:
    saved(tmp_path, 0.0)
    saved(tmp_path, 0.1, rotate=90)
    saved(tmp_path, 0.3, rotate=90, kind="fog", strength=2)
    saved(tmp_path, 0.1, kind="fog", strength=2)
    saved(tmp_path, 0.05, size=896, short_side=896)
    saved(tmp_path, 0.05, few=8)
    saved(tmp_path, 0.05, kind="fog", strength=2, refit=True)
    found = robustness(loaded(tmp_path))
    assert not found.unpaired
    curves = {(curve.task, curve.change): (curve.reference_x, [point.x for point in curve.points]) for curve in found.curves}
    assert curves == {
        ("rooms-seg", "rotation"): (0, [90]),
        ("rooms-seg+fog-2", "rotation"): (0, [90]),
        ("rooms-seg+rotate-90", "fog"): (0, [2]),
        ("rooms-seg", "fog"): (0, [2]),
        ("rooms-seg", "fog, refitted"): (0, [2]),
        ("rooms-seg", "input size"): (448, [896]),
        ("rooms-seg", "training images"): (1, [1 / 8]),
    }


def test_what_has_no_clean_record_or_one_of_other_images_is_left_out_and_named(tmp_path: Path) -> None:
    saved(tmp_path, 0.1, kind="fog", strength=2)
    assert "there is no record of the task without it" in robustness(loaded(tmp_path)).unpaired[0]
    clean = saved(tmp_path, 0.0)
    clean.dataset = clean.dataset.model_copy(update={"fingerprint": "0" * 64})
    clean.save(clean.file)
    found = robustness(loaded(tmp_path))
    assert not found.curves and "its images are not those of the task without it" in found.unpaired[0]


def test_clean_records_alone_are_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    saved(tmp_path, 0.0)
    with pytest.raises(UserError, match=r"ade20k\+fog-1\.\.5"):
        robustness(loaded(tmp_path))


def test_the_command_prints_tables_and_draws_the_same_picture_twice(tmp_path: Path) -> None:
    saved(tmp_path, 0.0)
    for strength in (1, 5):
        saved(tmp_path, 0.08 * strength, kind="fog", strength=strength)
        saved(tmp_path, 0.05 * strength, kind="contrast", strength=strength)
    done = CliRunner().invoke(app, ["robustness", str(tmp_path), "--picture", str(tmp_path / "curves.svg")], catch_exceptions=False)
    assert done.exit_code == 0 and "rooms-seg, tips-b14, convex: fog" in done.stdout and IN_PLACE in done.stdout
    first = (tmp_path / "curves.svg").read_bytes()
    curves = robustness(loaded(tmp_path)).curves
    save_curves(curves, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == first
    save_curves(curves, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.width > 600
    with pytest.raises(UserError, match="End it in"):
        save_curves(curves, tmp_path / "curves.pdf")
    as_json = CliRunner().invoke(app, ["robustness", str(tmp_path), "--json"], catch_exceptions=False)
    assert [curve["change"] for curve in json.loads(as_json.stdout)["curves"]] == ["contrast", "fog"]


def test_a_table_has_one_row_for_a_model_at_all_sizes(tmp_path: Path) -> None:
    saved(tmp_path, 0.0)
    saved(tmp_path, 0.05, size=896, short_side=896)
    saved(tmp_path, 0.05, size=224, short_side=224)
    laid_out = layout([one.record for one in loaded(tmp_path)])
    assert [row.model for row in laid_out.rows] == ["tips-b14"] and len(laid_out.columns) == 3
