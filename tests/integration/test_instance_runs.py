"""Whole runs of instance retrieval: plain loops over all pairs, one index or several, after a kill, and generated rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from tests.helpers.kills import killed_after
from tests.helpers.whole_sets import write_uned
from tips_bench import load_encoder
from tips_bench.cards import FeatureCard, load_card
from tips_bench.cli.app import app
from tips_bench.data.uned import uned
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.features.extract import Extractor
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record
from tips_bench.rooms.writing.writers import write_rooms

DOMAINS = {"cars": "test", "met": "index"}
SMALL = ["image.short_side=28"]
VARYING = {"cost", "created", "command", "pictures", "per_sample"}


def lists() -> dict:
    """19 cars of 5 classes, of which each is a query; 7 works of art as queries, one of two classes, for 12 of 4 classes."""
    cars = [(f"cars/{image}.png", image % 5) for image in range(19)]
    index = [(f"met/MET/{image}.png", image % 4) for image in range(12)]
    query = [(f"met/test/{image}.png", [image % 4, 2] if image == 3 else image % 3) for image in range(7)]
    return {("cars", "test"): cars, ("met", "index"): index, ("met", "test"): query}


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_uned(tmp_path / "data" / "two", lists())
    card = {
        "name": "two",
        "family": "instance-retrieval",
        "title": "Two domains of coloured squares",
        "version": 1,
        "data": {
            "reader": "uned",
            "root": "two",
            "splits": {"train": "index", "test": "query"},
            "options": {"domains": DOMAINS},
        },
        "protocol": "uned",
        "protocols": ["uned", "uned-separate"],
        "primary": "R@1",
        "license": "none",
        "citation": "none",
        "homepage": "",
        "how_to_get": "It is drawn.",
    }
    (tmp_path / "tips-bench-cards" / "tasks").mkdir(parents=True)
    (tmp_path / "tips-bench-cards" / "tasks" / "two.yaml").write_text(yaml.safe_dump(card))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    return tmp_path


def run(out: Path, protocol: str = "uned", model: str = "tips-tiny-random", **options) -> Record:
    return evaluate("two", model, protocol, out=out, overrides=SMALL, **options)


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@torch.inference_mode()
def plain(separate: bool) -> dict[str, float]:
    """The published metrics by loops over all pairs of images, in float64."""
    encoder = load_encoder("tips-tiny-random", device="cpu")
    extractor = Extractor(encoder, load_card("protocol", "uned", SMALL).image, FeatureCard())
    query, index = (uned(Path("data/two"), split, domains=DOMAINS) for split in ("query", "index"))

    def features(reader) -> np.ndarray:
        pixels = (extractor.pixels(reader.load(place).image_HW3)[None] for place in range(len(reader)))
        tokens_ND = torch.stack([encoder.encode_image(one).globals_BKD[0, 0] for one in pixels]).double().numpy()
        return tokens_ND / np.linalg.norm(tokens_ND, axis=1, keepdims=True)

    near_QN, right, precision = features(query) @ features(index).T, {}, {}
    for place, id in enumerate(query.ids):
        domain, labels = query.domain_N[place], set(query.labels_NL[place]) - {-1}
        keys = []
        for row, other in enumerate(index.ids):
            relevant = index.domain_N[row] == domain and bool(labels & set(index.labels_NL[row]))
            if other != id and not (separate and index.domain_N[row] != domain):
                keys.append((-near_QN[place, row], relevant))
        relevant_N = [relevant for _, relevant in sorted(keys)]
        depth = min(5, sum(relevant_N))
        right.setdefault(domain, []).append(relevant_N[0])
        precision.setdefault(domain, []).append(sum(relevant_N[:depth]) / depth)
    return {
        "R@1": 100 * np.mean([np.mean(one) for one in right.values()]),
        "mMP@5": 100 * np.mean([np.mean(one) for one in precision.values()]),
    }


@pytest.mark.parametrize("protocol", ["uned", "uned-separate"])
def test_the_numbers_are_those_of_plain_loops(sets, protocol):
    record = run(sets / "out", protocol, pictures=2, batch_size=4)
    values = {name: metric.value for name, metric in record.metrics.items()}
    assert values == pytest.approx(plain(protocol == "uned-separate"))
    assert record.cost.image_forwards == 31 + 7, "queries that are in the index are not encoded again"
    assert record.probe == {"images": 31, "queries without a relevant image": 0}
    assert np.mean(list(record.per_class["domain R@1"].values())) == pytest.approx(values["R@1"])
    assert set(record.per_class["domain R@1"]) == set(DOMAINS) and (record.dataset.n, record.dataset.train_n) == (26, 31)
    path = next((sets / "out").rglob(f"{protocol}-*.json"))
    assert load_scored(path).record == record and all((path.parent / name).is_file() for name in record.pictures)


@pytest.mark.parametrize("calls", [0, 3, 8])
def test_a_killed_run_is_taken_up_to_the_same_record(sets, calls):
    whole = run(sets / "a", batch_size=4)
    with killed_after(calls):
        run(sets / "b", batch_size=4)
    resumed = run(sets / "b", batch_size=4)
    assert stable(resumed) == stable(whole) and resumed.cost.resumed == (calls > 0)
    cached = [run(sets / out, batch_size=4, cache=True) for out in "cd"]
    assert stable(cached[0]) == stable(cached[1]) == stable(whole) and cached[1].cost.image_forwards == 0


def test_a_limit_leaves_queries_without_relevant_images_and_says_so(sets):
    record = run(sets / "out", limit=5)
    assert record.probe["queries without a relevant image"] > 0 and record.dataset.n == 5


def test_another_index_is_refused(sets):
    with pytest.raises(UserError, match=r"probe\.index"):
        evaluate("two", "tips-tiny-random", out=sets / "out", overrides=[*SMALL, "probe.index=half"])


def test_generated_rooms_are_read_checked_and_scored(tmp_path):
    options = {"seed": 0, "train": 0, "val": 12, "size": 64, "frames_per_scene": 4}
    write_rooms("uned", tmp_path / "rooms/instances-v1", workers=1, **options)
    sets = [f"task.data.generator_options.{name}={value}" for name, value in options.items()]
    record = evaluate("rooms-instances", "tips-tiny-random", out=tmp_path / "out", data_root=tmp_path, overrides=[*sets, *SMALL])
    assert record.dataset.n > 5 and record.probe["queries without a relevant image"] == 0
    assert 0 <= record.metrics["R@1"].value <= 100 and record.dataset.classes == ["furniture", "furnishings"]
    counts = load_scored(next((tmp_path / "out").rglob("instances-112-*.json"))).counts
    assert len(set(counts.groups)) <= 3, "images of one room are resampled together"


def test_generated_classes_are_read_and_scored(tmp_path):
    options = {"seed": 0, "train": 16, "val": 6, "size": 64, "frames_per_scene": 2}
    write_rooms("class-crops", tmp_path / "rooms/classes-v1", workers=1, **options)
    sets = [f"task.data.generator_options.{name}={value}" for name, value in options.items()]
    overrides = [*sets, "image.short_side=28", "image.crop=28", "probe.k=[1,3]"]
    record = evaluate("rooms-knn", "tips-tiny-random", out=tmp_path / "out", data_root=tmp_path, overrides=overrides)
    assert record.dataset.n > 5 and record.dataset.train_n > record.dataset.n
    listed = CliRunner().invoke(app, ["show", "rooms-knn"])
    assert listed.exit_code == 0 and "class-crops" in listed.output
