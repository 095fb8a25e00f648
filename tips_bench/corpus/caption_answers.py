"""What becomes of a captioner's answer: a caption, or the reason why it is none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tips_bench.corpus.captioners.base import Answer, Fault
from tips_bench.corpus.store import in_utf8

CUT = "cut to whole sentences"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")
# How models say that they describe no image.
_REFUSED = re.compile(
    "|".join(
        [
            r"i('m| am) sorry",
            r"sorry, (but )?i\b",
            r"i apologi[sz]e",
            r"unfortunately, i\b",
            r"as an ai\b",
            r"i('m| am) (unable|not able) to\b",
            r"i (can't|cannot|can not|won't) (help|assist|describe|provide|identify|process|view|see|comply)\b",
        ]
    ),
    re.IGNORECASE,
)
# What a model thought before it answered, where the server leaves it in.
_THOUGHT = re.compile(r"\A\s*<think>.*?(</think>|\Z)", re.DOTALL)
_SENTENCES = re.compile(r".*[.!?][\"')\]]*(?=\s|$)")


@dataclass(frozen=True)
class Judged:
    """caption: "" = the answer is none. reason: why it is none. note: what was done to the caption, to be counted; "" = nothing."""

    caption: str = ""
    reason: str = ""
    note: str = ""


def plain(text: str) -> str:
    """One line of UTF-8 without control characters, each space alone."""
    return _CONTROL.sub(" ", in_utf8(text)).strip()


def judge(answer: Answer | Fault) -> Judged:
    """Empty and refusing answers are no captions. One that was cut off ends after its last whole sentence, and is none without any."""
    if isinstance(answer, Fault):
        return Judged(reason=answer.reason)
    text = plain(_THOUGHT.sub("", answer.text))
    if not text:
        return Judged(reason="empty")
    if _REFUSED.match(text.replace("\u2019", "'")):
        return Judged(reason="refused")
    if not answer.cut:
        return Judged(text)
    whole = _SENTENCES.match(text)
    return Judged(whole[0], note=CUT) if whole else Judged(reason="too long")
