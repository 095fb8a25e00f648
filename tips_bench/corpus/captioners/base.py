"""What a captioner is: questions in, answers or faults out.

A captioner sees the image and the words of the prompt and nothing else of a sample, so that its answer can be kept for the next time that
the same is asked.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

from PIL import Image

from tips_bench.corpus.store import Sample
from tips_bench.prompt_card import PromptCard
from tips_bench.training.crops import read_image
from tips_bench.training.shards import SampleFault

MIME = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
JPEG_QUALITY = 90  # of an image that is made smaller or turned
ORIENTATION = 274  # the EXIF tag


@dataclass(frozen=True)
class Question:
    """An image and what is asked of it.

    image: the bytes of its file. extension: of that file, one of MIME. text: the prompt. max_tokens: of the answer. temperature: 0 = the
    most likely answer.
    """

    image: bytes
    extension: str
    text: str
    max_tokens: int
    temperature: float = 0.0

    def picture(self) -> Image.Image:
        """The image in RGB, turned as its EXIF orientation says. Errors: Fault where it cannot be decoded, or training would skip it."""
        try:
            return Image.fromarray(read_image({self.extension: self.image}).permute(1, 2, 0).numpy())
        except SampleFault as error:
            raise Fault(str(error), kind="image") from error


@dataclass(frozen=True)
class Answer:
    """cut: it ended because it had as many tokens as it may have."""

    text: str
    cut: bool = False


class Fault(Exception):
    """A question that got no answer.

    reason: a few words, the same for all faults of a kind, so that they can be counted. detail: what else is known of this one.
    kind: "refused" = the captioner gives none. "image" = others got one, or would; it is of this image. "passing" = it may get one later.
    """

    def __init__(self, reason: str, detail: str = "", kind: Literal["refused", "image", "passing"] = "refused") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.kind = reason, detail, kind


def passes(given: Answer | Fault) -> bool:
    """Whether it says nothing of the image: the question should be asked again."""
    return isinstance(given, Fault) and given.kind == "passing"


@dataclass(frozen=True)
class Pace:
    """How a captioner works: nothing here may change a caption.

    at_once: requests of a process to a server at a time. per_minute: how many at most; None = no limit. timeout_s: for an answer. batch:
    images that a model sees together. device: of a model; None = the first GPU, or the CPU. patience_s: for a server that does not work.
    """

    at_once: int = 16
    per_minute: float | None = None
    timeout_s: float = 120.0
    patience_s: float = 600.0
    batch: int = 8
    device: str | None = None


class Captioner(Protocol):
    """What the registry's entries are.

    Built from what stands behind "NAME:" and a pace. identity: the same where the same captions are to be expected, so neither the name of
    a machine nor the pace is in it. batch: questions that it takes at a time. at_once: how many threads may ask at a time.
    """

    needs: ClassVar[str]  # what stands behind "NAME:", for help and errors; "" = nothing
    uses_gpu: ClassVar[bool]  # of the machine that asks it
    batch: int
    at_once: int

    def __init__(self, rest: str, pace: Pace) -> None: ...

    @classmethod
    def identity(cls, rest: str) -> str:
        """Errors: `rest` is not what it should be."""

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        """An answer or a fault for each, in order. Errors: UserError where no question would get an answer."""


def asked_with(card: PromptCard, sample: Sample, text: str) -> Question:
    """The question about a sample: its file as it is, or a JPEG where it has to be made smaller or be turned. Errors: Fault."""
    question = Question(sample.image, sample.extension, text, card.max_tokens, card.temperature)
    try:
        with Image.open(io.BytesIO(sample.image)) as image:
            too_large = card.max_side is not None and max(image.size) > card.max_side
            turned = image.getexif().get(ORIENTATION, 1) != 1
    except Exception as error:  # whatever Pillow raises of a broken header or a broken block of EXIF
        raise Fault("broken image", kind="image") from error
    if not too_large and not turned:
        return question
    picture = question.picture()
    if card.max_side is not None:
        picture.thumbnail((card.max_side, card.max_side), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.save(out, "jpeg", quality=JPEG_QUALITY)
    return replace(question, image=out.getvalue(), extension="jpg")
