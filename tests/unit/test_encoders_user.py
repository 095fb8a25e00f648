"""A user's own callable as an encoder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tips_bench import load_encoder
from tips_bench.encoders import resolve_model_card
from tips_bench.encoders.user import _build
from tips_bench.errors import CodeFailed, UserError

MODULE = """
import torch
from torch import nn

torch.manual_seed(0)
WEIGHT = torch.randn(5, 3, 7, 7)

def first():
    return lambda pixels: torch.nn.functional.conv2d(pixels, WEIGHT.to(pixels.dtype), stride=7)

def last():
    return lambda pixels: first()(pixels).permute(0, 2, 3, 1)

def module():
    return nn.Conv2d(3, 6, 14, stride=14)

class Normalised(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Conv2d(3, 6, 14, stride=14).bfloat16()

    def forward(self, pixels):
        return self.model((pixels - 0.5) / 0.5)

def function():
    model = nn.Conv2d(3, 6, 14, stride=14)
    return lambda pixels: model((pixels - 0.5) / 0.5)

def clumsy():
    return lambda pixels, size: pixels

def hungry():
    def run(pixels):
        raise torch.OutOfMemoryError("too much")
    return run

def one_size():
    def run(pixels):
        if pixels.shape[-2:] != (224, 224):
            raise ValueError("Got: 448 Expected: 224")
        return first()(pixels)
    return run

def plain(pixels):
    return pixels


def broken():
    return {}["weights"]

def encoder():
    from tips_bench import load_encoder
    return load_encoder("tips-tiny-random", device="cpu")

def half():
    return lambda pixels: first()(pixels.float()).bfloat16()

def full():
    return lambda pixels: first()(pixels.float())

def pooled():
    return lambda pixels: pixels.mean((2, 3))

def square():
    return lambda pixels: torch.zeros(1, 4, 4, 4)

def fixed():
    seen = []
    def run(pixels):
        seen.append(1)
        return torch.zeros(1, 5, 4, 8)
    return run

def number():
    return 3

class Holder:
    build = staticmethod(first)

CONSTANT = 4
"""


BACKBONE = """
from torch import nn

class MyBackbone(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 768, 16, stride=16)

class MyViT(MyBackbone):
    norm = nn.LayerNorm(768, elementwise_affine=False)

    def blocks_of(self, pixels):
        patches = self(pixels).flatten(2).transpose(1, 2)
        return [nn.functional.pad(patches + block, (0, 0, 1, 0)) for block in range(12)]
"""
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "new-encoder.md"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_own.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    _build.cache_clear()


@pytest.mark.parametrize("name", ["first", "last", "Holder.build"])
def test_a_function_is_understood_whichever_axis_holds_the_features(name: str) -> None:
    import users_own

    encoder = load_encoder(f"users_own:{name}", device="cpu")
    assert (encoder.spec.patch_size, encoder.spec.embed_dim, encoder.spec.depth, encoder.spec.global_tokens) == (7, 5, 1, 0)
    pixels = torch.rand(2, 3, 14, 35)
    found = encoder.encode_image(pixels)
    assert torch.allclose(found.patches[0], nn.functional.conv2d(pixels, users_own.WEIGHT, stride=7).permute(0, 2, 3, 1), atol=1e-6)
    assert found.globals_BKD.shape == (2, 0, 5)


def test_its_identity_is_what_it_gives_for_one_image() -> None:
    first, last, module = (load_encoder(f"users_own:{name}", device="cpu").spec.weights_sha256 for name in ("first", "last", "module"))
    assert first.startswith("output:") and first == last and first != module


def test_a_module_is_put_on_the_device_in_the_precision_and_frozen() -> None:
    encoder = load_encoder("users_own:module", device="cpu", dtype="bf16")
    assert encoder.encode_image(torch.rand(1, 3, 28, 28)).patches[0].dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in encoder.function.parameters())
    assert not encoder.function.training


@pytest.mark.parametrize("name", ["half", "full"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_features_have_the_precision_of_the_run_whatever_a_function_gives(name: str, dtype: str) -> None:
    """Stores keep features by the precision of the run: others would be read back as other numbers."""
    encoder = load_encoder(f"users_own:{name}", device="cpu", dtype=dtype)
    found = encoder.encode_image(torch.rand(1, 3, 28, 28))
    assert found.patches[0].dtype == found.globals_BKD.dtype == found.layer_globals[0].dtype == encoder.dtype


def test_one_precision_does_not_spoil_the_next() -> None:
    torch.manual_seed(0)
    half = load_encoder("users_own:module", device="cpu", dtype="bf16")
    full = load_encoder("users_own:module", device="cpu", dtype="fp32")
    assert half.function is not full.function
    assert not torch.equal(full.function.weight, full.function.weight.bfloat16().float())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_module_may_be_made_in_any_precision_and_named_as_a_class(dtype: str) -> None:
    encoder = load_encoder("users_own:Normalised", device="cpu", dtype=dtype)
    assert encoder.encode_image(torch.rand(1, 3, 28, 42)).patches[0].shape == (1, 2, 3, 6)


def test_a_function_that_cannot_take_the_pixels_is_one_sentence_with_its_cause() -> None:
    wanted = r"users_own:function: given torch\.bfloat16 pixels on cpu, it raised RuntimeError: .*\. Return an nn\.Module, which is moved"
    with pytest.raises(UserError, match=wanted) as caught:
        load_encoder("users_own:function", device="cpu", dtype="bf16")
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(UserError, match=r"users_own:clumsy: given torch\.float32 pixels on cpu, it raised TypeError: .*'size'"):
        load_encoder("users_own:clumsy")


def test_a_function_of_one_image_size_is_told_that_sizes_vary() -> None:
    wanted = r"users_own:one_size: given .*, it raised ValueError: Got: 448 Expected: 224\. .* images of any size, as this one of 224 x 448"
    with pytest.raises(CodeFailed, match=wanted):
        load_encoder("users_own:one_size")


def test_code_that_cannot_be_built_or_imported_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CodeFailed, match=r"it wants pixels, .* def build\(\): return plain"):
        load_encoder("users_own:plain")
    with pytest.raises(CodeFailed, match=r"users_own:broken: called without arguments, it failed: KeyError: 'weights'"):
        load_encoder("users_own:broken")
    (tmp_path / "users_other.py").write_text("import not_there_at_all\n")
    with pytest.raises(CodeFailed, match=r"users_other:build: it cannot be imported: ModuleNotFoundError: .*not_there_at_all"):
        load_encoder("users_other:build")
    (tmp_path / "users_third.py").write_text("1 / 0\n")
    with pytest.raises(CodeFailed, match=r"users_third:build: it cannot be imported: ZeroDivisionError"):
        load_encoder("users_third:build")


def test_a_function_that_runs_out_of_memory_is_not_told_to_be_a_module() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        load_encoder("users_own:hungry")


def test_an_encoder_is_used_as_it_is() -> None:
    encoder = load_encoder("users_own:encoder")
    assert encoder.spec.embed_dim == 192 and encoder.spec.depth == 4
    card = resolve_model_card("users_own:encoder")
    assert (card.name, card.embed_dim, card.global_tokens) == ("users_own:encoder", 192, 2)
    with pytest.raises(UserError, match="Choose device and precision where you build it"):
        load_encoder("users_own:encoder", dtype="bf16")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pooled", r"it gave torch\.float32 \[1, 3\] for pixels"),
        ("square", "the number of patches cannot be found"),
        ("number", "it returned a int"),
        ("CONSTANT", "it is a int, not callable"),
        ("nothing", "users_own has no 'nothing'"),
        ("Holder.gone", r"users_own has no 'Holder\.gone'"),
    ],
)
def test_what_is_no_encoder_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(f"users_own:{name}")


def test_a_grid_that_does_not_follow_the_image_is_found_out() -> None:
    encoder = load_encoder("users_own:fixed", device="cpu")
    with pytest.raises(UserError, match=r"it gave \[1, 5, 4, 8\] for pixels of \[1, 3, 56, 56\], expected \[1, 1, 1, 5\]"):
        encoder.encode_image(torch.rand(1, 3, 56, 56))


def test_weights_and_missing_modules_are_one_sentence() -> None:
    with pytest.raises(UserError, match="a callable loads its own weights"):
        load_encoder("users_own:first", weights="random")
    with pytest.raises(UserError, match="there is no module 'not_there'"):
        load_encoder("not_there.deep:build")


@pytest.mark.parametrize(("number", "depth", "global_tokens"), [(0, 1, 0), (1, 12, 1)])
def test_the_examples_of_the_documentation_work(
    number: int, depth: int, global_tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "my_backbone.py").write_text(BACKBONE)
    (tmp_path / "mine.py").write_text(re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[number])
    torch.save(nn.Conv2d(3, 768, 16, stride=16).state_dict(), "weights.pt")
    encoder = load_encoder("mine:Mine")
    assert (encoder.spec.patch_size, encoder.spec.embed_dim, encoder.spec.depth) == (16, 768, depth)
    found = encoder.encode_image(torch.rand(2, 3, 32, 48), layers=(0, -1), norm=False)
    assert [patches.shape for patches in found.patches] == [(2, 2, 3, 768)] * 2 and found.globals_BKD.shape == (2, global_tokens, 768)
    assert torch.equal(found.patches[0], found.patches[1]) == (depth == 1)
