"""The probe `dpt`: a network on four layers of frozen features, trained for depth or normals.

Which network, which loss and every number come from the protocol's card: `dpt-probe3d` is the head of Probe3D with its bins, losses and
schedule, `dpt-tips` the head that TIPSv2 releases, trained here.

Axes: B batch, H W pixels of a crop, T values of a pixel, C outputs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from tips_bench.cards import parse
from tips_bench.data.crops.base import CropBatches
from tips_bench.data.crops.pixel_values import PixelValueCrops
from tips_bench.data.split import Split
from tips_bench.encoders.weights import seeded
from tips_bench.features.context import RunContext
from tips_bench.files import digest
from tips_bench.models.dpt import LAYERS
from tips_bench.probes.base import Fit
from tips_bench.probes.network_head import HeadSpec, NetworkHead, check_layers
from tips_bench.probes.pixel_targets import DepthTarget, PixelTarget
from tips_bench.probes.trained.loop import Training
from tips_bench.probes.trained.network_training import NetworkOptions, NetworkTrainee, Objective
from tips_bench.probes.trained.pixel_losses import Between, angular_loss, gradient_loss, log_residual, scale_invariant_loss


class DptOptions(NetworkOptions):
    """The knobs of `dpt` beside those of the training.

    decoder: the network; channels: of its fusion; kernel: of probe3d's; aligned: its sizes are changed with aligned corners, and so are
    those of its values. Depth: relu: before the linear map of tips'; bins, even from min_depth to the greatest depth that the task scores;
    floor: added to every bin's share; scale_weight, scale_share, gradient_weight: of the losses; gradient_between: what differences are
    taken between; epsilon: metres added before a logarithm. Normals: uncertain: a fourth output, the concentration of Bae et al.; unit:
    brought to length 1 before they are upsampled.
    """

    type: str
    decoder: Literal["tips", "probe3d"]
    channels: int = Field(gt=0)
    relu: bool = False
    kernel: Literal[1, 3, 5, 7] = 3
    aligned: bool = False
    bins: int = Field(gt=1)
    min_depth: float = Field(gt=0)
    floor: float = Field(gt=0)
    scale_weight: float = Field(ge=0)
    scale_share: float = Field(ge=0, le=1)
    gradient_weight: float = Field(ge=0)
    gradient_between: Between = "pixels"
    epsilon: float = Field(gt=0)
    uncertain: bool
    unit: bool


class DptProbe:
    """Built from a card's `probe` mapping, for depth or normals."""

    reads_train = True
    load = staticmethod(NetworkHead.load)

    def __init__(self, options: dict[str, Any], where: object, target: PixelTarget) -> None:
        self.options, self.target = parse(DptOptions, options, where=where, prefix="probe."), target

    def fit(self, context: RunContext, train: Split) -> Fit:
        """Train on random crops of the whole split; nothing is chosen. Errors: a loss that is not finite."""
        check_layers(context.extractor)
        options = self.options
        spec = self._spec(context)
        with seeded(context.seed):
            head = NetworkHead(spec, spec.build())
        trainee = NetworkTrainee(options, context.extractor, head.network, self._objective(head), len(train))
        mean, std = context.encoder.spec.mean, context.encoder.spec.std
        crops = PixelValueCrops(train.reader, options.augment, self._truth, self.target.unmirror, train.indices, context.seed, mean, std)
        training = Training(
            trainee.total,
            options.checkpoint_every,
            CropBatches(crops, options.batch_size, context.extractor.world),
            context.folder / "network.pt",
            digest(options.model_dump_json(), spec.model_dump_json(), context.seed, *train.ids),
            context.extractor.encoder,
            context.extractor.workers,
            context.extractor.world,
        )
        (loss,) = training.run(trainee)
        head.network.eval().requires_grad_(False)
        parameters = sum(parameter.numel() for parameter in head.network.parameters())
        return Fit(head, {"iterations": trainee.total, "loss": loss, "lr": options.lr, "parameters": parameters})

    def _truth(self, sample: Any) -> Any:
        """As the task scores it, but in the whole image: a crop is a rule of scoring."""
        target = self.target
        if isinstance(target, DepthTarget):
            target = replace(target, rule=target.rule.model_copy(update={"crop": "none"}))
        return target.truth(sample)

    def _spec(self, context: RunContext) -> HeadSpec:
        options, target, token = self.options, self.target, context.extractor.features.global_token is not None
        embed_dim = context.extractor.dim // (2 * LAYERS if token else LAYERS)
        shared: dict[str, Any] = {"decoder": options.decoder, "channels": options.channels, "kernel": options.kernel}
        shared |= {"embed_dim": embed_dim, "token": token, "aligned": options.aligned}
        if isinstance(target, DepthTarget):
            depths = (options.min_depth, target.rule.max_depth)
            return HeadSpec(values="depth", outputs=options.bins, relu=options.relu, depths=depths, floor=options.floor, **shared)
        return HeadSpec(values="normals", outputs=4 if options.uncertain else 3, unit=options.unit, **shared)

    def _objective(self, head: NetworkHead) -> Objective:
        if isinstance(self.target, DepthTarget):
            return Objective(lambda features_BhwD: head.read(head.outputs(features_BhwD)), head.interpolation, self._depth_loss)
        # An uncertain head's fourth output is upsampled with the normal.
        read = head.enlarged if self.options.uncertain else head.read
        return Objective(lambda features_BhwD: read(head.outputs(features_BhwD)), head.interpolation, _normals_loss)

    def _depth_loss(self, depth_B1HW: Tensor, values_B1HW: Tensor, known_BHW: Tensor) -> Tensor:
        options = self.options
        truth_BHW = values_B1HW[:, 0].where(known_BHW, torch.zeros_like(values_B1HW[:, 0]))
        residual_BHW = log_residual(depth_B1HW[:, 0], truth_BHW, options.epsilon)
        loss = options.scale_weight * scale_invariant_loss(residual_BHW, known_BHW, options.scale_share)
        return loss + options.gradient_weight * gradient_loss(residual_BHW, known_BHW, options.gradient_between)


def _normals_loss(outputs_BCHW: Tensor, values_B3HW: Tensor, known_BHW: Tensor) -> Tensor:
    kappa_BHW = outputs_BCHW[:, 3] if outputs_BCHW.shape[1] == 4 else None
    return angular_loss(outputs_BCHW[:, :3], values_B3HW, known_BHW, kappa_BHW)
