"""What each process of integration/test_evaluation_ranks.py does: the evaluations of JOBS, by all ranks together.

torchrun --nproc-per-node 2 tests/helpers/evaluation_ranks.py OUT DATA_ROOT [NAME,... [FORWARDS]]      FORWARDS: a rank dies after them
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TINY = [f"task.data.generator_options.{option}" for option in ("size=56", "train=8", "val=6")]
SCENES = [*TINY, "task.data.generator_options.frames_per_scene=2"]
PAIRS = [f"task.data.generator_options.{option}" for option in ("size=56", "val=8", "frames_per_scene=4")]
CROPS = ["probe.iterations=4", "probe.batch_size=3", "probe.warmup=1", "probe.checkpoint_every=3"]
HEADS = ["image.short_side=56", "probe.lr=[1e-3, 1e-2]", "probe.augment.crop_size=42", "probe.augment.short_side=56"]
BINS = ["image.short_side=56", "probe.loss_warmup=1", "probe.bins=16", "probe.augment.crop=[42, 42]", "probe.lr=[1e-4, 1e-3]"]
CROPS_KEPT = ["probe.passes=2", "probe.memory=96", "probe.augment={scale: [0.5, 2.0], ratio: [0.75, 1.33], jitter: 0.1, jitter_p: 0.5}"]
NETWORK = ["image.short_side=56", "features.layers=[-2, -2, -1, -1]", "probe.epochs=1", "probe.warmup_epochs=0", "probe.batch_size=3"]
BOXES = [f"task.data.generator_options.{option}" for option in ("size=112", "val=6", "frames_per_scene=2")]


class Job(NamedTuple):
    """One evaluation of tips-nano. at_night: `make test` leaves it out, where another job goes the same way to its record."""

    task: str
    protocol: str
    overrides: list[str]
    metrics: tuple[str, ...] = ()
    at_night: bool = False


def night(*job: Any) -> Job:
    """A job for the nights."""
    return Job(*job, at_night=True)


JOBS = {
    "segmentation": Job("rooms-seg", "convex-224", [*SCENES, "image.short_side=56"]),
    "segmentation-changed": night("rooms-seg+snow-3+rotate-90+few-2", "convex-224", [*SCENES, "image.short_side=56"]),
    "segmentation-linear": Job("rooms-seg", "linear-tips", [*SCENES, *CROPS, *HEADS]),
    "in-context": Job("rooms-seg", "hummingbird-224", [*SCENES, "image.short_side=56", *CROPS_KEPT]),
    "in-context-depth": night("rooms-depth", "hummingbird-depth-224", [*SCENES, "image.short_side=56"]),
    "in-context-pixels": Job("rooms-seg", "knn-capi", [*SCENES, "image.short_side=56", "selection.fraction=0.5"]),
    "depth": Job("rooms-depth", "convex-depth-224", [*SCENES, "image.short_side=56"]),
    "depth-bins": night("rooms-depth", "linear-dinov2-depth-224", [*SCENES, *CROPS, *BINS, "probe.batch_size=4"]),
    "depth-network": Job("rooms-depth", "dpt-224", [*SCENES, *NETWORK, "probe.augment.size=42"]),
    "normals": night("rooms-normals", "convex-normals-224", [*SCENES, "image.short_side=56"]),
    "retrieval": Job("rooms-retrieval", "retrieval-224", ["task.data.generator_options.val=12"]),
    "zero-shot": Job("rooms-zeroshot", "tips-values-224", [*SCENES, "image.short_side=56"]),
    "zero-shot-windows": night("rooms-zeroshot", "tips-slide-84", [*SCENES, "image.short_side=56"]),
    "zero-shot-classes": Job("rooms-zeroshot-classes", "zeroshot-112", SCENES),
    "neighbors": Job("rooms-knn", "knn-112", SCENES),
    "classifier": Job("rooms-linear", "convex-classifier-112", SCENES),
    "classifier-trained": Job("rooms-linear", "classifier-112", [*SCENES, "probe.iterations=4", "probe.batch_size=4"]),
    "instances": Job("rooms-instances", "instances-112", ["task.data.generator_options.val=24"]),
    "exhibits": Job("met", "met-whitened", ["image.short_side=28"]),
    "videos": Job("rooms-video", "video-224", [*TINY, "task.data.generator_options.frames_per_scene=3", "image.short_side=56"]),
    "keypoints": Job("rooms-keypoints", "keypoints-224", [*PAIRS, "image.short_side=56"], ("difficulty",)),
    "animals": night("ap10k", "spair-geoaware-window", ["image.short_side=56"]),
    "views": Job("rooms-views", "views-224", [*PAIRS, "image.short_side=56", "task.data.options.step=16"]),
    "discovery": Job("rooms-discovery", "tokencut", BOXES),
    "clusters": Job("rooms-seg", "kmeans-224", [*SCENES, "image.short_side=56", "probe.clusters=12"]),
    "landmarks": Job("rooms-landmarks", "landmarks-112", ["task.data.generator_options.val=12", *TINY[:1]]),
    "places": Job("rooms-then-now", "then-now-112", ["task.data.generator_options.val=4", *TINY[:1]]),
    "landmark-index": night("rooms-gldv2", "gldv2-112", ["task.data.generator_options.val=16", *TINY[:1]]),
    "points": Job("rooms-scannet", "convex-points", SCENES),
    "points-linear": Job("rooms-scannet", "linear-lexicon3d", [*SCENES, "probe.epochs=2"]),
}


def evaluate_jobs(names: list[str], out: Path, data_root: Path, world: Any, **options: Any) -> None:
    """One record a job."""
    from tips_bench.evaluation.run import RunOptions, evaluate_spec
    from tips_bench.evaluation.spec import resolve

    for name in names:
        job = JOBS[name]
        spec = resolve(job.task, "tips-nano", job.protocol, overrides=job.overrides, weights=None, limit=None)
        given = {"data_root": data_root / job.task, "metrics": list(job.metrics), "batch_size": 3, "workers": 0, "device": "cpu"}
        evaluate_spec(spec, RunOptions(out=out / name, world=world, **given, **options))


def die_after(forwards: int) -> None:
    """Let the encoder end the process by SIGKILL."""
    from tips_bench.features.extract import Extractor

    encode, left = Extractor._encode, [forwards]

    def dying(self: Extractor, pixels: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(self, pixels)

    Extractor._encode = dying  # type: ignore[method-assign]


def main(out: str, data_root: str, names: str = ",".join(JOBS), forwards: str = "") -> None:
    # some installed packages bring a "tests" of their own; this is ours, as pytest has it
    sys.modules["tests"] = ModuleType("tests")
    sys.modules["tests"].__path__ = [str(ROOT / "tests")]
    import torch

    from tips_bench import ranks

    torch.set_num_threads(1)
    world = ranks.enter(torch.device("cpu"))
    if forwards and world.rank == 1:
        die_after(int(forwards))
    evaluate_jobs(names.split(","), Path(out), Path(data_root), world)
    world.barrier()
    ranks.leave()
    ranks.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
