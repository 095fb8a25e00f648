"""Rooms as sets of images with captions: COCO with the split of Karpathy, Flickr30k, and DOCCI.

coco-captions   dataset_coco.json, annotations/captions_{train,val}2014.json, {train,val}2014/COCO_val2014_000000000001.jpg; 5-7 captions
flickr30k       dataset_flickr30k.json, flickr30k-images/1000000001.jpg; 5 captions
docci           docci_descriptions.jsonlines, images/{train,test}_00000.jpg; one long description

The rooms' split val is the sets' split test. Captions are the two of an image and parts of the careful one: a sentence or two, a list
of what is there.
"""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

from tips_bench.rooms.generate import Room
from tips_bench.rooms.writing.layouts import Entry, Files, jpeg

SPLITS = {"train": "train", "val": "test"}
OPENINGS = ("A photo of", "An image of", "A view of", "Inside", "This is")
FIRST_VAL = 500_000  # number of the first image of the rooms' val: ids do not repeat over both splits


def said(captions: tuple[str, str], number: int) -> list[str]:
    """`number` different captions out of the (web, synthetic) ones of an image."""
    web, synthetic = captions
    room, *things = synthetic.removesuffix(".").split(". ")
    found = [synthetic, web, *(f"{room}. {thing}." for thing in things), *(f"{one}. {other}." for one, other in combinations(things, 2))]
    found += [f"{thing}." for thing in things] + [f"{room}."]
    found += [f"{opening} {room[0].lower()}{room[1:]}." for opening in OPENINGS]
    return list(dict.fromkeys(found))[:number]


class CaptionLayout:
    """What the three share: an image a file, captions in an index."""

    images_per_shard = None

    def path(self, split: str, stem: str) -> str:
        """Where an image lies under the root."""
        raise NotImplementedError

    def files(self, split: str, room: Room, stems: list[str]) -> Files:
        return {self.path(split, stem): jpeg(frame.image_HW3) for stem, frame in zip(stems, room.frames, strict=True)}


class Coco(CaptionLayout):
    """The captions and the split of COCO 2014. Every third image has 6 captions, and every third 7."""

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"COCO_{split}2014_{_number(split, number):012d}"

    def path(self, split: str, stem: str) -> str:
        return f"{split}2014/{stem}.jpg"

    def index(self, entries: list[Entry]) -> Files:
        texts = [said(e.captions, 5 + int(e.stem[-12:]) % 3) for e in entries]
        files = {"dataset_coco.json": _json(_karpathy("coco", entries, texts, coco=True))}
        for split in SPLITS:
            chosen = [(int(e.stem[-12:]), e.stem, lines) for e, lines in zip(entries, texts, strict=True) if e.split == split]
            images = [{"id": id, "file_name": f"{stem}.jpg"} for id, stem, _ in chosen]
            notes = [{"id": 10 * id + k, "image_id": id, "caption": text} for id, _, lines in chosen for k, text in enumerate(lines)]
            files[f"annotations/captions_{split}2014.json"] = _json({"images": images, "annotations": notes})
        return files


class Flickr30k(CaptionLayout):
    """Flickr30k with five captions an image."""

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return str(1_000_000_000 + _number(split, number))

    def path(self, split: str, stem: str) -> str:
        return f"flickr30k-images/{stem}.jpg"

    def index(self, entries: list[Entry]) -> Files:
        texts = [said(e.captions, 5) for e in entries]
        return {"dataset_flickr30k.json": _json(_karpathy("flickr30k", entries, texts, coco=False))}


class Docci(CaptionLayout):
    """DOCCI: the careful account of each image, at its full length."""

    def stem(self, split: str, scene: str, frame: int, number: int) -> str:
        return f"{SPLITS[split]}_{number - 1:05d}"

    def path(self, split: str, stem: str) -> str:
        return f"images/{stem}.jpg"

    def index(self, entries: list[Entry]) -> Files:
        lines = [
            {"split": SPLITS[e.split], "example_id": e.stem, "image_file": f"{e.stem}.jpg", "description": e.captions[1]} for e in entries
        ]
        return {"docci_descriptions.jsonlines": "".join(f"{json.dumps(line)}\n" for line in lines).encode()}


def _number(split: str, number: int) -> int:
    return number if split == "train" else FIRST_VAL + number


def _karpathy(dataset: str, entries: list[Entry], texts: list[list[str]], *, coco: bool) -> dict[str, Any]:
    """A split file; each image with its sentences, as they are and as words."""
    images, sentence = [], 0
    for number, (entry, lines) in enumerate(zip(entries, texts, strict=True)):
        sentences = [
            {"tokens": re.findall(r"\w+", text.lower()), "raw": text, "imgid": number, "sentid": sentence + k}
            for k, text in enumerate(lines)
        ]
        image = {"filename": f"{entry.stem}.jpg", "imgid": number, "split": SPLITS[entry.split], "sentences": sentences}
        image["sentids"] = [sentence + k for k in range(len(lines))]
        images.append(image | ({"filepath": f"{entry.split}2014", "cocoid": int(entry.stem[-12:])} if coco else {}))
        sentence += len(lines)
    return {"images": images, "dataset": dataset}


def _json(value: object) -> bytes:
    return (json.dumps(value) + "\n").encode()
