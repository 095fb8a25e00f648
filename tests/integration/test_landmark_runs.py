"""Whole runs of ranked retrieval: plain loops over all pairs, cut and whole queries, scales, kills, and generated rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers.kills import killed_after
from tests.helpers.landmark_sets import write_amstertime, write_gldv2, write_revisited
from tips_bench import load_encoder
from tips_bench.cards import FeatureCard, load_card
from tips_bench.data.amstertime import amstertime
from tips_bench.data.gldv2 import gldv2
from tips_bench.data.revisited import revisited
from tips_bench.evaluation.run import evaluate
from tips_bench.features.extract import Extractor
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record
from tips_bench.rooms.writing.writers import write_rooms

VARYING = {"cost", "created", "command", "pictures", "per_sample"}
TINY = "tips-tiny-random"


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_revisited(tmp_path / "data" / "revisitop", others=3)
    write_amstertime(tmp_path / "data" / "amstertime")
    write_gldv2(tmp_path / "data" / "gldv2", places=7)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    return tmp_path


def run(out: Path, protocol: str, task: str = "roxford5k", **options) -> Record:
    return evaluate(task, TINY, protocol, out=out, overrides=[small(protocol)], batch_size=3, **options)


def small(protocol: str) -> str:
    """A small size of its images."""
    return {"amstertime": "image.short_side=28", "dinov3-retrieval": "image.framed=42"}.get(protocol, "image.thumbnail=42")


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@torch.inference_mode()
def tokens(reader, protocol: str, size: str) -> np.ndarray:
    """Global tokens of all images, one at a time, length 1, float64 [N,D]."""
    encoder, card = load_encoder(TINY, device="cpu"), load_card("protocol", protocol, [size])
    extractor, found = Extractor(encoder, card.image, FeatureCard()), []
    for index in range(len(reader)):
        pixels_13HW = extractor.pixels(reader.load(index).image_HW3)[None]
        scaled = [
            pixels_13HW if scale == 1 else F.interpolate(pixels_13HW, scale_factor=scale, mode="bilinear", align_corners=False)
            for scale in card.inference.scales
        ]
        every = [encoder.encode_image(extractor.normalized(extractor.fitted(one))).globals_BKD[0, 0] for one in scaled]
        found.append(torch.stack(every).double().mean(0).numpy())
    tokens_ND = np.stack(found)
    return tokens_ND / np.linalg.norm(tokens_ND, axis=1, keepdims=True)


def plain_precision(near_N: np.ndarray, ids: list[str], right: set[str], junk: set[str]) -> float:
    """The area under precision and recall by trapezoids, by a walk down the ranking."""
    hits, rank, area = 0, 0, 0.0
    for _, id in sorted(zip(-near_N, ids, strict=True)):
        if id in junk:
            continue
        if id in right:
            before = 1.0 if rank == 0 else hits / rank
            hits += 1
            area += (before + hits / (rank + 1)) / 2 / len(right)
        rank += 1
    return area


@pytest.mark.parametrize(
    ("task", "protocol"),
    [
        ("roxford5k", "roxford"),
        ("roxford5k", "roxford-whole"),
        ("roxford5k", "dino-retrieval-multiscale"),
        ("roxford5k", "dinov3-retrieval"),
        ("roxford5k-1m", "roxford"),
    ],
)
def test_the_numbers_are_those_of_plain_loops(sets: Path, task: str, protocol: str) -> None:
    record = run(sets / "out", protocol, task, pictures=1)
    options = {"dataset": "roxford5k", "distractors": task == "roxford5k-1m"}
    query, database = (revisited("data/revisitop", split, **options) for split in ("query", "database"))
    query = query.cropped() if protocol in ("roxford", "dinov3-retrieval") else query
    near_QN = tokens(query, protocol, small(protocol)) @ tokens(database, protocol, small(protocol)).T
    found: dict[str, list[float]] = {"easy": [], "medium": [], "hard": []}
    for place, near_N in enumerate(near_QN):
        easy, hard, junk = (set(query.answers(place)[kind]) for kind in ("easy", "hard", "junk"))
        for setting, right, left_out in (("easy", easy, hard | junk), ("medium", easy | hard, junk), ("hard", hard, easy | junk)):
            found[setting].append(plain_precision(near_N, database.ids, right, left_out))
    for setting, values in found.items():
        assert record.metrics[f"mAP-{setting}"].value == pytest.approx(100 * np.mean(values), abs=1e-9)
    assert (record.dataset.n, record.dataset.train_n) == (4, len(database)) and record.probe["queries without a right image"] == 0
    path = next((sets / "out").rglob(f"{protocol}-*.json"))
    assert load_scored(path).record == record and all((path.parent / name).is_file() for name in record.pictures)


def test_both_directions_are_those_of_plain_loops_and_no_image_is_encoded_twice(sets: Path) -> None:
    record = run(sets / "out", "amstertime", "amstertime", pictures=1)
    reader = amstertime("data/amstertime", "query")
    tokens_ND = tokens(reader, "amstertime", "image.short_side=28")
    new_PD, old_PD = tokens_ND[:6], tokens_ND[6:]
    found = {}
    for direction, near_QN in (("old to new", old_PD @ new_PD.T), ("new to old", new_PD @ old_PD.T)):
        found[direction] = 100 * np.mean([1 / (1 + (near_N > near_N[place]).sum()) for place, near_N in enumerate(near_QN)])
    assert record.per_class["direction mAP"] == pytest.approx(found)
    assert record.metrics["mAP"].value == pytest.approx(np.mean(list(found.values())))
    assert record.cost.image_forwards == 12 and record.dataset.n == 12


def test_an_index_is_searched_as_by_plain_loops(sets: Path) -> None:
    record = run(sets / "out", "gldv2", "gldv2", pictures=1)
    query, index = (gldv2("data/gldv2", split) for split in ("private", "index"))
    found = []
    for place, near_N in enumerate(tokens(query, "gldv2", small("gldv2")) @ tokens(index, "gldv2", small("gldv2")).T):
        ranking = [index.ids[row] for row in np.argsort(-near_N)]
        ranks = sorted(ranking.index(id) for id in query.answers(place)["right"])
        found.append(np.mean([(hits + 1) / (rank + 1) for hits, rank in enumerate(ranks)]))
    assert record.metrics["mAP"].value == pytest.approx(100 * np.mean(found), abs=1e-9)
    assert record.per_class["direction mAP"] == {"test to index": record.metrics["mAP"].value}
    assert (record.dataset.n, record.dataset.train_n, record.cost.image_forwards) == (3, 21, 24)
    assert run(sets / "out", "gldv2", "gldv2-public").dataset.n == 3


@pytest.mark.parametrize(("task", "protocol", "calls"), [("roxford5k", "roxford", 4), ("amstertime", "amstertime", 2)])
def test_a_killed_run_is_taken_up_to_the_same_record(sets: Path, task: str, protocol: str, calls: int) -> None:
    whole = run(sets / "a", protocol, task)
    with killed_after(calls):
        run(sets / "b", protocol, task)
    resumed = run(sets / "b", protocol, task)
    assert stable(resumed) == stable(whole) and resumed.cost.resumed


def test_protocols_of_one_size_share_what_was_encoded(sets: Path) -> None:
    first = run(sets / "out", "roxford", cache=True)
    again = run(sets / "out", "roxford-whole", cache=True)
    assert (first.cost.image_forwards, again.cost.image_forwards) == (16 + 4, 4), "only the whole queries are new"
    assert stable(again) == stable(run(sets / "alone", "roxford-whole"))


def test_a_limit_says_how_many_queries_have_no_right_image(sets: Path) -> None:
    record = run(sets / "out", "roxford", limit=2)
    assert record.probe["queries without a right image"] >= 1 and record.dataset.n == 2


@pytest.mark.parametrize(
    ("task", "layout", "folder", "frames", "val"),
    [
        ("rooms-landmarks", "roxford5k", "landmarks-v1", 3, 6),
        ("rooms-then-now", "amstertime", "then-now-v2", 1, 3),
        ("rooms-gldv2", "gldv2", "gldv2-v1", 4, 16),
    ],
)
def test_generated_rooms_are_read_and_scored(tmp_path: Path, task: str, layout: str, folder: str, frames: int, val: int) -> None:
    options = {"seed": 0, "train": 0, "val": val, "size": 64, "frames_per_scene": frames}
    write_rooms(layout, tmp_path / "rooms" / folder, workers=1, **options)
    overrides = [f"task.data.generator_options.{name}={value}" for name, value in options.items()]
    record = evaluate(task, TINY, out=tmp_path / "out", data_root=tmp_path, overrides=overrides)
    assert 0 < record.metrics[load_card("task", task).primary].value <= 100
