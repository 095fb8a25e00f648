"""features/memory.py: features found by an image's pixels are those of the backbone, and nothing broken is ever taken for them."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.encoders import load_encoder
from tips_bench.errors import UserError
from tips_bench.features import part_writer
from tips_bench.features.extract import Extractor
from tips_bench.features.image_embeddings import ImageEmbedding
from tips_bench.features.memory import FeatureMemory, keys

pytestmark = pytest.mark.usefixtures("written_at_once")


def pixels(number: int, seed: int = 0) -> Tensor:
    return torch.rand(number, 3, 28, 42, generator=torch.Generator().manual_seed(seed))


def extractor(folder: Path, **card: Any) -> Extractor:
    encoder = load_encoder("tips-tiny-random", device="cpu")
    return Extractor(encoder, ImageCard(short_side=28), FeatureCard(**card), 4, memory=FeatureMemory(folder, torch.float32))


@pytest.mark.parametrize("card", [{}, {"layers": [-2, -1]}, {"norm": False}, {"global_token": 1}])
def test_what_is_found_is_what_the_backbone_gave(tmp_path: Path, card: dict[str, Any]) -> None:
    one = extractor(tmp_path, **card)
    plain = replace(one, memory=None).encode(pixels(3))
    for forwards in (3, 3):
        found = one.encode(pixels(3))
        assert torch.equal(found.features_BhwD, plain.features_BhwD) and found.padding == plain.padding
        assert one.meter.image_forwards == 3 + forwards
    again = extractor(tmp_path, **card)
    assert torch.equal(again.encode(pixels(3)).features_BhwD, plain.features_BhwD) and again.meter.image_forwards == 0


def test_only_images_that_are_new_go_through_the_backbone(tmp_path: Path) -> None:
    one = extractor(tmp_path)
    one.encode(pixels(2))
    mixed = torch.cat([pixels(2)[1:], pixels(2, seed=1), pixels(2)[:1]])
    assert torch.equal(one.encode(mixed).features_BhwD, replace(one, memory=None).encode(mixed).features_BhwD)
    assert one.meter.image_forwards == 2 + 2 + 4


def test_layers_of_others_are_kept_in_the_same_pass(tmp_path: Path) -> None:
    one = replace(extractor(tmp_path), also=(1, 3))
    one.encode(pixels(3))
    other = extractor(tmp_path, layers=[1, -1], global_token=0)
    assert torch.equal(other.encode(pixels(3)).features_BhwD, replace(other, memory=None).encode(pixels(3)).features_BhwD)
    assert other.meter.image_forwards == 3, "only those without a memory"


@pytest.mark.parametrize(("token", "mean"), [(None, False), (None, True), (1, False), (1, True)])
def test_features_of_whole_images_are_found_without_their_patches(tmp_path: Path, token: int | None, mean: bool) -> None:
    one = extractor(tmp_path, global_token=token, layers=[-2, -1])
    plain = ImageEmbedding.tokens(replace(one, memory=None), mean=mean).encode(pixels(3))
    for _ in range(2):
        assert torch.equal(ImageEmbedding.tokens(one, mean=mean).encode(pixels(3)), plain)
    assert one.meter.image_forwards == 3 + 3
    assert sum(path.stat().st_size for path in tmp_path.glob("*.bin")) < 4 * 3 * 192 * 4 * 3, "no patch is kept"


def test_bfloat16_is_kept_to_the_bit(tmp_path: Path) -> None:
    memory, features = FeatureMemory(tmp_path, torch.bfloat16), torch.randn(5, 7).bfloat16()
    memory.keep(b"a", "patches 1 raw", features)
    memory.close()
    found = FeatureMemory(tmp_path, torch.bfloat16).read(b"a", "patches 1 raw")
    assert found is not None and torch.equal(found, features)


def test_a_key_tells_pixels_shapes_and_the_order_of_pixels_apart() -> None:
    one = pixels(1)
    others = [one, one.flip(-1), one.transpose(-1, -2), one + 1e-7, one[..., :-1]]
    assert len({name for other in others for name in keys(other)}) == len(others)
    assert keys(torch.cat([one, one])) == keys(one) * 2


@pytest.mark.parametrize("kept", [torch.float16, torch.bfloat16])
def test_rounded_features_are_the_same_when_they_are_fresh_and_when_they_are_found(tmp_path: Path, kept: torch.dtype) -> None:
    def rounding(folder: Path) -> Extractor:
        return replace(extractor(folder), memory=FeatureMemory(folder, torch.float32, kept=kept))

    one = rounding(tmp_path / "half")
    plain = replace(one, memory=None).encode(pixels(3)).features_BhwD
    fresh = one.encode(pixels(3)).features_BhwD
    again = rounding(tmp_path / "half")
    found = again.encode(pixels(3)).features_BhwD
    assert torch.equal(fresh, plain.to(kept).float()) and torch.equal(found, fresh) and found.dtype == torch.float32
    assert again.meter.image_forwards == 0 and not torch.equal(fresh, plain)
    extractor(tmp_path / "whole").encode(pixels(3))
    half, whole = (sum(path.stat().st_size for path in (tmp_path / name).glob("*.bin")) for name in ("half", "whole"))
    assert half == whole / 2


def test_features_that_fp16_cannot_hold_are_an_error_and_not_kept(tmp_path: Path) -> None:
    memory = FeatureMemory(tmp_path, torch.float32, kept=torch.float16)
    with pytest.raises(UserError, match=r"features of up to 7e\+04 do not fit into float16. Use bf16"):
        memory.rounded(torch.tensor([[1.0, -7e4]]))
    assert memory.rounded(torch.tensor([1 + 2**-12])).tolist() == [1]


@pytest.mark.parametrize("kind", ["bin", "index"])
@pytest.mark.parametrize("cut", [True, False])
def test_what_is_cut_off_or_changed_is_not_found_and_made_anew(tmp_path: Path, kind: str, cut: bool) -> None:
    extractor(tmp_path).encode(pixels(3))
    (path,) = tmp_path.glob(f"*.{kind}")
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data[: len(data) // 2] if cut else data)
    again = extractor(tmp_path)
    plain = replace(again, memory=None).encode(pixels(3)).features_BhwD
    for _ in range(2):
        assert torch.equal(again.encode(pixels(3)).features_BhwD, plain)
    assert 0 < again.meter.image_forwards - 3 <= 3, "they are made once more, and once"


def test_two_processes_keep_side_by_side(tmp_path: Path) -> None:
    one, other = extractor(tmp_path), extractor(tmp_path)
    one.encode(pixels(2))
    other.encode(pixels(2, seed=1))
    assert len(list(tmp_path.glob("*.index"))) == 2
    later = extractor(tmp_path)
    later.encode(torch.cat([pixels(2), pixels(2, seed=1)]))
    assert later.meter.image_forwards == 0


def test_parts_are_closed_at_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_writer, "PART_BYTES", 1000)
    memory = FeatureMemory(tmp_path, torch.float32)
    for number in range(6):
        memory.keep(str(number).encode(), "embeddings", torch.full((1, 100), float(number)))
    assert len(list(tmp_path.glob("*.bin"))) == 3
    for number in range(6):
        found = memory.read(str(number).encode(), "embeddings")
        assert found is not None and found.unique().tolist() == [number]


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    memory = FeatureMemory(tmp_path, torch.float32)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(UserError, match="cannot write: No space left on device"):
            memory.keep(b"a", "embeddings", torch.ones(1, 3))
    assert memory.read(b"a", "embeddings") is None
    memory.keep(b"a", "embeddings", torch.ones(1, 3))
    assert memory.read(b"a", "embeddings") is not None, "and once there is space, it goes on"
