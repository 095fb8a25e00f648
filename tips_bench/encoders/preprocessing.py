"""How a model's own publisher resizes and crops an image, from the configurations of the libraries, as the `preprocessing` of a card.

None = the library does something that no card can say (it pads, filters otherwise, does not scale pixels to [0, 1]).

Of a side that is no whole number of patches, the pixels after the last one are dropped, as a convolution of that stride does it: SigLIP
So400m/14 at 384 pixels reads 378.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tips_bench.cards import ImageCard
from tips_bench.encoders.weights import require_package

Library = Literal["torchvision", "transformers"]
FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def squashed(side: int) -> ImageCard:
    """TIPS: a stretched square, bilinear (google-deepmind/tips 4db271d, pytorch/run_image_encoder_inference.py:92)."""
    return ImageCard(short_side=side, shape="square", interpolation="bilinear", library="torchvision")


def of_open_clip(config: Mapping[str, Any], side: int, patch: int) -> ImageCard | None:
    """From a checkpoint's configuration, as open_clip's transform.py reads it."""
    shape = {"shortest": "center-crop", "squash": "square"}.get(config["resize_mode"])
    return _card(shape, side, None, config["interpolation"], "torchvision", patch)


def of_timm(config: Mapping[str, Any], patch: int) -> ImageCard | None:
    """From a model's pretrained configuration, as timm's data/transforms_factory.py reads it."""
    found = require_package("timm.data").resolve_data_config(pretrained_cfg=config)
    shape = {"center": "center-crop", "squash": "square"}.get(found["crop_mode"])
    height, width = found["input_size"][1:]
    resized = math.floor(height / found["crop_pct"])
    return _card(shape if height == width else None, resized, height, found["interpolation"], "torchvision", patch)


def of_transformers(folder: Path, patch: int) -> ImageCard | None:
    """From the processor that transformers builds for a folder, with Pillow. Code in the folder is never run."""
    transformers, backends = require_package("transformers"), require_package("transformers.image_processing_backends")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil", trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, ImportError):
        return None  # transformers knows no processor for it
    plain = isinstance(processor, backends.PilBackend) and type(processor)._preprocess is backends.PilBackend._preprocess
    scaled = processor.do_rescale and math.isclose(processor.rescale_factor, 1 / 255) and not processor.do_pad
    if not plain or not processor.do_resize or not scaled:
        return None
    size, crop = processor.size, processor.crop_size if processor.do_center_crop else None
    if crop is not None and crop.height != crop.width:
        return None
    side, interpolation = None if crop is None else crop.height, FILTERS.get(int(processor.resample))
    if size.shortest_edge and not size.longest_edge:
        return _card("aspect" if side is None else "center-crop", size.shortest_edge, side, interpolation, "transformers", patch)
    square = size.height is not None and size.height == size.width
    return _card("square" if square else None, size.height, side, interpolation, "transformers", patch)


def _card(shape: str | None, side: int, crop: int | None, interpolation: str | None, library: Library, patch: int) -> ImageCard | None:
    """crop: the side of what is taken out of the resized image; None = all of it, or its middle square."""
    if shape is None or interpolation not in FILTERS.values() or (crop is not None and crop > side):
        return None
    whole = shape != "aspect" and (crop or side) % patch == 0
    values = {"shape": shape, "interpolation": interpolation, "library": library, "fit": "pad" if whole else "drop"}
    return ImageCard.model_validate({"short_side": side, "crop": None if crop == side else crop, **values})
