"""The probe `released`: a DPT head that was published for the model, used as it is. Nothing is trained.

The model's card says where its heads are, one for each task family.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from tips_bench.cards import ModelCard, Strict, parse
from tips_bench.data.split import Split
from tips_bench.encoders.weights import file_weights, weights_path
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.models.files.dpt_heads import Kind, load_dpt
from tips_bench.probes.base import Fit
from tips_bench.probes.network_head import HeadSpec, NetworkHead, check_layers
from tips_bench.probes.pixel_targets import DepthTarget, PixelTarget


class ReleasedOptions(Strict):
    """relu: between the last convolution of a depth head and its linear map. depths: of the first and the last bin, in metres.

    floor: added to every bin's share.
    """

    type: str
    relu: bool
    depths: tuple[float, float]
    floor: float = Field(gt=0)


def released_head(model: ModelCard, family: str) -> tuple[Path, str]:
    """The file of a model's head, fetched at first use, and its SHA-256."""
    path = weights_path(model.heads[family], f"{model.name}: the DPT head for {family}")
    return path, file_weights(path).identity


class ReleasedProbe:
    """Built from a card's `probe` mapping. target: what is scored, None for segmentation."""

    reads_train = False

    def __init__(self, options: dict[str, Any], where: object, target: PixelTarget | None = None) -> None:
        self.options, self.where = parse(ReleasedOptions, options, where=where, prefix="probe."), where
        self.family: Kind = "segmentation" if target is None else "depth" if isinstance(target, DepthTarget) else "normals"

    def fit(self, context: RunContext, test: Split) -> Fit:
        """The model's head for the family. No sample is read. test: the scored split, whose classes the head has to have.

        Errors: a file that holds none, or one of another number of outputs.
        """
        check_layers(context.extractor)
        family, encoder = self.family, context.encoder
        path, identity = released_head(context.model, family)
        relu, depths = (self.options.relu, self.options.depths) if family == "depth" else (False, None)
        network = load_dpt(path, family, embed_dim=encoder.spec.embed_dim, relu=relu, depths=depths, device=encoder.device)
        outputs = network.config.outputs
        wanted = {"segmentation": len(test.reader.classes), "normals": 3, "depth": outputs}[family]
        if outputs != wanted:
            problem = f"the head gives {outputs} values for each pixel, and {test.reader.name} has {wanted}"
            raise UserError(problem, where=path, fix="Give a head that was trained on this data set.")
        spec = HeadSpec(
            decoder="tips",
            values="classes" if family == "segmentation" else family,
            embed_dim=network.config.embed_dim,
            token=True,
            outputs=outputs,
            channels=network.config.channels,
            relu=relu,
            depths=depths,
            floor=self.options.floor,
            unit=True,
        )
        return Fit(NetworkHead(spec, network), {"head": path.name, "head_sha256": identity, "outputs": outputs})

    def load(self, path: Path) -> NetworkHead:
        """A head that was saved."""
        return NetworkHead.load(path)
