"""How a batch size and a number of workers are found, and how batches are loaded ahead."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from tips_bench.encoders.base import Encoder, ImageFeatures
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features import trial
from tips_bench.features.ahead import LEAST, MOST, loaded
from tips_bench.features.trial import Rate, best_of, decode_seconds, default_workers, rate_of, rates, workers_for


def rates_of(*images_per_s: float) -> list[Rate]:
    return [Rate(2**power, rate, 1.0) for power, rate in enumerate(images_per_s)]


def test_the_smallest_batch_that_is_nearly_the_fastest_is_taken() -> None:
    assert best_of(rates_of(10, 19, 30, 30.5, 29)).batch_size == 4
    assert best_of(rates_of(10, 10.1)).batch_size == 1


def test_a_trial_ends_with_the_first_batch_that_is_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = dict(zip([1, 2, 4, 8], rates_of(1000, 2000, 2010, 9000), strict=True))
    monkeypatch.setattr(trial, "rate_of", lambda encoder, batch_size, height, width: fake[batch_size])
    assert [rate.batch_size for rate in rates(load_encoder("pixels", device="cpu"), 28, 28)] == [1, 2, 4]


def test_a_trial_begins_no_batch_that_would_take_longer_than_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "rate_of", lambda encoder, batch_size, height, width: Rate(batch_size, batch_size / 2, 1.0))
    assert [rate.batch_size for rate in rates(load_encoder("pixels", device="cpu"), 28, 28, seconds=3)] == [1]


def test_a_batch_that_does_not_fit_ends_the_trial_and_the_one_before_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def up_to_four(encoder: object, batch_size: int, height: int, width: int) -> Rate:
        if batch_size > 4:
            raise torch.OutOfMemoryError("full")
        return Rate(batch_size, 1000.0 * batch_size, 1.0)

    monkeypatch.setattr(trial, "rate_of", up_to_four)
    assert best_of(list(rates(load_encoder("pixels", device="cpu"), 28, 28))).batch_size == 4


def test_one_image_that_does_not_fit_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Rate:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(trial, "rate_of", never)
    with pytest.raises(UserError, match=r"one image of 28x42 pixels.*--dtype bf16"):
        list(rates(load_encoder("pixels", device="cpu"), 28, 42))


def test_a_trial_does_not_stand_in_for_the_first_look_at_the_pixels() -> None:
    encoder = load_encoder("tips-tiny-random", device="cpu")
    assert rate_of(encoder, 2, 28, 28, least_s=0).images_per_s > 0
    with pytest.raises(UserError, match=r"expected \[0, 1\]"):
        encoder.encode_image(torch.full((1, 3, 28, 28), 255.0))


def test_workers_decode_as_fast_as_the_encoder_asks_and_no_more_than_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "processors", lambda: 6)
    assert [workers_for(rate, 0.01) for rate in (1, 100, 300, 9000)] == [1, 2, 4, 6]


@pytest.mark.parametrize(
    ("device", "processors", "ranks", "workers"), [("cpu", 64, "1", 2), ("cuda", 64, "1", 8), ("cuda", 32, "8", 4), ("cuda", 4, "8", 2)]
)
def test_a_gpu_has_more_threads_that_decode_unless_its_rank_has_few_processors(
    device: str, processors: int, ranks: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "processors", lambda: processors)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    assert default_workers(torch.device(device)) == workers


def test_decoding_is_timed_on_as_many_images_as_there_are() -> None:
    seen: list[int] = []
    assert decode_seconds(seen.append, 3) > 0 and seen == [0, 0, 1, 2]
    assert decode_seconds(lambda _: time.sleep(0.01), 1000, seconds=0.05) == pytest.approx(0.01, rel=1)


def test_batches_come_in_order_and_a_wait_lets_more_be_loaded_ahead() -> None:
    lock, begun, waits = threading.Lock(), [0], []
    ahead: list[int] = []

    def slow(index: int) -> int:
        with lock:
            begun[0] += 1
        time.sleep(0.002)
        return index

    batches = [[2 * number, 2 * number + 1] for number in range(20)]
    for number, found in enumerate(loaded(slow, batches, 40, lambda _: 1, waits.append)):
        assert found == batches[number]
        ahead.append(begun[0] // 2 - number)
    assert waits and ahead[0] <= LEAST and max(ahead) <= MOST
    assert sum(waits) > 0


def test_large_batches_are_not_loaded_further_ahead() -> None:
    begun: list[int] = []

    def slow(index: int) -> int:
        begun.append(index)
        time.sleep(0.002)
        return index

    for number, _ in enumerate(loaded(slow, [[number] for number in range(9)], 9, lambda _: 2**29, lambda _: None)):
        assert len(begun) <= number + LEAST


def test_an_error_comes_when_its_batch_is_due() -> None:
    def load(index: int) -> int:
        if index == 3:
            raise UserError("broken", where="photo 3")
        return index

    found = []
    with pytest.raises(UserError, match="photo 3"):
        for batch in loaded(load, [[0, 1], [2, 3]], 2, lambda _: 1, lambda _: None):
            found.append(batch)
    assert found == [[0, 1]]


class Elsewhere(Encoder):
    """On a device that computes nothing, and notes where the pixels were before."""

    def __init__(self) -> None:
        self.spec, self.device, self.dtype = load_encoder("pixels", device="cpu").spec, torch.device("meta"), torch.float32
        self.seen: set[str] = set()

    def encode_image(self, pixels_B3HW: torch.Tensor, *_: object, **__: object) -> ImageFeatures:
        self.seen.add(pixels_B3HW.device.type)
        return ImageFeatures(pixels_B3HW, [], [])

    def _encode(self, *_: object) -> ImageFeatures:
        raise AssertionError


@pytest.mark.parametrize(("copied", "place"), [(False, "meta"), (True, "cpu")])
def test_the_rate_of_an_encoder_holds_no_copy_of_pixels_unless_it_is_asked_for(copied: bool, place: str) -> None:
    encoder = Elsewhere()
    assert rate_of(encoder, 2, 28, 28, least_s=0, copied=copied).images_per_s > 0
    assert encoder.seen == {place}
