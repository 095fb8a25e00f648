"""Whole runs over videos: clips that stand still or move by whole patches score 100, and a killed run is taken up to the same record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.kills import killed_after
from tests.helpers.video_sets import Video, noise, write_davis, write_youtube
from tips_bench.cli.app import app
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.files import digest
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record
from tips_bench.rooms.writing.writers import write_rooms

PATCH = 14
VARYING = {"cost", "created", "command", "pictures", "per_sample"}
SIZE = 6 * PATCH, 9 * PATCH


def still(frames: int, seed: int) -> Video:
    """One frame again and again; the objects are whole patches."""
    images_THW3, ids_THW = noise(frames, 84, 126, seed)
    ids_hw = np.zeros((6, 9), np.uint8)
    ids_hw[1:4, 1:4], ids_hw[3:6, 5:9] = 1, 2
    ids_THW = np.stack([np.kron(ids_hw, np.ones((PATCH, PATCH), np.uint8))] * frames)
    return np.repeat(images_THW3[:1], frames, 0), ids_THW


def moving(frames: int, seed: int) -> Video:
    """The frame moves to the right by a patch each time, and an object with it that stays away from the borders."""
    world_hHW3 = noise(1, 84, 28 * PATCH, seed)[0][0]
    ids_HW = np.zeros((84, 28 * PATCH), np.uint8)
    start = 28 * PATCH - 16 * PATCH
    ids_HW[2 * PATCH : 4 * PATCH, start + 4 * PATCH : start + 7 * PATCH] = 1
    parts = [slice(start - frame * PATCH, start - frame * PATCH + 16 * PATCH) for frame in range(frames)]
    return np.stack([world_hHW3[:, part] for part in parts]), np.stack([ids_HW[:, part] for part in parts])


def card(reader: str, split: str, scored: str, **options: object) -> dict:
    return {
        "name": "videos",
        "family": "video-segmentation",
        "title": "Random videos",
        "version": 1,
        "data": {"reader": reader, "root": "videos", "splits": {"test": split}, "options": options},
        "options": {"scored": scored},
        "protocol": "video-224",
        "protocols": ["video-224", "video-dino", "video-dinov3-notebook", "video-dinov3-paper"],
        "primary": "J&F",
        "license": "none",
        "citation": "none",
        "homepage": "",
        "how_to_get": "They are drawn.",
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    (tmp_path / "tips-bench-cards" / "tasks").mkdir(parents=True)
    put_card(tmp_path, card("davis", "val", "inner"))
    return tmp_path


def put_card(folder: Path, values: dict) -> None:
    (folder / "tips-bench-cards" / "tasks" / "videos.yaml").write_text(yaml.safe_dump(values))


def run(out: Path, model: str = "pixels", changed: tuple[str, ...] = (), **options) -> Record:
    overrides = ["image.short_side=84", "probe.radius=2", "probe.temperature=0.01", *changed]
    return evaluate("videos", model, "video-224", out=out, overrides=overrides, batch_size=3, **options)


def values(record: Record) -> dict[str, float]:
    return {name: metric.value for name, metric in record.metrics.items()}


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


PERFECT = {"J&F": 100, "J": 100, "F": 100, "J recall": 100, "F recall": 100, "J decay": 0, "F decay": 0}


@pytest.mark.parametrize("clip", [still, moving])
def test_a_clip_that_stands_still_or_moves_by_whole_patches_scores_100(folder: Path, clip) -> None:
    write_davis(folder / "data" / "videos", {"a": clip(7, 0), "b": clip(9, 1)})
    record = run(folder / "out", changed=("probe.upsample=nearest", "probe.top_k=1"), pictures=1)
    assert values(record) == pytest.approx(PERFECT)
    assert record.dataset.n == 2 and record.probe == {"scored_objects": 4 if clip is still else 2, "scored_frames": 5 + 7}
    assert record.cost.image_forwards == 6 + 8, "the last frame is not scored, and nothing follows it"
    film = next((folder / "out").rglob("*-1-*.webp"))
    frames = 9 if digest("picture", "b") < digest("picture", "a") else 7
    with Image.open(film) as picture:
        assert picture.n_frames == (1 if clip is still else frames), "equal frames are one"


def test_the_same_frames_with_the_source_s_interpolation_lose_corners_only(folder: Path) -> None:
    write_davis(folder / "data" / "videos", {"a": still(6, 0)})
    found = values(run(folder / "out", changed=("probe.top_k=1",)))
    assert 90 < found["J"] < 100 and 90 < found["F"] < 100


def test_the_mean_is_over_objects_and_not_over_clips(folder: Path) -> None:
    write_davis(folder / "data" / "videos", {"a": noise(5, 84, 126, 0), "b": noise(6, 84, 126, 1)})
    record = run(folder / "out")
    counts_N7 = load_scored(next((folder / "out").rglob("video-224-*.json"))).counts.counts_N
    assert counts_N7[:, 0].tolist() == [2, 2]
    assert record.metrics["J"].value == pytest.approx(100 * counts_N7[:, 1].sum() / 4)
    assert record.metrics["J&F"].value == pytest.approx((record.metrics["J"].value + record.metrics["F"].value) / 2)


@pytest.mark.parametrize("calls", [0, 4, 5])
def test_a_killed_run_is_taken_up_to_the_same_record(folder: Path, calls: int) -> None:
    write_davis(folder / "data" / "videos", {name: noise(7, 84, 126, seed) for seed, name in enumerate("abc")})
    whole = run(folder / "a", "tips-tiny-random")
    with killed_after(calls):
        run(folder / "b", "tips-tiny-random")
    resumed = run(folder / "b", "tips-tiny-random")
    assert stable(resumed) == stable(whole)
    assert resumed.cost.image_forwards == 18 - 6 * (calls // 2), "clips that were scored are not seen again"
    cached = [run(folder / out, "tips-tiny-random", cache=True) for out in "cd"]
    assert stable(cached[0]) == stable(cached[1]) == stable(whole) and cached[1].cost.image_forwards == 0


def test_an_object_that_starts_later_is_followed_from_its_own_mask(folder: Path) -> None:
    images_THW3, ids_THW = still(7, 3)
    ids_THW[:3][ids_THW[:3] == 2] = 0
    write_youtube(folder / "data" / "videos", {"a": (images_THW3, ids_THW), "b": still(5, 4)}, late={"a": {2: 3}})
    put_card(folder, card("youtube-vos", "train", "after-start", holdout=1))
    record = run(folder / "out", changed=("probe.upsample=nearest", "probe.top_k=1"))
    assert values(record) == pytest.approx(PERFECT) and record.probe == {"scored_objects": 4, "scored_frames": 6 + 4}


@pytest.mark.parametrize(("changed", "words"), [
    (("image.patch_multiple=false",), "the patches must cover the frame"),
    (("probe.window=cube",), r"probe\.window"),
    (("probe.context=-1",), r"probe\.context"),
])  # fmt: skip
def test_a_protocol_that_does_not_fit_is_refused(folder: Path, changed: tuple[str, ...], words: str) -> None:
    write_davis(folder / "data" / "videos", {"a": still(4, 0)})
    with pytest.raises(UserError, match=words):
        run(folder / "out", changed=changed)


def test_masks_that_are_not_public_and_clips_that_are_too_short_are_told(folder: Path) -> None:
    write_davis(folder / "data" / "videos", {"a": still(2, 0)})
    with pytest.raises(UserError, match="object 1 has no frame that is scored"):
        run(folder / "out")
    write_davis(folder / "data" / "videos", {"a": still(4, 0)}, "test-dev")
    put_card(folder, card("davis", "test-dev", "inner"))
    with pytest.raises(UserError, match="the masks of split test-dev are not public"):
        run(folder / "out")


def test_masks_for_a_server_are_those_that_are_scored_and_a_clip_that_is_there_is_kept(folder: Path) -> None:
    write_youtube(folder / "data" / "videos", {"a": still(6, 0), "b": still(5, 1)}, "valid", {"a": {2: 3}})
    put_card(folder, card("youtube-vos", "train", "after-start", holdout=1))
    options = [
        "--set",
        "image.short_side=84",
        "--set",
        "probe.upsample=nearest",
        "--set",
        "probe.top_k=1",
        "--set",
        "probe.temperature=0.01",
    ]
    command = ["masks", "--task", "videos", "--split", "valid", "--model", "pixels", "--out", "sent", *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and done.output.startswith("2 clips"), done.output
    for name, frames in (("a", 6), ("b", 5)):
        assert sorted(path.name for path in (folder / "sent" / name).iterdir()) == [f"{frame:05d}.png" for frame in range(frames)]
    with Image.open(folder / "sent/a/00005.png") as found, Image.open(folder / "data/videos/valid/Annotations/a/00003.png") as given:
        assert found.mode == "P" and found.getpalette() == given.getpalette()
        np.testing.assert_array_equal(np.asarray(found), still(1, 0)[1][0])
    with Image.open(folder / "sent/a/00002.png") as found:
        assert set(np.unique(found)) == {0, 1}, "the second object is not there yet"
    (folder / "sent/a/00005.png").unlink()
    assert CliRunner().invoke(app, command).exit_code == 0 and not (folder / "sent/a/00005.png").exists()
    assert CliRunner().invoke(app, [*command[:2], "rooms-seg", *command[3:10]]).exit_code == 2


@pytest.mark.parametrize("protocol", ["video-224", "video-dino", "video-dinov3-notebook", "video-dinov3-paper", "video-vjepa21"])
def test_generated_rooms_are_read_and_scored_under_every_protocol(tmp_path: Path, rooms: Path, protocol: str) -> None:
    sets = [f"task.data.generator_options.{name}={value}" for name, value in ROOMS.items()]
    sizes = ["image.short_side=42", *(["image.long_multiple=14"] if protocol == "video-dino" else [])]
    record = evaluate("rooms-video", "tips-tiny-random", protocol, out=tmp_path, data_root=rooms, overrides=[*sets, *sizes])
    assert record.dataset.n == 2 and 0 <= record.metrics["J&F"].value <= 100 and record.probe["scored_frames"] == 6


ROOMS = {"seed": 0, "train": 0, "val": 10, "size": 48, "frames_per_scene": 5}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    write_rooms("davis", root / "rooms/video-v1", workers=1, **ROOMS)
    return root
