"""Sets on disk: the same bytes always, whole or absent, and what they say agrees with what was drawn."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest
from PIL import Image

from tips_bench.errors import UserError
from tips_bench.rooms.drawing.classes import CLASSES
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing import writers
from tips_bench.rooms.writing.writers import Manifest, write_rooms

OPTIONS = {"seed": 5, "train": 5, "val": 3, "size": 64, "frames_per_scene": 2}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    root = tmp_path_factory.mktemp("sets") / "rooms"
    return root, write_rooms("rooms", root, workers=1, **OPTIONS)


def tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_two_workers_write_the_bytes_of_one(written: tuple[Path, Manifest], tmp_path: Path) -> None:
    write_rooms("rooms", tmp_path / "again", workers=2, **OPTIONS)
    assert tree(tmp_path / "again") == tree(written[0])


def test_another_seed_gives_other_pictures(written: tuple[Path, Manifest], tmp_path: Path) -> None:
    other = write_rooms("rooms", tmp_path / "other", workers=1, **(OPTIONS | {"seed": 6}))
    images = [name for name in other.files if name.startswith("images")]
    assert not {other.files[n] for n in images} & {written[1].files[n] for n in images}


def test_a_room_does_not_depend_on_how_many_are_asked_for(written: tuple[Path, Manifest], tmp_path: Path) -> None:
    fewer = write_rooms("rooms", tmp_path / "fewer", workers=1, **(OPTIONS | {"train": 2, "val": 2}))
    whole = {name: digest for name, digest in fewer.files.items() if name not in ("captions.jsonl",)}
    assert whole.items() <= written[1].files.items()


def test_the_manifest_lists_every_file_with_its_hash(written: tuple[Path, Manifest]) -> None:
    root, manifest = written
    files = tree(root)
    del files["manifest.json"]
    assert manifest.files == files and Manifest.read(root) == manifest and manifest.faults(root) == []
    assert (manifest.seed, manifest.size, manifest.counts) == (5, 64, {"train": 5, "val": 3})


def test_a_changed_and_a_missing_file_are_found(tmp_path: Path) -> None:
    manifest = write_rooms("voc2012", tmp_path / "set", train=1, val=1, size=32, workers=1)
    first, second = sorted(manifest.files)[:2]
    (tmp_path / "set" / first).write_bytes(b"x")
    (tmp_path / "set" / second).unlink()
    assert len(faults := manifest.faults(tmp_path / "set")) == 2 and first in faults[0] and second in faults[1]


def test_train_and_val_share_no_room_and_stems_carry_the_room(written: tuple[Path, Manifest]) -> None:
    root, manifest = written
    stems = {split: [p.stem for p in sorted((root / "images" / split).iterdir())] for split in ("train", "val")}
    assert [len(stems[s]) for s in ("train", "val")] == [5, 3]
    assert not {manifest.groups[s] for s in stems["train"]} & {manifest.groups[s] for s in stems["val"]}
    clouds = [digest for name, digest in manifest.files.items() if name.startswith(("points", "images"))]
    assert len(set(clouds)) == len(clouds)
    assert all(stem.rsplit("_", 1)[0] == group for stem, group in manifest.groups.items())
    assert [len(set(manifest.groups[s] for s in stems[split])) for split in ("train", "val")] == [3, 2]


def test_files_hold_what_was_drawn(written: tuple[Path, Manifest]) -> None:
    root, _ = written
    drawn = room(5, "train", 1, frames=2, size=64)
    frame, stem = drawn.frames[1], "train/train00001_01"
    np.testing.assert_array_equal(np.array(Image.open(root / f"labels/{stem}.png")), frame.classes_HW)
    np.testing.assert_array_equal(np.array(Image.open(root / f"instances/{stem}.png")), frame.instances_HW)
    depth = np.array(Image.open(root / f"depth/{stem}.png"))
    assert depth.dtype == np.uint16 and np.abs(depth / 1000 - frame.depth_HW).max() <= 0.00051
    normals = np.array(Image.open(root / f"normals/{stem}.png")) / 127.5 - 1
    assert np.abs(normals - frame.normals_HW3).max() < 0.004
    image = np.array(Image.open(root / f"images/{stem}.jpg"))
    assert image.shape == (64, 64, 3) and np.abs(image.astype(float) - frame.image_HW3).mean() < 4
    camera = json.loads((root / f"cameras/{stem}.json").read_text())
    np.testing.assert_array_equal(camera["pose"], frame.camera.pose_44)
    np.testing.assert_array_equal(camera["intrinsics"], frame.camera.intrinsics_33)


def test_captions_and_classes_cover_the_set(written: tuple[Path, Manifest]) -> None:
    root, _ = written
    lines = [json.loads(line) for line in (root / "captions.jsonl").read_text().splitlines()]
    assert sorted(line["image"] for line in lines) == sorted(str(p.relative_to(root)) for p in (root / "images").rglob("*.jpg"))
    assert all(line["web"] and line["synthetic"].endswith(".") for line in lines)
    classes = json.loads((root / "classes.json").read_text())
    assert classes["classes"] == [c.name for c in CLASSES] and len(classes["palette"]) == len(CLASSES) >= 16


def test_open3d_reads_the_point_clouds(written: tuple[Path, Manifest]) -> None:
    root, manifest = written
    clouds = sorted((root / "points").iterdir())
    assert {p.stem for p in clouds} == set(manifest.groups.values())
    cloud = o3d.t.io.read_point_cloud(str(clouds[0]))
    labels = cloud.point["label"].numpy()
    assert len(labels) == len(cloud.point["positions"]) > 10_000 and labels.max() < len(CLASSES) and len(np.unique(labels)) >= 8
    assert cloud.point["colors"].numpy().dtype == np.uint8 and cloud.point["instance"].numpy().min() >= 1


def test_a_set_that_is_there_is_kept_and_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set"
    made = write_rooms("ade20k", root, train=1, val=1, size=32, workers=1)
    monkeypatch.setattr(writers, "_run", None)
    assert write_rooms("ade20k", root, train=1, val=1, size=32, workers=1) == made
    with pytest.raises(UserError, match=r"rooms generated with other options.*size 32 instead of 48"):
        write_rooms("ade20k", root, train=1, val=1, size=48, workers=1)


def test_the_slower_of_two_writers_of_one_set_returns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, options = writers._run, {"train": 1, "val": 1, "size": 32, "workers": 1}

    def overtaken(*arguments: object) -> object:
        monkeypatch.setattr(writers, "_run", run)
        write_rooms("ade20k", tmp_path / "set", **options)
        return run(*arguments)

    monkeypatch.setattr(writers, "_run", overtaken)
    made = write_rooms("ade20k", tmp_path / "set", **options)
    assert made == Manifest.read(tmp_path / "set") and made.faults(tmp_path / "set") == []
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="files that are not generated rooms"):
        write_rooms("rooms", tmp_path, train=1, val=1, size=32, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": -1}, "train = -1"),
        ({"size": 4}, "size = 4"),
        ({"workers": 0}, "workers = 0"),
        ({"frames_per_scene": 0}, "frames_per_scene = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"train": 0, "val": 0}, r"train \+ val = 0"),
        ({"layout": "ade20"}, "Did you mean 'ade20k'"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_value(change: dict, message: str, tmp_path: Path) -> None:
    options = {"layout": "rooms", "train": 1, "val": 1, "size": 32, "workers": 1} | change
    with pytest.raises(UserError, match=message):
        write_rooms(root=tmp_path / "set", **options)
    assert not any(tmp_path.iterdir())


def test_a_place_that_takes_no_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_rooms("rooms", tmp_path / "file" / "set", train=1, val=1, size=32, workers=1)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
        (folder / "part").write_bytes(b"x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers, "_put", full)
    with pytest.raises(UserError, match="No space left"):
        write_rooms("rooms", tmp_path / "set", train=1, val=1, size=32, workers=1)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_generation_that_is_stopped_leaves_no_set_and_no_process(how: signal.Signals, tmp_path: Path) -> None:
    call = f"write_rooms('rooms', Path({str(tmp_path / 'set')!r}), train=400, val=4, workers=2)"
    code = f"from pathlib import Path; from tips_bench.rooms.writing.writers import write_rooms; {call}"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".set.*.tmp/images/train/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, how)
    assert process.wait(30) != 0
    assert not (tmp_path / "set").exists()
    while _members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _members(process.pid)
    if how == signal.SIGINT:
        assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_workers_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    here, script = tmp_path / "here", tmp_path / "bin" / "rooms"
    for name in ("signal", "pickle", "socket", "struct", "threading", "tempfile", "numpy", "tips_bench", "sitecustomize"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write(__name__)\n")
    script.parent.mkdir()
    script.write_text(
        "from pathlib import Path\nfrom tips_bench.rooms.writing.writers import write_rooms\n"
        f"if __name__ == '__main__':\n    write_rooms('rooms', Path({str(tmp_path / 'set')!r}), train=2, val=2, size=32, workers=2)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"} | {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, str(script)], cwd=here, env=environment, check=True)
    assert (tmp_path / "set" / "manifest.json").is_file()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("before", [None, "0"])
def test_the_environment_is_as_before_once_workers_run(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    with pytest.raises(RuntimeError), writers._without_current_folder():
        assert os.environ["PYTHONSAFEPATH"] == "1"
        raise RuntimeError
    assert os.environ.get("PYTHONSAFEPATH") == before


def test_rooms_that_a_killed_process_left_half_done_are_removed_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / f".set.{2**22 + 1}-0a1b2c3d.tmp" / "images").mkdir(parents=True)
    write_rooms("rooms", tmp_path / "set", train=1, val=1, size=32, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def _members(group: int) -> bool:
    """Whether a process group still has living members."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
