"""Write the pages of the shipped cards (make docs).

docs/tasks.md and docs/models.md have a section for each card. docs/protocols.md is an index, and each protocol has a page of its own in
docs/protocols/. docs/deviations.md counts the differences from the sources.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tips_bench.cards import load_card
from tips_bench.catalog import KINDS, shipped
from tips_bench.data.completeness import completeness
from tips_bench.files import write_text
from tips_bench.registry import FAMILIES

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTE = "This page is written by `make docs` from the cards in `{folder}/`. To change it, change the cards."

OWN = "tips-bench's own"  # the source of a protocol that reproduces nothing
INDEX_HEAD = ["| protocol | what it does | source | differences from it |", "| --- | --- | --- | --- |"]

# tests that hold parts of protocols to their sources
DEPTH_BINS = ["linear-dinov2-nyu", "linear-dinov2-nyu-4", "linear-dinov2-kitti", "linear-dinov2-kitti-4"]
RETRIEVAL = ["retrieval-own", "retrieval-tips", "retrieval-tips-both", "retrieval-clip", "retrieval-squash"]
ZERO_SHOT = ["zeroshot-own", "zeroshot-openai80", "zeroshot-openai80-squash", "zeroshot-bigvision"]
KEYPOINTS = [
    *("spair-dift", "spair-probe3d", "spair-geoaware", "spair-geoaware-window"),
    *("spair-insid3", "spair-insid3-debiased", "spair-dinov3"),
]
VIEWS = ["views-probe3d-navi", "views-probe3d-scannet", "views-dinov3-navi"]
IN_CONTEXT = ["hummingbird", "hummingbird-100k", "hummingbird-1m", "hummingbird-224", "hummingbird-dip", "hummingbird-hb"]
HELD = {
    "tests/golden/test_dpt.py": ["dpt-official", "dpt-tips"],
    "tests/parity/test_augment_mmseg.py": ["linear-dinov2", "linear-dinov2-ms", "linear-tips"],
    "tests/parity/test_correspondence_sources.py": [*KEYPOINTS, *VIEWS],
    "tests/parity/test_capi.py": ["knn-capi"],
    "tests/parity/test_dense_losses.py": ["dpt-probe3d", "dpt-probe3d-a1f1464", "dpt-tips"],
    "tests/parity/test_depth_bins.py": [*DEPTH_BINS, "linear-dinov2-depth-224", "linear-tips-nyu"],
    "tests/parity/test_dino.py": ["proxyclip"],
    "tests/parity/test_dinotxt.py": ["dino-txt", "dino-txt-head"],
    "tests/parity/test_dinov2_golden.py": [*DEPTH_BINS, "linear-tips-nyu"],
    "tests/parity/test_dinov3_golden.py": ["linear-dinov3", "linear-dinov3-nyu", "linear-dinov3-kitti"],
    "tests/parity/test_discovery.py": ["lost", "tokencut", "tokencut-dinov3"],
    "tests/parity/test_dpt_heads.py": ["dpt-official"],
    "tests/parity/test_hummingbird.py": IN_CONTEXT,
    "tests/parity/test_kmeans.py": ["kmeans", "kmeans-500"],
    "tests/parity/test_ranked_retrieval.py": [
        "amstertime",
        "amstertime-dinov3",
        "dino-retrieval",
        "dino-retrieval-multiscale",
        "dinov3-retrieval",
        "met-dinov3",
        "met-nearest",
        "met-whitened",
    ],
    "tests/parity/test_knn_sklearn.py": ["knn-dinov2", "knn-20", "uned", "uned-separate"],
    "tests/parity/test_linear_training.py": ["linear-dinov2", "linear-dinov2-ms", "linear-tips"],
    "tests/parity/test_maskclip.py": ["maskclip", "maskclip-refined"],
    "tests/parity/test_pamr.py": ["naclip"],
    "tests/parity/test_peers_text.py": [*RETRIEVAL, *ZERO_SHOT],
    "tests/parity/test_point_probe.py": ["linear-lexicon3d"],
    "tests/parity/test_preprocessing.py": ["retrieval-own", "zeroshot-own", "zeroshot-bigvision"],
    "tests/parity/test_probe3d_golden.py": ["dpt-probe3d", "dpt-probe3d-a1f1464", "dpt-probe3d-navi", "dpt-probe3d-navi-a1f1464"],
    "tests/parity/test_video_sources.py": ["video-dino", "video-dinov3-notebook", "video-dinov3-paper", "video-vjepa21"],
    "tests/parity/test_value_path.py": ["tips-values", "tips-slide", "tcl-slide", "maskclip-any"],
    "tests/parity/test_whole_images.py": ["classifier-dinov2", "knn-dinov2", "retrieval-clip"],
    "tests/parity/test_whole_probes.py": ["classifier-dinov2"],
    "tests/parity/test_zeroshot_plain.py": ["tips-values", "tips-values-224", "tips-slide", "tips-slide-84", "tcl-slide"],
    "tests/parity/test_zeroshot_sources.py": ["sclip", "naclip", "clearclip", "proxyclip"],
}
# entries of the audit of 26 November 2026, at commit dd2769b, about differences that no card named
FOUND = {
    "dpt-probe3d": 5,
    "linear-dinov2": 2,
    "linear-dinov2-kitti": 2,
    "linear-dinov2-kitti-4": 2,
    "linear-dinov2-ms": 3,
    "linear-dinov2-nyu": 2,
    "linear-dinov2-nyu-4": 2,
    "linear-dinov3": 4,
    "linear-dinov3-nyu": 2,
    "maskclip": 1,
    "retrieval-squash": 1,
    "retrieval-tips": 1,
    "tcl-slide": 1,
    "zeroshot-openai80-squash": 1,
}
# protocols that were written since
SINCE = {
    "amstertime",
    "amstertime-dinov3",
    "dino-retrieval",
    "dino-retrieval-multiscale",
    "dinov3-retrieval",
    "met-dinov3",
    "met-nearest",
    "met-whitened",
    "clearclip",
    "dino-txt",
    "dino-txt-head",
    "dpt-probe3d-a1f1464",
    "dpt-probe3d-navi",
    "dpt-probe3d-navi-a1f1464",
    "hummingbird",
    "hummingbird-100k",
    "hummingbird-1m",
    "hummingbird-224",
    "hummingbird-dip",
    "hummingbird-hb",
    "kmeans",
    "kmeans-500",
    "knn-capi",
    "linear-dinov3-kitti",
    "lost",
    "maskclip-any",
    "maskclip-refined",
    "naclip",
    "proxyclip",
    "retrieval-own",
    "sclip",
    "spair-dift",
    "spair-dinov3",
    "spair-geoaware",
    "spair-insid3",
    "spair-insid3-debiased",
    "spair-probe3d",
    "video-dino",
    "video-dinov3-notebook",
    "video-dinov3-paper",
    "video-vjepa21",
    "views-dinov3-navi",
    "views-probe3d-navi",
    "views-probe3d-scannet",
    "tokencut",
    "tokencut-dinov3",
    "zeroshot-bigvision",
    "zeroshot-own",
}
DEVIATIONS_NOTE = (
    "A protocol that follows a paper or its code says where it does not. Each card has a list, `deviations_from_source`: what the source "
    "does, where it says so, what is done here, why, and the expected effect on scores. `tips-bench show PROTOCOL` and the protocol's page "
    "print the list. A protocol that is used on a task for which its source has no number is an extension by tips-bench, and the record, "
    "the table and the site say so. An audit at commit dd2769b (`before`), when no card had such a list, found differences that were not "
    "named; each was removed or is now in a list, so that none is left that we know of. The last column names tests that compare parts of "
    "the protocol with its source, with numbers that the source's own code computed, or with a library that does the same."
)

PROTOCOLS_NOTE = (
    "A protocol says how a task is scored: the image size, the layers, the probe, its training and what is chosen on held-out images. "
    "`tips-bench run --protocol NAME` picks one; without it, each task uses its default protocol ([tasks](tasks.md)). Names that end in "
    "`-224`, `-112` or `-84` are small versions for generated rooms and CI."
)


def task(card: Any) -> str:
    """One task: what is scored, on which data, under which protocols, and how to get the data."""
    item = FAMILIES.get(card.family).counts_class().item
    unit = "images" if item == "queries" else item  # of an index, too
    splits = ", ".join(f"{role}: {name} ({_expected(card.data, name)} {unit})" for role, name in card.data.splits.items())
    return "\n".join(
        [
            f"- Family: {card.family}, version {card.version}; primary metric: {card.primary}",
            f"- Splits: {splits}, read by `{card.data.reader}` from `{card.data.root}` in the data root",
            f"- Protocols: {', '.join(f'`{name}`' for name in card.protocols)}; `{card.protocol}` if none is named",
            f"- License: {card.license}",
            f"- How to get it: {card.how_to_get}",
            f"- Citation: {card.citation}",
        ]
    )


def _expected(data: Any, split: str) -> str:
    return " or ".join(map(str, completeness(data, split, 0).published)) or "?"


def protocol(card: Any) -> str:
    """The page of one protocol: the tasks that allow it, its source and every number in it."""
    numbers = card.model_dump(mode="json", include={"image", "features", "inference", "selection", "probe", "by_task"}, exclude_none=True)
    tasks = [task for task in shipped_cards("task") if card.name in task.protocols]
    default = [f"`{task.name}`" for task in tasks if task.protocol == card.name]
    lines = [
        f"# {card.name}",
        "",
        f"{card.title}.",
        "",
        f"- Task families: {', '.join(card.families)}",
        f"- Tasks that allow it: {', '.join(f'`{task.name}`' for task in tasks) or 'none of the shipped ones'}",
        f"- Default protocol of: {', '.join(default) or 'no shipped task'}",
        f"- Source: {card.source}",
        f"- Version: {card.version}",
    ]
    if card.published_for is not None:
        published = [f"`{name}`" for name in card.published_for]
        lines.append(f"- Tasks with a published number: {', '.join(published) or 'none'}; on others it is an extension by tips-bench")
    if card.notes:
        lines += ["", card.notes]
    lines += source_deviations(card)
    settings = yaml.safe_dump(numbers, sort_keys=False, width=100).rstrip()
    note = NOTE.format(folder=KINDS["protocol"])
    lines += [
        "",
        "## All settings",
        "",
        "To change one for a run: `--set KEY=VALUE`, with a key such as `image.interpolation`. The record then lists the change.",
        "",
        "```yaml",
        settings,
        "```",
    ]
    return "\n".join([*lines, "", f"[All protocols](../protocols.md). {note}", ""])


def source_deviations(card: Any) -> list[str]:
    """The lines about what a protocol does differently from its source, an item each."""
    if not card.deviations_from_source:
        return []
    lines = ["", "## Differences from the source", ""]
    for one in card.deviations_from_source:
        only = f" Only on {', '.join(f'`{task}`' for task in one.tasks)}." if one.tasks else ""
        lines.append(f"- Source: {one.source_does} Here: {one.we_do}{only} Why: {one.why} Effect: {one.effect} ({one.where})")
    return lines


def _index_row(card: Any) -> str:
    """A protocol in the index, with its number of differences; of its source only the paper or project, without the files."""
    source = re.split(r"[:;]|(?<=\)), | \(py", card.source)[0]
    differences = len(card.deviations_from_source) or "none"
    return f"| [`{card.name}`](protocols/{card.name}.md) | {card.title} | {source} | {'' if source == OWN else differences} |"


def protocol_index() -> str:
    """A table for each task family: its protocols, each with a link to its page, what it does and whose it is."""
    cards = shipped_cards("protocol")
    parts = ["# Protocols", PROTOCOLS_NOTE, NOTE.format(folder=KINDS["protocol"])]
    for family in dict.fromkeys(family for card in cards for family in card.families):
        rows = [_index_row(card) for card in cards if family in card.families]
        parts += [f"## {family}", "\n".join([*INDEX_HEAD, *rows])]
    return "\n\n".join(parts) + "\n"


def deviations() -> str:
    """A table of the published protocols: differences found and named, and the tests behind them."""
    head = ["| protocol | before: named / not | now: named / not | compared with its source by |", "| --- | --- | --- | --- |"]
    rows = []
    for card in shipped_cards("protocol"):
        if card.source != OWN:
            tests = ", ".join(f"[{path.rpartition('/')[2]}](../{path})" for path, held in HELD.items() if card.name in held)
            link = f"[`{card.name}`](protocols/{card.name}.md)"
            before = "new" if card.name in SINCE else f"0 / {FOUND.get(card.name, 0)}"
            rows.append(f"| {link} | {before} | {len(card.deviations_from_source)} / 0 | {tests} |")
    parts = ["# Differences from the sources", DEVIATIONS_NOTE, NOTE.format(folder=KINDS["protocol"]), "\n".join([*head, *rows])]
    return "\n\n".join(parts) + "\n"


def model(card: Any) -> str:
    """One model: where it comes from and what it is."""
    weights = card.weights
    origin = (weights and (weights.url or weights.hub or weights.path or weights.file)) or "none to fetch"
    size = "" if card.parameters is None else f", {card.parameters:,} parameters"
    lines = [
        f"- Source: `{card.source}`; weights: {origin}",
        f"- Patch {card.patch_size}, width {card.embed_dim}, depth {card.depth}, native side {card.resolution} px{size}",
        f"- Global tokens: {card.global_tokens}; text tower: {'yes' if card.has_text else 'no'}",
        f"- License: {card.license}",
        f"- Citation: {card.citation}",
    ]
    form = [f"- How to get the weights: {weights.how_to_get}"] if weights and weights.how_to_get else []
    heads = [f"- Released heads, for the protocol `dpt-official`: {', '.join(card.heads)}"] if card.heads else []
    return "\n".join([*lines, *form, *heads, *([f"- Notes: {card.notes}"] if card.notes else [])])


def sections(kind: Any, title: str, section: Callable[[Any], str]) -> str:
    """A page with a section for each card of a kind, sorted by name."""
    parts = [f"## {card.name}\n\n{card.title}\n\n{section(card)}" for card in shipped_cards(kind)]
    return "\n\n".join([f"# {title}", NOTE.format(folder=KINDS[kind]), *parts]) + "\n"


@functools.cache
def shipped_cards(kind: Any) -> list[Any]:
    """The shipped cards of a kind, sorted by name."""
    return [load_card(kind, str(path)) for path in sorted(shipped(KINDS[kind]).glob("*.yaml"), key=lambda path: path.stem)]


def pages() -> dict[str, str]:
    """Path in docs/ -> text, for every page."""
    return {
        "tasks.md": sections("task", "Tasks", task),
        "models.md": sections("model", "Models", model),
        "protocols.md": protocol_index(),
        "deviations.md": deviations(),
        **{f"protocols/{card.name}.md": protocol(card) for card in shipped_cards("protocol")},
    }


def main() -> None:
    """Write all pages, and remove those of protocols that no longer exist."""
    found = pages()
    for path in (DOCS / "protocols").glob("*.md"):
        if f"protocols/{path.name}" not in found:
            path.unlink()
    for name, text in found.items():
        write_text(DOCS / name, text)


if __name__ == "__main__":
    main()
