"""What a curation found, as a page with pictures of pairs, and as a list with a line for each image that was the same picture.

curation.html     counts, data sets, a sample of the pairs and of the captions
dropped.jsonl     {"image": SHARD/KEY, "same_as": SHARD/KEY or SET/ID, "agreement": ...}
captions.jsonl    {"image": SHARD/KEY, "web": number of the web caption, "cosine": ...} of each web caption that does not agree
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from tips_bench.corpus.curation.alike import Pairs
from tips_bench.corpus.curation.choice import Choice
from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.task_images import TaskImages
from tips_bench.corpus.curation.wish import Wish
from tips_bench.corpus.facts import captions
from tips_bench.corpus.store import Sample, read_sample
from tips_bench.files import atomic, write_text
from tips_bench.training.crops import read_image
from tips_bench.training.shard_files import ShardFiles
from tips_bench.training.shard_index import entries_in, load_index

PAGE, LIST, CAPTIONS = "curation.html", "dropped.jsonl", "captions.jsonl"
SHOWN = 24  # pairs of a kind, spread over all of them by how well they agree
LINES = 1 << 16
NEAREST = 12  # captions that just stay, and as many that just do not
LONGEST = 240  # pixels of the longer side of a picture

Picture = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class _Side:
    """What is on one side of pairs. name: row -> what a reader calls the image. picture: row -> image_HW3."""

    name: Callable[[int], str]
    picture: Picture


def write_page(target: Path, wish: Wish, shards: Sequence[Path], corpus: Library, sets: Library | None, choice: Choice) -> None:
    """All files. shards: of the source. sets: of the data sets that the corpus may not show."""
    sample = _corpus_samples(shards, corpus)
    ours = _Side(_names(corpus), lambda row: _decoded(sample(row)))
    kinds = []
    if sets is not None:
        theirs = _Side(_names(sets), _set_picture(wish.against, sets))
        kinds.append(("Images that show one of a data set", choice.matches, theirs))
    if len(choice.pairs.rows_P):
        kinds.append(("Images that are the same picture as another of the corpus", _dropped_pairs(choice), ours))
    with atomic(target / LIST) as temporary, temporary.open("w", encoding="utf-8") as out:
        for _, pairs, other in kinds:
            for row, found, agreement in _lines(pairs):
                said = {"image": ours.name(row), "same_as": other.name(found), "agreement": round(agreement, 4)}
                out.write(json.dumps(said, ensure_ascii=False) + "\n")
    galleries = [(title, [_figure(pair, ours, other) for pair in _sample(pairs)]) for title, pairs, other in kinds if len(pairs.rows_P)]
    if choice.captions is not None:
        _list_captions(target / CAPTIONS, ours, choice)
    text = _template().render(
        images=len(corpus),
        kept=int(choice.kept_N.sum()),
        dropped=[(reason, count) for reason, count in choice.dropped.most_common() if count],
        clusters=choice.clusters,
        sets=[] if sets is None else _found(sets, choice.matches),
        absent=[(why, [task for task, own in wish.absent.items() if own == why]) for why in dict.fromkeys(wish.absent.values())],
        galleries=galleries,
        captions=_captions(choice, ours, sample),
    )
    write_text(target / PAGE, text)


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html.jinja")


def _found(sets: Library, matches: Pairs) -> list[dict[str, Any]]:
    """Of each data set, how many images were looked for and found."""
    found = []
    for source, files in sets.by_source().items():
        first, behind = sets.starts[files.start], sets.starts[files.stop]
        inside_P = (matches.others_P >= first) & (matches.others_P < behind)
        counts = {"found": len(np.unique(matches.others_P[inside_P])), "showing": len(np.unique(matches.rows_P[inside_P]))}
        found.append({"source": source, "images": behind - first, **counts})
    return found


def _dropped_pairs(choice: Choice) -> Pairs:
    """Pairs of an image that went and the one that stays for it."""
    rows = np.flatnonzero(choice.stays_N != np.arange(len(choice.stays_N)))
    known_P = _numbers(choice.pairs.rows_P, choice.pairs.others_P, len(choice.stays_N))
    order = np.argsort(known_P)
    places = np.searchsorted(known_P, _numbers(rows, choice.stays_N[rows], len(choice.stays_N)), sorter=order)
    return Pairs(rows, choice.stays_N[rows], choice.pairs.agreement_P[order[places]], np.zeros(len(rows), np.uint8))


def _numbers(one_P: np.ndarray, other_P: np.ndarray, images: int) -> np.ndarray:
    """A number for each pair of rows, the same in both orders."""
    return np.minimum(one_P, other_P) * images + np.maximum(one_P, other_P)


def _lines(pairs: Pairs) -> Iterator[tuple[int, int, float]]:
    """Row, other row, agreement. Some at a time become objects: a large corpus has a hundred million."""
    for start in range(0, len(pairs.rows_P), LINES):
        part = pairs.at(np.arange(start, min(start + LINES, len(pairs.rows_P))))
        yield from zip(part.rows_P.tolist(), part.others_P.tolist(), part.agreement_P.tolist(), strict=True)


def _sample(pairs: Pairs) -> list[tuple[int, int, float]]:
    """From the pairs that agree least to those that agree best."""
    order = np.lexsort((pairs.others_P, pairs.rows_P, pairs.agreement_P))
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int))]
    return list(_lines(pairs.at(chosen)))


def _figure(pair: tuple[int, int, float], ours: _Side, other: _Side) -> dict[str, Any]:
    row, found, agreement = pair
    left, right = _data_uri(ours.picture(row)), _data_uri(other.picture(found))
    names = {"left": ours.name(row), "right": other.name(found)}
    return {**names, "left_picture": left, "right_picture": right, "agreement": agreement}


def _data_uri(image_HW3: np.ndarray) -> str:
    image, out = Image.fromarray(image_HW3), io.BytesIO()
    image.thumbnail((LONGEST, LONGEST))
    image.save(out, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _names(library: Library) -> Callable[[int], str]:
    keys: dict[int, np.ndarray] = {}  # of the files that were asked for, in UTF-8: a quarter of what numpy takes, a sixth of strings

    def name(row: int) -> str:
        number, place = library.find(row)
        if number not in keys:
            keys[number] = np.char.encode(library.array(number, "keys_N"), "utf-8")
        return f"{library.sources[number]}/{keys[number][place].decode()}"

    return name


def _list_captions(file: Path, ours: _Side, choice: Choice) -> None:
    """A line for each web caption that does not agree with its image."""
    assert choice.captions is not None, "captions were compared"
    gone = choice.captions.at(~choice.agrees_T)
    with atomic(file) as temporary, temporary.open("w", encoding="utf-8") as out:
        for row, number, cosine in zip(gone.rows_T.tolist(), gone.numbers_T.tolist(), gone.cosines_T.tolist(), strict=True):
            said = {"image": ours.name(row), "web": number, "cosine": round(cosine, 4)}
            out.write(json.dumps(said, ensure_ascii=False) + "\n")


def _captions(choice: Choice, ours: _Side, sample: Callable[[int], Sample]) -> dict[str, Any] | None:
    """How many web captions were compared and agree, the least cosine of these, and some on both sides of it; None: none were compared."""
    if choice.captions is None:
        return None
    order = np.lexsort((choice.captions.numbers_T, choice.captions.rows_T, -choice.captions.cosines_T))
    agree = int(choice.agrees_T.sum())
    figures = []
    for place in order[max(0, agree - NEAREST) : agree + NEAREST].tolist():
        row, number = int(choice.captions.rows_T[place]), int(choice.captions.numbers_T[place])
        said = {"name": ours.name(row), "picture": _data_uri(ours.picture(row)), "text": captions(sample(row).said, "web")[number]}
        figures.append({**said, "cosine": float(choice.captions.cosines_T[place]), "agrees": bool(choice.agrees_T[place])})
    least = float(choice.captions.cosines_T[order[agree - 1]])
    return {"compared": len(order), "agree": agree, "least": least, "figures": figures}


def _corpus_samples(shards: Sequence[Path], library: Library) -> Callable[[int], Sample]:
    def sample(row: int) -> Sample:
        number, place = library.find(row)
        span = load_index(shards[number]).span(int(library.array(number, "places_N")[place]))
        with closing(ShardFiles()) as files:
            data = files.read(shards[number], *span)
        found = read_sample(io.BytesIO(data), entries_in(data)[0])
        assert isinstance(found, Sample), "a signed sample has an image"
        return found

    return sample


def _decoded(sample: Sample) -> np.ndarray:
    """image_HW3."""
    return read_image({sample.extension: sample.image}).permute(1, 2, 0).numpy()


def _set_picture(sets: Sequence[TaskImages], library: Library) -> Picture:
    by_source = {images.source: images for images in sets}

    def picture(row: int) -> np.ndarray:
        number, place = library.find(row)
        image_HW3 = by_source[library.sources[number]].load(int(library.array(number, "places_N")[place]))[1]
        return image_HW3

    return picture
