"""tips-bench list: the names that the other commands accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from tips_bench.cli.output import print_error, print_json, print_table


def _millions(parameters: int | None) -> str:
    return "" if parameters is None else f"{parameters / 1e6:.1f} M"


COLUMNS: dict[str, dict[str, Callable[[Any], str]]] = {
    "model": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "source": lambda card: card.source,
        "parameters": lambda card: _millions(card.parameters),
        "patch": lambda card: str(card.patch_size),
        "side": lambda card: str(card.resolution),
        "text": lambda card: "yes" if card.has_text else "",
        "license": lambda card: card.license,
    },
    "task": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "family": lambda card: card.family,
        "protocol": lambda card: card.protocol,
        "metric": lambda card: card.primary,
        "license": lambda card: card.license,
    },
    "protocol": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "probe": lambda card: str(card.probe.get("type", "")),
        "families": lambda card: ", ".join(card.families),
        "source": lambda card: card.source,
    },
    "prompt": {
        "name": lambda card: card.name,
        "title": lambda card: card.title,
        "tokens": lambda card: str(card.max_tokens),
        "made from": lambda card: ", ".join(["image", *sorted(card.used(), reverse=True)]),
    },
}


def list_(
    what: Annotated[Literal["models", "tasks", "protocols", "prompts"], typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the complete cards as JSON.")] = False,
) -> None:
    """List all models, tasks, protocols or prompts: those of tips-bench and your own.

    A card that cannot be read is left out, its error is printed, and the exit
    status is 2.

    \b
    Examples:
      tips-bench list tasks
      tips-bench list models --json
    """

    from tips_bench.cards import list_cards

    kind: Any = what.removesuffix("s")
    cards, faults = list_cards(kind)
    if as_json:
        print_json([card.model_dump(mode="json") for card in cards])
    else:
        print_table(list(COLUMNS[kind]), [[column(card) for column in COLUMNS[kind].values()] for card in cards])
    for fault in faults:
        print_error(fault)
    if faults:
        raise typer.Exit(2)
