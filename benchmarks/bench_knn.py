"""k nearest neighbours: ours against scikit-learn's brute force, on the same features, in one run.

    python benchmarks/bench_knn.py
    python benchmarks/bench_knn.py --json

Both vote with exp(cosine / 0.07) among 20 neighbours of float32 features and answer with classes. Each rung is run in a process of its
own with the same number of threads, so that its peak of memory is its own. Seconds are the processor's, of all threads, which other work
on the machine does not change. The predictions must agree but for votes that the last digit of float32 decides, or it stops. Rounds of
the two are interleaved, and the best of each is reported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time

import numpy as np

TRAIN, QUERIES, CLASSES, K, T = (10_000, 50_000, 200_000), 1_000, 100, 20, 0.07
DIMENSIONS = 384  # of a ViT-S
MAY_DIFFER = 0.002  # of the queries


def draw(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features_ND, labels_N, queries_QD) around a centre for each class, far enough apart that half of the answers are right."""
    rng = np.random.default_rng(0)
    centers_CD = rng.standard_normal((CLASSES, DIMENSIONS)).astype(np.float32)
    labels_N = rng.integers(0, CLASSES, images)
    features_ND = centers_CD[labels_N] + 4 * rng.standard_normal((images, DIMENSIONS), dtype=np.float32)
    queries_QD = centers_CD[rng.integers(0, CLASSES, QUERIES)] + 4 * rng.standard_normal((QUERIES, DIMENSIONS), dtype=np.float32)
    return features_ND, labels_N, queries_QD


def ours(features_ND: np.ndarray, labels_N: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """Classes by tips_bench's kNN."""
    from tips_bench.probes.training_free.knn import KnnHead

    return KnnHead(features_ND, labels_N, CLASSES, [K], T, choice=None).scores(queries_QD)[0].argmax(1)


def sklearn(features_ND: np.ndarray, labels_N: np.ndarray, queries_QD: np.ndarray) -> np.ndarray:
    """Classes by scikit-learn's."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(K, weights=lambda distance: np.exp((1 - distance) / T), algorithm="brute", metric="cosine")
    return classifier.fit(features_ND, labels_N).predict(queries_QD)


def measure(name: str, images: int, threads: int) -> tuple[np.ndarray, float, float]:
    """Run one of them once in this process: its classes, processor seconds and peak of memory above the data's in MB."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        data = draw(images)
        run = {"ours": ours, "scikit-learn": sklearn}[name]
        run(data[0][:200], data[1][:200], data[2][:10])  # imports
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        classes_Q = run(*data)
        seconds = time.process_time() - start
    return classes_Q, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measure all sizes and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    context, rows = multiprocessing.get_context("spawn"), []
    for images in TRAIN:
        best: dict[str, tuple[float, float]] = {}
        for _ in range(options.rounds):
            answers = {}
            for name in ("ours", "scikit-learn"):
                with context.Pool(1) as pool:
                    answers[name], seconds, memory = pool.apply(measure, (name, images, options.threads))
                best[name] = min(best.get(name, (np.inf, np.inf)), (seconds, memory))
            differ = float(np.mean(answers["ours"] != answers["scikit-learn"]))
            if differ > MAY_DIFFER:
                raise SystemExit(f"{100 * differ:.2f} % of the answers differ")
        (seconds, memory), (their_seconds, their_memory) = best["ours"], best["scikit-learn"]
        rows.append(
            {
                "training images": images,
                "queries": QUERIES,
                "dimensions": DIMENSIONS,
                "ours_s": seconds,
                "scikit_learn_s": their_seconds,
                "ratio": their_seconds / seconds,
                "ours_mb": memory,
                "scikit_learn_mb": their_memory,
                "answers_that_differ": differ,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
