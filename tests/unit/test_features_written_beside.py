"""Features are hashed by the threads that decode and written by a thread of their own, while the encoder goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features import extract, memory
from tips_bench.features.extract import Extractor
from tips_bench.features.memory import FeatureMemory, HashedPixels, keys
from tips_bench.features.part_writer import PartWriter


class Pictures:
    """Five images of noise."""

    def __len__(self) -> int:
        return 5

    def size(self, index: int) -> tuple[int, int]:
        return 28, 42

    def load(self, index: int) -> Any:
        return SimpleNamespace(image_HW3=np.random.default_rng(index).integers(0, 256, (28, 42, 3), np.uint8))


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before it is set."""
    opened, append = threading.Event(), PartWriter.append

    def later(self: PartWriter, *array: Any) -> Any:
        assert opened.wait(60)
        return append(self, *array)

    monkeypatch.setattr(PartWriter, "append", later)
    return opened


def test_keeping_does_not_wait_for_the_disk_and_reading_does(tmp_path: Path, gate: threading.Event) -> None:
    kept, features = FeatureMemory(tmp_path, torch.float32), torch.randn(4, 3)
    kept.keep(b"a", "tokens", features)
    assert kept.has(b"a", ["tokens"]) and not list(tmp_path.iterdir())
    threading.Timer(0.1, gate.set).start()
    found = kept.read(b"a", "tokens")
    assert found is not None and torch.equal(found, features)
    kept.close()


def test_what_waits_is_written_when_the_memory_is_closed(tmp_path: Path, gate: threading.Event) -> None:
    kept = FeatureMemory(tmp_path, torch.float32)
    for name in (b"a", b"b"):
        kept.keep(name, "tokens", torch.ones(4, 3))
    gate.set()
    kept.close()
    assert all(FeatureMemory(tmp_path, torch.float32).has(name, ["tokens"]) for name in (b"a", b"b"))


def test_only_so_much_waits_for_the_disk(tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WAITING_BYTES", 100)
    kept = FeatureMemory(tmp_path, torch.float32)
    kept.keep(b"a", "tokens", torch.ones(4, 3))
    kept.keep(b"b", "tokens", torch.ones(20, 3))
    threading.Timer(0.1, gate.set).start()
    kept.keep(b"c", "tokens", torch.ones(4, 3))
    assert gate.is_set()
    kept.close()


def test_a_full_disk_is_said_by_what_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(PartWriter, "append", full)
    kept = FeatureMemory(tmp_path, torch.float32)
    kept.keep(b"a", "tokens", torch.ones(4, 3))
    with pytest.raises(UserError, match="the disk is full"):
        kept.flush()
    kept.keep(b"b", "tokens", torch.ones(4, 3))
    with pytest.raises(UserError, match="the disk is full"):
        kept.read(b"b", "tokens")
    kept.close()


def test_images_that_are_encoded_as_they_were_decoded_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder("tips-tiny-random", device="cpu")
    one = Extractor(encoder, ImageCard(short_side=28), FeatureCard(), 3, memory=FeatureMemory(tmp_path, torch.float32))
    plain = {tuple(indices): keys(pixels_B3HW) for indices, _, pixels_B3HW in one.batches(Pictures(), range(5))}

    def never(*_: Any) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(memory, "keys", never)
    monkeypatch.setattr(extract, "keys", never)
    for indices, _, pixels_B3HW in one.batches(Pictures(), range(5)):
        one.encode(pixels_B3HW)
        assert one.memory is not None and all(one.memory.has(name, ["patches 3 normed"]) for name in plain[tuple(indices)])
        assert one.remembers(pixels_B3HW[1:])
    assert one.meter.image_forwards == 5


def test_other_pixels_than_the_batch_are_hashed() -> None:
    batch = torch.rand(3, 3, 4, 6)
    hashed = HashedPixels(batch, [b"0", b"1", b"2"])
    assert hashed.keys_of(batch) == [b"0", b"1", b"2"] and hashed.keys_of(batch[1:2]) == [b"1"]
    for others in (batch.clone(), batch.flip(-1), batch[..., 1:], batch[::2], batch.double(), batch.transpose(-1, -2)):
        assert hashed.keys_of(others) == keys(others)
