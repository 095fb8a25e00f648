"""Which samples stay in a corpus: limits on images and texts, and a classifier of the user's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from tips_bench.corpus.facts import captions, knows_languages, language_of
from tips_bench.corpus.sources.base import batched
from tips_bench.corpus.store import Sample
from tips_bench.errors import CodeFailed, UserError
from tips_bench.fetch import first_line
from tips_bench.strict import Strict

AT_ONCE = 64  # samples that a classifier sees


class Limits(Strict):
    """What a sample needs to stay; None = no limit. Texts are the captions that came with the images, lengths in characters.

    most_aspect: longer side over shorter side. languages: by ISO 639-1. classifier: "module:function", from a list of samples to a list:
    of each None if it stays, else the reason in a few words.
    """

    least_side: int | None = Field(None, ge=1)
    most_aspect: float | None = Field(None, ge=1)
    shortest_text: int | None = Field(None, ge=1)
    longest_text: int | None = Field(None, ge=1)
    languages: list[str] | None = None
    classifier: str | None = None

    def check(self) -> None:
        """Errors: what tells languages is not installed; no such classifier."""
        if self.languages and not knows_languages():
            fix = "Run `pip install 'tips-bench[corpus]'`."
            raise UserError("py3langid is not installed, which tells languages", where="--languages", fix=fix)
        if self.classifier is not None:
            load_classifier(self.classifier)


def beyond_text(said: dict[str, Any], limits: Limits) -> str | None:
    """Why a sample goes for its text. It needs no image, and so comes before the image is fetched."""
    text = next(iter(captions(said, "web")), "").strip()
    if limits.shortest_text is not None and len(text) < limits.shortest_text:
        return "text too short"
    if limits.longest_text is not None and len(text) > limits.longest_text:
        return "text too long"
    if limits.languages is not None and (not text or language_of(text) not in limits.languages):
        return "another language"
    return None


def passing(samples: Iterable[Sample], limits: Limits, drop: Callable[[Sample, str], None]) -> Iterator[Sample]:
    """The samples within the limits of images and of the classifier, in their order. drop: called with each other one and the reason."""
    within = _within(samples, limits, drop)
    if limits.classifier is None:
        yield from within
        return
    classify = load_classifier(limits.classifier)
    for some in batched(within, AT_ONCE):
        for sample, reason in zip(some, _reasons(classify, some, limits.classifier), strict=True):
            if reason is None:
                yield sample
            else:
                drop(sample, reason)


def _within(samples: Iterable[Sample], limits: Limits, drop: Callable[[Sample, str], None]) -> Iterator[Sample]:
    for sample in samples:
        reason = _beyond_size(sample, limits)
        if reason is None:
            yield sample
        else:
            drop(sample, reason)


def _beyond_size(sample: Sample, limits: Limits) -> str | None:
    """Why a sample goes for its image. Its .json states the size."""
    shorter, longer = sorted((sample.said["width"], sample.said["height"]))
    if limits.least_side is not None and shorter < limits.least_side:
        return "image too small"
    if limits.most_aspect is not None and longer > limits.most_aspect * shorter:
        return "image too long"
    return None


def load_classifier(target: str) -> Callable[[list[Sample]], Any]:
    """The user's function, looked for in the working directory, too. Errors: no such module or function; it raises when it is imported."""
    module, sign, name = target.partition(":")
    if not sign or not module or not name:
        raise UserError(f"{target!r} is not module:function", where="--classifier", fix="For example my_filters:unsafe.")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{target} cannot be imported ({first_line(error)})", where="--classifier") from error
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(function):
        raise UserError(f"{target} is not a function", where="--classifier")
    return function


def _reasons(classify: Callable[[list[Sample]], Any], samples: list[Sample], name: str) -> list[str | None]:
    try:
        reasons = classify(samples)
    except UserError:
        raise
    except Exception as error:
        raise CodeFailed(f"the classifier failed: {type(error).__name__}: {first_line(error)}", where=name) from error
    if not isinstance(reasons, list) or len(reasons) != len(samples) or not all(one is None or isinstance(one, str) for one in reasons):
        fix = f"Return a list with None or a reason for each of the {len(samples)} samples."
        raise CodeFailed("the classifier returned something else than was asked for", where=name, fix=fix)
    return reasons
