"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "2,000 images". plural: where it is not the noun with an s."""
    return f"{number:,} {nouns(number, noun, plural)}"


def nouns(number: int, noun: str, plural: str = "") -> str:
    """The noun as it stands after a number."""
    return noun if number == 1 else plural or f"{noun}s"
