"""Depth and normals: ridge from moments beside scikit-learn's Ridge, the same answer by both; time and memory of each.

    python benchmarks/bench_dense.py [--images 128] [--patches 1024] [--dim 768]

The path of penalties of convex-depth, chosen on held-out images, from features that lie on disk as an encoder gave them: from sums over
the images, one at a time, and by scikit-learn's Ridge on all of them in memory, once a penalty. Each in a process of its own, whose
greatest memory is told. What a whole evaluation of depth and normals costs beside the bare encoder is told by bench_evaluation.py.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HELD = 8  # every eighth image is held out


def write_features(folder: Path, images: int, patches: int, dim: int) -> None:
    """Correlated features with a few large directions, as towers have them, and a target that is linear in them plus noise."""
    rng = np.random.default_rng(0)
    mixing_DD = (rng.normal(size=(dim, dim)) * np.geomspace(3, 0.03, dim)).astype(np.float32)
    weight_D, offset_D = rng.normal(size=dim) / dim**0.5, rng.normal(size=dim).astype(np.float32)
    values = np.empty((images, patches))
    with (folder / "features.bin").open("wb") as file:
        for image in range(images):
            features_PD = rng.normal(size=(patches, dim)).astype(np.float32) @ mixing_DD + offset_D
            features_PD.tofile(file)
            values[image] = 3 + features_PD @ weight_D / 30 + rng.normal(size=patches) * 0.3
    np.save(folder / "values.npy", values)
    np.save(folder / "weights.npy", rng.uniform(0.2, 1, (images, patches)))


def by_moments(folder: Path, penalties: list[float]) -> tuple[int, np.ndarray]:
    """(index of the penalty, [weight, bias]): one image at a time."""
    import torch

    from tips_bench.probes.solved.ridge import RidgePath, error
    from tips_bench.probes.solved.sufficient_statistics import Moments, PatchTargets

    values, weights = np.load(folder / "values.npy"), np.load(folder / "weights.npy")
    patches, images = values.shape[1], len(values)
    dim = (folder / "features.bin").stat().st_size // 4 // values.size
    groups = [Moments.zero(dim, 1, torch.device("cpu")) for _ in range(2)]
    for image in range(images):
        flat = np.fromfile(folder / "features.bin", np.float32, patches * dim, offset=4 * image * patches * dim)
        squares_T = np.array([(weights[image] * values[image] ** 2).sum()])
        features_PD = torch.from_numpy(flat).view(patches, dim)
        groups[image % HELD == 0].add(features_PD, PatchTargets(weights[image], values[image][:, None], squares_T))
    path = RidgePath.of(groups[0])
    best = int(np.argmin([error(groups[1], *path.solve(penalty)) for penalty in penalties]))
    weight_TD, bias_T = RidgePath.of(groups[0] + groups[1]).solve(penalties[best])
    return best, np.concatenate([weight_TD[0].numpy(), bias_T.numpy()])


def by_sklearn(folder: Path, penalties: list[float]) -> tuple[int, np.ndarray]:
    """The same with everything in memory."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    values, weights = np.load(folder / "values.npy"), np.load(folder / "weights.npy")
    held_N = np.repeat(np.arange(len(values)) % HELD == 0, values.shape[1])
    features_ND = np.fromfile(folder / "features.bin", np.float32).reshape(values.size, -1).astype(np.float64)
    values_N, weights_N = values.ravel(), weights.ravel()

    def fit(rows_N: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
        scaler = StandardScaler().fit(features_ND[rows_N], sample_weight=weights_N[rows_N])
        ridge = Ridge(alpha=penalty * weights_N[rows_N].sum(), solver="cholesky")
        ridge.fit(scaler.transform(features_ND[rows_N]), values_N[rows_N], sample_weight=weights_N[rows_N])
        weight_D = ridge.coef_ / scaler.scale_
        return weight_D, ridge.intercept_ - weight_D @ scaler.mean_

    errors = []
    for penalty in penalties:
        weight_D, bias = fit(~held_N, penalty)
        errors.append(np.average((features_ND[held_N] @ weight_D + bias - values_N[held_N]) ** 2, weights=weights_N[held_N]))
    best = int(np.argmin(errors))
    weight_D, bias = fit(np.ones_like(held_N), penalties[best])
    return best, np.append(weight_D, bias)


def _measured(way: Callable[[Path, list[float]], tuple[int, np.ndarray]], folder: Path, penalties: list[float], queue: Any) -> None:
    import sklearn.linear_model  # noqa: F401  what both import counts for neither
    import torch  # noqa: F401

    import tips_bench.probes.solved.ridge  # noqa: F401

    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    best, solution = way(folder, penalties)
    queue.put((best, solution, time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))


def ridge(images: int, patches: int, dim: int) -> dict[str, float]:
    """Time and memory of both ways, and how far apart their predictions are."""
    from tips_bench.cards import load_card

    penalties, found = load_card("protocol", "convex-depth").probe["penalties"], {}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        write_features(Path(folder), images, patches, dim)
        for name, way in (("moments", by_moments), ("scikit-learn", by_sklearn)):
            queue = context.Queue()
            process = context.Process(target=_measured, args=(way, Path(folder), penalties, queue))
            process.start()
            found[name] = queue.get()
            process.join()
        sample_PD = np.fromfile(f"{folder}/features.bin", np.float32, patches * dim).reshape(patches, dim).astype(np.float64)
    predicted = {name: sample_PD @ solution[:-1] + solution[-1] for name, (_, solution, _, _) in found.items()}
    (ours, _, our_s, our_mb), (theirs, _, their_s, their_mb) = found["moments"], found["scikit-learn"]
    return {
        "patches": images * patches,
        "dimensions": dim,
        "greatest difference of predictions": float(np.abs(predicted["moments"] - predicted["scikit-learn"]).max()),
        "same penalty chosen": ours == theirs,
        "moments, s": round(our_s, 2),
        "scikit-learn, s": round(their_s, 2),
        "times as fast": round(their_s / our_s, 1),
        "moments, MB more": round(our_mb),
        "scikit-learn, MB more": round(their_mb),
        "of its memory": round(our_mb / their_mb, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 128), ("patches", 1024), ("dim", 768)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = ridge(arguments.images, arguments.patches, arguments.dim)
    print(json.dumps(figures, indent=1) if arguments.json else "\n".join(f"{name:36} {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
