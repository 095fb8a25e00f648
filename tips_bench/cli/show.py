"""tips-bench show: one card, after its `_base_` cards were merged in."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import typer

from tips_bench.cli import complete
from tips_bench.cli.output import print_json, print_line
from tips_bench.errors import unknown_name
from tips_bench.terminal import printable

Kind = Literal["task", "protocol", "model", "prompt"]


def show(
    name: Annotated[str, typer.Argument(autocompletion=complete.card, help="Name of a task, protocol, model or prompt.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Print the complete card of a task, protocol, model or prompt: every value, the license, and how to get the data.

    \b
    Examples:
      tips-bench show ade20k
      tips-bench show ade20k+fog-3
      tips-bench show tips-g14 --json
    """
    from tips_bench.cards import in_full, load_card
    from tips_bench.catalog import card_files
    from tips_bench.variants import base_of

    kinds: tuple[Kind, ...] = get_args(Kind)
    base = name if any(name in card_files(kind) for kind in kinds) else base_of(name)  # of a task with changes
    found = [kind for kind in kinds if base in card_files(kind) and (kind == "task" or base == name)]
    if not found:
        raise unknown_name("card", name, [known for kind in kinds for known in card_files(kind)])
    cards: dict[str, Any] = {kind: in_full(load_card(kind, name)) for kind in found}
    if as_json:
        print_json(cards)
        return
    from tips_bench import plain_yaml

    for kind in found:
        print_line(f"# {kind}, {card_files(kind)[base]}")
        print("\n".join(map(printable, plain_yaml.dump(cards[kind]).split("\n"))), end="")
