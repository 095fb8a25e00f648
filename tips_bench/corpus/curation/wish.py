"""What a curation is asked to do, and all that decides its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tips_bench.corpus.curation.candidates import search_library
from tips_bench.corpus.curation.card import CurationCard
from tips_bench.corpus.curation.signatures import Signer
from tips_bench.corpus.curation.task_images import TaskImages
from tips_bench.encoders import load_encoder
from tips_bench.errors import UserError
from tips_bench.wording import counted


@dataclass(frozen=True)
class Wish:
    """What a curation is to do.

    near: images of data sets; only what is near them stays. against: images of data sets that may not be in the corpus. absent: task ->
    why its images are not looked for. dedup: of images that are the same picture one stays. agree: the share of web captions that stay,
    those that agree best with their images; None = all. balance: what stays is drawn from a tree of clusters. keep: how many images are to
    stay; None = all, with `balance` half.
    """

    signer: Signer
    card: CurationCard = field(default_factory=CurationCard)
    near: Sequence[TaskImages] = ()
    against: Sequence[TaskImages] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    dedup: bool = False
    balance: bool = False
    keep: int | None = None
    seed: int = 0
    agree: float | None = None

    @property
    def signs_with(self) -> Signer:
        """The signer, in the space of texts where captions are compared with images."""
        return replace(self.signer, text=self.agree is not None)

    def check(self) -> None:
        """Errors: nothing was asked for; a share of captions that is none."""
        if self.agree is not None and not 0 < self.agree < 1:
            fix = "Give the share of web captions that stays, for example 0.6."
            raise UserError(f"{self.agree:g} is no share between 0 and 1", where="corpus curate --agree", fix=fix)
        if not (self.near or self.against or self.dedup or self.balance or self.keep or self.agree):
            fix = "Add --dedup, --decontaminate, --agree, --near, --balance or --keep."
            raise UserError("nothing was asked for", where="corpus curate", fix=fix)

    def comparison(self) -> str:
        """Which tasks' images may not be in the corpus, and which were not looked for, as a sentence; "" where none were named."""
        if not (self.against or self.absent):
            return ""
        tasks = sorted({name for one in self.against for name in (one.task, *one.others)})
        images = sum(one.count for one in self.against)
        said = f"compared with {counted(images, 'image')} of {counted(len(tasks), 'task')}: {', '.join(tasks)}"
        return f"{said}; {counted(len(self.absent), 'task')} NOT compared: {', '.join(self.absent)}" if self.absent else said

    def settings(self, shards: Sequence[str]) -> dict[str, Any]:
        """All that decides the result. shards: their hashes. Errors: as `load_encoder`; an encoder that cannot compare captions."""
        encoder = load_encoder(self.signer.model, self.signer.weights, "cpu", self.signer.dtype).spec
        if self.agree is not None and not encoder.has_text:
            fix = "Choose an --encoder with one, for example tips-b14 or clip-b16: `tips-bench list models` has a column for it."
            raise UserError(f"encoder {encoder.name} has no text tower to compare captions with", where="corpus curate --agree", fix=fix)
        named = {"near": self.near, "against": self.against}
        return {
            "source": list(shards),
            "encoder": {"name": encoder.name, "weights": encoder.weights_sha256, "dtype": self.signer.dtype or "fp32"},
            "search": search_library(),
            "card": self.card.model_dump(mode="json"),
            **{
                name: [
                    {"tasks": [one.task, *one.others], "split": one.role, "images": one.count, "fingerprint": one.fingerprint}
                    for one in sets
                ]
                for name, sets in named.items()
            },
            "absent": dict(self.absent),
            **{name: getattr(self, name) for name in ("dedup", "agree", "balance", "keep", "seed")},
        }
