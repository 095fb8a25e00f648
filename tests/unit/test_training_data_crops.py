"""Crops, flips and masks: torchvision's boxes and pixels, exact shares, no image that can stop a run."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode, functional

from tests.helpers.shards import picture
from tips_bench.training.crops import crops, cut, random_box, random_mask, read_image
from tips_bench.training.recipe import MaskPart
from tips_bench.training.recipe_data import CropsPart
from tips_bench.training.shards import SampleFault

RATIO = (3 / 4, 4 / 3)
PART = CropsPart(local_count=3, global_scale=(0.32, 1.0), local_scale=(0.05, 0.32), ratio=RATIO, flip=0.5, interpolation="bicubic")


def encoded(array: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(300, 400), (60, 900)])
@pytest.mark.parametrize("scale", [(0.32, 1.0), (0.05, 0.32)])
def test_boxes_are_distributed_as_those_of_torchvision(shape: tuple[int, int], scale: tuple[float, float]) -> None:
    rng, image = np.random.default_rng(0), torch.zeros(1, *shape)
    torch.manual_seed(0)
    ours = np.array([random_box(*shape, scale, RATIO, rng) for _ in range(3000)])
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), list(RATIO)) for _ in range(3000)])
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-4


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 50))
def test_boxes_lie_inside_the_image(height: int, width: int, seed: int) -> None:
    top, left, h, w = random_box(height, width, (0.05, 0.32), RATIO, np.random.default_rng(seed))
    assert 0 <= top <= height - h and 0 <= left <= width - w and h >= 1 and w >= 1


@pytest.mark.parametrize("shape", [(10, 4000), (4000, 10), (1, 1), (1, 50), (50, 1)])
def test_where_no_box_fits_it_is_torchvision_s_middle_part(shape: tuple[int, int]) -> None:
    rng, found = np.random.default_rng(0), set()
    for _ in range(50):
        found.add(random_box(*shape, (0.999, 1.0), RATIO, rng))
    theirs = {tuple(RandomResizedCrop.get_params(torch.zeros(1, *shape), [0.999, 1.0], list(RATIO))) for _ in range(50)}
    if min(shape) == 1 and max(shape) > 1:
        assert all(h >= 1 and w >= 1 for _, _, h, w in found)  # theirs may be empty there
    else:
        assert found == theirs


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [28, 112])
def test_pixels_are_those_of_torchvision_and_close_to_pillow(interpolation: str, size: int) -> None:
    image_3HW = read_image({"jpg": picture(3, size=(150, 120))})
    box, mode = (7, 20, 80, 61), InterpolationMode(interpolation)
    ours = cut(image_3HW, box, size, False, interpolation)
    theirs = functional.resized_crop(image_3HW.contiguous(), *box, [size, size], interpolation=mode, antialias=True)
    assert ours.dtype == torch.uint8 and (ours.int() - theirs.int()).abs().max() <= 1
    pillow = Image.fromarray(image_3HW.permute(1, 2, 0).numpy()).crop((20, 7, 81, 87)).resize((size, size), Image.Resampling[mode.name])
    assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - np.asarray(pillow).astype(int)).max() <= 1
    assert cut(image_3HW, box, size, True, interpolation).equal(ours.flip(-1))


def test_crops_have_the_stage_s_sizes_and_depend_on_the_generator_alone() -> None:
    image_3HW = read_image({"jpg": picture(3, size=(150, 120))})
    first, again, other = (crops(image_3HW, PART, PART.local_count, 56, 28, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first[0].shape == (3, 56, 56) and [part.shape for part in first[1]] == [(3, 28, 28)] * 3
    assert first[0].equal(again[0]) and all(a.equal(b) for a, b in zip(first[1], again[1], strict=True))
    assert not first[0].equal(other[0]) and not first[1][0].equal(first[1][1])


def test_the_global_crop_does_not_depend_on_how_many_local_ones_there_are() -> None:
    image_3HW = torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8)
    whole, parts = crops(image_3HW, PART, 0, 56, 28, np.random.default_rng(4))
    assert parts == [] and torch.equal(whole, crops(image_3HW, PART, 3, 56, 28, np.random.default_rng(4))[0])


def test_half_of_the_crops_are_flipped() -> None:
    ramp_3HW = torch.arange(64, dtype=torch.uint8).mul(4).expand(3, 64, 64)
    rng = np.random.default_rng(0)
    turned = [bool((part := crops(ramp_3HW, PART, PART.local_count, 28, 14, rng)[0])[0, 0, 0] > part[0, 0, -1]) for _ in range(400)]
    assert 150 < sum(turned) < 250


@settings(max_examples=60)
@given(grid=st.integers(2, 32), ratio=st.floats(0.05, 0.95), pattern=st.sampled_from(["random", "block"]), seed=st.integers(0, 9))
def test_a_mask_has_exactly_its_share_of_patches(grid: int, ratio: float, pattern: str, seed: int) -> None:
    mask_P = random_mask(grid, MaskPart(ratio=ratio, pattern=pattern), np.random.default_rng(seed))
    assert mask_P.dtype == torch.bool and mask_P.shape == (grid * grid,) and int(mask_P.sum()) == round(ratio * grid * grid)


def test_random_masks_hide_every_patch_equally_often() -> None:
    rng = np.random.default_rng(0)
    often_P = torch.stack([random_mask(8, MaskPart(ratio=0.75), rng) for _ in range(2000)]).float().mean(0)
    assert (often_P - 0.75).abs().max() < 5 * math.sqrt(0.75 * 0.25 / 2000)


def test_blocks_hang_together_more_than_single_patches_do() -> None:
    def edges(pattern: str) -> float:
        rng = np.random.default_rng(0)
        masks = torch.stack([random_mask(16, MaskPart(ratio=0.4, pattern=pattern), rng) for _ in range(50)]).view(-1, 16, 16)
        return float((masks[:, 1:] != masks[:, :-1]).float().mean())

    assert edges("block") < 0.6 * edges("random")


def test_images_of_each_format_are_rgb_and_turned_upright() -> None:
    array_HW3 = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for extension, kind, options in (("png", "PNG", {}), ("webp", "WEBP", {"lossless": True})):
        assert read_image({extension: encoded(array_HW3, kind, **options)}).equal(torch.from_numpy(array_HW3).permute(2, 0, 1))
    assert read_image({"png": encoded(array_HW3[..., 0], "PNG")}).shape == (3, 20, 30)
    alpha = np.concatenate([array_HW3, array_HW3[..., :1]], -1)
    assert read_image({"png": encoded(alpha, "PNG")}).equal(torch.from_numpy(array_HW3).permute(2, 0, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image({"jpeg": encoded(array_HW3, "JPEG", exif=exif)}).shape == (3, 30, 20)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({}, "no image"),
        ({"gif": b"GIF89a"}, "no image"),
        ({"jpg": b""}, "broken image"),
        ({"jpg": b"no image at all"}, "broken image"),
        ({"jpg": picture(1)[:-80]}, "broken image"),
        ({"png": picture(1, "png")[:90]}, "broken image"),
        ({"webp": picture(1, "webp")[:40]}, "broken image"),
        ({"png": encoded(np.zeros((4, 4), np.uint16), "PNG")}, "image not of 8 bits"),
        ({"png": encoded(np.zeros((9000, 9000), bool), "PNG")}, "image too large"),
        ({"jpg": encoded(np.zeros((4, 4, 3), np.uint8), "GIF")}, "broken image"),
    ],
)
def test_an_image_that_cannot_be_used_has_a_named_fault(members: dict[str, bytes], fault: str) -> None:
    with pytest.raises(SampleFault) as raised:
        read_image(members)
    assert str(raised.value) == fault


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_bytes_give_an_image_or_a_fault(kind: str, changes: list[tuple[int, int]]) -> None:
    """Of a broken EXIF block Pillow lets through errors of many kinds."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8769] = 6, "maker", {0x9003: "2026:01:01 00:00:00"}
    data = bytearray(encoded(np.zeros((6, 9, 3), np.uint8), kind, exif=exif))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        assert read_image({kind.lower(): bytes(data)}).shape[0] == 3
    except SampleFault as fault:
        assert str(fault) in ("broken image", "image too large", "image not of 8 bits")


def test_the_smallest_image_can_be_cropped() -> None:
    image_3HW = read_image({"png": encoded(np.full((1, 1, 3), 7, np.uint8), "PNG")})
    whole, parts = crops(image_3HW, PART, PART.local_count, 56, 28, np.random.default_rng(0))
    assert whole.eq(7).all() and all(part.eq(7).all() for part in parts)
