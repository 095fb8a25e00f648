"""Names that a shell completes: the stems of card files, so that no card is read and nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable

from tips_bench.catalog import KINDS, card_files
from tips_bench.errors import UserError


def list_of(kind: str) -> Callable[[str], list[str]]:
    """Completes the last name of a comma list. kind: of `catalog.KINDS`."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in [*_names(kind), "all"] if name.startswith(last)]

    return complete


def task(incomplete: str) -> list[str]:
    """Completes the name of one task."""
    return [name for name in _names("task") if name.startswith(incomplete)]


def recipe(incomplete: str) -> list[str]:
    """Completes the name of one recipe."""
    return [name for name in _names("recipe") if name.startswith(incomplete)]


def card(incomplete: str) -> list[str]:
    """Completes the name of a card of any kind."""
    return sorted({name for kind in KINDS for name in _names(kind) if name.startswith(incomplete)})


def _names(kind: str) -> list[str]:
    """Of a kind; none where the user's folders cannot be read, for a shell has no place for an error."""
    try:
        return list(card_files(kind))
    except UserError:
        return []
