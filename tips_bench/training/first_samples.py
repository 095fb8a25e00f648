"""A look at the first samples of a run before its first step: a layout that the recipe cannot use is told of at once."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from tips_bench.errors import UserError
from tips_bench.training import captions, crops
from tips_bench.training.recipe import Recipe
from tips_bench.training.shards import Cursor, SampleFault, ShardOrder

LOOKED_AT = 100
LEAST_USABLE = 0.5  # of them


def check_first_samples(recipe: Recipe, order: ShardOrder) -> None:
    """Errors: less than half of the first samples have an image and the captions that the recipe trains with."""
    kinds = captions.wanted_kinds(recipe.method.contrastive)
    faults: Counter[str] = Counter()
    looked_at, example = 0, ""
    for draw in islice(order.draws(Cursor()), LOOKED_AT):
        if draw.after.epoch:
            break
        looked_at += 1
        try:
            if not {*crops.EXTENSIONS} & {*draw.entry.members}:
                raise SampleFault("no image")
            captions.read_captions(draw.read(*captions.EXTENSIONS), kinds)
        except SampleFault as fault:
            faults[str(fault)] += 1
            example = example or f"{draw.name} holds {', '.join(f'.{extension}' for extension in draw.entry.members)}"
    usable = looked_at - faults.total()
    if usable >= LEAST_USABLE * looked_at:
        return
    listed = ", ".join(f"{fault} {count}" for fault, count in faults.most_common())
    wanted = " and ".join(["an image", *(f"a {kind} caption" for kind in kinds)])
    fix = (
        f'The recipe needs {wanted} in each; captions stand in a .json under "web" and "synthetic", or in a .txt, the web caption first. '
        "`tips-bench corpus caption` has synthetic ones written."
    )
    if len(kinds) > 1:
        fix += " With one kind alone: --set 'method.contrastive.captions=[[web]]'."
    share = f"only {usable}" if usable else "none"
    raise UserError(f"{share} of the first {looked_at} samples can be used ({listed}); {example}", where="data.shards", fix=fix)
