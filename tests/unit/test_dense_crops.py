"""Training crops with a value for every pixel."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms import ColorJitter

from tips_bench.data.crops.pixel_values import PixelValueCropCard, PixelValueCrops, jitter
from tips_bench.errors import UserError

PLAIN = {"size": 24, "shape": "center-crop", "jitter": 0.0, "strength": 0.2, "zoom": 0.0, "scale": (0.5, 1.0), "flip": 0.0}


class Reader:
    """Images whose red and green are the row and the column, and whose values are the same numbers."""

    name = "coordinates"

    def __init__(self, height=24, width=36, samples=5):
        self.shape, self.samples = (height, width), samples

    def load(self, index):
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]]
        image = np.stack([rows, columns, np.full(self.shape, index)], -1).astype(np.uint8)
        return SimpleNamespace(image_HW3=image, values=np.stack([rows, columns]).astype(np.float32))


def truth(sample):
    return sample.values, sample.values[1] % 7 != 3


def unmirror(values_THW):
    return values_THW.flip(-1)


def crops(reader=None, indices=(0, 1, 2, 3, 4), seed=0, **options):
    return PixelValueCrops(reader or Reader(), PixelValueCropCard(**{**PLAIN, **options}), truth, unmirror, indices, seed)


def agrees(pixels_3SS, values_TSS, known_SS, slack=0.0):
    seen = (pixels_3SS[:2] * 255 - values_TSS).abs().max().item()
    return seen <= slack + 1e-4 and torch.equal(known_SS, values_TSS[1] % 7 != 3)


@pytest.mark.parametrize("options", [{}, {"zoom": 1.0}, {"flip": 1.0}, {"zoom": 1.0, "flip": 0.5}])
def test_values_stay_under_their_pixels(options):
    for number in range(10):
        assert agrees(*crops(**options).tensors(number))


@pytest.mark.parametrize("shape", ["center-crop", "square"])
@pytest.mark.parametrize("size", [12, 31])
def test_a_resized_crop_keeps_them_within_a_pixel(shape, size):
    found = crops(size=size, shape=shape).tensors(0)
    assert found[0].shape == (3, size, size) and agrees(*found, slack=1.5)


def test_the_middle_is_taken_and_a_stretched_image_is_whole():
    middle = crops().tensors(0)[1]
    assert (middle[1].min(), middle[1].max(), middle[0].min(), middle[0].max()) == (6, 29, 0, 23)
    whole = crops(shape="square").tensors(0)[1]
    assert (whole[1].min(), whole[1].max()) == (0, 35)


def test_a_crop_is_a_function_of_seed_and_number_alone():
    options = {"jitter": 0.8, "zoom": 0.5, "flip": 0.5}
    first, again = crops(**options), crops(**options)
    backwards = [again.tensors(number) for number in reversed(range(8))][::-1]
    for number, later in enumerate(backwards):
        assert all(torch.equal(a, b) for a, b in zip(first.tensors(number), later, strict=True))
    other = crops(seed=1, **options)
    assert any(not torch.equal(first.tensors(number)[0], other.tensors(number)[0]) for number in range(8))


def test_each_run_through_the_samples_shows_every_one_once():
    found = crops(indices=(0, 2, 4))
    blue = [round(float(found.tensors(number)[0][2].max() * 255)) for number in range(6)]
    assert sorted(blue[:3]) == sorted(blue[3:]) == [0, 2, 4]


def test_the_zoomed_share_of_the_area_stays_in_its_range():
    found = crops(zoom=1.0)
    for number in range(20):
        values = found.tensors(number)[1]
        sides = [float(values[axis].max() - values[axis].min() + 1) for axis in (0, 1)]
        assert sides[0] == sides[1] and (sides[0] + 0.5) ** 2 >= 0.5 * 24**2 and sides[0] <= 24


def test_the_colours_are_those_of_torchvisions_jitter():
    image = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(0))

    class Drawn:
        """What torchvision would draw."""

        def uniform(self, low, high, size=None):
            return np.array([1.1, 0.9, 1.15]) if size else 0.07

        def permutation(self, count):
            return np.array([2, 0, 3, 1])

    layer = ColorJitter(0.2, 0.2, 0.2, 0.2)
    layer.get_params = lambda *ranges: (torch.tensor([2, 0, 3, 1]), 1.1, 0.9, 1.15, 0.07)
    assert torch.allclose(jitter(image, 0.2, Drawn()), layer(image), atol=1e-6)


def test_colors_after_normalization_are_cut_off_at_0_and_1_there():
    mean, std = (0.05, 0.05, 0.0), (0.2, 0.4, 0.01)
    card = PixelValueCropCard(**{**PLAIN, "jitter": 1.0, "normalized": True})
    found = PixelValueCrops(Reader(), card, truth, unmirror, [0, 1, 2], 0, mean, std).tensors(1)[0]
    means, deviations = (torch.tensor(values)[:, None, None] for values in (mean, std))
    rng = np.random.default_rng([0, 1])
    assert rng.random() < 1
    plain = crops(indices=[0, 1, 2]).tensors(1)[0]
    wanted = jitter((plain - means) / deviations, 0.2, rng)
    assert wanted.min() >= 0 and wanted.max() <= 1 and not torch.equal(wanted, (plain - means) / deviations)
    assert torch.allclose((found - means) / deviations, wanted, atol=1e-5)


def test_no_sample_is_a_user_error():
    with pytest.raises(UserError, match="the training split is empty"):
        crops(indices=())
    with pytest.raises(ValueError, match="scale is"):
        PixelValueCropCard(**{**PLAIN, "scale": (0.5, 1.5)})
