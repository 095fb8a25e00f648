"""The part of a card that says how an image is resized and cropped: of a protocol, and of a model's own preprocessing."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from tips_bench.strict import Strict


class ImageCard(Strict):
    """How an image is resized and cropped before it goes to the encoder.

    short_side: length of the shorter side after resizing, in pixels; null = keep the size. native: use the encoder's resolution. shape:
    "aspect" keeps the aspect, "square" stretches both sides to short_side, "center-crop" keeps the aspect and then takes the middle
    square. crop: its side in pixels, also after "square"; null = short_side. patch_multiple: round both sides to a multiple of the
    encoder's patch size. library: "mmcv" resizes with OpenCV, without antialiasing, and rounds the longer side; "torchvision" resizes with
    Pillow, with antialiasing, and rounds it down; "transformers" does so, too, and crops half a pixel further up and left where the spare
    pixels are odd; "pillow" rounds it to the nearest. fit: what happens to a side, of the image or of a
    window, that is no whole number of patches: "pad" leaves it to the encoder's own rule, and padding is cut off what is predicted;
    "stretch" leaves it to that rule, and what is predicted with the padding is brought to the size without; "corner" adds the mean color at
    the bottom and the right instead, and does the same; "enlarge" stretches the image bicubically to the next; "drop" leaves out the pixels
    after the last whole patch and stretches the map of the rest over all. long_side: the longer side becomes no longer than this, in
    pixels, as mmcv's resizing to two sides has it. normalize: pixels are normalized by the
    mean and deviation that the encoder was trained with, ImageNet's, or those that open-hummingbird-eval has (its blue is divided by
    0.255). crop_ratio: with native, the image is brought to the resolution / crop_ratio, rounded down, and the crop has the resolution.
    from_encoder: all is as `preprocessing` in the model's card says. thumbnail: an image whose longer side is
    longer than this, in pixels, is made smaller as Pillow's `thumbnail` does it (Lanczos); others stay. framed: the longer side
    gets this length in pixels, and black is added on both sides of the shorter one until the image is a square.
    """

    added: ClassVar[tuple[str, ...]] = (
        "long_side",
        "normalize",
        "crop_ratio",
        "from_encoder",
        "rounding",
        "long_multiple",
        "thumbnail",
        "framed",
    )
    short_side: int | None = Field(gt=0)
    native: bool = False
    shape: Literal["aspect", "square", "center-crop"] = "aspect"
    crop: int | None = Field(None, gt=0)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    patch_multiple: bool = False
    library: Literal["mmcv", "torchvision", "transformers", "pillow"] = "mmcv"
    fit: Literal["pad", "stretch", "corner", "enlarge", "drop"] = "pad"
    long_side: int | None = Field(None, gt=0)
    normalize: Literal["encoder", "imagenet", "hummingbird"] = "encoder"
    crop_ratio: float | None = Field(None, gt=0, lt=1)
    from_encoder: bool = False
    rounding: Literal["nearest", "up"] = "nearest"
    long_multiple: int | None = Field(None, gt=0)
    thumbnail: int | None = Field(None, gt=0)
    framed: int | None = Field(None, gt=0)

    @property
    def crops(self) -> bool:
        """Whether what is encoded may be less than the image, or more."""
        return (
            self.framed is not None
            or self.shape == "center-crop"
            or self.crop is not None
            or self.crop_ratio is not None
            or self.from_encoder
        )

    @model_validator(mode="after")
    def _a_square_has_a_side(self) -> ImageCard:
        if self.from_encoder and self != ImageCard.model_construct(short_side=None, from_encoder=True):
            raise ValueError("from_encoder takes all from the model's card: set short_side to null and leave the other keys out")
        if self.crop_ratio is not None and (not self.native or self.shape == "aspect"):
            raise ValueError("crop_ratio needs native, and shape square or center-crop")
        if self.native and (self.short_side is not None or self.crop is not None):
            raise ValueError("native uses the encoder's resolution: set short_side and crop to null")
        if self.shape != "aspect" and self.short_side is None and not self.native:
            raise ValueError(f"shape {self.shape} needs a short_side")
        if self.crop is not None and (self.shape == "aspect" or self.short_side is None or self.crop > self.short_side):
            raise ValueError("crop needs shape center-crop or square, and must not be greater than short_side")
        if self.rounding == "up" and (not self.patch_multiple or self.shape != "aspect" or self.short_side is None):
            raise ValueError("rounding up needs patch_multiple, shape aspect and a short_side")
        if self.long_multiple is not None and (self.library != "mmcv" or self.shape != "aspect" or self.short_side is None):
            raise ValueError("long_multiple needs library mmcv, shape aspect and a short_side")
        if self.library in ("torchvision", "transformers") and self.patch_multiple and self.rounding == "nearest":
            raise ValueError(f"library {self.library} rounds sides to whole pixels, not to a multiple of the patch size")
        if self.long_side is not None and (self.library != "mmcv" or self.shape != "aspect" or self.short_side is None):
            raise ValueError("long_side needs library mmcv, shape aspect and a short_side")
        if self.thumbnail is not None and (self.library != "mmcv" or self.shape != "aspect" or self.native or self.short_side is not None):
            raise ValueError("thumbnail sets the size alone: set short_side to null, shape to aspect, and leave native and library out")
        sized = self.short_side is not None or self.native or self.thumbnail is not None or self.shape != "aspect"
        if self.framed is not None and (self.library != "torchvision" or sized):
            raise ValueError(
                "framed sets the size alone, as torchvision resizes: set short_side to null, shape to aspect, library to torchvision"
            )
        return self
