"""Names of classes and prompts for zero-shot tasks: a task's own list, its folders, or OpenAI's for ImageNet.

OpenAI's 1000 names and 80 prompts (github.com/openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb) are taken from open_clip, which
ships them, and held to a checksum, so that no version of it can change a number in silence. big_vision scores SigLIP with the same 80 and
the name alone, all in lower case and without punctuation (google-research/big_vision 0127fb6,
big_vision/evaluators/proj/image_text/prompt_engineering.py:51-112).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from tips_bench.encoders.weights import require_package
from tips_bench.errors import UserError
from tips_bench.features.prompts import PLACEHOLDER
from tips_bench.files import digest

OPENAI_PROMPTS, OPENAI_NAMES, BIG_VISION_PROMPTS = "openai-80", "openai-imagenet", "big-vision-81"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SHA256 = {
    OPENAI_PROMPTS: "8d8a300f2c3a3712d0c7a6db6c1958767e832e0405cf601f8889dd7d58b7d329",
    OPENAI_NAMES: "1cbffe8e552706b4e2b3d4161e02bf060c33597d0c859feb9bfd4bbed2474f61",
}


def prompts_of(chosen: list[str] | str) -> list[str]:
    """A list of prompts as it is, or one by its name. Errors: no open_clip; another version's prompts."""
    if isinstance(chosen, list):
        return chosen
    openai = _held(OPENAI_PROMPTS, [template(PLACEHOLDER) for template in _metadata().OPENAI_IMAGENET_TEMPLATES])
    return [canonical(prompt, kept=PLACEHOLDER) for prompt in [*openai, PLACEHOLDER]] if chosen == BIG_VISION_PROMPTS else openai


def canonical(text: str, kept: str) -> str:
    """The text in lower case, with single spaces in place of underscores and other space, and without punctuation but for `kept`."""
    parts = text.replace("_", " ").split(kept)
    return " ".join(kept.join(part.translate(_NO_PUNCTUATION) for part in parts).lower().split())


def canonical_name(name: str) -> str:
    """A class's first name, as big_vision asks for it."""
    return canonical(name, kept=",").split(",")[0]


def names_of(chosen: list[str] | str, classes: Sequence[str], *, where: object) -> list[str]:
    """The names of a set's classes, in their order. Errors: a list of another length; no open_clip; another version's names."""
    if chosen == "folders":
        return [name.replace("_", " ") for name in classes]
    names = chosen if isinstance(chosen, list) else _held(OPENAI_NAMES, list(_metadata().IMAGENET_CLASSNAMES))
    if len(names) != len(classes):
        problem = f"class_names: {len(names)} names for the {len(classes)} classes of the set"
        raise UserError(problem, where=where, fix="Give a name for each class, in the order of the folders' names.")
    return names


def _metadata() -> Any:
    return require_package("open_clip").zero_shot_metadata


def _held(kind: str, values: list[str]) -> list[str]:
    found = digest(*values)
    if found != _SHA256[kind]:
        raise UserError(f"open_clip's list has the checksum {found[:12]}, not {_SHA256[kind][:12]}", where=kind, fix="Use another version.")
    return values
