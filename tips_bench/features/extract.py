"""An encoder over the images of a reader: resized, in batches of one size, decoded ahead, counted.

Axes: B batch, H W pixels, h w token grid, D feature (layers and global token concatenated), N windows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import FeatureCard, ImageCard
from tips_bench.data.images import center_crop, framed, resize, resize_shape, thumbnail, thumbnail_shape, to_pixels
from tips_bench.encoders.base import Encoder, EncoderSpec, ImageFeatures, padding_of
from tips_bench.encoders.last_block import Attention, Proxy, Reading
from tips_bench.errors import UserError
from tips_bench.features.ahead import loaded
from tips_bench.features.layers import as_read, layer_indices
from tips_bench.features.memory import FeatureMemory, HashedPixels, Recall, Wanted, What, key_of, keys, part_of
from tips_bench.features.meter import Meter
from tips_bench.features.upsampling import NORMALIZATIONS, Upsampler, refuse
from tips_bench.ranks import ALONE, World


@dataclass(frozen=True)
class PatchFeatures:
    """features_BhwD in float32 or the run's precision; padding: (left, top, right, bottom) pixels that are cut off what is predicted."""

    features_BhwD: Tensor
    padding: tuple[int, int, int, int]


def resolved(image: ImageCard, spec: EncoderSpec) -> ImageCard:
    """The card with the encoder's own preprocessing and resolution where it asks for them. Errors: an encoder that states none."""
    if image.from_encoder:
        if spec.preprocessing is None:
            fix = (
                "State it in the model's card (preprocessing: ...) or in the encoder's spec, or choose a protocol with an input of its own."
            )
            raise UserError(
                "its own preprocessing of images is not known, and the protocol asks for it", where=f"model {spec.name}", fix=fix
            )
        image = spec.preprocessing
    if not image.native:
        return image
    if image.crop_ratio is None:
        return image.model_copy(update={"short_side": spec.resolution, "native": False})
    sides = {"short_side": int(spec.resolution / image.crop_ratio), "crop": spec.resolution}
    return image.model_copy(update={**sides, "native": False, "crop_ratio": None})


class Images(Protocol):
    """What has images of known size: a reader, or the frames of a scan."""

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of an image in pixels, from its header."""

    def load(self, index: int) -> Any:
        """A sample with image_HW3. Errors: a broken or missing file, named."""


@dataclass
class Extractor:
    """Turns images into patch features as a protocol card says. batch_size: images of one size at a time.

    world: the ranks that share the images; each calls `batches` with the same ones and gets its part of them. memory: where features are
    looked up and kept. also: layers that are kept in it besides, for other protocols. proxy: the encoder of features.proxy. upsampler: that
    of features.upsampler, loaded if it is not given.
    """

    encoder: Encoder
    image: ImageCard
    features: FeatureCard
    batch_size: int = 8
    workers: int = 2
    world: World = ALONE
    memory: FeatureMemory | None = None
    also: tuple[int, ...] = ()
    meter: Meter = field(default_factory=Meter)
    proxy: Encoder | None = None
    upsampler: Upsampler | None = None
    _hashed: HashedPixels | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spec = self.encoder.spec
        self.image = resolved(self.image, spec)
        self.features = as_read(self.features, self.encoder)
        self.layers = layer_indices(self.features.layers, self.encoder)
        names = self.features.token_for
        if names is not None and not set(names) & set(re.findall(r"[a-z0-9]+", spec.name.lower())):
            self.features = self.features.model_copy(update={"global_token": None})
        token = self.features.global_token
        if token is not None and not 0 <= token < spec.global_tokens:
            raise UserError(
                f"features.global_token = {token}: encoder {spec.name!r} has {spec.global_tokens} global tokens",
                fix="Use a protocol that needs none, or --set features.global_token=null.",
            )
        if self.features.upsampler is not None and self.upsampler is None:
            self.upsampler = Upsampler.load(self.features.upsampler, self.dim, self.encoder.device)

    def alone(self) -> Extractor:
        """The same without other ranks: it gets all images. What it spends is entered into the same meter."""
        return replace(self, world=ALONE)

    @property
    def patch_size(self) -> int:
        """Of the grid of features, in pixels: the proxy's where there is one."""
        return (self.proxy or self.encoder).spec.patch_size

    @property
    def _multiple(self) -> int:
        """What a side is padded to a multiple of, in pixels."""
        own = self.encoder.spec.patch_size
        return own if self.proxy is None else math.lcm(own, self.proxy.spec.patch_size)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(mean, standard deviation) of RGB in [0, 1] by which pixels are normalized."""
        return NORMALIZATIONS.get(self.image.normalize, (self.encoder.spec.mean, self.encoder.spec.std))

    @property
    def dim(self) -> int:
        """D: features a patch."""
        if self.features.values:
            return self.encoder.values_dim + self.keys_dim
        return self.encoder.spec.embed_dim * len(self.layers) * (1 if self.features.global_token is None else 2)

    @property
    def keys_dim(self) -> int:
        """How many of them, the last, are keys."""
        return self.encoder.spec.embed_dim if self.features.keys else 0

    def inner_size(self, height: int, width: int, scale: float = 1) -> tuple[int, int]:
        """(height, width) of the network input before padding. scale: on the protocol's own size."""
        resized = self._resized(height, width, scale)
        side = self.image.crop or (self.image.short_side if self.image.shape == "center-crop" else None)
        if side is None:
            return resized
        return min(*resized, round(side * scale)), min(*resized, round(side * scale))

    def _resized(self, height: int, width: int, scale: float) -> tuple[int, int]:
        card = self.image
        if card.thumbnail is not None:
            return thumbnail_shape(height, width, max(1, int(card.thumbnail * scale)))
        if card.framed is not None:
            return max(1, int(card.framed * scale)), max(1, int(card.framed * scale))
        if card.short_side is not None and card.shape == "square":
            height = width = card.short_side
        multiple = self.encoder.spec.patch_size if card.patch_multiple else None
        short_side = max(1, int((card.short_side or min(height, width)) * scale))  # mmcv cuts: 640 x 1.32 is 844
        long_side, up = card.long_side and int(card.long_side * scale), card.rounding == "up"
        return resize_shape(height, width, short_side, multiple, card.library, long_side, up=up, long_multiple=card.long_multiple)

    def padding(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) pixels around an image or window of this size that are cut off what is predicted."""
        return (0, 0, 0, 0) if self.image.fit == "stretch" else self._added(height, width)

    def _added(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) pixels that are added around an image or window of this size."""
        rule = self.encoder.spec.pad if self.image.fit in ("pad", "stretch") else "resize"
        return padding_of(height, width, self._multiple, rule)

    def grid(self, height: int, width: int, scale: float = 1) -> tuple[int, int]:
        """(h, w) tokens of an image of this size."""
        multiple, (rows, columns) = self._multiple, self.inner_size(height, width, scale)
        cells = multiple // self.patch_size * (self.upsampler.factor if self.upsampler else 1)
        if self.image.fit == "drop":
            return rows // multiple * cells, columns // multiple * cells
        return -(-rows // multiple) * cells, -(-columns // multiple) * cells

    def pixels(self, image_HW3: np.ndarray, scale: float = 1) -> Tensor:
        """The resized image as float32 [3,H,W] in [0, 1]."""
        if self.image.thumbnail is not None:
            return to_pixels(thumbnail(image_HW3, max(1, int(self.image.thumbnail * scale))))
        if self.image.framed is not None:
            return to_pixels(framed(image_HW3, max(1, int(self.image.framed * scale)), self.image.interpolation))
        height, width = image_HW3.shape[:2]
        resized_HW3 = resize(image_HW3, self._resized(height, width, scale), self.image.interpolation, self.image.library)
        return to_pixels(center_crop(resized_HW3, self.inner_size(height, width, scale), self.image.library))

    def encode(self, pixels_N3HW: Tensor) -> PatchFeatures:
        """Patch features of images or windows of one size, batch_size at a time."""
        found = [self._finer(piece, self._encode(piece)) for piece in self.fitted(pixels_N3HW).split(self.batch_size)]
        if len(found) == 1:
            return found[0]
        return PatchFeatures(torch.cat([piece.features_BhwD for piece in found]), found[0].padding)

    def _finer(self, pixels_B3HW: Tensor, found: PatchFeatures) -> PatchFeatures:
        """The features on the finer grid, where the protocol has one; the upsampler sees the image with the padding that they cover."""
        if self.upsampler is None:
            return found
        padding = self._added(pixels_B3HW.shape[-2], pixels_B3HW.shape[-1])
        return PatchFeatures(self.upsampler(pixels_B3HW, padding, found.features_BhwD), found.padding)

    def _encode(self, pixels_B3HW: Tensor) -> PatchFeatures:
        card, token = self.features, self.features.global_token
        if card.attention != "itself":
            with self.timed(pixels_B3HW):
                return self._read(pixels_B3HW, card.attention)
        parts, *globals_ = self.look(self.normalized(pixels_B3HW), *self.whats)
        if card.facet != "token":
            parts = [self.encoder.facet(part, card.facet) for part in parts]
        if token is not None:
            tokens = [own_BKD[:, token, None, None].expand_as(parts[0]) for own_BKD in globals_[0]]
            parts = [part for pair in zip(parts, tokens, strict=True) for part in pair]
        spec, rule = self.encoder.spec, "resize" if self.image.fit == "stretch" else self.encoder.spec.pad
        padding = padding_of(pixels_B3HW.shape[-2], pixels_B3HW.shape[-1], spec.patch_size, rule)
        return PatchFeatures(torch.cat(parts, -1) if len(parts) > 1 else parts[0], padding)

    @property
    def whats(self) -> tuple[What, ...]:
        """What `encode` reads of a layer."""
        return ("patches",) if self.features.global_token is None else ("patches", "tokens")

    def look(self, pixels_B3HW: Tensor, *whats: What) -> list[list[Tensor]]:
        """For each of `whats` a tensor of each of the protocol's layers, as `part_of` gives them; from the memory where there is one."""
        if self.memory is None:
            found = self._through(pixels_B3HW, self.layers)
            return [[part_of(found, what, position) for position in range(len(self.layers))] for what in whats]
        parts = self._recall(self.memory).parts(pixels_B3HW, self._wanted(whats), self._through)
        return [[parts[what, layer] for layer in self.layers] for what in whats]

    def _read(self, pixels_B3HW: Tensor, attention: Attention) -> PatchFeatures:
        """With another attention in the last block. A proxy sees the same pixels; what is padded has the mean color."""
        card = self.features
        if card.proxy is None or self.proxy is None:
            reading = Reading(attention, card.positions, network=card.network, keys=card.keys)
            found, padding = self.encoder.read_image(self.normalized(pixels_B3HW), reading)
            return PatchFeatures(found, (0, 0, 0, 0) if self.image.fit == "stretch" else padding)
        left, top, right, bottom = self._added(pixels_B3HW.shape[-2], pixels_B3HW.shape[-1])
        padding = self.padding(pixels_B3HW.shape[-2], pixels_B3HW.shape[-1])
        mean_311 = torch.tensor(self.normalization[0]).view(3, 1, 1)
        pixels_B3HW = F.pad(pixels_B3HW - mean_311, (left, right, top, bottom)) + mean_311
        features_BhwD = self.proxy.encode_image(pixels_B3HW).patches[0].to(self.encoder.device)
        proxy = Proxy(features_BhwD, card.proxy.beta, card.proxy.gamma)
        found, _ = self.encoder.read_image(self.normalized(pixels_B3HW), Reading(attention, card.positions, proxy, card.network))
        return PatchFeatures(found, padding)

    def embed(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,E,D] embeddings of whole images in the space of the encoder's texts, not normalised. Errors: an upsampler, of no use here."""
        refuse(self.upsampler)
        pixels_B3HW = self.normalized(self.fitted(pixels_B3HW))
        if self.memory is None:
            return self._through_embedding(pixels_B3HW)
        return self._recall(self.memory).embeddings(pixels_B3HW, self._through_embedding)

    def remembers(self, pixels_B3HW: Tensor) -> bool:
        """Whether `encode` of these images needs no backbone."""
        return self.memory is not None and self._recall(self.memory).has(
            self.normalized(self.fitted(pixels_B3HW)), self._wanted(self.whats)
        )

    def _wanted(self, whats: Sequence[What]) -> list[Wanted]:
        return [(what, layer) for what in whats for layer in self.layers]

    def _recall(self, memory: FeatureMemory) -> Recall:
        return Recall(memory, self.encoder, self.features, self.also, self._hashed.keys_of if self._hashed else keys)

    def _through(self, pixels_B3HW: Tensor, layers: tuple[int, ...]) -> ImageFeatures:
        card = self.features
        with self.timed(pixels_B3HW):
            return self.encoder.encode_image(pixels_B3HW, layers=layers, norm=card.norm, values=card.values)

    def _through_embedding(self, pixels_B3HW: Tensor) -> Tensor:
        with self.timed(pixels_B3HW):
            return self.encoder.embed_image(pixels_B3HW)

    def fitted(self, pixels_B3HW: Tensor) -> Tensor:
        """Images or windows whose sides are whole patches, unless the encoder is to see to that itself."""
        if self.image.fit == "enlarge":
            return enlarge(pixels_B3HW, self._multiple)
        if self.image.fit == "corner":
            mean_311 = torch.tensor(self.normalization[0], device=pixels_B3HW.device).view(3, 1, 1)
            height, width = pixels_B3HW.shape[-2:]
            return F.pad(pixels_B3HW - mean_311, (0, -width % self._multiple, 0, -height % self._multiple)) + mean_311
        return drop(pixels_B3HW, self._multiple) if self.image.fit == "drop" else pixels_B3HW

    def normalized(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels that the encoder's own normalization turns into those that the card asks for."""
        if self.image.normalize == "encoder":
            return pixels_B3HW
        spec, device = self.encoder.spec, pixels_B3HW.device
        mean, std, own_mean, own_std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (*self.normalization, spec.mean, spec.std)
        )
        return (pixels_B3HW - mean) / std * own_std + own_mean

    def fresh(self) -> Extractor:
        """The same without a memory: for images that never come again, as random crops."""
        return replace(self, memory=None)

    @contextmanager
    def timed(self, pixels_B3HW: Tensor | None) -> Iterator[None]:
        """Enter what is done inside into the meter, as forward passes of these images through the backbone; None: of texts."""
        images, size = (0, (0, 0)) if pixels_B3HW is None else (len(pixels_B3HW), (pixels_B3HW.shape[-2], pixels_B3HW.shape[-1]))
        with self.meter.timed(images, size, self.encoder.device):
            yield

    def batches(self, reader: Images, indices: Sequence[int], *, whole: bool = True) -> Iterator[tuple[list[int], list[Any], Tensor]]:
        """(indices, samples, pixels_B3HW) for this rank's part of `indices`, grouped by size; the next are decoded meanwhile.

        The batches are the same for any number of ranks, and each rank takes its part of them. whole: the encoder gets the images as they
        are, not windows of them, so that the threads that decode them also find their keys in the memory.
        """
        groups: dict[tuple[int, int], list[int]] = {}
        square = (
            self.inner_size(1, 1) if self.image.shape != "aspect" or self.image.framed else None
        )  # the same for all: a million headers are not read
        for index in indices:
            groups.setdefault(square or self.inner_size(*reader.size(index)), []).append(index)
        size = self.batch_size
        every = [group[start : start + size] for group in groups.values() for start in range(0, len(group), size)]
        chunks = self.world.share(every)

        def load(index: int) -> tuple[Any, Tensor, bytes | None]:
            sample = reader.load(index)
            pixels_3HW = self.pixels(sample.image_HW3)
            return sample, pixels_3HW, key_of(pixels_3HW) if hashing else None

        hashing = whole and self.memory is not None and self.image.normalize == "encoder"
        ahead = loaded(load, chunks, self.workers, lambda item: item[1].nbytes, self.meter.waited)
        for chunk, items in zip(chunks, ahead, strict=True):
            samples, pixels, found = zip(*items, strict=True)
            pixels_B3HW = torch.empty(len(pixels), *pixels[0].shape, pin_memory=self.encoder.device.type == "cuda")
            torch.stack(pixels, out=pixels_B3HW)
            self._hashed = HashedPixels(pixels_B3HW, list(found)) if hashing else None
            yield chunk, list(samples), pixels_B3HW
        self._hashed = None


def enlarge(pixels_B3HW: Tensor, patch_size: int) -> Tensor:
    """The images stretched bicubically to whole patches, as google-deepmind/tips does (pytorch/TIPS_zeroshot_segmentation.ipynb)."""
    height, width = pixels_B3HW.shape[-2:]
    size = height + -height % patch_size, width + -width % patch_size
    return pixels_B3HW if size == (height, width) else F.interpolate(pixels_B3HW, size, mode="bicubic", align_corners=False)


def drop(pixels_B3HW: Tensor, patch_size: int) -> Tensor:
    """The images without the pixels after the last whole patch, as a convolution of that stride leaves them out. Errors: no whole patch."""
    height, width = pixels_B3HW.shape[-2:]
    if min(height, width) < patch_size:
        raise UserError(f"an image of {height}x{width} pixels has no whole patch of {patch_size}", fix="Choose a larger image.short_side.")
    return pixels_B3HW[..., : height - height % patch_size, : width - width % patch_size]
