"""Each model's own preprocessing against the library that the model is released for: the same pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
import transformers
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from torch.nn import functional as F

from tests.contract.test_encoders import make_folder
from tips_bench.cards import FeatureCard, ImageCard, ModelCard, ProtocolCard, load_card
from tips_bench.encoders import resolve_model_card
from tips_bench.encoders.base import Encoder, ImageFeatures, spec_from_card
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor

TOLERANCE = 1e-5
SHAPES = [(300, 500), (501, 333), (97, 640), (448, 448), (225, 224)]  # height, width
OWN = ImageCard(short_side=None, from_encoder=True)
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 28, "width": 28},
    "resample": 3,
}
SIGLIP = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 56, "width": 56}, "resample": 3}
SIGLIP2 = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 56, "width": 56}, "resample": 2}
DINOV2 = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 64},
    "crop_size": {"height": 57, "width": 57},
    "resample": 3,
}
OLD_CLIP = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 56, "crop_size": 56, "do_center_crop": True, "resample": 3}


class Described(Encoder):
    """An encoder of which only the card is known."""

    def __init__(self, card: ModelCard) -> None:
        self.spec, self.device, self.dtype = spec_from_card(card, "none"), torch.device("cpu"), torch.float32

    def _encode(self, pixels_B3HW: torch.Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        raise NotImplementedError


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ours(card: ModelCard, image_HW3: np.ndarray) -> torch.Tensor:
    """Normalized pixels as the encoder gets them."""
    extractor = Extractor(Described(card), OWN, FeatureCard())
    pixels_3HW = extractor.fitted(extractor.pixels(image_HW3)[None])[0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    return (pixels_3HW - mean) / std


def cut(pixels_3HW: torch.Tensor, patch: int) -> torch.Tensor:
    height, width = pixels_3HW.shape[1:]
    return pixels_3HW[:, : height - height % patch, : width - width % patch]


@pytest.mark.parametrize("name", ["clip-b16", "openclip-l14", "pe-core-l14", "siglip-b16", "siglip2-so400m14-378", "siglip-so400m14-384"])
def test_pixels_are_those_of_open_clip(name: str) -> None:
    card = load_card("model", name)
    arch, tag = card.architecture["name"], card.architecture["pretrained"]
    config = PreprocessCfg(size=open_clip.get_model_config(arch)["vision_cfg"]["image_size"])
    merged = PreprocessCfg(**merge_preprocess_dict(config, open_clip.get_pretrained_cfg(arch, tag)))
    theirs = image_transform_v2(merged, is_train=False)
    for shape in SHAPES:
        image_HW3 = picture(*shape)
        wanted = cut(theirs(Image.fromarray(image_HW3)), card.patch_size)
        assert (ours(card, image_HW3) - wanted).abs().max() <= TOLERANCE, shape


@pytest.mark.parametrize("name", ["dinov2-b14", "dinov3-b16", "mae-b16", "c-radiov3-b16"])
def test_pixels_are_those_of_timm(name: str) -> None:
    card = load_card("model", name)
    config = timm.get_pretrained_cfg(card.architecture["name"]).to_dict()
    theirs = timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=config), is_training=False)
    for shape in SHAPES:
        image_HW3 = picture(*shape)
        assert (ours(card, image_HW3) - theirs(Image.fromarray(image_HW3))).abs().max() <= TOLERANCE, shape


@pytest.mark.parametrize(
    ("family", "stated"), [("clip", CLIP), ("clip", OLD_CLIP), ("siglip", SIGLIP), ("siglip", SIGLIP2), ("dinov2", DINOV2), ("vit", {})]
)
def test_pixels_are_those_of_transformers(family: str, stated: dict[str, object], tmp_path: Path) -> None:
    folder = make_folder(family, tmp_path)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    card = resolve_model_card(folder)
    theirs = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    for shape in SHAPES:
        image_HW3 = picture(*shape)
        wanted = torch.from_numpy(theirs(Image.fromarray(image_HW3))["pixel_values"][0])
        assert (ours(card, image_HW3) - cut(wanted, card.patch_size)).abs().max() <= TOLERANCE, shape


def test_a_processor_that_no_card_can_describe_is_not_described(tmp_path: Path) -> None:
    folder = make_folder("clip", tmp_path)
    path = folder / "preprocessor_config.json"
    normal = json.loads(path.read_text())
    odd: list[dict[str, object]] = [{"do_resize": False}, {"resample": 1}, {"do_rescale": False}, {"size": {"height": 28, "width": 56}}]
    for stated in odd:
        path.write_text(json.dumps(normal | CLIP | {"do_center_crop": False} | stated))
        assert resolve_model_card(folder).preprocessing is None, stated
        with pytest.raises(UserError, match="its own preprocessing of images is not known, and the protocol asks for it"):
            Extractor(Described(resolve_model_card(folder)), OWN, FeatureCard())


def test_tips_is_stretched_bilinearly_as_its_own_script_does() -> None:
    from torchvision import transforms

    card = load_card("model", "tips-b14")
    theirs = transforms.Compose([transforms.Resize((448, 448)), transforms.ToTensor()])
    for shape in SHAPES:
        image_HW3 = picture(*shape)
        assert (ours(card, image_HW3) - theirs(Image.fromarray(image_HW3))).abs().max() <= TOLERANCE, shape


@pytest.mark.parametrize("shape", SHAPES)
def test_big_vision_resizes_without_antialiasing_and_takes_the_middle(shape: tuple[int, int]) -> None:
    protocol: ProtocolCard = load_card("protocol", "zeroshot-bigvision")
    card = load_card("model", "siglip-b16")
    image_HW3 = picture(*shape)
    found_3HW = Extractor(Described(card), protocol.image, FeatureCard()).pixels(image_HW3)
    planes_3HW = torch.from_numpy(image_HW3).permute(2, 0, 1).double()
    resized_3HW = F.interpolate(planes_3HW[None], (256, 256), mode="bilinear", antialias=False)[0]
    # TensorFlow cuts the fraction, OpenCV rounds with a precision of 1/2048 along each side
    assert found_3HW.shape == (3, 224, 224)
    assert (found_3HW.double() * 255 - resized_3HW[:, 16:240, 16:240]).abs().max() <= 1


def test_the_record_of_a_run_says_which_preprocessing_was_used() -> None:
    card = load_card("model", "clip-b16")
    assert card.model_dump(mode="json")["preprocessing"]["shape"] == "center-crop"
    other = card.model_copy(update={"preprocessing": load_card("model", "siglip-b16").preprocessing})
    assert spec_from_card(card, "none").identity() != spec_from_card(other, "none").identity()


@pytest.mark.parametrize("values", [{"interpolation": "bicubic"}, {"short_side": 224}, {"native": True}])
def test_a_protocol_that_takes_all_from_the_encoder_states_nothing_itself(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="from_encoder takes all from the model's card"):
        ImageCard.model_validate({"short_side": None, "from_encoder": True} | values)
