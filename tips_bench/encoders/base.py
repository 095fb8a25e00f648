"""The Encoder contract: what every frozen backbone provides, from whichever library it comes.

Axes: B batch, H W pixels, h w token grid, D feature, K global tokens, T texts, E embeddings of a whole image.
"""

from __future__ import annotations

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tips_bench.cards import ImageCard, ModelCard
from tips_bench.encoders.last_block import Facet, Projections, Reading, Tower, read
from tips_bench.encoders.waiting import LateChecks, sent
from tips_bench.errors import UserError
from tips_bench.models.devices import check_compiler

# Ours: bicubic resizing leaves [0, 1] by less; pixels of 0-255 and normalized ones leave it by more.
RANGE = (-0.5, 1.5)
LARGEST = 1e15  # of a feature: sums of its squares over all patches of a data set stay within float32


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """The properties of an encoder that a caller needs.

    embed_dim: D of one layer's patch features. depth: number of blocks. mean, std: of RGB in [0, 1], for normalization. resolution: native
    image side in pixels. global_tokens: K. pad: what happens to an image side that is not a multiple of patch_size: "center" pads
    both ends with zeros after normalization (DINOv2's rule), "resize" enlarges the image bilinearly to the next multiple.
    config_sha256: SHA-256 of the files beside the weights that also decide the features, as config.json; "" if the card states it all.
    preprocessing: how the model's publisher resizes and crops an image; None = not known.
    weights_sha256: SHA-256 of the weight file; or "random:SEED"; or, for a callable, "output:HEX", a hash of its output for one fixed
    image; or "none".
    """

    name: str
    patch_size: int
    embed_dim: int
    depth: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resolution: int
    global_tokens: int
    has_text: bool
    weights_sha256: str
    license: str
    pad: str = "center"
    config_sha256: str = ""
    preprocessing: ImageCard | None = None

    def identity(self) -> str:
        """The spec as JSON, for the names of caches."""
        return json.dumps(asdict(self), default=lambda card: card.model_dump(mode="json"))


def spec_from_card(card: ModelCard, weights_sha256: str, *, has_text: bool | None = None) -> EncoderSpec:
    """The spec of a model card, for the weights that were loaded. has_text: None = as the card says."""
    return EncoderSpec(
        name=card.name,
        patch_size=card.patch_size,
        embed_dim=card.embed_dim,
        depth=card.depth,
        mean=card.mean,
        std=card.std,
        resolution=card.resolution,
        global_tokens=card.global_tokens,
        has_text=card.has_text if has_text is None else has_text,
        weights_sha256=weights_sha256,
        license=card.license,
        pad=card.pad,
        preprocessing=card.preprocessing,
    )


@dataclass(frozen=True)
class ImageFeatures:
    """One batch of features.

    globals_BKD: global tokens after the final norm; K may be 0. patches: one tensor [B,h,w,D] per requested layer. layer_globals: one
    tensor [B,K,D] per requested layer, normalized like its patches; a token made by attention pooling of the last layer is repeated for
    every layer.
    padding: (left, top, right, bottom) pixels that were added around the input; (0, 0, 0, 0) if it was resized instead.
    """

    globals_BKD: Tensor
    patches: list[Tensor]
    layer_globals: list[Tensor]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


class Encoder(ABC):
    """A frozen encoder.

    A subclass sets `spec`, `device` and `dtype`, and implements `_encode`; with has_text also `encode_text`.
    has_values: whether `encode_image` accepts `values=True`. head_depth: how many of the last blocks are a head that was trained on top
    of a frozen backbone. compiled: whether `compile` was called.
    """

    spec: EncoderSpec
    device: torch.device
    dtype: torch.dtype
    has_values: bool = False
    head_depth: int = 0
    compiled: bool = False
    _has_seen_pixels = False

    def __repr__(self) -> str:
        spec, precision = self.spec, str(self.dtype).removeprefix("torch.")
        text = ", text" if spec.has_text else ""
        shape = f"patch {spec.patch_size}, {spec.embed_dim} features, {spec.depth} blocks"
        return f"<{type(self).__name__} {spec.name}: {shape}{text}; {precision} on {self.device}>"

    @torch.inference_mode()
    def encode_image(self, pixels_B3HW: Tensor, layers: tuple[int, ...] = (-1,), norm: bool = True, values: bool = False) -> ImageFeatures:
        """Features of images, RGB in [0, 1], any H x W. The range is checked once, on the first batch that is not black.

        layers: block indices; negative ones count from the end. norm: apply the final norm to each layer. values: return the value
        features of the last block (as MaskCLIP does) instead of its output, projected into the space of the text embeddings:
        `values_dim` features.
        Errors: pixels that are not [B,3,H,W], or far outside [0, 1]; a layer that does not exist; values=True without a value path;
        features that are not finite.
        """
        if values and not self.has_values:
            fix = "Use an encoder with a text tower, or values=False."
            raise UserError("this encoder has no text-aligned value path", where=self.spec.name, fix=fix)
        if values and not norm:
            raise UserError(
                "values=True needs norm=True: the value path includes the final norm", where=self.spec.name, fix="Set norm=True."
            )
        self._check_pixels(pixels_B3HW)
        layers = self.resolve_layers(layers)
        pixels_B3HW, padding = self._prepared(pixels_B3HW)
        found = self._encode(pixels_B3HW, layers, norm, values)
        globals_BKD, *rest = self._own(found.globals_BKD, *found.patches, *found.layer_globals)
        return ImageFeatures(globals_BKD, rest[: len(layers)], rest[len(layers) :], padding)

    @torch.inference_mode()
    def read_image(self, pixels_B3HW: Tensor, reading: Reading) -> tuple[Tensor, tuple[int, int, int, int]]:
        """Patch features [B,h,w,E] in the space of the texts under another attention of the last block, and the padding.

        Errors: those of `encode_image`; an encoder that is not a CLIP of open_clip or transformers.
        """
        tower = self.tower_parts()
        self._check_pixels(pixels_B3HW)
        pixels_B3HW, padding = self._prepared(pixels_B3HW)
        return self._own(read(tower, pixels_B3HW, reading))[0], padding

    @torch.inference_mode()
    def facet(self, before_BhwD: Tensor, facet: Facet) -> Tensor:
        """[B,h,w,E]: queries, keys or values of patches in the last block, the heads side by side, before positions are turned into them.

        before_BhwD: what the block before the last gives of the patches, not normed. Errors: an encoder whose last block cannot be
        taken apart; values that are not finite.
        """
        return self._own(self.last_projections().facet(before_BhwD.to(self.device, self.dtype), facet))[0]

    def last_projections(self) -> Projections:
        """Norm and linear maps of the last block. Errors: it cannot be taken apart."""
        raise UserError(
            "the queries, keys and values of its last block cannot be read",
            where=self.spec.name,
            fix="Choose a vision transformer of TIPS, timm, transformers or open_clip, or a protocol with features.facet: token.",
        )

    def tower_parts(self) -> Tower:
        """The image tower in parts. Errors: it has none that can be taken apart."""
        raise UserError(
            "the attention of its last block cannot be chosen",
            where=self.spec.name,
            fix="Choose a CLIP of open_clip or transformers, for example clip-b16, or a protocol with features.attention: itself.",
        )

    def compile(self) -> None:
        """Have torch.compile make code for this machine of the image tower: from here on kernels are fused, and round differently.

        The first image of each of the first sizes takes longer, by seconds to minutes; text towers and `read_image` stay as they are.
        Errors: no compiler for the encoder's device.
        """
        check_compiler(self.device)
        # On a CPU, "freezing" lays weights out as oneDNN wants them: without it, nothing was gained.
        options: dict[str, Any] = {"freezing": True} if self.device.type == "cpu" else {}
        self._encode = torch.compile(self._encode, options=options)  # type: ignore[method-assign]
        if type(self)._embed is not Encoder._embed:
            self._embed = torch.compile(self._embed, options=options)  # type: ignore[method-assign]
        self.compiled = True

    @functools.cached_property
    def values_dim(self) -> int:
        """D of the value path. Errors: an encoder without one."""
        patch = self.spec.patch_size
        return self.encode_image(torch.zeros(1, 3, patch, patch), values=True).patches[0].shape[-1]

    @property
    def embeddings(self) -> int:
        """E: how many embeddings of a whole image can be compared with a text embedding; 0 if the encoder has no text tower."""
        return self.spec.global_tokens if self.spec.has_text else 0

    @torch.inference_mode()
    def embed_image(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,E,D] embeddings of whole images, RGB in [0, 1], in the same space as `encode_text`, not normalized to length 1.

        Errors: an encoder without text, not [B,3,H,W], embeddings that are not finite.
        """
        if not self.spec.has_text:
            raise self._no_text()
        self._check_pixels(pixels_B3HW)
        return self._own(self._embed(self._prepared(pixels_B3HW)[0]))[0]

    def encode_text(self, texts: list[str]) -> Tensor:
        """[T,D] text embeddings, not normalized to length 1. Errors: an encoder without a text tower."""
        raise self._no_text()

    def encode_patch_text(self, texts: list[str]) -> Tensor:
        """[T,D] text embeddings that patches are compared with, not normalized: by default those for whole images, too."""
        return self.encode_text(texts)

    def cut_texts(self, texts: list[str]) -> int | None:
        """How many of the texts are too long for the text tower, so that it does not read their ends; None = not known.

        Errors: an encoder without text.
        """
        if not self.spec.has_text:
            raise self._no_text()
        return None

    def resolve_layers(self, layers: tuple[int, ...]) -> tuple[int, ...]:
        """The layers as indices in [0, depth). Errors: an index outside that range."""
        depth = self.spec.depth
        if not layers or any(not -depth <= layer < depth for layer in layers):
            raise UserError(
                f"layers = {list(layers)}: encoder {self.spec.name!r} has {depth} blocks", fix=f"Use 0-{depth - 1}, or -{depth} to -1."
            )
        return tuple(layer % depth for layer in layers)

    @abstractmethod
    def _encode(self, pixels_B3HW: Tensor, layers: tuple[int, ...], norm: bool, values: bool) -> ImageFeatures:
        """Features of normalized pixels whose sides are multiples of the patch size. layers: indices in [0, depth)."""

    def _embed(self, pixels_B3HW: Tensor) -> Tensor:
        """[B,E,D] embeddings of such pixels, in the space of `encode_text`. By default the global tokens."""
        return self._encode(pixels_B3HW, (self.spec.depth - 1,), True, False).globals_BKD

    def _check_pixels(self, pixels_B3HW: Tensor) -> None:
        if pixels_B3HW.ndim != 4 or pixels_B3HW.shape[1] != 3 or not pixels_B3HW.is_floating_point():
            raise UserError(
                f"pixels are {pixels_B3HW.dtype} {tuple(pixels_B3HW.shape)}, not floating point [B, 3, H, W]", where=self.spec.name
            )
        if not self._has_seen_pixels and pixels_B3HW.numel():
            low, high = (float(end) for end in pixels_B3HW.aminmax())
            if low < RANGE[0] or high > RANGE[1]:
                fix = "Divide bytes by 255, and leave the normalization to the encoder."
                raise UserError(f"pixels from {low:.3g} to {high:.3g}, expected [0, 1]", where=self.spec.name, fix=fix)
            self._has_seen_pixels = high > 0

    @contextmanager
    def pixels_known(self) -> Iterator[None]:
        """Inside, the range of pixels is not looked at, as after the first batch; what is seen there does not count."""
        before, self._has_seen_pixels = self._has_seen_pixels, True
        try:
            yield
        finally:
            self._has_seen_pixels = before

    def _prepared(self, pixels_B3HW: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
        """The pixels, normalized, on the encoder's device, with sides that are multiples of the patch size; and their padding."""
        mean_311, std_311 = self._mean_and_std
        pixels_B3HW = (sent(pixels_B3HW, self.device, torch.float32) - mean_311) / std_311
        pixels_B3HW, padding = pad_to_patches(pixels_B3HW, self.spec.patch_size, self.spec.pad)
        return pixels_B3HW.to(self.dtype), padding

    @functools.cached_property
    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Each [3,1,1], on the encoder's device."""
        mean_311, std_311 = (torch.tensor(values_3, device=self.device).view(3, 1, 1) for values_3 in (self.spec.mean, self.spec.std))
        return mean_311, std_311

    @functools.cached_property
    def checks(self) -> LateChecks:
        """What is checked of its features, and of what is learned from them."""
        return LateChecks()

    def _own(self, *features: Tensor) -> list[Tensor]:
        """The features, on the encoder's device and in its precision. Errors: some that are not finite, or whose squares are not."""
        found = [one.to(self.device, self.dtype) for one in features]
        self.checks.check(torch.stack([(one.abs() < LARGEST).all() for one in found]).all(), self._not_finite)  # false for NaN, too
        return found

    def _not_finite(self) -> UserError:
        problem = f"the features are not finite (NaN, infinite or over {LARGEST:.0e})"
        return UserError(problem, where=self.spec.name, fix="Check the weights, or run with --dtype fp32.")

    def _no_text(self) -> UserError:
        return UserError(
            "this encoder has no text tower", where=self.spec.name, fix="Choose an encoder with text: see `tips-bench list models`."
        )


def padding_of(height: int, width: int, patch_size: int, rule: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) pixels that `pad_to_patches` adds; none under the rule "resize"."""
    extra_y, extra_x = -height % patch_size, -width % patch_size
    if rule == "resize":
        return 0, 0, 0, 0
    left, top = extra_x // 2, extra_y // 2
    return left, top, extra_x - left, extra_y - top


def pad_to_patches(pixels_B3HW: Tensor, patch_size: int, rule: str) -> tuple[Tensor, tuple[int, int, int, int]]:
    """Bring both sides to multiples of the patch size; returns the pixels and the (left, top, right, bottom) padding."""
    height, width = pixels_B3HW.shape[-2:]
    padding = left, top, right, bottom = padding_of(height, width, patch_size, rule)
    if any(padding):
        return F.pad(pixels_B3HW, (left, right, top, bottom)), padding
    if height % patch_size or width % patch_size:
        size = height + -height % patch_size, width + -width % patch_size
        return F.interpolate(pixels_B3HW, size, mode="bilinear", antialias=False), padding
    return pixels_B3HW, padding
