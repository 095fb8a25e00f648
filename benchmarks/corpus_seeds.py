"""Does a curated corpus pay? The recipe of tips-nano, or a part of it, on a raw corpus, on what the engine makes of it, on clean rooms.

    python -m benchmarks.corpus_seeds --out FOLDER [--arms raw engine clean] [--seeds 0 1 2] [--length short] [--frames 512]

raw       web captions, two fifths of them of other images; a changed copy for every second image; copies of test images
captioned the same images with captions of `tips-bench corpus caption`, by a describer who knows the rooms (benchmarks/rooms_describer.py)
agreed    of these, those whose web caption is among the share AGREE that agrees best (`corpus curate --agree`)
engine    of the captioned ones, what `tips-bench corpus curate` keeps: no copies, no test images, a balanced draw
whole     engine with --agree, before the draw
clean     the rooms as they are, with their own captions
half      of these rooms half as many: as many images as the engine keeps

Every arm has the same number of steps. --length short: 1/48 of the recipe's. on: STEPS more steps of the shipped tips-nano, as in the
second stage of its recipe, and no run from first weights. full: the whole recipe. A run that was stopped is taken up again, and what was
scored is not scored again; make the corpora first, with --seeds and no seed, and runs may be spread over processes. The test images that
are planted are those of the tasks as they are shipped; `fresh` tasks have rooms of another seed, which no corpus shows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from scipy import stats

from benchmarks.raw_corpus import SWAPPED, TASKS, left_over, plant
from benchmarks.rooms_describer import PROMPTS, TABLE
from tips_bench.catalog import shipped_card_files
from tips_bench.corpus.store import MANIFEST
from tips_bench.evaluation.run import evaluate
from tips_bench.results.comparison import Comparison, compare
from tips_bench.results.counts import load_scored
from tips_bench.results.folders import read_records
from tips_bench.rooms.writing.writers import write_rooms
from tips_bench.training.captions import TOKENIZER
from tips_bench.training.loop import train
from tips_bench.training.recipe_files import load_recipe
from tips_bench.training.runs import export

ARMS = ("raw", "captioned", "agreed", "engine", "whole", "clean", "half")
ROOMS = 201  # seed of the rooms
FRAMES, HELD_OUT, PICTURES = 512, 64, 16  # frames of whole rooms; a frame and fifteen close-ups of it
AGREE = 1 - SWAPPED  # share of web captions that the engine keeps: as many as are right
KEEP = 0.5  # images that the engine's draw keeps, as a share of those of the rooms
SHORTER = 48  # times as short as the shipped recipe, with --length short
STEPS = 300  # with --length on; 1/52 of the shipped recipe, and twice the images of the high resolution in each run of the others
SHIPPED = "tips-nano"
FRESH = 93  # seed of the rooms that nothing shows
SCORED = (("rooms-seg", False), ("rooms-zeroshot", False), ("rooms-retrieval", False), ("rooms-zeroshot", True), ("rooms-retrieval", True))
Length = Literal["short", "on", "full"]
LOSS = "held_out/contrastive/0"  # of the web captions of clean rooms: the only kind that every arm learns


@dataclass(frozen=True)
class Paired:
    """The mean of a difference over seeds, and its 95 % interval by Student's t."""

    mean: float
    low: float
    high: float


def paired(before_S: Sequence[float], after_S: Sequence[float]) -> Paired:
    """after - before, seed by seed. Errors: fewer than two seeds."""
    difference_S = np.subtract(after_S, before_S)
    if len(difference_S) < 2:
        raise ValueError("one seed has no spread")
    half = float(stats.t.ppf(0.975, len(difference_S) - 1) * difference_S.std(ddof=1) / len(difference_S) ** 0.5)
    mean = float(difference_S.mean())
    return Paired(mean, mean - half, mean + half)


def table(scores: dict[str, dict[str, list[float]]], before: str) -> str:
    """Markdown. scores: what was measured -> arm -> one value a seed. Each arm's mean and SD, and its difference to the arm `before`."""
    arms = list(next(iter(scores.values())))
    others = [arm for arm in arms if arm != before]
    lines = [f"| | {' | '.join([*arms, *(f'{arm} - {before}' for arm in others)])} |", "| --- |" + " --- |" * (len(arms) + len(others))]
    for name, values in scores.items():
        cells = [f"{np.mean(own):.2f} ± {np.std(own, ddof=1):.2f} ({', '.join(f'{one:.2f}' for one in own)})" for own in values.values()]
        for arm in others:
            found = paired(values[before], values[arm])
            told = f"{found.mean:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
            cells.append(f"**{told}**" if found.low > 0 or found.high < 0 else told)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def shards(arm: str, out: Path, frames: int) -> str:
    """data.shards of an arm, whose corpus is made if it is not there."""
    rooms, raw, known = out / "rooms", out / "raw", out / "planted.json"
    write_rooms("webdataset-details", rooms, seed=ROOMS, train=frames, val=HELD_OUT, frames_per_scene=2)
    if arm == "clean":
        return f"{rooms}/train-*.tar"
    if arm == "half":
        write_rooms("webdataset-details", out / "half", seed=ROOMS, train=round(KEEP * frames), val=HELD_OUT, frames_per_scene=2)
        return f"{out}/half/train-*.tar"
    plant(sorted(rooms.glob("train-*.tar")), raw, known, seed=ROOMS)
    if arm == "raw":
        return f"{raw}/*.tar"
    captioned, curated = out / "captioned", out / ("curated" if arm == "engine" else arm)
    prompts, cache = ["--prompt", ",".join(PROMPTS)], ["--cache", str(out / "answers")]
    describer = ["--captioner", "benchmarks.rooms_describer:describe", "--batch", "64"]
    _corpus(["caption", str(raw), "--to", str(captioned), *describer, *prompts, *cache], captioned, {TABLE: str(known)})
    if arm == "captioned":
        return f"{captioned}/*.tar"
    agree = ["--agree", f"{AGREE:g}"]
    engine = ["--dedup", "--decontaminate", ",".join(TASKS), "--balance", "--keep", str(round(KEEP * PICTURES * frames))]
    choices = {"agreed": agree, "engine": engine, "whole": [*engine, *agree]}[arm]
    encoder = ["--encoder", SHIPPED, "--dtype", "bf16", "--device", "cpu"]
    local = ["--on", "local", "--jobs", str(len(os.sched_getaffinity(0)))]
    _corpus(["curate", str(captioned), "--to", str(curated), *choices, *encoder, *local], curated, {"OMP_NUM_THREADS": "1"})
    return f"{curated}/*.tar"


def _corpus(command: list[str], target: Path, variables: dict[str, str]) -> None:
    """`tips-bench corpus`, where the corpus is not whole yet."""
    if not (target / MANIFEST).is_file():
        subprocess.run([sys.executable, "-m", "tips_bench", "corpus", *command], env=os.environ | variables, check=True)


def learned(arm: str, seed: int, out: Path, images: str, length: Length) -> Path | None:
    """The run of an arm, trained and exported; None where it was told to stop."""
    run, model = out / "runs" / f"{arm}-seed{seed}", out / "models" / f"{arm}-seed{seed}"
    if not model.is_dir():
        values = changes(arm, seed, images, out, length)
        if train(load_recipe(SHIPPED, values), run, resume=True, device="cpu") == "preempted":
            return None
        export(run, model)
    return run


def changes(arm: str, seed: int, images: str, out: Path, length: Length) -> list[str]:
    """What an arm changes in the shipped recipe: its length or beginning, and, without synthetic captions, what the second token learns."""
    stages = {"short": _shorter, "on": _on, "full": list}[length]()
    steps = sum(stage.steps for stage in load_recipe(SHIPPED, stages).stages)
    found = [f"data.shards={images}", f"seed={seed}", *stages]
    found += [f"data.held_out.shards={out}/rooms/val-*.tar", f"data.held_out.every={steps // 5}", "data.held_out.batches=7"]
    found += ["data.workers=0", f"running.checkpoint_every={max(65, steps // 30)}", "running.keep=1", "running.loggers=[]"]
    return [*found, *(["method.contrastive.captions=[[web],[web]]"] if arm == "raw" else [])]


def _shorter() -> list[str]:
    return [f"stages.{number}.steps={stage.steps // SHORTER}" for number, stage in enumerate(load_recipe(SHIPPED).stages)]


def _on() -> list[str]:
    """The second stage alone, from the shipped weights, with the teacher of the recipe's last steps."""
    folder = shipped_card_files("model")[SHIPPED].parent / SHIPPED
    stage = load_recipe(SHIPPED).stages[-1].model_dump() | {"steps": STEPS}
    begin = [f"model.begin.{tower}={folder}" for tower in ("vision", "text")]
    return [
        f"stages={json.dumps([stage])}",
        *begin,
        f"data.tokenizer={json.dumps({'file': str(folder / TOKENIZER)})}",
        "method.teacher.start=0",
    ]


def scores_of(arm: str, seed: int, run: Path, out: Path) -> dict[str, float]:
    """What was measured -> its value, of one run."""
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {"held-out loss, web captions": [line[LOSS] for line in log if LOSS in line][-1]}
    for task, fresh in SCORED:
        options = {"overrides": [f"task.data.generator_options.seed={FRESH}"], "data_root": out / "fresh"} if fresh else {}
        record = evaluate(task, str(out / "models" / f"{arm}-seed{seed}"), out=_records(out, fresh), device="cpu", **options)
        found[f"{task}, {record.primary}{', fresh rooms' if fresh else ''}"] = record.metrics[record.primary].value
    return found


def over_images(out: Path, before: str, after: str) -> str:
    """Markdown: the gain of one arm over another with each seed, and its paired 95 % interval over images; bold where they differ."""
    lines = [f"| {after} - {before}, seed by seed | |", "| --- | --- |"]
    for task, fresh in SCORED:
        scored = read_records(_records(out, fresh), load_scored)[0]
        runs = {one.record.model: one for one in scored if one.record.task == task}
        seeds = sorted(int(name.rpartition("seed")[2]) for name in runs if name.startswith(f"{after}-"))
        found = [compare(runs[f"{before}-seed{seed}"], runs[f"{after}-seed{seed}"], detail=False) for seed in seeds]
        lines.append(f"| {task}{', fresh rooms' if fresh else ''} | {'<br>'.join(_gain(one) for one in found)} |")
    return "\n".join(lines)


def _gain(one: Comparison) -> str:
    low, high = one.gain_interval or (np.nan, np.nan)
    text = f"{one.gain:+.2f} [{low:+.2f}, {high:+.2f}]"
    return text if one.verdict == "cannot tell" else f"**{text}**"


def _records(out: Path, fresh: bool) -> Path:
    return out / "records" / ("fresh" if fresh else "shipped")


def curated(out: Path) -> str:
    """What each curation found of what was planted, a line each; empty where there was none."""
    found = []
    for dropped in sorted(out.glob("*/dropped.jsonl")):
        lines = [json.loads(line) for line in dropped.read_text(encoding="utf-8").splitlines()]
        known = json.loads((out / "planted.json").read_text(encoding="utf-8"))
        found.append(f"{dropped.parent.name}: {json.dumps(left_over(known, lines))}")
    return "\n".join(found)


def main() -> None:
    """Print what the curation found, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=["raw", "engine", "clean"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--length", choices=get_args(Length), default="short")
    parser.add_argument("--frames", type=int, default=FRAMES)
    asked = parser.parse_args()
    out = asked.out.absolute()
    images = {arm: shards(arm, out, asked.frames) for arm in asked.arms}
    scores: dict[str, dict[str, list[float]]] = {}
    for seed in asked.seeds:
        for arm in asked.arms:
            run = learned(arm, seed, out, images[arm], asked.length)
            if run is None:
                return
            for name, value in scores_of(arm, seed, run, out).items():
                scores.setdefault(name, {}).setdefault(arm, []).append(value)
    print(curated(out))
    if len(asked.seeds) > 1:
        print(table(scores, asked.arms[0]))
        for arm in asked.arms[1:]:
            print(over_images(out, asked.arms[0], arm))


if __name__ == "__main__":
    main()
