"""Web captions that belong to another image: how many `corpus curate --agree` finds, by the share of the captions that stays.

    python -m benchmarks.caption_agreement --out FOLDER --work WORK

FOLDER is that of benchmarks/corpus_seeds.py. In its raw corpus, a share of the web captions was handed on to other images. A caption is
right if it is that of the picture that the image shows. WORK keeps signatures and cosines.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.raw_corpus import TASKS, captions_of_tests, picture
from tips_bench.corpus.curation.agreeing import WebCaptions, compare_captions, load_captions
from tips_bench.corpus.curation.library import LISTED, Library
from tips_bench.corpus.curation.signatures import Signer, sign_shard
from tips_bench.corpus.store import read_samples

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def compared(shards: list[Path], signer: Signer, work: Path) -> WebCaptions:
    """The cosine of each web caption; what is in `work` is not computed again."""
    names = {f"{number:06d}.npz": shard for number, shard in enumerate(shards)}
    for name, shard in names.items():
        if not (work / "corpus" / name).is_file():
            sign_shard(str(shard), asdict(signer), str(work / "corpus" / name))
    if not (work / "corpus" / LISTED).is_file():
        Library.make(work / "corpus", {name: shard.name for name, shard in names.items()})
    for number, (name, shard) in enumerate(names.items()):
        if not (work / "captions" / name).is_file():
            compare_captions(str(shard), str(work / "corpus"), number, asdict(signer), str(work / "captions" / name))
    return load_captions([work / "captions" / name for name in names])


def right_captions(out: Path, shards: list[Path]) -> np.ndarray:
    """[N] whether the web caption of each image is that of the picture that it shows."""
    known = json.loads((out / "planted.json").read_text(encoding="utf-8"))
    own: dict[str, set[str]] = {}
    for shard in sorted((out / "rooms").glob("train-*.tar")):
        for sample in read_samples(shard):
            own.setdefault(sample.key, set()).add(sample.said["web"])
    for task in TASKS:
        for id, captions in captions_of_tests(task).items():
            own.setdefault(picture(id), set()).add(captions[0])
    return np.array([sample.said["web"] in own[known[sample.key]["shows"]] for shard in shards for sample in read_samples(shard)])


def table(right_T: np.ndarray, captions: WebCaptions) -> str:
    """Markdown: what goes and stays by the share that stays."""
    lines = [
        "| share | least cosine | precision | recall | right captions that stay | right, of those that stay |",
        "| ---: |" + " ---: |" * 5,
    ]
    for share in SHARES:
        stays_T = captions.best(share)
        found = [
            (~right_T)[~stays_T].mean(),
            (~stays_T)[~right_T].mean(),
            stays_T[right_T].mean(),
            right_T[stays_T].mean(),
        ]
        lines.append(f"| {share:g} | {captions.cosines_T[stays_T].min():.3f} | {' | '.join(f'{value:.2f}' for value in found)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and the area under the curve of the cosine as a sign of a right caption."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", default="tips-nano")
    asked = parser.parse_args()
    shards = sorted((asked.out / "raw").glob("*.tar"))
    captions = compared(shards, Signer(asked.encoder, None, "cpu", "bf16", text=True), asked.work)
    right_T = right_captions(asked.out, shards)[captions.rows_T]
    print(table(right_T, captions))
    print(f"{len(right_T)} captions, {right_T.mean():.3f} right, area under the curve {roc_auc_score(right_T, captions.cosines_T):.3f}")


if __name__ == "__main__":
    main()
