"""Upsampling as two matrices is bilinear interpolation, padding, and mmsegmentation's sliding window."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tips_bench.cards import WindowCard
from tips_bench.features.geometry import CHUNK_ELEMENTS, Upsampling, Windows, greatest, window_starts


def whole(inner: tuple[int, int]) -> Windows:
    return Windows.of(inner, WindowCard())


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_grid_without_padding_is_interpolated_as_torch_does(h, w, height, width):
    logits = torch.randn(3, h, w, generator=torch.Generator().manual_seed(h * w))
    inner = (h * 4, w * 4)
    found = Upsampling.of((h, w), (0, 0, 0, 0), whole(inner), (height, width))(logits)
    expected = F.interpolate(F.interpolate(logits[None], inner, mode="bilinear"), (height, width), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_padding_is_cut_off_after_the_first_interpolation():
    logits = torch.randn(2, 5, 6)
    found = Upsampling.of((5, 6), (3, 2, 4, 5), whole((63, 77)), (100, 90))(logits)
    network = F.interpolate(logits[None], (70, 84), mode="bilinear")[..., 2:65, 3:80]
    torch.testing.assert_close(found, F.interpolate(network, (100, 90), mode="bilinear")[0], atol=2e-6, rtol=1e-5)


@given(st.integers(1, 700), st.integers(1, 300), st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_windows_start_where_mmsegmentation_starts_them(length, window, stride):
    stride = min(stride, window)
    grids = max(length - window + stride - 1, 0) // stride + 1  # mmseg EncoderDecoder.slide_inference
    expected = tuple(max(min(i * stride + window, length) - window, 0) for i in range(grids))
    starts = window_starts(length, window, stride)
    assert starts == expected
    covered = {pixel for start in starts for pixel in range(start, min(start + window, length))}
    assert covered == set(range(length))


@pytest.mark.parametrize("inner", [(32, 70), (50, 32), (32, 32), (90, 77)])
def test_the_mosaic_of_windows_equals_averaging_them_one_by_one(inner):
    card = WindowCard(mode="slide", window=32, stride=21)
    windows = Windows.of(inner, card)
    grid, classes, outer = (8, 8), 4, (61, 43)
    logits = torch.randn(len(windows.tops) * len(windows.lefts), classes, *grid)
    found = Upsampling.of(grid, (0, 0, 0, 0), windows, outer)(windows.mosaic(logits))
    total, cover = torch.zeros(classes, *inner), torch.zeros(inner)
    pairs = [(top, left) for top in windows.tops for left in windows.lefts]
    for (top, left), piece in zip(pairs, logits, strict=True):
        total[:, top : top + 32, left : left + 32] += F.interpolate(piece[None], (32, 32), mode="bilinear")[0]
        cover[top : top + 32, left : left + 32] += 1
    expected = F.interpolate((total / cover)[None], outer, mode="bilinear")[0]
    torch.testing.assert_close(found, expected, atol=3e-6, rtol=1e-5)


def test_windows_cut_the_pixels_that_their_logits_are_put_back_to():
    windows = Windows.of((10, 13), WindowCard(mode="slide", window=6, stride=4))
    pixels = torch.arange(130.0).reshape(1, 10, 13).expand(3, -1, -1)
    cuts = windows.cut(pixels)
    pairs = [(top, left) for top in windows.tops for left in windows.lefts]
    assert all(torch.equal(cut, pixels[:, top : top + 6, left : left + 6]) for cut, (top, left) in zip(cuts, pairs, strict=True))


def test_the_first_of_equal_values_is_the_greatest():
    values_HWC = torch.tensor([[[1.0, 2.0, 2.0], [3.0, 3.0, 3.0]], [[0.0, 1.0, 0.0], [-1.0, -2.0, -1.0]]])
    for laid_out in (values_HWC, values_HWC.permute(2, 0, 1).contiguous().permute(1, 2, 0)):
        assert greatest(laid_out, -1).tolist() == [[1, 0], [1, 0]]


def test_argmax_in_pieces_equals_argmax_of_the_whole(monkeypatch):
    monkeypatch.setitem(CHUNK_ELEMENTS, "cpu", 300)
    logits = torch.randn(7, 9, 5)
    upsampling = Upsampling.of((9, 5), (1, 1, 1, 1), whole((34, 18)), (40, 30))
    assert torch.equal(upsampling.argmax(logits).long(), upsampling(logits).argmax(0))


@pytest.mark.parametrize("kind", ["nearest", "bilinear"])
def test_the_class_of_a_pixel_is_that_of_its_only_patch_where_it_has_one(kind):
    logits_Chw = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    for outer in ((5, 6), (13, 17)):  # bilinear to the same size copies, too
        upsampling = Upsampling.of((5, 6), (0, 0, 0, 0), whole((50, 60)), outer, kind=kind)
        assert torch.equal(upsampling.argmax(logits_Chw), upsampling(logits_Chw).argmax(-3).to(torch.uint8))
