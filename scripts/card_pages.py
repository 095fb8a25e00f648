"""Write docs/tasks.md, docs/protocols.md and docs/models.md from the shipped cards (make docs)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tips_bench.cards import load_card
from tips_bench.catalog import KINDS, shipped
from tips_bench.data.completeness import completeness
from tips_bench.files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTE = "This page is written by `make docs` from the cards in `{folder}/`; change the cards, not the page."


def task(card: Any) -> str:
    """One task: what is scored, on which data, under which protocols, and how to get the data."""
    splits = ", ".join(f"{role}: {name} ({_expected(card.data, name)} images)" for role, name in card.data.splits.items())
    return "\n".join(
        [
            f"- Family: {card.family}, version {card.version}; primary metric: {card.primary}",
            f"- Splits: {splits}, read by `{card.data.reader}` from `{card.data.root}` in the data root",
            f"- Protocols: {', '.join(f'`{name}`' for name in card.protocols)}; `{card.protocol}` if none is named",
            f"- Licence: {card.license}",
            f"- How to get it: {card.how_to_get}",
            f"- Citation: {card.citation}",
        ]
    )


def _expected(data: Any, split: str) -> str:
    return " or ".join(map(str, completeness(data, split, 0).published)) or "?"


def protocol(card: Any) -> str:
    """One protocol: its source and every number in it."""
    numbers = card.model_dump(mode="json", include={"image", "features", "inference", "selection", "probe"}, exclude_none=True)
    lines = [f"Version {card.version}, for {', '.join(card.families)}. Source: {card.source}"]
    if card.notes:
        lines += ["", card.notes]
    return "\n".join([*lines, "", "```yaml", yaml.safe_dump(numbers, sort_keys=False, width=100).rstrip(), "```"])


def model(card: Any) -> str:
    """One model: where it comes from and what it is."""
    weights = card.weights
    origin = (weights and (weights.url or weights.hub or weights.path)) or "none to fetch"
    size = "" if card.parameters is None else f", {card.parameters:,} parameters"
    lines = [
        f"- Source: `{card.source}`; weights: {origin}",
        f"- Patch {card.patch_size}, width {card.embed_dim}, depth {card.depth}, native side {card.resolution} px{size}",
        f"- Global tokens: {card.global_tokens}; text tower: {'yes' if card.has_text else 'no'}",
        f"- Licence: {card.license}",
        f"- Citation: {card.citation}",
    ]
    heads = [f"- Released heads, for the protocol `dpt-official`: {', '.join(card.heads)}"] if card.heads else []
    return "\n".join([*lines, *heads, *([f"- Notes: {card.notes}"] if card.notes else [])])


PAGES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "task": ("Tasks", task),
    "protocol": ("Protocols", protocol),
    "model": ("Models", model),
}


def page(kind: Any) -> str:
    """The page of a kind of `PAGES`, cards sorted by name."""
    title, section = PAGES[kind]
    folder = KINDS[kind]
    cards = [load_card(kind, str(path)) for path in sorted(shipped(folder).glob("*.yaml"), key=lambda path: path.stem)]
    parts = [f"# {title}", NOTE.format(folder=folder), *(f"## {card.name}\n\n{card.title}\n\n{section(card)}" for card in cards)]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write all pages."""
    for kind, (title, _) in PAGES.items():
        write_text(DOCS / f"{title.lower()}.md", page(kind))


if __name__ == "__main__":
    main()
