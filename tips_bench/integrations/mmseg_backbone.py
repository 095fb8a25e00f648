"""Any encoder of the registry as a frozen backbone in a user's own mmsegmentation config.

    custom_imports = dict(imports=["tips_bench.integrations.mmseg_backbone"])
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor", mean=[0] * 3, std=[255] * 3, bgr_to_rgb=True, seg_pad_val=255, size=(518, 518),
                               test_cfg=dict(size_divisor=14)),
        backbone=dict(type="TipsBenchEncoder", encoder="tips-l14", layers=(-1,)),
        decode_head=dict(type="FCNHead", in_channels=1024, ...))

The encoder normalises by itself, so the preprocessor must give RGB in [0, 1], as above.

Axes: B batch, H W pixels, h w token grid, D feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.openmmlab import import_mmseg

mmseg = import_mmseg()
RANGE_FIX = "Set data_preprocessor to mean=[0] * 3, std=[255] * 3, bgr_to_rgb=True: the encoder normalises by itself."


@mmseg.registry.MODELS.register_module()
class TipsBenchEncoder(BaseModule):
    """A frozen encoder. encoder, weights, device, dtype: as in `load_encoder`. layers: block indices, one feature map each.

    norm: the final norm is applied. `out_channels`: D of each map. mmengine sees no parameters: nothing to train or to save.
    """

    def __init__(
        self,
        encoder: str,
        weights: str | None = None,
        layers: Sequence[int] = (-1,),
        norm: bool = True,
        device: str | None = None,
        dtype: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if device is None and torch.cuda.is_available():
            device = f"cuda:{torch.cuda.current_device()}"  # the launcher gives each process its own
        self.encoder = load_encoder(encoder, weights, device, dtype)
        self.layers = self.encoder.resolve_layers(tuple(layers))
        self.norm = norm
        self.out_channels = [self.encoder.spec.embed_dim] * len(self.layers)

    def forward(self, pixels_B3HW: Tensor) -> tuple[Tensor, ...]:
        """Feature maps [B,D,h,w], one a layer, float32 on the device of the pixels.

        Errors: pixels outside [0, 1]; sides that the encoder would pad, because mmseg's heads would stretch the padding over the image.
        """
        least, greatest = pixels_B3HW.aminmax()
        if least < 0 or greatest > 1:
            problem = f"pixels from {least:.3g} to {greatest:.3g}, not in [0, 1]"
            raise UserError(problem, where=self.encoder.spec.name, fix=RANGE_FIX)
        features = self.encoder.encode_image(pixels_B3HW, layers=self.layers, norm=self.norm)
        if any(features.padding):
            height, width = pixels_B3HW.shape[-2:]
            patch = self.encoder.spec.patch_size
            raise UserError(
                f"inputs of {height}x{width} pixels are not a multiple of the patch size {patch}",
                where=self.encoder.spec.name,
                fix=f"Choose a crop size that is a multiple, and set data_preprocessor.test_cfg=dict(size_divisor={patch}).",
            )
        # cloned, because a tensor made in inference mode takes no part in training a head
        return tuple(
            patches.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format).to(pixels_B3HW) for patches in features.patches
        )
