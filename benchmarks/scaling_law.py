"""A scaling law at small scale: three widths x three data sizes at equal steps, a fit, and one more run that the fit predicts first.

    python -m benchmarks.scaling_law --rooms FOLDER --out FOLDER [--picture docs/images/scaling.png]

rooms: shards of `tips-bench data rooms FOLDER --layout webdataset-details --seed 201 --train 512 --val 64 --frames-per-scene 2`.
Each run is row (d) of the ablation (both kinds of captions, no teacher) with 250 steps of 64 images at 56 px. The data sizes are nested,
so that all runs see 16,000 images and small sizes see theirs often. Measured are the loss on held-out rooms and mIoU on rooms-seg.

L(N, D) = E + (N0 / N)^alpha A + (D0 / D)^beta B, with N parameters of both towers, D different images, N0 and D0 their geometric means.
A run that was stopped is taken up again, and what was scored is not scored again. The prediction is kept in prediction.json before the run
that it is about begins, and is not made anew.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from safetensors import safe_open
from scipy import stats
from scipy.optimize import least_squares

from tips_bench.corpus.store import read_samples, write_shard
from tips_bench.evaluation.run import evaluate
from tips_bench.files import write_text
from tips_bench.training.captions import tokenizer_file
from tips_bench.training.loop import train
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.runs import export
from tips_bench.training.sources import shard_order

RECIPE = "ablation-d-two-tokens"
WIDTHS, SIZES = (64, 128, 256), (1920, 3840, 7680)
PREDICTED = (384, 5430)  # wider than any that the fit has seen, and a data size between two of them
REPEATED, SEEDS = (128, 3840), (1, 2)  # one cell again, for the spread of seeds
STEPS, BATCH, SHARD = 250, 64, 1024
START, BOUNDS = (1.0, 0.5, 0.5, 0.5, 0.5), ([0, 0, 1e-3, 0, 1e-3], [np.inf, np.inf, 4, np.inf, 4])
NAMES = ("E", "A", "alpha", "B", "beta")


@dataclass(frozen=True)
class Run:
    """One that was trained. parameters: of both towers. images: different ones. loss: on held-out rooms, nats. miou: percent."""

    width: int
    images: int
    seed: int
    parameters: int
    loss: float
    miou: float
    train_loss: float


@dataclass(frozen=True)
class Law:
    """values: of NAMES. covariance: of these. residuals_R: measured - fitted. center: (N0, D0). freedom: runs - parameters."""

    values: np.ndarray
    covariance: np.ndarray
    residuals_R: np.ndarray
    center: tuple[float, float]
    freedom: int

    @property
    def t(self) -> float:
        """Student's t of a 95 % interval."""
        return float(stats.t.ppf(0.975, self.freedom))

    @property
    def sd(self) -> float:
        """Of a residual."""
        return float(np.sqrt((self.residuals_R**2).sum() / self.freedom))

    def intervals(self) -> list[tuple[float, float, float]]:
        """Value, low and high of each parameter: 95 %, by the curvature of the fit. Infinite where the runs do not tell."""
        halves = self.t * np.sqrt(np.diag(self.covariance))
        return [(float(value), float(value - half), float(value + half)) for value, half in zip(self.values, halves, strict=True)]

    def predict(self, parameters: float, images: float) -> tuple[float, float, float]:
        """The loss of a further run, and its 95 % interval: that of the fit and of a residual together."""
        sizes = np.array([parameters]), np.array([images])
        slope = _slopes(self.values, *sizes, self.center)[0]
        half = self.t * float(np.sqrt(self.sd**2 + slope @ self.covariance @ slope))
        value = float(_law(self.values, *sizes, self.center)[0])
        return value, value - half, value + half


def _law(values: np.ndarray, parameters_R: np.ndarray, images_R: np.ndarray, center: tuple[float, float]) -> np.ndarray:
    floor, a, alpha, b, beta = values
    return np.asarray(floor + a * (center[0] / parameters_R) ** alpha + b * (center[1] / images_R) ** beta)


def _slopes(values: np.ndarray, parameters_R: np.ndarray, images_R: np.ndarray, center: tuple[float, float]) -> np.ndarray:
    """Of the law by each of its values [R, 5]."""
    _, a, alpha, b, beta = values
    small_R, few_R = (center[0] / parameters_R) ** alpha, (center[1] / images_R) ** beta
    by_exponent = a * small_R * np.log(center[0] / parameters_R), b * few_R * np.log(center[1] / images_R)
    return np.stack([np.ones_like(small_R), small_R, by_exponent[0], few_R, by_exponent[1]], 1)


def fit_law(parameters: Sequence[float], images: Sequence[float], losses: Sequence[float]) -> Law:
    """Least squares, all values at or above zero. Errors: no more runs than values."""
    parameters_R, images_R, losses_R = (np.asarray(column, np.float64) for column in (parameters, images, losses))
    freedom = len(losses_R) - len(NAMES)
    if freedom < 1:
        raise ValueError(f"{len(losses_R)} runs do not fit {len(NAMES)} values")
    center = float(np.exp(np.log(parameters_R).mean())), float(np.exp(np.log(images_R).mean()))
    begin = np.array([losses_R.min() * START[0] / 2, *START[1:]])
    found = least_squares(
        lambda values: _law(values, parameters_R, images_R, center) - losses_R,
        begin,
        lambda values: _slopes(values, parameters_R, images_R, center),
        bounds=BOUNDS,
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
        max_nfev=20_000,
    )
    variance = float((found.fun**2).sum()) / freedom
    return Law(found.x, variance * np.linalg.pinv(found.jac.T @ found.jac), -found.fun, center, freedom)


TERMS = ("mean", "N", "D", "N x D", "N x N")


@dataclass(frozen=True)
class Surface:
    """terms: of TERMS, for twice the parameters N and twice the images D: value, low and high. sd: of a residual. further: another run."""

    terms: dict[str, tuple[float, float, float]]
    sd: float
    further: tuple[float, float, float]


def fit_surface(parameters: Sequence[float], images: Sequence[float], values: Sequence[float], further: tuple[float, float]) -> Surface:
    """Least squares on logarithms to base 2, about their means, with 95 % intervals: a sum of two laws has no product of N and D.

    further: parameters and images of a run to be predicted.
    """
    columns = [np.log2(np.append(column, last)) for column, last in zip((parameters, images), further, strict=True)]
    n_R, d_R = (column - column[:-1].mean() for column in columns)
    design_R5 = np.stack([np.ones(len(n_R)), n_R, d_R, n_R * d_R, n_R**2], 1)
    design_R5, last_5 = design_R5[:-1], design_R5[-1]
    found_5, *_ = np.linalg.lstsq(design_R5, np.asarray(values, np.float64), rcond=None)
    freedom = len(values) - len(TERMS)
    sd = float(np.sqrt(((np.asarray(values) - design_R5 @ found_5) ** 2).sum() / freedom))
    spread_55, t = np.linalg.inv(design_R5.T @ design_R5), float(stats.t.ppf(0.975, freedom))

    def interval(value: float, variance: float) -> tuple[float, float, float]:
        half = t * sd * float(variance) ** 0.5
        return float(value), float(value - half), float(value + half)

    terms = {name: interval(*pair) for name, *pair in zip(TERMS, found_5, np.diag(spread_55), strict=True)}
    return Surface(terms, sd, interval(last_5 @ found_5, 1 + last_5 @ spread_55 @ last_5))


def subsets(rooms: Path, out: Path) -> None:
    """Shards of SIZES and of the size to be predicted; a smaller one is the beginning of a larger one. Errors: too few images."""
    wanted = sorted({*SIZES, PREDICTED[1]})
    if (out / f"data-{wanted[-1]}").is_dir():
        return
    samples = [sample for shard in sorted(rooms.glob("train-*.tar")) for sample in read_samples(shard)]
    if len(samples) < wanted[-1]:
        raise SystemExit(f"{rooms} has {len(samples)} images, and {wanted[-1]} are needed")
    order = np.random.default_rng(0).permutation(len(samples)).tolist()
    for size in wanted:
        for start in range(0, size, SHARD):
            part = [samples[row] for row in order[start : min(start + SHARD, size)]]
            write_shard(out / f"data-{size}" / f"{start // SHARD:03d}.tar", part)


def changes(width: int, images: int, seed: int, rooms: Path, out: Path) -> list[str]:
    """What a run changes in its recipe. Heads have 64 features at every width; the rates are those of the recipe."""
    sizes = {"embed_dim": width, "mlp_dim": 4 * width, "num_heads": width // 64}
    towers = [f"model.{tower}.{name}={value}" for tower in ("vision", "text") for name, value in sizes.items()]
    stage = [f"stages.0.steps={STEPS}", f"stages.0.batch={BATCH}", "method.contrastive.synthetic=uniform"]
    held_out = [f"data.held_out.shards={rooms}/val-*.tar", "data.held_out.every=50", "data.held_out.batches=14"]
    running = ["data.workers=0", "running.checkpoint_every=50", "running.keep=1", "running.loggers=[]"]
    return [f"data.shards={out}/data-{images}/*.tar", f"seed={seed}", *towers, *stage, *held_out, *running]


def trained(width: int, images: int, seed: int, rooms: Path, out: Path) -> Run:
    """A run, from its newest checkpoint, and its scores. All have the tokenizer of the largest data size."""
    name = f"{width}-{images}-seed{seed}"
    run, model = out / "runs" / name, out / "models" / name
    words = load_recipe(RECIPE, changes(WIDTHS[0], SIZES[-1], 0, rooms, out))
    spoken = [f"data.tokenizer.file={tokenizer_file(words, shard_order(words), out)}", "data.tokenizer.train_on=null"]
    if not model.is_dir():
        if train(load_recipe(RECIPE, [*changes(width, images, seed, rooms, out), *spoken]), run, resume=True, device="cpu") == "preempted":
            raise SystemExit("stopped")
        export(run, model)
    with safe_open(model / "model.safetensors", "pt") as file:
        parameters = sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys())  # noqa: SIM118
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    loss = [line["held_out/contrastive"] for line in log if "held_out/contrastive" in line][-1]
    learned = float(np.mean([line["contrastive"] for line in log if "contrastive" in line][-5:]))
    record = evaluate("rooms-seg", str(model), out=out / "records", device="cpu")
    return Run(width, images, seed, parameters, loss, record.metrics[record.primary].value, learned)


def grid_table(runs: Sequence[Run], law: Law) -> str:
    """Markdown: each run with its residual."""
    lines = ["| width | parameters | images | passes | training loss | held-out loss | fitted | residual | mIoU |", "|" + " ---: |" * 9]
    for run, residual in zip(runs, law.residuals_R, strict=True):
        passes = STEPS * BATCH / run.images
        numbers = f"{run.train_loss:.3f} | {run.loss:.3f} | {run.loss - residual:.3f} | {residual:+.3f} | {run.miou:.2f}"
        lines.append(f"| {run.width} | {run.parameters / 1e6:.2f} M | {run.images:,} | {passes:.1f} | {numbers} |")
    return "\n".join(lines)


def draw(runs: Sequence[Run], law: Law, further: Run, predicted: tuple[float, float, float], path: Path) -> None:
    """Held-out loss and mIoU against the data size, a color a width; the law as lines, the prediction as a bar."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    images = np.geomspace(SIZES[0] * 0.8, SIZES[-1] * 1.25, 60)
    for number, width in enumerate([*WIDTHS, PREDICTED[0]]):
        own = [run for run in runs if run.width == width] or [further]
        law_own = _law(law.values, np.full(len(images), own[0].parameters), images, law.center)
        left.plot(images, law_own, color=f"C{number}", linewidth=1, linestyle="-" if width in WIDTHS else ":")
        left.plot([run.images for run in own], [run.loss for run in own], "o", color=f"C{number}", label=f"width {width}")
        right.plot([run.images for run in own], [run.miou for run in own], "o-", color=f"C{number}", linewidth=1, label=f"width {width}")
    left.vlines(further.images, predicted[1], predicted[2], color="0.4", linewidth=4, alpha=0.5, label="predicted before, 95 %")
    for panel, title in ((left, "held-out contrastive loss, nats"), (right, "rooms-seg, mIoU %")):
        panel.set_xscale("log")
        panel.set_xticks([*SIZES, PREDICTED[1]], [f"{size:,}" for size in (*SIZES, PREDICTED[1])])
        panel.minorticks_off()
        panel.set_xlabel(f"different images ({STEPS * BATCH:,} seen)")
        panel.set_title(title, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    left.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def towers(width: int, runs: Sequence[Run]) -> float:
    """Parameters of both towers of a width that was not trained: a polynomial of second degree in the width, as they are."""
    known = {run.width: run.parameters for run in runs}
    return float(np.polyval(np.polyfit(list(known), list(known.values()), 2), width))


def main() -> None:
    """Print the tables, the law and its prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    rooms, out = asked.rooms.absolute(), asked.out.absolute()
    subsets(rooms, out)
    runs = [trained(width, images, 0, rooms, out) for images in SIZES for width in WIDTHS]
    law = fit_law([run.parameters for run in runs], [run.images for run in runs], [run.loss for run in runs])
    kept = out / "prediction.json"
    if not kept.is_file():
        write_text(kept, json.dumps(law.predict(towers(PREDICTED[0], runs), PREDICTED[1])) + "\n")
    value, low, high = json.loads(kept.read_text(encoding="utf-8"))
    print(grid_table(runs, law))
    for name, (found, least, most) in zip(NAMES, law.intervals(), strict=True):
        print(f"{name} = {found:.3f} [{least:.3f}, {most:.3f}]")
    print(f"N0, D0 = {law.center[0]:.0f}, {law.center[1]:.0f}; residual SD {law.sd:.4f} with {law.freedom} degrees of freedom")
    for what in ("loss", "miou"):
        sizes = [run.parameters for run in runs], [run.images for run in runs]
        surface = fit_surface(*sizes, [getattr(run, what) for run in runs], (towers(PREDICTED[0], runs), PREDICTED[1]))
        print(f"{what} by a surface: " + json.dumps(asdict(surface)))
    print(f"width {PREDICTED[0]}, {PREDICTED[1]} images: predicted {value:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    further = trained(*PREDICTED, 0, rooms, out)
    print(f"measured {further.loss:.3f}, mIoU {further.miou:.2f}, {further.parameters} parameters, training loss {further.train_loss:.3f}")
    if asked.picture is not None:
        draw(runs, law, further, (value, low, high), asked.picture)
    again = [run for run in runs if (run.width, run.images) == REPEATED] + [trained(*REPEATED, seed, rooms, out) for seed in SEEDS]
    for what in ("loss", "miou"):
        ones = [getattr(run, what) for run in again]
        print(f"seeds of width {REPEATED[0]}, {REPEATED[1]} images: {what} {np.round(ones, 3).tolist()}, SD {np.std(ones, ddof=1):.4f}")


if __name__ == "__main__":
    main()
