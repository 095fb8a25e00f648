"""Images a second of the image tower beside timm's and transformers', in one process.

    python benchmarks/bench_encoder.py [--device cpu] [--size 448] [--batch 2] [--rounds 9] [--no-compile] [--json]

All are tipsv2-b14 with the weights of one seed. Rounds are interleaved. Images a second are of the best round on the clock; what one is
over another is the median over rounds of the ratio of their seconds in one round: on a CPU of the processor, because other jobs on the
machine take turns in moments, and change both least; on a GPU on the clock, once the GPU has done its work. "bound" is the most that any
implementation could be over timm, if it did nothing but the products of matrices, at the fastest that this machine did one in the same
run. "cosine" is the mean cosine, over patches, of bfloat16 features with the same implementation's float32 ones.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import timm
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from tips_bench.models.configs import TextConfig, vision_config
from tips_bench.models.files.checkpoints import export_huggingface, load_text, load_vision
from tips_bench.models.vision import VisionTower

NAME = "tipsv2-b14"
PRODUCT, SIDES = "product of matrices", {"cpu": 2048, "cuda": 8192}  # and the side of these
TOLERANCE = {"cpu": 1e-3, "cuda": 1e-2}  # of float32 features; kernels of a GPU sum in other orders
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Encode = Callable[[Tensor], Tensor]


@dataclass
class Row:
    """One implementation in one precision. images_per_s: of the best round. Ratios: medians of rounds."""

    implementation: str
    precision: str
    images_per_s: float
    over_timm: float
    over_transformers: float
    bound: float
    cosine: float | None


def ours(dtype: torch.dtype, device: torch.device, *, pack: bool, compiled: bool = False) -> Encode:
    """Our tower. pack: with weights prepared for the CPU, as the encoders run it."""
    tower = load_vision(None, vision_config(NAME), seed=0, dtype=dtype).to(device)
    if pack and not tower.pack():
        raise SystemExit("this machine does not run the packed tower")
    run: Callable[..., object] = torch.compile(tower) if compiled else tower
    return lambda pixels_B3HW: run(pixels_B3HW.to(dtype)).patches[0].flatten(1, 2)  # type: ignore[attr-defined]


def transformers_peer(dtype: torch.dtype, device: torch.device) -> Encode:
    """transformers' Tipsv2VisionModel with our weights."""
    vision = load_vision(None, vision_config(NAME), seed=0)
    text = TextConfig(name="unused", embed_dim=vision.config.embed_dim, depth=1, num_heads=12, mlp_dim=8, vocab_size=8)
    with tempfile.TemporaryDirectory() as folder:
        export_huggingface(folder, vision, load_text(None, text, seed=0))
        model = transformers.Tipsv2Model.from_pretrained(folder, dtype=dtype).vision_model.to(device).eval()
    return lambda pixels_B3HW: model(pixel_values=pixels_B3HW.to(dtype)).last_hidden_state[:, 2:]


def timm_peer(dtype: torch.dtype, device: torch.device, size: int) -> Encode:
    """timm's vit_base_patch14_reg1_tipsv2 with our weights."""
    model = timm.create_model("vit_base_patch14_reg1_tipsv2", img_size=size)
    tower = load_vision(None, vision_config(NAME), seed=0)
    model.load_state_dict(timm_weights(tower, size))
    model = model.to(device, dtype).eval()
    return lambda pixels_B3HW: model.forward_features(pixels_B3HW.to(dtype))[:, 2:]


def timm_weights(tower: VisionTower, size: int) -> dict[str, Tensor]:
    """Our weights under timm's names. timm adds positions to patches alone, so CLS takes its own into its token."""
    side = size // tower.config.patch_size
    weights = {name: value.detach() for name, value in tower.state_dict().items() if name != "mask_token"}
    positions_1PD = weights.pop("pos_embed")
    table_1Dhw = positions_1PD[:, 1:].unflatten(1, tower.config.position_grid).permute(0, 3, 1, 2)
    weights["pos_embed"] = F.interpolate(table_1Dhw, (side, side), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
    weights["cls_token"] = weights["cls_token"] + positions_1PD[:, :1]
    weights["reg_token"] = weights.pop("register_tokens")
    return weights


@dataclass
class Seconds:
    """Of each round of one run: on the clock, and of what computes, the processor or the GPU."""

    wall: list[float]
    device: list[float]


def race(runs: dict[tuple[str, str], Callable[[], object]], rounds: int, device: torch.device) -> dict[tuple[str, str], Seconds]:
    """What each run takes, rounds interleaved."""
    found = {key: Seconds([], []) for key in runs}
    on_gpu = device.type == "cuda"
    for _ in range(rounds):
        for key, run in runs.items():
            wall, processor = time.perf_counter(), time.process_time()
            run()
            if on_gpu:
                torch.cuda.synchronize(device)
            found[key].wall.append(time.perf_counter() - wall)
            found[key].device.append(found[key].wall[-1] if on_gpu else time.process_time() - processor)
    return found


def ratio(over: Seconds, one: Seconds) -> float:
    """How many times as fast `one` is as `over`."""
    return statistics.median(slow / fast for slow, fast in zip(over.device, one.device, strict=True))


def tower_flops(size: int) -> int:
    """Operations of matrix products for an image: of the patches, and in each block of the four maps and of attention."""
    config = vision_config(NAME)
    patches = (size // config.patch_size) ** 2
    tokens, dim = patches + config.num_global_tokens, config.embed_dim
    block = 2 * tokens * dim * (4 * dim + 2 * config.mlp_dim) + 4 * tokens * tokens * dim
    return 2 * patches * 3 * config.patch_size**2 * dim + config.depth * block


def product(dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """A product of two large square matrices."""
    side = SIDES[device.type]
    left, right = torch.ones(2, side, side, dtype=dtype, device=device).unbind()
    return lambda: left @ right


def all_runs(size: int, device: torch.device, compiled: bool) -> dict[tuple[str, str], Encode]:
    """Each implementation in each precision. On a GPU our tower has one way to run, without packed weights."""
    runs: dict[tuple[str, str], Encode] = {}
    for precision, dtype in DTYPES.items():
        runs["timm", precision] = timm_peer(dtype, device, size)
        runs["transformers", precision] = transformers_peer(dtype, device)
        if device.type == "cpu":
            runs["ours, plain", precision] = ours(dtype, device, pack=False)
        runs["ours", precision] = ours(dtype, device, pack=device.type == "cpu")
        if compiled:
            runs["ours, torch.compile", precision] = ours(dtype, device, pack=False, compiled=True)
    return runs


def measure(size: int, batch: int, rounds: int, compiled: bool, device: torch.device) -> list[Row]:
    """One row for each implementation and precision."""
    pixels_B3HW = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    runs = all_runs(size, device, compiled)
    bound = {(PRODUCT, precision): product(dtype, device) for precision, dtype in DTYPES.items()}
    with torch.inference_mode():
        features_BPD = {key: encode(pixels_B3HW).float() for key, encode in runs.items()}
        seconds = race({key: partial(encode, pixels_B3HW) for key, encode in runs.items()} | bound, rounds, device)
    rows = []
    for name, precision in runs:
        own, timm_s = seconds[name, precision], seconds["timm", precision]
        cosine = F.cosine_similarity(features_BPD[name, precision], features_BPD[name, "fp32"], dim=-1).mean().item()
        ratios = [ratio(seconds[peer, precision], own) for peer in ("timm", "transformers")]
        least_s = batch * tower_flops(size) / (2 * SIDES[device.type] ** 3) * min(seconds[PRODUCT, precision].device)
        best = min(timm_s.device) / least_s
        rows.append(Row(name, precision, batch / min(own.wall), *ratios, best, None if precision == "fp32" else cosine))
    reference = features_BPD["timm", "fp32"]
    for (name, precision), found in features_BPD.items():
        if precision == "fp32" and (found - reference).abs().max() > TOLERANCE[device.type]:
            raise SystemExit(f"{name} does not compute what timm does")
    return rows


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=SIDES)
    parser.add_argument("--size", type=int, default=448)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    rows = measure(args.size, args.batch, args.rounds, not args.no_compile, device)
    if args.json:
        print(
            json.dumps(
                {"size": args.size, "batch": args.batch, "device": name, "rows": [asdict(row) for row in rows]},
                indent=2,
            )
        )
        return
    print(f"{NAME}, {args.size} px, batch {args.batch}, {name}")
    print(f"{'implementation':<22}{'precision':<11}{'images/s':>9}{'/ timm':>9}{'/ transformers':>16}{'bound':>8}{'cosine':>10}")
    for row in rows:
        cosine = "" if row.cosine is None else f"{row.cosine:.6f}"
        ratios = f"{row.over_timm:>9.2f}{row.over_transformers:>16.2f}{row.bound:>8.2f}"
        print(f"{row.implementation:<22}{row.precision:<11}{row.images_per_s:>9.3f}{ratios}{cosine:>10}")


if __name__ == "__main__":
    main()
