"""What an explorer holds: photos, encoders, heads, and what they make of each photo, which is made once.

Axes: h w token grid, D feature, H W pixels, T values of a pixel.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tips_bench.cards import FeatureCard, ModelCard
from tips_bench.catalog import cache_root
from tips_bench.data.images import decode_image
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.explorer.heads import shown_heads
from tips_bench.explorer.surfaces import SIDE, SurfaceHead, surface_head
from tips_bench.features.extract import Extractor
from tips_bench.image_card import ImageCard
from tips_bench.journal import say
from tips_bench.results.record import Record
from tips_bench.rooms.generate import room

MAX_PHOTOS = 12
MAX_ENCODERS = 2  # side by side
SIDES = (64, 1024)  # of a photo's longer side, in pixels
MAX_BYTES = 1 << 30  # of features that are kept
ROOMS_SEED = 7  # not that of the rooms on which depth and normals are fitted
ROOMS = ((3, 2), (11, 1))  # (number, frames) of the rooms that the page starts with
ROOM_SIDE = 448

Wanted = Callable[[], None]  # raises an error where an answer is no longer wanted; called before each photo that is encoded


def always() -> None:
    """An answer that is wanted whatever is asked meanwhile."""


@dataclass(frozen=True)
class Photo:
    """A photo with a number that is never given twice. image_HW3: uint8 RGB."""

    id: int
    name: str
    image_HW3: np.ndarray


@dataclass(frozen=True)
class View:
    """Which features are asked for. layer: index of a block; "values": what can be compared with texts. side: longer side in pixels."""

    model: str
    layer: int | str
    side: int


class Session:
    """The state of one explorer; may be used from several threads.

    models: names or cards as `load_encoder` takes them. weights: of each, None = as its card says; an encoder with others is named for
    them, too. device, dtype: as `load_encoder` takes them. heads: records of runs whose fitted heads are shown.
    Errors: no encoder, too many or the same twice; those of `load_encoder` and `shown_heads`.
    """

    def __init__(
        self,
        models: Sequence[str | ModelCard],
        *,
        weights: Sequence[str | None] = (),
        device: str | None = None,
        dtype: str = "fp32",
        heads: Sequence[Record] = (),
    ) -> None:
        own = [*weights, *[None] * (len(models) - len(weights))]
        names = [model.name if isinstance(model, ModelCard) else model for model in models]
        shown = [f"{name}, {Path(file).name}" if file else name for name, file in zip(names, own, strict=True)]
        if not 1 <= len(models) <= MAX_ENCODERS or len(set(shown)) < len(shown):
            fix = f"Give one encoder, or {MAX_ENCODERS} different ones."
            raise UserError(f"the page shows one encoder, or {MAX_ENCODERS} side by side", where="--model", fix=fix)
        self.encoders: dict[str, Encoder] = {}
        for name, model, file in zip(shown, models, own, strict=True):
            say(f"loading {name}")
            self.encoders[name] = load_encoder(model, file, device, dtype)
        self.heads = shown_heads(heads, self.encoders)
        self.photos: dict[int, Photo] = {}
        self._ids = itertools.count()
        self._kept: OrderedDict[tuple[int, View], np.ndarray] = OrderedDict()
        self._maps: dict[tuple[int, int], np.ndarray] = {}
        self._surfaces: dict[tuple[str, int | str], SurfaceHead] = {}
        self._lock = threading.RLock()

    def add(self, name: str, data: bytes) -> Photo:
        """Take in the bytes of a JPEG or PNG file. Errors: another kind of file, a broken one, too many photos."""
        try:
            image_HW3 = decode_image(data, name)
        except UserError as error:
            raise UserError(error.problem, where=name, fix="Choose another JPEG or PNG file.") from error
        return self.add_image(name, image_HW3)

    def add_image(self, name: str, image_HW3: np.ndarray) -> Photo:
        """Take in a photo, uint8 RGB. Errors: too many photos."""
        with self._lock:
            if len(self.photos) >= MAX_PHOTOS:
                raise UserError(f"there are {MAX_PHOTOS} photos already", where=name, fix="Remove one first.")
            photo = Photo(next(self._ids), name, image_HW3)
            self.photos[photo.id] = photo
            return photo

    def add_rooms(self) -> None:
        """Take in a few pictures of generated rooms."""
        for number, frames in ROOMS:
            for place, frame in enumerate(room(ROOMS_SEED, "val", number, frames=frames, size=ROOM_SIDE).frames):
                self.add_image(f"room {number}, view {place + 1}", frame.image_HW3)

    def remove(self, photo: int) -> None:
        """Forget a photo and its features. Errors: no such photo."""
        with self._lock:
            self._photo(photo)
            del self.photos[photo]
            for key in [key for key in self._kept if key[0] == photo]:
                del self._kept[key]
            for number in range(len(self.heads)):
                self._maps.pop((number, photo), None)

    def features(self, photo: int, view: View, wanted: Wanted = always) -> np.ndarray:
        """[h,w,D] in float32. Errors: an unknown photo, encoder or layer; a side out of range; what the encoder refuses."""
        self._check(view)
        with self._lock:
            key = photo, view
            if key not in self._kept:
                wanted()
                self._kept[key] = self._encoded(self._photo(photo).image_HW3, view)
                self._forget()
            self._kept.move_to_end(key)
            return self._kept[key]

    def map_of(self, head: int, photo: int, wanted: Wanted = always) -> np.ndarray:
        """What a head, by its place, predicts of a photo: class indices [H,W] or values [T,H,W]. Errors: an unknown head or photo."""
        if not 0 <= head < len(self.heads):
            raise UserError("the page was not started with this head", fix="Load the page again.")
        with self._lock:
            if (head, photo) not in self._maps:
                image_HW3 = self._photo(photo).image_HW3
                wanted()
                self._maps[head, photo] = self.heads[head](image_HW3)
            return self._maps[head, photo]

    def surfaces(self, view: View, wanted: Wanted = always) -> SurfaceHead:
        """The map from a layer's features to depth and normals, the same for all sides. Errors: an unknown encoder or layer."""
        encoder, own = self.encoder(view.model), View(view.model, view.layer, SIDE)

        def encode(image_HW3: np.ndarray) -> np.ndarray:
            wanted()
            return self._encoded(image_HW3, own)

        with self._lock:
            key = view.model, view.layer
            if key not in self._surfaces:
                identity = f"{encoder.spec.identity()} {encoder.dtype} {view.layer}"
                self._surfaces[key] = surface_head(encode, identity, cache_root() / "explorer")
            return self._surfaces[key]

    def encoder(self, model: str) -> Encoder:
        """One of the session's encoders. Errors: another name."""
        if model not in self.encoders:
            raise UserError(f"the page was not started with the encoder {model!r}", fix=f"Choose {' or '.join(self.encoders)}.")
        return self.encoders[model]

    def _photo(self, photo: int) -> Photo:
        if photo not in self.photos:
            raise UserError("this photo is no longer there", fix="Load the page again.")
        return self.photos[photo]

    def _check(self, view: View) -> None:
        self.encoder(view.model)
        if not SIDES[0] <= view.side <= SIDES[1]:
            raise UserError(f"a longer side of {view.side} pixels", fix=f"Choose {SIDES[0]} to {SIDES[1]}.")

    def _encoded(self, image_HW3: np.ndarray, view: View) -> np.ndarray:
        image = ImageCard(short_side=view.side, long_side=view.side, patch_multiple=True)
        values = view.layer == "values"
        card = FeatureCard(values=values) if values else FeatureCard(layers=[int(view.layer)])
        extractor = Extractor(self.encoder(view.model), image, card)
        with torch.inference_mode():
            found = extractor.encode(extractor.pixels(image_HW3)[None])
        return found.features_BhwD[0].float().cpu().numpy()

    def _forget(self) -> None:
        """Let go of what was used longest ago, beyond MAX_BYTES."""
        while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > MAX_BYTES:
            self._kept.popitem(last=False)
