"""Looking at every image and caption of a retrieval set before an evaluation.

    tips-bench data check coco-retrieval

A tokenizer gives at least one token a word, so a caption of more words than a text tower takes tokens is certainly cut. A run
counts with the encoder's own tokenizer, in its record under probe.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tips_bench.data.base import CaptionReader
from tips_bench.data.checks.base import Report, decoded
from tips_bench.wording import counted

CONTEXTS = {"64 tokens (TIPS, SigLIP)": 64, "77 tokens (CLIP)": 75}  # words that fit; two tokens of CLIP's are its start and end


def check(reader: CaptionReader, expected: int | None = None, workers: int = 2) -> Report:
    """Decode every image and look at every caption. expected: the number of images there should be. workers: threads."""
    report = decoded(reader, expected, workers)
    report.faults[:0] = reader.faults
    _tell(report, reader)
    return report


def _tell(report: Report, reader: CaptionReader) -> None:
    """Numbers and lengths of the captions, those that are certainly cut, and those that several images share."""
    said = [text for captions in reader.captions for text in captions]
    if not said:
        report.faults.append("there is no caption at all")
        return
    numbers = Counter(map(len, reader.captions))
    spread = ", ".join(f"{number} of {counted(images, 'image')}" for number, images in sorted(numbers.items()))
    report.facts["captions"] = f"{len(said)} ({spread})"
    words = np.array([len(text.split()) for text in said])
    report.facts["words a caption"] = f"{np.median(words):.0f} (median), {words.min()} to {words.max()}"
    for context, fitting in CONTEXTS.items():
        report.facts[f"cut at {context}"] = f"{counted(int((words > fitting).sum()), 'caption')} at least"
    owners: dict[str, set[int]] = {}
    for index, captions in enumerate(reader.captions):
        for text in captions:
            owners.setdefault(" ".join(text.split()).lower(), set()).add(index)
    shared = [text for text, images in owners.items() if len(images) > 1]
    if shared:
        some = f"{shared[0][:60]!r}"
        report.remarks.append(f"captions of several images: {len(shared)}, for example {some}: only one of the images counts as found")
