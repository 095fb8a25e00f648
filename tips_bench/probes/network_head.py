"""Heads that are networks: four layers of frozen features -> class logits, a depth or a normal for each cell of a grid of their own.

Axes: N images or windows, h w token grid, D feature (each layer's patch features, then its global token's where one is taken), C outputs
of the network, T values of a cell.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from tips_bench.cards import Strict, parse
from tips_bench.errors import UserError
from tips_bench.features.extract import Extractor
from tips_bench.features.geometry import Kind
from tips_bench.models.dpt import LAYERS, DptConfig, DptDecoder, Layer, published_widths
from tips_bench.npz import read_npz, save_npz
from tips_bench.probes.probe3d_decoder import Probe3dDecoder, enlarge

Values = Literal["classes", "depth", "normals"]


class HeadSpec(Strict):
    """What a head is built from.

    embed_dim: of one layer's patch features. token: each layer's global token stands beside them. outputs: C. channels: of the fusion.
    relu, kernel, aligned: of one decoder each. depths: of the first and the last bin, in metres; floor: added to every bin's share. unit:
    normals are brought to length 1 before they are upsampled.
    """

    decoder: Literal["tips", "probe3d"]
    values: Values
    embed_dim: int
    token: bool
    outputs: int
    channels: int
    relu: bool = False
    kernel: int = 3
    aligned: bool = False
    depths: tuple[float, float] | None = None
    floor: float = 0.0
    unit: bool = False

    @model_validator(mode="after")
    def _depth_has_bins(self) -> HeadSpec:
        if (self.depths is None) == (self.values == "depth"):
            raise ValueError("a head for depth has depths, and no other head")
        return self

    def build(self) -> nn.Module:
        """The network, with torch's own initial weights."""
        if self.decoder == "probe3d":
            dim = self.embed_dim * (2 if self.token else 1)
            return Probe3dDecoder(dim, self.outputs, channels=self.channels, kernel=self.kernel, aligned=self.aligned)
        config = DptConfig(
            embed_dim=self.embed_dim,
            outputs=self.outputs,
            reassembled=published_widths(self.embed_dim),
            channels=self.channels,
            relu=self.relu,
            readout=self.token,
        )
        return DptDecoder(config)


@dataclass(frozen=True)
class NetworkHead:
    """A network and how its outputs are read. network: as `spec` builds it, or a released one of another width."""

    spec: HeadSpec
    network: nn.Module

    @property
    def interpolation(self) -> Kind:
        """How its values are brought to the size of the image: normals bicubically, as TIPS and probe3d do it."""
        if self.spec.values == "normals":
            return "bicubic-aligned" if self.spec.aligned else "bicubic"
        return "bilinear-aligned" if self.spec.aligned else "bilinear"

    def outputs(self, features_NhwD: Tensor) -> Tensor:
        """[N,C,h',w'] raw outputs."""
        features_NhwD = features_NhwD.float()
        spec = self.spec
        if spec.decoder == "probe3d":
            found: Tensor = self.network(features_NhwD.chunk(LAYERS, -1))
        else:
            found = self.network(split(features_NhwD, spec.embed_dim, spec.token))
        return found

    def read(self, outputs_NChw: Tensor) -> Tensor:
        """[N,T,h',w'] values: logits as they are, metres, or normals."""
        spec = self.spec
        if spec.aligned:  # values between those of two cells are not made of outputs between theirs
            outputs_NChw = self.enlarged(outputs_NChw)
        if spec.depths is not None:
            values_NThw = expected_depth(outputs_NChw, spec.depths, spec.floor)
        elif spec.values == "normals":
            normals_N3hw = outputs_NChw[:, :3]
            values_NThw = F.normalize(normals_N3hw, dim=1) if spec.unit else normals_N3hw
        else:
            values_NThw = outputs_NChw
        return values_NThw if spec.aligned else self.enlarged(values_NThw)

    def enlarged(self, maps_NChw: Tensor) -> Tensor:
        """The doubling that Probe3D's head ends in."""
        return enlarge(maps_NChw, 2, self.spec.aligned) if self.spec.decoder == "probe3d" else maps_NChw

    @torch.no_grad()
    def __call__(self, features_NhwD: Tensor) -> Tensor:
        """[N,T,h',w'] in float32, on the features' device."""
        self.network.to(features_NhwD.device)
        return self.read(self.outputs(features_NhwD))

    def save(self, path: Path) -> None:
        """Write as .npz, atomically."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.network.state_dict().items()}
        save_npz(path, spec=np.array(self.spec.model_dump_json()), **arrays)

    @classmethod
    def load(cls, path: Path) -> NetworkHead:
        """Read what `save` wrote. Errors: a broken file."""

        def head(data: Any) -> NetworkHead:
            spec = parse(HeadSpec, json.loads(str(data["spec"])), where=path)
            network = spec.build()
            network.load_state_dict({name: torch.from_numpy(data[name]) for name in data.files if name != "spec"})
            return cls(spec, network.eval().requires_grad_(False))

        return read_npz(path, "head", head)


def split(features_NhwD: Tensor, embed_dim: int, token: bool) -> list[Layer]:
    """The four layers: patch features, and the global token, which stands beside every patch and is read beside the first."""
    parts = features_NhwD.split(embed_dim, -1)
    if not token:
        return [(None, patches_NhwE) for patches_NhwE in parts]
    return [(tokens_NhwE[:, 0, 0], patches_NhwE) for patches_NhwE, tokens_NhwE in zip(parts[::2], parts[1::2], strict=True)]


def expected_depth(outputs_NChw: Tensor, depths: tuple[float, float], floor: float) -> Tensor:
    """[N,1,h,w] metres: the mean depth of C even bins, weighted by max(output, 0) + floor (AdaBins' linear normalisation)."""
    bins_C = torch.linspace(*depths, outputs_NChw.shape[1], device=outputs_NChw.device, dtype=outputs_NChw.dtype)
    shares_NChw = outputs_NChw.relu()
    total_Nhw = shares_NChw.sum(1) + floor * len(bins_C)
    return ((torch.einsum("nchw,c->nhw", shares_NChw, bins_C) + floor * bins_C.sum()) / total_Nhw)[:, None]


def check_layers(extractor: Extractor) -> None:
    """Errors: another number of layers than a head takes."""
    count = len(extractor.layers)
    if count != LAYERS:
        problem = f"features.layers has {count} layers, but the head needs {LAYERS}"
        raise UserError(problem, fix="Use features.layers: quarters, as the protocol does.")
