"""The task family `retrieval`: images and their captions, found by each other through the embeddings of both towers.

Embeddings are kept in stores, so a killed run is taken up where it was; similarities are computed in tiles, exactly (metrics.ranks).

Axes: I images of the split, E embeddings an image, D feature, T captions.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from pydantic import field_validator

from tips_bench.adapters.base import Picture, Scores
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.base import CaptionReader
from tips_bench.data.split import Split, Splits
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.search import Search
from tips_bench.features.store import ResumableArray
from tips_bench.metrics.ranks import count_images, fixed_point
from tips_bench.metrics.retrieval import RetrievalCounts
from tips_bench.metrics.samples import SampleCounts
from tips_bench.pictures.retrieval import SHOWN, Finding, panel
from tips_bench.progress import bar

TEXTS = 64  # captions that meet the text tower at once


class RetrievalOptions(Strict):
    """tokens: the embeddings of an image that are scored, each by itself: one, or several from 0 on."""

    tokens: list[int]

    @field_validator("tokens")
    @classmethod
    def _one_or_the_first(cls, tokens: list[int]) -> list[int]:
        if not tokens or min(tokens) < 0 or (len(tokens) > 1 and tokens != list(range(len(tokens)))):
            raise ValueError("give one token, or several from 0 on: [0], [1], [0, 1]")
        return tokens


class RetrievalAdapter:
    """Joins reader, encoder and ranks for one protocol. Nothing is fitted."""

    needs_text = True
    observed = False
    probe = None

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        self.task = task
        self.tokens = parse(RetrievalOptions, protocol.probe, where=f"protocol {protocol.name}", prefix="probe.").tokens

    def open(self, root: Path, limit: int | None) -> Splits[CaptionReader]:
        """The test split alone. Errors: a set with faults."""
        splits = Splits.open(self.task.data, root, limit, train=False)
        test = splits.test
        if test.reader.faults:
            first, more = test.reader.faults[0], len(test.reader.faults) - 1
            fix = f"`tips-bench data check {self.task.name}` lists all faults."
            raise UserError(f"{first}{f', and {more} more faults' if more else ''}", where=test.reader.root, fix=fix)
        return splits

    def score(self, context: RunContext, splits: Splits[CaptionReader], head: None, beside: dict[str, SampleCounts]) -> Scores:
        """Counts of every image of the test split."""
        test, encoder = splits.test, context.encoder
        if max(self.tokens) >= encoder.embeddings:
            has = f"encoder {encoder.spec.name!r} has {encoder.embeddings} that can be compared with text"
            raise UserError(f"probe.tokens = {self.tokens}: {has}", fix="Use a protocol for the first global token.")
        images, texts = _embed_images(context, test), _embed_texts(context, test)
        captions = [text for index in test.indices for text in test.reader.captions[index]]
        notes, cut = {"captions": len(captions)}, encoder.cut_texts(captions)
        if cut is not None:
            notes["captions cut"] = cut
        images_IED, texts_TD = images.arrays["embeddings"], texts.arrays["embeddings"]
        found = [count_images(images_IED[:, token], texts_TD, texts.starts, device=encoder.device) for token in self.tokens]
        result = RetrievalCounts(len(self.tokens))
        for index, counts_EM in zip(test.indices, np.stack(found, axis=1), strict=True):
            result.update(test.reader.ids[index], test.reader.groups[index], counts_EM)
        images.close()
        texts.close()
        return Scores(result, notes)

    def draw(self, context: RunContext, splits: Splits[CaptionReader], head: None, indices: list[int]) -> list[Picture]:
        """For each image its nearest captions, and the nearest images of its first caption, by the first token scored."""
        test = splits.test
        images, texts = _embed_images(context, test), _embed_texts(context, test)
        images_ID, texts_TD, reader = images.arrays["embeddings"][:, self.tokens[0]], texts.arrays["embeddings"], test.reader
        owners_T = np.repeat(np.arange(len(images_ID)), np.diff(texts.starts))
        places = [test.indices.index(index) for index in indices]
        device = context.encoder.device
        captions_of = Search(texts_TD, device).nearest(images_ID[places], SHOWN).rows_Qk
        images_of = Search(images_ID, device).nearest(texts_TD[texts.starts[places]], SHOWN).rows_Qk
        said = [text for index in test.indices for text in reader.captions[index]]
        pictures = []
        for place, texts_k, images_k in zip(places, captions_of, images_of, strict=True):
            found = Finding(
                image_HW3=reader.load(test.indices[place]).image_HW3,
                caption=reader.captions[test.indices[place]][0],
                captions=[(said[text], bool(owners_T[text] == place)) for text in texts_k],
                images=[(reader.load(test.indices[image]).image_HW3, bool(image == place)) for image in images_k],
            )
            pictures.append(Picture(panel(found)))
        images.close()
        texts.close()
        return pictures


def _embed_images(context: RunContext, test: Split[CaptionReader]) -> ResumableArray:
    """embeddings_IED of `fixed_point`, an item an image of the split's indices; only what is missing is made."""
    extractor = context.extractor
    encoder, indices = extractor.encoder, test.indices
    shape = (encoder.embeddings, len(_first_text(context, test)))
    chosen = [test.reader.ids[index] for index in indices]
    store = context.scratch.open("images", [1] * len(indices), {"embeddings": (shape, "int32")}, test.name, *chosen)
    place = {index: item for item, index in enumerate(indices)}
    missing = store.missing()
    with bar("images", len(indices)) as advance:
        advance(len(indices) - len(missing))
        for batch, _, pixels_B3HW in extractor.batches(test.reader, [indices[item] for item in missing]):
            embeddings_BED = extractor.embed(pixels_B3HW).float().cpu().numpy()
            for index, embeddings_ED in zip(batch, embeddings_BED, strict=True):
                store.write(place[index], embeddings=fixed_point(embeddings_ED)[None])
            advance(len(batch))
    return store.join()


def _embed_texts(context: RunContext, test: Split[CaptionReader]) -> ResumableArray:
    """embeddings_TD of `fixed_point`, an item an image with a row a caption; a batch of which anything is missing is made whole."""
    reader, extractor = test.reader, context.extractor
    captions = [reader.captions[index] for index in test.indices]
    first_D = _first_text(context, test)  # tells one text tower from another, which a cache's identity does not
    arrays = {"embeddings": (first_D.shape, "int32")}
    chosen = [reader.ids[index] for index in test.indices]
    store = context.texts.open("texts", list(map(len, captions)), arrays, test.name, first_D.tobytes().hex(), *chosen)
    missing = set(store.missing())
    with bar("captions", int(store.starts[-1]), unit="captions") as advance:
        for items in context.texts.world.share(_batches(store)):
            texts = [text for item in items for text in captions[item]]
            if missing.intersection(items):
                with extractor.timed(None):
                    embeddings_tD = fixed_point(extractor.encoder.encode_text(texts).float().cpu().numpy())
                first = store.rows(items.start).start
                for item in items:
                    rows = store.rows(item)
                    store.write(item, embeddings=embeddings_tD[rows.start - first : rows.stop - first])
            advance(len(texts))
    return store.join()


def _batches(store: ResumableArray) -> list[range]:
    """Items in order, as many as have about TEXTS rows together: the same ones in every try, for a text's batch may move its last digit."""
    ends = [0]
    for item in range(len(store.starts) - 1):
        if store.starts[item + 1] - store.starts[ends[-1]] >= TEXTS or item == len(store.starts) - 2:
            ends.append(item + 1)
    return [range(start, end) for start, end in itertools.pairwise(ends)]


def _first_text(context: RunContext, test: Split[CaptionReader]) -> np.ndarray:
    """The embedding of the split's first caption, [D] of `fixed_point`."""
    text = test.reader.captions[test.indices[0]][0]
    return fixed_point(context.encoder.encode_text([text]).float().cpu().numpy())[0]
