"""How well web captions agree with their images, by the cosine of an encoder's embeddings of both, and which of them stay.

A share of the captions stays, those with the greatest cosines, as in DataComp's filters by CLIP score (mlfoundations/datacomp 274dbee,
baselines/apply_filter.py, get_threshold): a share means the same with every encoder, a cosine does not.

Axes: T web captions, N images, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn import functional as F

from tips_bench.corpus.curation.library import Library
from tips_bench.corpus.curation.signatures import Signer
from tips_bench.corpus.facts import captions
from tips_bench.corpus.storage import at_hand
from tips_bench.corpus.store import Sample, read_sample
from tips_bench.encoders.base import Encoder
from tips_bench.errors import UserError
from tips_bench.npz import read_npz, save_npz
from tips_bench.training.shard_files import shard_path
from tips_bench.training.shard_index import index_shard

BATCH = 128  # texts


@dataclass(frozen=True)
class WebCaptions:
    """rows_T: the row of each caption's image in the library. numbers_T: its place among the web captions of its image. cosines_T."""

    rows_T: np.ndarray
    numbers_T: np.ndarray
    cosines_T: np.ndarray

    def at(self, places: np.ndarray) -> WebCaptions:
        """Some of them, by numbers or booleans."""
        return WebCaptions(*(getattr(self, name)[places] for name in self.__annotations__))

    def best(self, share: float) -> np.ndarray:
        """[T] whether a caption is of the share that agrees best; of equal ones the first. Errors: there are none."""
        if not len(self.rows_T):
            fix = "Leave --agree out, or fetch the corpus again with --caption-column."
            raise UserError("no image of the corpus has a web caption", where="corpus curate --agree", fix=fix)
        best_T = np.zeros(len(self.rows_T), bool)
        best_T[np.lexsort((self.numbers_T, self.rows_T, -self.cosines_T))[: max(1, round(share * len(best_T)))]] = True
        return best_T

    def lost(self, agrees_T: np.ndarray, images: int) -> np.ndarray:
        """[N] whether an image had web captions and loses all. agrees_T: of captions that stay. images: N."""
        lost_N = np.zeros(images, bool)
        lost_N[self.rows_T] = True
        lost_N[self.rows_T[agrees_T]] = False
        return lost_N


NONE = WebCaptions(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def compare_captions(shard: str, folder: str, number: int, signer: dict[str, Any], done: str) -> None:
    """Compare the web captions of a shard with its images, which are file `number` of the library `folder`.

    An image without a web caption has nothing to compare.
    """
    library = Library.load(Path(folder))
    places_N, embeddings_ND = (library.array(number, name) for name in ("places_N", "embeddings_ND"))
    texts_N = _web_captions(shard_path(shard), places_N)
    rows_T = np.repeat(np.arange(len(texts_N)), np.array([len(texts) for texts in texts_N], np.int64))
    numbers_T = np.array([place for texts in texts_N for place in range(len(texts))], np.int64)
    texts_TD = _embedded(Signer(**signer).extractor()[0].encoder, [text for texts in texts_N for text in texts], embeddings_ND.shape[1])
    cosines_T = np.einsum("td,td->t", embeddings_ND[rows_T].astype(np.float32), texts_TD)
    save_npz(Path(done), **vars(WebCaptions(rows_T + library.rows(number).start, numbers_T, cosines_T)))


def _web_captions(shard: Path, places_N: np.ndarray) -> list[list[str]]:
    """Of the samples at these places of a shard."""
    found = []
    with at_hand(shard) as copy, copy.open("rb") as file:
        entries = index_shard(copy)
        for place in places_N.tolist():
            sample = read_sample(file, entries[place])
            assert isinstance(sample, Sample), "a signed sample has an image"
            found.append(captions(sample.said, "web"))
    return found


def _embedded(encoder: Encoder, texts: Sequence[str], dim: int) -> np.ndarray:
    """[T,D] embeddings of length 1."""
    parts = [np.zeros((0, dim), np.float32)]
    for start in range(0, len(texts), BATCH):
        found_tD = encoder.encode_text(list(texts[start : start + BATCH]))
        parts.append(F.normalize(found_tD.float(), dim=-1).cpu().numpy())
    return np.concatenate(parts)


def load_captions(files: Sequence[Path]) -> WebCaptions:
    """All captions of the files, in their order."""
    names = WebCaptions.__annotations__
    parts = [read_npz(file, "comparison of captions", lambda data: WebCaptions(*(data[name] for name in names))) for file in files]
    return WebCaptions(*(np.concatenate([getattr(part, name) for part in (NONE, *parts)]) for name in names))
