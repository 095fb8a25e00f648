"""Whole runs on scans: through the command line, from both sources of frames, after a kill, from a cache."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import open3d as o3d
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.kills import Killed, killed_after
from tests.helpers.scans import write_both, write_task
from tips_bench.cli.app import app
from tips_bench.data.sens import open_sens
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.probes.trained import linear_points as points
from tips_bench.results.comparison import compare
from tips_bench.results.record import Record, load_record

SMALL = {
    "convex-points": ["image.short_side=56", "probe.points_per_scan=400"],
    "linear-lexicon3d": ["image.short_side=56", "probe.points_per_scan=400", "probe.epochs=2", "probe.lr=1e-2", "probe.checkpoint_every=2"],
}
VARYING = {"cost", "created", "command", "pictures", "per_sample", "git_commit", "git_dirty"}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    write_both(folder)
    return folder


@pytest.fixture
def place(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the cards `exported` and `packed` for the same rooms."""
    write_task(tmp_path, "scannet", "exported")
    write_task(tmp_path, "scannet-sens", "packed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", str(drawn))
    return tmp_path


def scored(place: Path, task: str, model: str = "tips-tiny-random", protocol: str = "convex-points", **options: Any) -> Record:
    return evaluate(task, model, protocol=protocol, out=options.pop("out", place / "out"), overrides=SMALL[protocol], **options)


def stable(record: Record) -> dict[str, Any]:
    """What must not differ between two runs of the same thing."""
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@pytest.mark.parametrize("protocol", ["convex-points", "linear-lexicon3d"])
@pytest.mark.parametrize("model", ["pixels", "tips-tiny-random"])
def test_the_command_scores_scans_and_draws_them(place: Path, model: str, protocol: str) -> None:
    sets = [part for value in SMALL[protocol] for part in ("--set", value)]
    arguments = ["run", "--task", "packed", "--model", model, "--protocol", protocol, "--out", "out", "--pictures", "1", *sets]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    path = next((place / "out/packed" / model).glob(f"{protocol}-*.json"))
    record = load_record(path)
    assert set(record.metrics) == {f"{name}_{scored}" for name in ("mIoU", "mAcc", "allAcc") for scored in ("visible", "all")}
    assert 0 <= record.metrics["mIoU_visible"].value < 100 and record.metrics["mIoU_all"].n == 2
    assert record.probe["scored_frames"] == 6 and record.probe["scored_points"] == 48000
    assert 0 < record.probe["scored_points_unseen"] < 48000 and record.cost.image_forwards == 15
    picture = path.with_name(record.pictures[1])
    cloud = o3d.io.read_point_cloud(str(picture.with_suffix(".ply")))
    with Image.open(picture) as image:
        assert image.width > 1200
    assert len(cloud.points) == 3 * 24000 and len(np.unique(np.asarray(cloud.colors), axis=0)) > 10


@pytest.mark.parametrize("protocol", ["convex-points", "linear-lexicon3d"])
def test_both_sources_of_frames_give_the_same_counts_and_so_does_any_batch(place: Path, protocol: str) -> None:
    first = scored(place, "exported", "tips-tiny-random", protocol, batch_size=1)
    second = scored(place, "packed", "tips-tiny-random", protocol, batch_size=1)
    assert first.metrics == second.metrics and first.per_class == second.per_class and first.probe == second.probe
    large = scored(place, "packed", "tips-tiny-random", protocol, batch_size=7, workers=1, out=place / "large")
    for name, value in large.metrics.items():
        assert value.value == pytest.approx(second.metrics[name].value, abs=0.05), "logits that differ in the last bits may turn a tie"


@pytest.mark.parametrize("calls", [2, 8])
def test_a_killed_run_is_taken_up_to_the_same_record(place: Path, calls: int) -> None:
    whole = scored(place, "packed", batch_size=2)
    with killed_after(calls, "_encode"):
        scored(place, "packed", batch_size=2, out=place / "again")
    assert not list((place / "again").rglob("convex-*.json"))
    resumed = scored(place, "packed", batch_size=2, out=place / "again")
    assert stable(resumed) == stable(whole) and resumed.cost.resumed
    assert resumed.cost.image_forwards < 15


def test_a_killed_training_goes_on_from_its_checkpoint(place: Path) -> None:
    whole = scored(place, "packed", protocol="linear-lexicon3d")
    step, count = points.PointTrainee.step, [0]

    def dying(self: Any, iteration: int, batch: int) -> Any:
        count[0] += 1
        if count[0] > 5:
            raise Killed
        return step(self, iteration, batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(points.PointTrainee, "step", dying)
        scored(place, "packed", protocol="linear-lexicon3d", out=place / "again")
    count[0] = -(10**6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(points.PointTrainee, "step", dying)
        resumed = scored(place, "packed", protocol="linear-lexicon3d", out=place / "again")
    assert count[0] + 10**6 == 2, "four of six steps were done"
    assert stable(resumed) == stable(whole)


def test_cached_features_give_the_same_record_without_the_backbone(place: Path) -> None:
    plain = scored(place, "packed")
    filled = scored(place, "packed", out=place / "b", cache=True)
    reused = scored(place, "packed", out=place / "c", cache=True)
    assert stable(plain) == stable(filled) == stable(reused)
    assert (filled.cost.image_forwards, reused.cost.image_forwards) == (15, 0)


def test_records_of_scans_are_compared_pair_by_pair(place: Path) -> None:
    first, second = (scored(place, "packed", weights=weights) for weights in ("random:0", "random:1"))
    found = compare(first, second)
    one = found.metrics["mIoU_visible"]
    assert (one.a, one.b) == (first.metrics["mIoU_visible"].value, second.metrics["mIoU_visible"].value)
    assert len(found.samples) == 2 and {part.name for part in found.classes} >= {"wall", "floor"}


def checked(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = CliRunner().invoke(app, ["data", "check", *arguments, "--json"])
    return done.exit_code, json.loads(done.output)


def test_good_scans_pass_the_data_check(place: Path) -> None:
    code, (train, test) = checked("packed")
    assert code == 0 and train["faults"] == test["faults"] == []
    assert train["facts"] == {"points": "72000", "frames": "9", "frames without a pose, left out": "0"}
    assert train["sizes"] == {"56x56": 3} and sum(train["pixels"].values()) + train["ignored"] == 72000


def test_the_data_check_lists_every_fault_of_every_scan(place: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in ("scannet", "scannet-sens"):
        shutil.copytree(drawn / layout, place / "bad" / layout)
    monkeypatch.setenv("TIPS_BENCH_DATA", str(place / "bad"))
    exported = place / "bad/scannet/scans"
    (exported / "scene0000_00/pose/1.txt").unlink()
    (exported / "scene0001_00/intrinsic/intrinsic_color.txt").write_text("1170 0 647.75 0 0 1170 483.75 0 0 0 1 0 0 0 0 1")
    empty = Image.fromarray(np.zeros((28, 28), np.uint16))
    for number in range(3):
        empty.save(exported / f"scene0002_00/depth/{number}.png")
    shutil.copy(exported / "scene5000_00/scene5000_00_vh_clean_2.ply", exported / "scene5000_00/scene5000_00_vh_clean_2.labels.ply")
    for number in range(3):
        path = exported / f"scene5001_00/depth/{number}.png"
        Image.fromarray(np.asarray(Image.open(path)) // 100).save(path)
    code, (train, test) = checked("exported")
    assert code == 1
    for words, report in (
        ("pose/1.txt: cannot read", train),
        ("the color intrinsics (focal 1170.0 1170.0, centre 647.8 483.8) do not fit images of 56x56 pixels", train),
        ("scene0002_00: the depth of all 3 frames is 0", train),
        ("its vertices have no label", test),
        ("scene5001_00: the median depth is 0.0", test),
    ):
        assert sum(words in fault for fault in report["faults"]) == 1, words
    assert len(train["faults"]) == 3 and len(test["faults"]) == 2
    path = place / "bad/scannet-sens/scans/scene5001_00/scene5001_00.sens"
    end = int(open_sens(path).offsets_F[2])
    path.write_bytes(path.read_bytes()[: end + 10])
    code, (test,) = checked("packed", "--split", "test")
    assert code == 1 and [f"{path}: the file is truncated: it ends in frame 2 of 3" in fault for fault in test["faults"]] == [True]


def test_poses_of_another_scan_are_noticed(place: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(drawn / "scannet", place / "bad/scannet")
    monkeypatch.setenv("TIPS_BENCH_DATA", str(place / "bad"))
    for number in range(3):
        path = place / f"bad/scannet/scans/scene5000_00/pose/{number}.txt"
        np.savetxt(path, np.linalg.inv(np.loadtxt(path)))
    _, (test,) = checked("exported", "--split", "test")
    assert any("scene5000_00: only" in fault and "of something else" in fault for fault in test["faults"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("probe.lifting.tolerance=0", "probe.lifting.tolerance"),
        ("probe.lifting.occlusion=none", "probe.lifting.occlusion"),
        ("probe.lifting.depth=1", "there is no key named 'probe.lifting.depth'"),
        ("probe.max_points=2", "fewer than the 3 training scans"),
        ("image.shape=center-crop", "points outside the crop"),
        ("task.data.options.frame_step=0", "frame_step"),
    ],
)
def test_a_wrong_override_is_one_sentence(place: Path, override: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        evaluate("packed", "pixels", out=place / "out", overrides=[*SMALL["convex-points"], override])
    assert words in str(error.value) and "\n" not in str(error.value)
