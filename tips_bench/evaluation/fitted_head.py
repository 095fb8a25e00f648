"""The fitted head of a run with --keep-head: what it makes of any image.

record = tips_bench.run("nyu-depth", "tips-b14", keep_head=True)
head = tips_bench.load_head(record)                 # or its file; loads the encoder, too
depth_1HW = head(image_HW3)                         # uint8 RGB -> metres at the size of the image
head.head                                           # the head alone: features -> outputs

Axes: H W pixels, T values of a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tips_bench.adapters.base import Adapter, MapsImages
from tips_bench.encoders.base import Encoder
from tips_bench.encoders.load import load_encoder
from tips_bench.encoders.user import is_object, wrap
from tips_bench.errors import UserError
from tips_bench.evaluation.again import not_held, spec_of
from tips_bench.evaluation.spec import Spec
from tips_bench.features.extract import Extractor
from tips_bench.features.inference import Inference
from tips_bench.registry import FAMILIES
from tips_bench.results.kept_head import kept_head
from tips_bench.results.record import Record, load_record


@dataclass(frozen=True)
class FittedHead:
    """A head and all that stands before it: the encoder and the protocol's resizing, layers, windows and views.

    record: of the run that fitted it. head: what its probe's fit ended in. extractor: image -> features, as the protocol says.
    """

    record: Record
    head: Any
    extractor: Extractor
    _spec: Spec
    _adapter: Adapter

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder on whose features it was fitted."""
        return self.extractor.encoder

    @property
    def classes(self) -> list[str]:
        """The names of the task's classes; empty for depth and normals."""
        return self.record.dataset.classes

    @property
    def makes_maps(self) -> bool:
        """Whether it can be called with an image."""
        return isinstance(self._adapter, MapsImages) and not self._spec.applied.image.crops

    @torch.inference_mode()
    def __call__(self, image_HW3: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """What it predicts of an image, uint8 RGB: class indices [H,W], depth in metres [1,H,W] or unit normals [3,H,W].

        The same as the run predicted of its samples; features are not rounded, though, as `--cache-dtype` rounds them. Normals are in the
        camera's frame: x right, y down, z forward. size: (height, width) of the map in pixels; None = of the image.
        Errors: no such image; a head that makes no map of an image.
        """
        if not self.makes_maps or not isinstance(self._adapter, MapsImages):
            raise no_maps(self.record)
        if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[-1] != 3:
            problem = f"a head takes an image of bytes [H, W, 3], and this is {image_HW3.dtype} {list(image_HW3.shape)}"
            raise UserError(problem, fix="Give numpy.asarray(PIL.Image.open(file).convert('RGB')).")
        outer = size or (image_HW3.shape[0], image_HW3.shape[1])
        return self._adapter.map_of(Inference(self.extractor, self._spec.applied.inference), self.head, image_HW3, outer)

    def __repr__(self) -> str:
        return f"<FittedHead {self.record.task}, {self.record.model_name}, {self.record.protocol}>"


def load_head(
    record: Record | Path | str, *, encoder: Any = None, weights: str | Path | None = None, device: str | None = None
) -> FittedHead:
    """The head that a run with `keep_head=True` (`--keep-head`) left beside its record, with its encoder.

    record: itself or its file. encoder: in place of the record's, which is loaded otherwise: an Encoder or the object that was given to
    `tips_bench.run`. weights: the file that the record names, where it names one. device: as for `load_encoder`.
    Errors: no head was kept, with the command that makes it; a file that is missing, broken or of another run; another encoder than the
    one on whose features it was fitted; what `load_encoder` refuses.
    """
    record = record if isinstance(record, Record) else load_record(record)
    path = kept_head(record)
    spec = spec_of(record, None if weights is None else str(weights), needs_weights=encoder is None)
    encoder = _encoder_of(record, spec, encoder, device)
    check_encoder(record, encoder)
    adapter: Adapter = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied)
    if adapter.probe is None:
        raise UserError(f"nothing is fitted under {record.protocol}", where=record.file, fix="Give another record.")
    proxy = spec.applied.features.proxy
    other = load_encoder(proxy.model, None, str(encoder.device), record.cost.dtype) if proxy else None
    extractor = Extractor(encoder, spec.applied.image, spec.applied.features, workers=0, proxy=other)
    return FittedHead(record, adapter.probe.load(path), extractor, spec, adapter)


def _encoder_of(record: Record, spec: Spec, given: Any, device: str | None) -> Encoder:
    if isinstance(given, Encoder):
        return given
    if given is not None:
        return wrap(given, device, record.cost.dtype)
    if is_object(spec.model):
        raise not_held(record, "Give it: tips_bench.load_head(record, encoder=model).")
    return load_encoder(spec.model, spec.weights, device, record.cost.dtype)


def is_its_encoder(record: Record, encoder: Encoder) -> bool:
    """Whether a record is of this encoder: the weights have the same hash, or the same seed and the model the same name."""
    spec = encoder.spec
    is_named_by_content = not spec.weights_sha256.startswith(("random", "none"))
    return spec.weights_sha256 == record.weights_sha256 and (is_named_by_content or spec.name == record.model)


def check_encoder(record: Record, encoder: Encoder) -> None:
    """Errors: another encoder than the record's."""
    if not is_its_encoder(record, encoder):
        spec = encoder.spec
        theirs = f"{record.model} (weights {record.weights_sha256[:16]})"
        problem = f"the head was fitted on features of {theirs}, and the encoder is {spec.name} (weights {spec.weights_sha256[:16]})"
        raise UserError(problem, where=record.file, fix="Give the record's own encoder.")


def no_maps(record: Record) -> UserError:
    """What is said of a head that makes no map of an image."""
    problem = f"the head of {record.family} under {record.protocol} makes no map of a whole image"
    return UserError(problem, where=record.file, fix="Give a record of segmentation, depth or normals whose protocol crops no image.")
