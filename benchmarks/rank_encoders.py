"""Does `convex` rank encoders as the published linear protocol does? Kendall's tau over encoders of very different worth, on rooms.

    python benchmarks/rank_encoders.py [--iterations 600] [--out ranking/]
    python benchmarks/rank_encoders.py --rate 0.01 --dtype bf16 --models nano-400/ nano-800/ ... --picture docs/images/ranking.png

Encoders: raw pixels, random towers, towers trained for a few steps on other rooms (so that their worth grows), their inner layers,
and a timm architecture; or the exported models that are named, as the checkpoints of a run. linear-dinov2 runs at the rooms' size and
for fewer iterations than published, at a higher rate where --rate says one, which its records say.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch
from scipy.stats import kendalltau
from torch import Tensor
from torch.nn import functional as F

from tips_bench.data.images import to_pixels
from tips_bench.encoders.load import load_encoder
from tips_bench.evaluation.run import evaluate
from tips_bench.models.files.checkpoints import save_checkpoint
from tips_bench.progress import bar
from tips_bench.registry import READERS
from tips_bench.results.record import MetricValue
from tips_bench.rooms.writing.writers import write_rooms

Encoder = tuple[str, str | None, list[str]]
SNAPSHOTS = (30, 100, 300)
BATCH = 8
IGNORED = 255
LABEL_STRIDE = 4  # pixels; the towers train on every fourth label, which is enough for them


def train_snapshots(folder: Path, snapshots: tuple[int, ...] = SNAPSHOTS, rooms: int = 400, presence: bool = False) -> list[Path]:
    """Weights of a small tower after a few numbers of supervised steps on rooms of another seed; what is there is kept.

    rooms: images to train on. presence: train the global tokens, too, on which classes an image shows; else patches alone are trained.
    """
    paths = [folder / f"after-{steps}.safetensors" for steps in snapshots]
    if all(path.is_file() for path in paths):
        return paths
    root = folder / "rooms"
    write_rooms("rooms", root, seed=77, train=rooms, val=4)
    reader = READERS.get("folder")(root, "train")
    samples = [reader.load(index) for index in range(len(reader))]
    tower = load_encoder("tips-tiny-random").tower
    tower.unpack()
    tower.requires_grad_(True).train()
    head, shown = (torch.nn.Linear(tower.config.embed_dim, len(reader.classes)) for _ in range(2))
    adam = torch.optim.AdamW([*tower.parameters(), *head.parameters(), *shown.parameters()], lr=1e-3, weight_decay=0.05)
    generator = torch.Generator().manual_seed(0)
    with bar("training towers", snapshots[-1], "steps") as advance:
        for step in range(1, snapshots[-1] + 1):
            picked = torch.randint(0, len(samples), (BATCH,), generator=generator).tolist()
            pixels_B3HW = torch.stack([to_pixels(samples[index].image_HW3) for index in picked])
            labels = [samples[index].labels_HW[::LABEL_STRIDE, ::LABEL_STRIDE] for index in picked]
            labels_BHW = torch.stack([torch.from_numpy(labels_HW).long() for labels_HW in labels])
            features = tower(pixels_B3HW)
            logits_BChw = head(features.patches[0]).permute(0, 3, 1, 2)
            logits_BCHW = F.interpolate(logits_BChw, labels_BHW.shape[1:], mode="bilinear")
            adam.zero_grad()
            loss = F.cross_entropy(logits_BCHW, labels_BHW, ignore_index=IGNORED)
            if presence:
                loss = loss + F.binary_cross_entropy_with_logits(
                    shown(features.globals_BKD).mean(1), classes_shown(labels_BHW, shown.out_features)
                )
            loss.backward()
            adam.step()
            advance()
            if step in snapshots:
                save_checkpoint(paths[snapshots.index(step)], vision=tower)
    return paths


def classes_shown(labels_BHW: Tensor, classes: int) -> Tensor:
    """1 for each class that has a pixel in an image, else 0, [B,C]."""
    counts_BC = F.one_hot(labels_BHW.where(labels_BHW != IGNORED, classes).flatten(1), classes + 1).sum(1)[:, :classes]
    return (counts_BC > 0).float()


def encoders(folder: Path) -> list[Encoder]:
    """(model, weights, overrides) of encoders of very different worth."""
    few, some, many = map(str, train_snapshots(folder))
    return [
        ("pixels", None, []),
        ("tips-tiny-random", None, []),
        ("tips-tiny-random", "random:1", ["features.layers=[0]"]),
        ("tips-tiny-random", few, []),
        ("tips-tiny-random", some, []),
        ("tips-tiny-random", many, []),
        ("tips-tiny-random", many, ["features.layers=[0]"]),
        ("tips-tiny-random", many, ["features.layers=[1]"]),
        ("tips-tiny-random", many, ["features.layers=[2]"]),
        ("timm:vit_tiny_patch16_224", "random", []),
    ]


def scored(encoder: Encoder, iterations: int, rate: float, dtype: str, out: Path) -> tuple[MetricValue, MetricValue]:
    """An encoder's mIoU under `convex` and under linear-dinov2."""
    model, weights, layers = encoder
    size = ["image.short_side=224", "inference.window=224", "inference.stride=149"]
    crops = ["probe.augment.crop_size=224", "probe.augment.short_side=224"]
    shorter = [f"probe.iterations={iterations}", f"probe.warmup={iterations // 27}", f"probe.lr=[{rate}]"]
    convex = evaluate("rooms-seg", model, "convex-224", overrides=layers, weights=weights, out=out)
    changed = [*layers, *size, *crops, *shorter]
    linear = evaluate("rooms-seg", model, "linear-dinov2", overrides=changed, weights=weights, dtype=dtype, out=out)
    found = convex.metrics["mIoU"], linear.metrics["mIoU"]
    print(f"{convex.model} {' '.join(layers):20}".ljust(55), *(f"{metric.value:6.2f} {metric.ci95}" for metric in found), flush=True)
    return found


def draw(names: list[str], scores: list[tuple[MetricValue, MetricValue]], title: str, path: Path) -> None:
    """One point an encoder, with its intervals."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(6.4, 4.6))
    for place, (name, pair) in enumerate(sorted(zip(names, scores, strict=True), key=lambda one: one[1][0].value)):
        (x, y), ((left, right), (low, high)) = (metric.value for metric in pair), (metric.ci95 or (metric.value,) * 2 for metric in pair)
        panel.hlines(y, left, right, color="0.8", linewidth=1)
        panel.vlines(x, low, high, color="0.8", linewidth=1)
        panel.plot(x, y, "o", color="C0", markersize=5)
        offset, side = ((6, -9), "left") if place % 2 else ((-6, 5), "right")  # in turns, for neighbours to stay legible
        panel.annotate(name, (x, y), xytext=offset, textcoords="offset points", ha=side, fontsize=7)
    panel.set_xlabel("convex-224, mIoU %")
    panel.set_ylabel("linear-dinov2, mIoU %")
    panel.set_title(title, fontsize=10)
    panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--rate", type=float, default=1e-3, help="Learning rate; 0.001 is published for 40,000 iterations.")
    parser.add_argument("--dtype", default="fp32", help="Precision of the encoder under linear-dinov2: fp32 or bf16.")
    parser.add_argument("--out", type=Path, default=Path("ranking"))
    parser.add_argument("--models", nargs="*", help="Folders of exported models, in place of the encoders.")
    parser.add_argument("--picture", type=Path, help="A PNG to draw them in.")
    arguments = parser.parse_args()
    chosen: list[Encoder] = [(model, None, []) for model in arguments.models] if arguments.models else encoders(arguments.out / "towers")
    scores = [scored(encoder, arguments.iterations, arguments.rate, arguments.dtype, arguments.out / "results") for encoder in chosen]
    tau = kendalltau(*zip(*[(convex.value, linear.value) for convex, linear in scores], strict=True)).statistic
    said = f"Kendall tau over {len(scores)} encoders: {tau:.3f}"
    print(said)
    if arguments.picture:
        draw([" ".join([Path(model).name, *layers]) for model, _, layers in chosen], scores, said, arguments.picture)


if __name__ == "__main__":
    main()
