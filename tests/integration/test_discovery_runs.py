"""Whole runs without labels: object discovery on rooms against plain loops, and clusters of the scored split; both after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.kills import killed_after
from tips_bench import load_encoder
from tips_bench.data.boxes import voc_boxes
from tips_bench.data.images import to_pixels
from tips_bench.evaluation.run import evaluate
from tips_bench.metrics.discovery import overlap
from tips_bench.probes.training_free.discovery import lost, tokencut
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record
from tips_bench.rooms.writing.writers import write_rooms

BOXES = {"seed": 0, "train": 0, "val": 6, "size": 112, "frames_per_scene": 2}
MAPS = {"seed": 0, "train": 2, "val": 6, "size": 56, "frames_per_scene": 2}
FEW = ["image.short_side=56", "probe.components=8", "probe.restarts=2", "probe.iterations=10", "probe.clusters=12"]
MODEL, PATCH = "tips-tiny-random", 14
VARYING = {"cost", "created", "command", "pictures", "per_sample"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_rooms("voc2007-boxes", root / "rooms/boxes-v1", workers=1, **BOXES)
    write_rooms("rooms", root / "rooms/seg-v1", workers=1, **MAPS)
    return root


def run(data: Path, out: Path, protocol: str, **options) -> Record:
    task, sizes, sets = ("rooms-seg", MAPS, FEW) if protocol.startswith("kmeans") else ("rooms-discovery", BOXES, [])
    overrides = [*sets, *(f"task.data.generator_options.{name}={value}" for name, value in sizes.items())]
    return evaluate(task, MODEL, protocol, out=out, data_root=data, overrides=overrides, batch_size=2, **options)


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@torch.inference_mode()
def plain(data: Path, protocol: str) -> list[bool]:
    """Whether each image's box is correct, image by image."""
    encoder, correct = load_encoder(MODEL, device="cpu"), []
    reader = voc_boxes(data / "rooms/boxes-v1", "val")
    for index in range(len(reader)):
        sample = reader.load(index)
        height, width = sample.image_HW3.shape[:2]
        pixels_3HW = torch.nn.functional.pad(to_pixels(sample.image_HW3), (0, -width % PATCH, 0, -height % PATCH))
        if protocol == "tokencut-dinov3":
            features_hwD = encoder.encode_image(pixels_3HW[None], layers=(-1,), norm=True).patches[0][0]
        else:
            before_hwD = encoder.encode_image(pixels_3HW[None], layers=(-2,), norm=False).patches[0]
            features_hwD = encoder.facet(before_hwD, "key")[0]
        found = lost(features_hwD, 100) if protocol == "lost" else tokencut(features_hwD, 0.2, 1e-5)
        left, top, right, bottom = (PATCH * found.box_4).tolist()
        intersection_N, union_N = overlap(np.array([left, top, min(right, width), min(bottom, height)]), sample.boxes_N4)
        correct.append(bool((intersection_N / union_N >= 0.5).any()))
    return correct


@pytest.mark.parametrize("protocol", ["lost", "tokencut", "tokencut-dinov3"])
def test_corloc_is_that_of_plain_loops(data: Path, tmp_path: Path, protocol: str) -> None:
    record = run(data, tmp_path, protocol, pictures=2)
    correct = plain(data, protocol)
    assert record.metrics["CorLoc"].value == pytest.approx(100 * np.mean(correct), abs=1e-9)
    assert record.dataset.n == len(correct) and record.cost.image_forwards == len(correct)
    path = next(tmp_path.rglob(f"{protocol}-*.json"))
    counts = load_scored(path).counts
    assert counts.counts_N[:, 0].tolist() == correct and len(set(counts.groups)) <= 3
    assert all((path.parent / name).is_file() for name in record.pictures) and len(record.pictures) == 3


@pytest.mark.parametrize(("protocol", "calls"), [("tokencut", 2), ("kmeans-224", 1), ("kmeans-224", 4)])
def test_a_killed_run_is_taken_up_to_the_same_record(data: Path, tmp_path: Path, protocol: str, calls: int) -> None:
    whole = run(data, tmp_path / "a", protocol)
    with killed_after(calls):
        run(data, tmp_path / "b", protocol)
    resumed = run(data, tmp_path / "b", protocol)
    assert stable(resumed) == stable(whole) and resumed.cost.resumed
    assert resumed.cost.image_forwards < whole.cost.image_forwards


def test_clusters_are_fitted_on_the_scored_split_and_read_no_training_image(data: Path, tmp_path: Path) -> None:
    record = run(data, tmp_path, "kmeans-224", pictures=1)
    assert record.dataset.n == 6 and not record.dataset.train_n
    assert record.probe == {"patches": 6 * 16, "clusters": 12, "fitted on": 6 * 16}
    assert record.cost.image_forwards == 12, "a pass for the clusters and one for the scores"
    assert 0 < record.metrics["mIoU"].value < 100
