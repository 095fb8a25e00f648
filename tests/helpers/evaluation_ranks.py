"""What each process of integration/test_evaluation_ranks.py does: the evaluations of JOBS, by all ranks together.

torchrun --nproc-per-node 2 tests/helpers/evaluation_ranks.py OUT DATA_ROOT [NAME,... [FORWARDS]]      FORWARDS: a rank dies after them
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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
JOBS: dict[str, tuple[str, str, str, list[str]]] = {
    "segmentation": ("rooms-seg", "tips-nano", "convex-224", [*SCENES, "image.short_side=56"]),
    "segmentation-changed": ("rooms-seg+snow-3+rotate-90+few-2", "tips-nano", "convex-224", [*SCENES, "image.short_side=56"]),
    "segmentation-linear": ("rooms-seg", "tips-nano", "linear-tips", [*SCENES, *CROPS, *HEADS]),
    "in-context": ("rooms-seg", "tips-nano", "hummingbird-224", [*SCENES, "image.short_side=56", *CROPS_KEPT]),
    "in-context-depth": ("rooms-depth", "tips-nano", "hummingbird-depth-224", [*SCENES, "image.short_side=56"]),
    "in-context-pixels": ("rooms-seg", "tips-nano", "knn-capi", [*SCENES, "image.short_side=56", "selection.fraction=0.5"]),
    "depth": ("rooms-depth", "tips-nano", "convex-depth-224", [*SCENES, "image.short_side=56"]),
    "depth-bins": ("rooms-depth", "tips-nano", "linear-dinov2-depth-224", [*SCENES, *CROPS, *BINS, "probe.batch_size=4"]),
    "depth-network": ("rooms-depth", "tips-nano", "dpt-224", [*SCENES, *NETWORK, "probe.augment.size=42"]),
    "normals": ("rooms-normals", "tips-nano", "convex-normals-224", [*SCENES, "image.short_side=56"]),
    "retrieval": ("rooms-retrieval", "tips-nano", "retrieval-224", ["task.data.generator_options.val=12"]),
    "zero-shot": ("rooms-zeroshot", "tips-nano", "tips-values-224", [*SCENES, "image.short_side=56"]),
    "zero-shot-windows": ("rooms-zeroshot", "tips-nano", "tips-slide-84", [*SCENES, "image.short_side=56"]),
    "zero-shot-classes": ("rooms-zeroshot-classes", "tips-nano", "zeroshot-112", SCENES),
    "neighbors": ("rooms-knn", "tips-nano", "knn-112", SCENES),
    "classifier": ("rooms-linear", "tips-nano", "convex-classifier-112", SCENES),
    "classifier-trained": ("rooms-linear", "tips-nano", "classifier-112", [*SCENES, "probe.iterations=4", "probe.batch_size=4"]),
    "instances": ("rooms-instances", "tips-nano", "instances-112", ["task.data.generator_options.val=24"]),
    "videos": ("rooms-video", "tips-nano", "video-224", [*TINY, "task.data.generator_options.frames_per_scene=3", "image.short_side=56"]),
    "keypoints": ("rooms-keypoints", "tips-nano", "keypoints-224", [*PAIRS, "image.short_side=56"]),
    "views": ("rooms-views", "tips-nano", "views-224", [*PAIRS, "image.short_side=56", "task.data.options.step=16"]),
    "discovery": ("rooms-discovery", "tips-nano", "tokencut", BOXES),
    "clusters": ("rooms-seg", "tips-nano", "kmeans-224", [*SCENES, "image.short_side=56", "probe.clusters=12"]),
    "landmarks": ("rooms-landmarks", "tips-nano", "landmarks-112", ["task.data.generator_options.val=12", *TINY[:1]]),
    "places": ("rooms-then-now", "tips-nano", "then-now-112", ["task.data.generator_options.val=4", *TINY[:1]]),
    "points": ("rooms-scannet", "tips-nano", "convex-points", SCENES),
    "points-linear": ("rooms-scannet", "tips-nano", "linear-lexicon3d", [*SCENES, "probe.epochs=2"]),
}


def evaluate_jobs(names: list[str], out: Path, data_root: Path, world: Any, **options: Any) -> None:
    """One record a job."""
    from tips_bench.evaluation.run import RunOptions, evaluate_spec
    from tips_bench.evaluation.spec import resolve

    for name in names:
        task, model, protocol, overrides = JOBS[name]
        spec = resolve(task, model, protocol, overrides=overrides, weights=None, limit=None)
        root = data_root / task
        evaluate_spec(spec, RunOptions(out=out / name, data_root=root, batch_size=3, workers=0, world=world, device="cpu", **options))


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
