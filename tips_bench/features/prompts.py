"""Class names as text embeddings: a name stands in every prompt, each text is embedded and normalised, their mean is normalised again.

That is the ensemble of CLIP (Radford et al., 2021, section 3.1.4), which TIPS, MaskCLIP and TCL use. Prompts are plain text with the
placeholder {} where the name goes.

Axes: T names, D feature.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.encoders.base import Encoder
from tips_bench.features.cache import FeatureCache
from tips_bench.files import digest
from tips_bench.progress import bar

PLACEHOLDER = "{}"
TEXTS = 128  # that meet the text tower at once


def check_prompts(prompts: list[str]) -> list[str]:
    """The prompts, for a card's validator. Errors (ValueError): none, one without the placeholder or with another brace, one twice."""
    if not prompts:
        raise ValueError("there is no prompt: give at least '{}'")
    for prompt in prompts:
        rest = prompt.replace(PLACEHOLDER, "")
        if rest == prompt:
            raise ValueError(f"the prompt {prompt!r} has no place for the name: put {{}} where it goes")
        if "{" in rest or "}" in rest:
            raise ValueError(f"the prompt {prompt!r} has a brace beside {{}}")
    if twice := [prompt for prompt in prompts if prompts.count(prompt) > 1]:
        raise ValueError(f"the prompt {twice[0]!r} is there twice")
    return prompts


def fill(prompts: Sequence[str], name: str) -> list[str]:
    """The prompts with the name in place."""
    return [prompt.replace(PLACEHOLDER, name) for prompt in prompts]


def embed_names(encoder: Encoder, names: Sequence[str], prompts: Sequence[str], cache: FeatureCache, *, patches: bool = False) -> Tensor:
    """[T,D] unit vectors in float32 on the encoder's device.

    patches: they are compared with patches, not with whole images. cache: what is kept there is found by the text tower's output for one
    text, so that all data sets share it.
    What an earlier try embedded is taken up. Errors: an encoder without text.
    """
    embed = encoder.encode_patch_text if patches else encoder.encode_text
    probe_1D = embed(fill(prompts[:1], names[0])[:1]).float().cpu()
    tower = digest(encoder.spec.identity(), str(encoder.dtype), encoder.device.type, probe_1D.numpy().tobytes().hex())
    arrays = {"embedding": ((probe_1D.shape[1],), "float32")}
    store = cache.open("names", [1] * len(names), arrays, tower, json.dumps([list(names), list(prompts)]))
    missing = set(store.missing())  # in a cache of many, perhaps not the same on each rank
    with bar("class names", len(names)) as advance:
        advance(len(names) - len(missing))
        for item in [item for item in cache.world.share(range(len(names))) if item in missing]:
            store.write(item, embedding=_ensemble(embed, fill(prompts, names[item])).cpu().numpy())
            advance()
    store.join()
    embeddings_TD = torch.from_numpy(store.arrays["embedding"][:].copy()).to(encoder.device)
    cache.finish(store)
    return embeddings_TD


def _ensemble(embed: Callable[[list[str]], Tensor], texts: list[str]) -> Tensor:
    """[D] of one name's texts."""
    found = [embed(texts[start : start + TEXTS]) for start in range(0, len(texts), TEXTS)]
    return F.normalize(F.normalize(torch.cat(found).float(), dim=-1).mean(0), dim=0)
