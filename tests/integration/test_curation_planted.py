"""Planted copies are found again, by kind and strength of the change, and frames of one room are not taken for copies."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.curation import CASES, KINDS, measure, table
from tests.helpers.curation import TASK, write_task
from tips_bench.cards import load_card
from tips_bench.corpus.curation.card import DuplicateCard
from tips_bench.corpus.curation.task_images import open_images
from tips_bench.corpus.store import read_samples
from tips_bench.rooms.writing.writers import write_rooms

MISSED = 2  # of 20 copies of each kind; a part of a third of the area may show a bare wall


@pytest.mark.nightly
def test_planted_copies_and_test_images_are_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path / "cards"))
    write_rooms("webdataset", tmp_path / "rooms", seed=5, train=36, val=8, size=112, workers=1)
    train, val = (list(read_samples(tmp_path / "rooms" / f"{split}-000.tar")) for split in ("train", "val"))
    write_task(tmp_path / "cards", tmp_path, [Image.open(io.BytesIO(sample.image)).convert("RGB") for sample in val])
    tests = open_images(load_card("task", TASK), "test", tmp_path)
    card = DuplicateCard()
    bench = measure(tmp_path / "work", train, tests, card, each=1, seed=5, encoder="tips-nano")
    for kind in KINDS:
        ours, theirs = bench.found(kind, "curation", card.agreement), bench.found(kind, "hashes", -8)
        assert ours.precision == 1, kind
        assert ours.mean_recall >= 1 - MISSED / len(CASES), (kind, ours.recall)
        assert ours.mean_recall >= theirs.mean_recall + 0.2, kind
    assert table(bench, card.agreement, 8).count("\n") == len(CASES) + 3
