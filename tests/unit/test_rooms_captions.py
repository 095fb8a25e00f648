"""Captions speak of what the frame shows."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tips_bench.rooms.captions import visible, web
from tips_bench.rooms.drawing.classes import NAMES
from tips_bench.rooms.generate import Room, room

WORDS = {**{name: name for name in NAMES}, "glasses": "glass", "boxes": "box", "shelves": "shelf"} | {f"{name}s": name for name in NAMES}
PATTERN = re.compile(r"\b(" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)) + r")\b")
MATERIALS = re.compile(r"\b(glass|flower) (?=" + "|".join(sorted(map(re.escape, WORDS), key=len, reverse=True)) + r")\b")


def named(text: str) -> set[str]:
    """Class names in a text; "glass" before a noun is what that is made of."""
    return {WORDS[word] for word in PATTERN.findall(MATERIALS.sub("", text.lower()))}


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return [room(8, "val", number, frames=2, size=96) for number in range(6)]


def test_the_synthetic_caption_names_only_what_can_be_seen(rooms: list[Room]) -> None:
    for drawn in rooms:
        for frame, (_, text) in zip(drawn.frames, drawn.captions, strict=True):
            there = {NAMES[k] for k in np.unique(frame.classes_HW)}
            assert named(text) <= there | {"floor"}, text


def test_the_synthetic_caption_names_the_largest_object_and_the_kind_of_room(rooms: list[Room]) -> None:
    for drawn in rooms:
        for frame, (_, text) in zip(drawn.frames, drawn.captions, strict=True):
            assert drawn.scene.kind in text.lower()
            share = np.bincount(frame.instances_HW.ravel(), minlength=len(drawn.scene.instances) + 1)[1:]
            share[[thing.kind in ("wall", "floor", "ceiling") for thing in drawn.scene.instances]] = 0
            assert drawn.scene.instances[int(share.argmax())].kind in named(text)


def test_left_and_right_in_the_synthetic_caption_are_left_and_right_in_the_picture(rooms: list[Room]) -> None:
    checked = 0
    for drawn in rooms:
        for frame, (_, text) in zip(drawn.frames, drawn.captions, strict=True):
            for sentence in text.split(". ")[1:]:
                subject = sentence.split(", with")[0]
                kind = next(iter(named(subject)))
                columns = [
                    np.nonzero(frame.instances_HW == k + 1)[1] for k, thing in enumerate(drawn.scene.instances) if thing.kind == kind
                ]
                middles = [c.mean() / 96 for c in columns if len(c)]
                assert ("left" not in subject or min(middles) < 0.37) and ("right" not in subject or max(middles) > 0.63)
                checked += "left" in subject or "right" in subject
    assert checked > 10


def test_web_captions_are_noisy_some_names_are_wrong_and_most_are_right(rooms: list[Room]) -> None:
    rng, wrong, right, texts = np.random.default_rng(0), 0, 0, []
    for drawn in rooms:
        for frame in drawn.frames:
            seen = visible(drawn.scene, frame)
            there = {drawn.scene.instances[s.number].kind for s in seen}
            for _ in range(20):
                text = web(drawn.scene, seen, rng)
                texts.append(text)
                right, wrong = right + len(named(text) & there), wrong + len(named(text) - there)
    assert 0.02 < wrong / (right + wrong) < 0.25
    assert len(set(texts)) > 0.8 * len(texts)
    assert all(text.strip() and "  " not in text for text in texts)


def test_captions_of_two_frames_differ(rooms: list[Room]) -> None:
    said = [text for drawn in rooms for pair in drawn.captions for text in pair]
    assert len(set(said)) == len(said)


def test_what_is_visible_is_what_covers_at_least_an_eighth_of_a_percent(rooms: list[Room]) -> None:
    for drawn in rooms:
        for frame in drawn.frames:
            seen = visible(drawn.scene, frame)
            numbers, counts = np.unique(frame.instances_HW, return_counts=True)
            big = {int(n) - 1: c for n, c in zip(numbers, counts, strict=True) if c >= 0.0012 * 96**2}
            expected = {n: c for n, c in big.items() if drawn.scene.instances[n].kind not in ("wall", "floor", "ceiling")}
            assert {s.number: round(s.share * 96**2) for s in seen} == expected
            for s in seen:
                mask = frame.instances_HW == s.number + 1
                assert s.depth == pytest.approx(frame.depth_HW[mask].mean(), rel=1e-4)
                assert s.across == pytest.approx((np.nonzero(mask)[1] + 0.5).mean() / 96)
