"""features/upsampling.py and upsamplers.py: patch features on a finer grid, by a function or by a clone of an upsampler's repository."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding
from tips_bench.features.upsampling import IMAGENET_MEAN, Upsampler
from tips_bench.upsampler_card import UpsamplerCard

CPU = torch.device("cpu")
TINY = """
import torch
from torch import nn
from torch.nn import functional as F

class Tiny(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def finer(self, image, features, size):
        return F.interpolate(features, size, mode="nearest") * self.scale
"""
# Each as the repository of that name has it, with the model reduced to one number.
CLONES: dict[str, dict[str, str]] = {
    "anyup": {
        "hubconf.py": "dependencies = ['torch']\nfrom anyup.model import AnyUp\n"
        "def anyup_multi_backbone(use_natten=False, pretrained=True, device='cpu'):\n    assert not pretrained\n    return AnyUp()\n",
        "anyup/__init__.py": "",
        "anyup/model.py": TINY + "\nclass AnyUp(Tiny):\n    def forward(self, image, features, output_size=None, vis_attn=False):\n"
        "        return self.finer(image, features, output_size)\n",
    },
    "loftup": {
        "hubconf.py": "dependencies = ['torch']\nfrom upsamplers.upsamplers import LoftUp\n"
        "def loftup_dinov2s(pretrained=True, progress=True):\n    assert not pretrained\n    return LoftUp()\n",
        "upsamplers/__init__.py": "",
        "upsamplers/upsamplers.py": TINY + "\nclass LoftUp(Tiny):\n    def forward(self, lr_feats, img):\n"
        "        return self.finer(img, lr_feats, img.shape[-2:])\n",
    },
    "jafar": {
        "src/__init__.py": "",
        "src/upsampler/__init__.py": TINY + "\nclass JAFAR(Tiny):\n    def forward(self, image, features, output_size):\n"
        "        return self.finer(image, features, output_size)\n",
    },
    "featup": {
        "featup/__init__.py": "",
        "featup/layers.py": "from torch import nn\nclass ChannelNorm(nn.Module):\n    def __init__(self, dim):\n"
        "        super().__init__()\n        self.norm = nn.LayerNorm(dim)\n"
        "    def forward(self, x):\n        return self.norm(x.movedim(1, -1)).movedim(-1, 1)\n",
        "featup/upsamplers.py": TINY + "\nclass Stack(Tiny):\n    def forward(self, source, guidance):\n"
        "        return self.finer(guidance, source, [16 * side for side in source.shape[-2:]])\n"
        "def get_upsampler(name, dim):\n    assert name == 'jbu_stack'\n    return Stack()\n",
    },
}
ENTRIES = {"loftup": "loftup_dinov2s", "jafar": "vit_small"}
SAVED: dict[str, Callable[[int], Any]] = {
    "anyup": lambda dim: {"scale": torch.full((1,), 3.0)},
    "loftup": lambda dim: {"scale": torch.full((1,), 3.0)},
    "jafar": lambda dim: {"jafar": {"scale": torch.full((1,), 3.0)}},
    "featup": lambda dim: {
        "state_dict": {
            "model.0.weight": torch.zeros(2),
            "model.1.norm.weight": torch.ones(dim),
            "model.1.norm.bias": torch.zeros(dim),
            "upsampler.scale": torch.full((1,), 3.0),
            "upsampler.scale_net.x": torch.zeros(2),
        }
    },
}


def clone(name: str, folder: Path, dim: int = 4) -> UpsamplerCard:
    """A card with the clone and its weights written."""
    for file, text in CLONES[name].items():
        (folder / "clone" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "clone" / file).write_text(text)
    torch.save(SAVED[name](dim), folder / "weights.pth")
    return UpsamplerCard(name=name, factor=2, folder=str(folder / "clone"), entry=ENTRIES.get(name), weights=str(folder / "weights.pth"))


def features(dim: int = 4) -> Tensor:
    return torch.randn(2, 3, 5, dim, generator=torch.Generator().manual_seed(1))


def test_a_linear_head_on_bilinear_features_is_the_head_interpolated() -> None:
    features_BhwD = features()
    finer = Upsampler.load(UpsamplerCard(name="bilinear", factor=3), 4, CPU)(torch.rand(2, 3, 42, 70), (0, 0, 0, 0), features_BhwD)
    weight_D = torch.randn(4)
    expected = F.interpolate((features_BhwD @ weight_D)[:, None], (9, 15), mode="bilinear", align_corners=False)[:, 0]
    assert torch.allclose(finer @ weight_D, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["bilinear", "anyup", "jafar", "loftup"])
def test_constant_features_stay_constant(name: str, tmp_path: Path) -> None:
    card = UpsamplerCard(name="bilinear", factor=2) if name == "bilinear" else clone(name, tmp_path)
    constant_D = torch.tensor([1.0, -2.0, 0.5, 7.0])
    finer = Upsampler.load(card, 4, CPU)(torch.rand(1, 3, 28, 42), (0, 0, 0, 0), constant_D.expand(1, 2, 3, 4))
    assert torch.equal(finer, (constant_D if name == "bilinear" else 3 * constant_D).expand(1, 4, 6, 4))


@pytest.mark.parametrize("name", sorted(CLONES))
def test_the_code_of_a_clone_gets_its_weights_and_leaves_no_module_behind(name: str, tmp_path: Path) -> None:
    before = set(sys.modules)
    upsampler = Upsampler.load(clone(name, tmp_path), 4, CPU)
    assert not {key.partition(".")[0] for key in set(sys.modules) - before} & {"hubconf", "anyup", "upsamplers", "src", "featup"}
    assert str(tmp_path / "clone") not in sys.path
    features_BhwD = features()
    finer = upsampler(torch.rand(2, 3, 42, 70), (0, 0, 0, 0), features_BhwD)
    source = F.layer_norm(features_BhwD, (4,)) if name == "featup" else features_BhwD
    assert torch.allclose(finer, 3 * source.repeat_interleave(2, 1).repeat_interleave(2, 2), atol=1e-5)


def test_other_weights_are_another_identity(tmp_path: Path) -> None:
    card = clone("anyup", tmp_path)
    first = Upsampler.load(card, 4, CPU).identity()
    assert Upsampler.load(card, 4, CPU).identity() == first
    torch.save({"scale": torch.full((1,), 2.0)}, tmp_path / "weights.pth")
    assert Upsampler.load(card, 4, CPU).identity() != first


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_weight_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    card = clone("anyup", tmp_path)
    torch.save({"scale": Touch(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="could run code and are never loaded"):
        Upsampler.load(card, 4, CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "anyupp"}, "Did you mean 'anyup'"),
        ({"folder": None}, "git clone https://github.com/wimmerth/anyup"),
        ({"folder": "nowhere"}, "there is no folder 'nowhere'"),
        ({"entry": "other"}, "Use one of: anyup, anyup_multi_backbone"),
        ({"weights": "nowhere.pth"}, "there is no weight file"),
        ({"name": "jafar"}, "its code failed: ModuleNotFoundError"),
        ({"name": "loftup", "entry": None}, "it has a model for each encoder"),
        ({"name": "no_such_module:up"}, "there is no module 'no_such_module'"),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        Upsampler.load(clone("anyup", tmp_path).model_copy(update=changed), 4, CPU)


def test_weights_of_another_model_are_named_key_by_key(tmp_path: Path) -> None:
    card = clone("jafar", tmp_path)
    for saved, words in (({"jafar": {"other": torch.ones(1)}}, "the first is 'scale'"), ({"x": 1}, "is no checkpoint of this upsampler")):
        torch.save(saved, tmp_path / "weights.pth")
        with pytest.raises(UserError, match=words):
            Upsampler.load(card, 4, CPU)


def own(image: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest features plus the image's mean brightness, so that both are seen."""
    return F.interpolate(features_BDhw, size, mode="nearest") + F.adaptive_avg_pool2d(image.mean(1, keepdim=True), size)


def small(image: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Tensor:
    return features_BDhw


def endless(image: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(features_BDhw, size) / 0


def failing(image: Tensor, features_BDhw: Tensor, size: tuple[int, int]) -> Tensor:
    raise ValueError("no")


@pytest.mark.parametrize(
    ("name", "words"), [("small", "expected"), ("endless", "NaN or infinite"), ("failing", "it raised ValueError: no")]
)
def test_a_users_function_that_gives_something_else_is_refused(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Upsampler.load(UpsamplerCard(name=f"{__name__}:{name}", factor=2), 4, CPU)


def test_the_image_is_seen_in_the_place_of_its_features_and_padding_has_the_mean_color() -> None:
    upsampler = Upsampler.load(UpsamplerCard(name=f"{__name__}:own", factor=2), 1, CPU)
    pixels_13HW = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand(1, 3, 26, 28).clone()
    pixels_13HW[..., :13, 14:] = 1.0
    finer_hw = upsampler(pixels_13HW, (0, 1, 0, 1), torch.zeros(1, 2, 2, 1))[0, ..., 0]
    assert finer_hw[:2, 2:].min() > 1 and finer_hw[2:].abs().max() < 1e-6 and finer_hw[:, :2].abs().max() < 1e-6
    assert finer_hw[0, 2] == pytest.approx(float(finer_hw[1, 2]) * 6 / 7), "the first of 14 rows is padding"


def test_an_extractor_gives_the_finer_grid_and_says_so() -> None:
    card = FeatureCard(layers=[-1], upsampler=UpsamplerCard(name="bilinear", factor=2))
    encoder = load_encoder("tips-tiny-random", device="cpu")
    image = ImageCard(short_side=56)
    fine, plain = (Extractor(encoder, image, features) for features in (card, FeatureCard(layers=[-1])))
    pixels_23HW = torch.rand(2, 3, 56, 75)
    found, base = fine.encode(pixels_23HW), plain.encode(pixels_23HW)
    assert tuple(found.features_BhwD.shape[1:3]) == fine.grid(56, 75) == tuple(2 * side for side in plain.grid(56, 75))
    assert found.padding == base.padding and fine.dim == plain.dim
    for use in (lambda: fine.embed(pixels_23HW), lambda: ImageEmbedding.tokens(fine)):
        with pytest.raises(UserError, match="compares whole images"):
            use()
