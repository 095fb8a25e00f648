"""Evaluations of a task whose name changes its images: corrupted, turned, of another size, with fewer training images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.integration.test_runs import SMALL, Killed, kill_after, stable
from tips_bench.cli.app import app
from tips_bench.evaluation.run import evaluate
from tips_bench.results.record import Record, load_record


def run(shapes: Path, tasks: str, out: str, *more: str) -> dict[str, Record]:
    """Task -> its record, of one command."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    arguments = ["run", "--task", tasks, "--model", "pixels", "--out", str(shapes / out), *settings, *more]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return {record.task: record for record in map(load_record, sorted((shapes / out).glob("shapes*/*/*.json")))}


def test_all_strengths_of_a_task_share_the_head_that_was_fitted_on_clean_images(shapes: Path) -> None:
    found = run(shapes, "shapes,shapes+gaussian-noise-1..3,shapes+rotate-90", "out")
    names = ["shapes", *(f"shapes+gaussian-noise-{strength}" for strength in (1, 2, 3)), "shapes+rotate-90"]
    assert list(found) == sorted(names)
    assert [found[name].cost.image_forwards for name in names] == [14 + 8, 8, 8, 8, 8]
    assert len({json.dumps(record.probe, sort_keys=True) for record in found.values()}) == 1
    assert len({record.dataset.train_fingerprint for record in found.values()}) == 1
    assert len({record.dataset.fingerprint for record in found.values()}) == 5
    assert len({record.protocol_hash for record in found.values()}) == 1
    assert not list((shapes / "out").glob(".*"))


def test_the_record_names_what_was_changed(shapes: Path) -> None:
    record = evaluate("shapes+fog-2+rotate-270", "pixels", out=shapes / "out", overrides=SMALL, pictures=1)
    assert record.task == "shapes+fog-2+rotate-270" and record.cards["task"]["name"] == record.task
    assert record.cards["task"]["data"]["changes"] | {"size": None} == record.cards["task"]["data"]["changes"]
    assert {key: record.cards["task"]["data"]["changes"][key] for key in ("base", "kind", "strength", "rotate")} == {
        "base": "shapes",
        "kind": "fog",
        "strength": 2,
        "rotate": 270,
    }


def test_a_head_that_is_shared_gives_the_record_of_a_run_of_its_own(shapes: Path) -> None:
    shared = run(shapes, "shapes,shapes+fog-2", "a")["shapes+fog-2"]
    alone = evaluate("shapes+fog-2", "pixels", out=shapes / "b", overrides=SMALL)
    assert stable(shared) == stable(alone)
    counts = [np.load(record.file.with_name(record.per_sample))["counts"] for record in (shared, alone)]
    assert np.array_equal(*counts)


@pytest.mark.parametrize(
    ("protocol", "settings"),
    [
        ("hummingbird-224", []),
        pytest.param("hummingbird-224", ["probe.search={type: ivf, lists: 4, probes: 2}"], marks=pytest.mark.nightly),
        pytest.param("knn-capi", ["selection.fraction=0.5"], marks=pytest.mark.nightly),
    ],
)
def test_a_memory_that_is_shared_outlives_the_run_that_filled_it(shapes: Path, protocol: str, settings: list[str]) -> None:
    card = shapes / "tips-bench-cards" / "tasks" / "shapes.yaml"
    card.write_text(card.read_text().replace("- convex-224\n", f"- {protocol}\n"))
    changes = [word for setting in ["image.short_side=56", *settings] for word in ("--set", setting)]
    arguments = ["run", "--task", "shapes,shapes+fog-2", "--model", "pixels", "--protocol", protocol, "--out", str(shapes / "a"), *changes]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (shared,) = map(load_record, (shapes / "a" / "shapes+fog-2").glob("*/*.json"))
    alone = evaluate("shapes+fog-2", "pixels", protocol, out=shapes / "b", overrides=changes[1::2])
    assert stable(shared) == stable(alone) and shared.cost.image_forwards == 8


def test_a_killed_run_on_changed_images_is_taken_up_to_the_same_record(shapes: Path) -> None:
    whole = evaluate("shapes+glass-blur-2", "pixels", out=shapes / "a", overrides=SMALL)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 8)
        evaluate("shapes+glass-blur-2", "pixels", out=shapes / "b", overrides=SMALL, batch_size=2)
    resumed = evaluate("shapes+glass-blur-2", "pixels", out=shapes / "b", overrides=SMALL, batch_size=2)
    assert resumed.metrics == whole.metrics and resumed.cost.resumed and resumed.cost.image_forwards < 22


def test_a_color_is_learnt_whatever_the_rotation_and_lost_under_noise(shapes: Path) -> None:
    found = run(shapes, "shapes,shapes+rotate-180,shapes+gaussian-noise-5,shapes+gaussian-noise-5+refit", "out")
    value = {name: record.metrics["mIoU"].value for name, record in found.items()}
    assert value["shapes+rotate-180"] == pytest.approx(value["shapes"], abs=6)
    assert value["shapes+gaussian-noise-5"] < value["shapes"]
    refit = found["shapes+gaussian-noise-5+refit"]
    assert refit.cost.image_forwards == 14 + 8 and refit.dataset.train_fingerprint != found["shapes"].dataset.train_fingerprint


def test_a_size_changes_the_protocol_and_a_share_the_training_split(shapes: Path) -> None:
    more: list[Any] = ["probe.max_patches=600"]
    large = evaluate("shapes@112+few-2", "pixels", out=shapes / "out", overrides=more)
    assert large.dataset.train_n == 7 and large.cards["protocol"]["image"]["short_side"] == 112
    assert large.protocol_hash != evaluate("shapes", "pixels", out=shapes / "out", overrides=[*more, "image.short_side=84"]).protocol_hash


def test_a_plan_counts_the_fit_once(shapes: Path) -> None:
    tasks = "rooms-seg,rooms-seg+fog-1..2,rooms-seg+fog-1+few-2"
    done = CliRunner().invoke(app, ["run", "--task", tasks, "--model", "tips-nano", "--dry-run"], catch_exceptions=False)
    shared = [int(line.split()[4].replace(",", "")) for line in done.stdout.splitlines() if line.startswith("rooms-seg")]
    assert shared == [640, 160, 160, 240]


def test_a_run_in_jobs_shares_the_head_and_status_lists_the_whole_names(shapes: Path) -> None:
    found = run(shapes, "shapes,shapes+fog-1", "out", "--on", "local", "--jobs", "1")
    assert [record.cost.image_forwards for record in found.values()] == [22, 8]
    done = CliRunner().invoke(app, ["status", str(shapes / "out"), "--json"])
    assert {row["task"]: row["state"] for row in json.loads(done.stdout)} == {"shapes": "done", "shapes+fog-1": "done"}
