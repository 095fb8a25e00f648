"""The upsamplers of the registry UPSAMPLERS. All but `bilinear` run the code of their repositories, from a clone that the user names.

    git clone https://github.com/wimmerth/anyup
    tips-bench run --task ade20k --model tips-b14 --set features.upsampler.name=anyup \
      --set features.upsampler.folder=anyup --set features.upsampler.factor=4

No code is downloaded, and weights are read as tensors alone: the models are built without weights, and filled here, key by key.
How each is called was read in: wimmerth/anyup 351807a (hubconf.py, README.md), PaulCouairon/JAFAR 94d4d54 (src/upsampler/jafar.py,
README.md:316-326), andrehuang/loftup 6620d9b (hubconf.py, example_usage.py:31-38), mhamilton723/FeatUp 6b5a6c0 (hubconf.py:12-54).

Axes: B batch, H W pixels, h w grid, D feature.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tips_bench.cards import WeightsCard
from tips_bench.encoders.hub import fetch_weights
from tips_bench.encoders.weights import load_exactly, reading
from tips_bench.errors import CodeFailed, UserError
from tips_bench.fetch import first_line
from tips_bench.upsampler_card import UpsamplerCard

ANYUP = "https://github.com/wimmerth/anyup/releases/download"
ANYUP_FILES = {"anyup": "checkpoint/anyup_paper.pth", "anyup_multi_backbone": "checkpoint_v2/anyup_multi_backbone.pth"}
JAFAR = "https://github.com/PaulCouairon/JAFAR/releases/download/Weights"
FEATUP = "https://marhamilresearch4.blob.core.windows.net/feature-upsampling-public/pretrained"
FEATUP_MODELS = ("vit", "dino16", "clip", "dinov2", "resnet50", "maskclip")
FEATUP_FACTOR = 16
JAFAR_KEYS = 128


def bilinear(card: UpsamplerCard, dim: int) -> Callable[..., Tensor]:
    """The control, which does not look at the image."""
    return lambda image, features_BDhw, size: F.interpolate(features_BDhw, size, mode="bilinear", align_corners=False)


def anyup(card: UpsamplerCard, dim: int) -> nn.Module:
    """entry: anyup_multi_backbone (the default) or anyup, the paper's; both take the features of any encoder."""
    entry = _entry(card, "anyup_multi_backbone", ANYUP_FILES)
    model = _from_hub(card, "wimmerth/anyup", entry)
    return _filled(model, card, WeightsCard(url=f"{ANYUP}/{ANYUP_FILES[entry]}"), lambda state: state)


def loftup(card: UpsamplerCard, dim: int) -> nn.Module:
    """entry: loftup_dinov2s, loftup_dinov2b, loftup_clip, ...: the encoder that it was trained for. The image is brought to the size."""
    entry = _entry(card, None)
    model = _from_hub(card, "andrehuang/loftup", entry)
    repo = f"haiwen/{entry.replace('_', '-', 1)}"
    return _Loftup(_filled(model, card, WeightsCard(hub=repo, file="pytorch_model.bin"), lambda state: state))


class _Loftup(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_B3HW: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Any:
        """[B,D,h',w']"""
        return self.model(features_BDhw, F.interpolate(image_B3HW, size, mode="bilinear", align_corners=False))


def jafar(card: UpsamplerCard, dim: int) -> nn.Module:
    """entry: the name of a file of its releases, as vit_small_patch14_dinov2.lvd142m: the encoder that it was trained for.

    Its code makes coordinates on a CUDA device, whatever the image's (src/upsampler/jafar.py:94, utils/img.py:7): it needs a GPU.
    """
    with _importing(card, "PaulCouairon/JAFAR"):
        kind = importlib.import_module("src.upsampler").JAFAR
        model = kind(input_dim=3, qk_dim=JAFAR_KEYS, v_dim=dim, feature_dim=dim, kernel_size=1, num_heads=4)
    published = WeightsCard(url=f"{JAFAR}/{card.entry if card.weights else _entry(card, None)}.pth")
    return _filled(model, card, published, lambda state: state["jafar"])


def featup(card: UpsamplerCard, dim: int) -> nn.Module:
    """entry: dinov2 (the default) or another of its models, whose features it was trained for, normed. 16 times finer, then averaged."""
    entry = _entry(card, "dinov2", FEATUP_MODELS)
    with _importing(card, "mhamilton723/FeatUp"):
        norm = importlib.import_module("featup.layers").ChannelNorm(dim)
        upsampler = importlib.import_module("featup.upsamplers").get_upsampler("jbu_stack", dim)
    model = _Featup(norm, upsampler)
    return _filled(model, card, WeightsCard(url=f"{FEATUP}/{entry}_jbu_stack_cocostuff.ckpt"), _featup_state)


class _Featup(nn.Module):
    def __init__(self, norm: nn.Module, upsampler: nn.Module) -> None:
        super().__init__()
        self.norm, self.upsampler = norm, upsampler

    def forward(self, image_B3HW: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Tensor:
        """[B,D,h',w']"""
        finest_BDhw = self.upsampler(self.norm(features_BDhw), image_B3HW)
        if size[0] > FEATUP_FACTOR * features_BDhw.shape[-2]:
            raise UserError(f"it makes {FEATUP_FACTOR} cells of a patch at most", where="features.upsampler.factor", fix="Choose fewer.")
        return F.adaptive_avg_pool2d(finest_BDhw, size)


def _featup_state(saved: Any) -> dict[str, Tensor]:
    """The norm and the upsampler of a checkpoint that holds the backbone, too, as `model.0`."""
    state = {key.replace("model.1.", "norm.", 1): tensor for key, tensor in saved["state_dict"].items()}
    return {key: tensor for key, tensor in state.items() if key.startswith(("norm.", "upsampler.")) and "scale_net" not in key}


def _entry(card: UpsamplerCard, usual: str | None, known: Any = None) -> str:
    entry = card.entry or usual
    where = f"features.upsampler, {card.name}"
    if entry is None:
        fix = "Set features.upsampler.entry to the one that was trained for this encoder."
        raise UserError("it has a model for each encoder, and none is named", where=where, fix=fix)
    if known is not None and entry not in known:
        raise UserError(f"there is no model {entry!r}", where=where, fix=f"Use one of: {', '.join(known)}.")
    return entry


@contextmanager
def _importing(card: UpsamplerCard, repository: str) -> Iterator[Path]:
    """The clone of a repository, from which modules are imported while the block runs. Errors: no clone, code that fails."""
    where = f"features.upsampler, {card.name}"
    folder = Path(os.path.expanduser(card.folder or ""))
    if card.folder is None or not folder.is_dir():
        problem = "its code is needed" if card.folder is None else f"there is no folder {str(folder)!r}"
        fix = f"git clone https://github.com/{repository}, and set features.upsampler.folder to the clone."
        raise UserError(problem, where=where, fix=fix)
    before = set(sys.modules)
    sys.path.insert(0, str(folder.resolve()))
    try:
        yield folder
    except (UserError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        problem = f"its code failed: {type(error).__name__}: {first_line(error)}"
        raise CodeFailed(problem, where=folder, fix=f"Install what github.com/{repository} asks for.") from error
    finally:
        sys.path.remove(str(folder.resolve()))
        for name in set(sys.modules) - before:  # "src" and "utils" are the names of others' modules, too
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder.resolve())):
                del sys.modules[name]


def _from_hub(card: UpsamplerCard, repository: str, entry: str) -> nn.Module:
    """A model of a clone's hubconf.py, without weights."""
    with _importing(card, repository) as folder:
        model: nn.Module = torch.hub.load(str(folder), entry, source="local", pretrained=False)
    return model


def _filled(model: nn.Module, card: UpsamplerCard, published: WeightsCard, state_of: Callable[[Any], Any]) -> nn.Module:
    """The model with its weights: the user's file, or the published ones. Errors: a file that holds code, or does not fit key by key."""
    path = Path(os.path.expanduser(card.weights)) if card.weights else fetch_weights(published, f"upsampler {card.name}")
    if not path.is_file():
        raise UserError(f"there is no weight file {str(path)!r}", where="features.upsampler.weights", fix="Check the path.")
    with reading(path):
        saved = torch.load(path, map_location="cpu", weights_only=True)
    try:
        state = state_of(saved)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError("the file is no checkpoint of this upsampler", where=path, fix="Give the file that it published.") from error
    load_exactly(model, state, path)
    return model
