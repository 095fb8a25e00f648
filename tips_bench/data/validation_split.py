"""A held-out part of a training split, chosen by hash: the same on every machine, whatever the order of the files."""

from __future__ import annotations

from collections.abc import Sequence

from tips_bench.errors import UserError
from tips_bench.files import digest


def hold_out(ids: Sequence[str], groups: Sequence[str], fraction: float, limit: int | None = None) -> tuple[list[int], list[int]]:
    """Indices (kept, held out). Whole groups are held out, about `fraction` of them, at least one and never all.

    limit: at most so many samples are held out; the others of those groups are not used. Errors: all samples in one group.
    """
    order = sorted(set(groups), key=lambda group: digest("held out", group))
    if len(order) < 2:
        problem = f"{len(ids)} training sample(s) of one group cannot be split into fitted and held-out samples"
        raise UserError(problem, fix="Use samples of at least two groups.")
    chosen = set(order[: min(max(1, round(fraction * len(order))), len(order) - 1)])
    kept = [index for index, group in enumerate(groups) if group not in chosen]
    held = [index for index, group in enumerate(groups) if group in chosen]
    if limit is not None and len(held) > limit:
        held = sorted(sorted(held, key=lambda index: digest("held out", ids[index]))[:limit])
    return kept, held
