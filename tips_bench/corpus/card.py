"""What a corpus says of itself to others: a Croissant description (croissant.json, version 1.0) and a README.md.

Both follow from the manifest alone. Croissant's vocabulary: docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.
"""

from __future__ import annotations

import json
from typing import Any

from tips_bench.corpus.store import BEGUN, IMAGES, MANIFEST, Manifest, Step, save_manifest
from tips_bench.corpus.target import Target
from tips_bench.data.croissant import CONFORMS_TO, CONTEXT
from tips_bench.files import digest, write_text
from tips_bench.wording import counted

CROISSANT, README = "croissant.json", "README.md"
KEY = r"^(?:.*/)?([^/.]+)\.[^/]*$"
LONGEST_CELL = 200  # characters of a setting in the README


def finish(target: Target, manifest: Manifest) -> None:
    """Write the description and the README, and then the manifest, which makes the corpus whole. Torn shards of killed processes go.

    Errors: those of `Target.close`.
    """
    folder, name = target.work, target.name
    for pattern in (".*.tar.*.tmp", f".{BEGUN}.*.tmp"):  # every shard is whole by now, so nobody writes one
        for torn in folder.glob(pattern):
            torn.unlink(missing_ok=True)
    write_text(folder / CROISSANT, json.dumps(croissant(name, manifest), indent=1, ensure_ascii=False) + "\n")
    write_text(folder / README, readme(name, manifest))
    target.close(manifest)
    save_manifest(folder, manifest)


def version_of(manifest: Manifest) -> str:
    """Hex SHA-256 of the shards' hashes: two corpora with one version hold the same samples in the same order."""
    return digest(*(shard.sha256 for shard in manifest.shards))


def croissant(name: str, manifest: Manifest) -> dict[str, Any]:
    """The description as JSON-LD: each shard with its hash, and the images as records."""
    shards = [
        {
            "@type": "cr:FileObject",
            "@id": shard.name,
            "name": shard.name,
            "contentUrl": shard.name,
            "contentSize": f"{shard.size} B",
            "encodingFormat": "application/x-tar",
            "sha256": shard.sha256,
        }
        for shard in manifest.shards
    ]
    inside = [{"@id": shard.name} for shard in manifest.shards]
    image_types = ["image/jpeg", "image/png", "image/webp"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": f"{_size(manifest)}. {_story(manifest)}",
        "version": f"1.0.0+{version_of(manifest)[:12]}",
        "license": sorted(_licenses(manifest)) or "not stated",
        "distribution": [
            *shards,
            _inside("images", inside, image_types, [f"*.{extension}" for extension in IMAGES]),
            _inside("captions", inside, ["application/json"], ["*.json"]),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "samples",
                "name": "samples",
                "field": [_key("samples/key", "images"), _content("samples/image", "sc:ImageObject", "images")],
            },
            {
                "@type": "cr:RecordSet",
                "@id": "about",
                "name": "about",
                "description": 'What is known of each sample, by the same key: a JSON text with "web", "synthetic", "license" and more.',
                "field": [_key("about/key", "captions"), _content("about/json", "sc:Text", "captions")],
            },
        ],
    }


def _inside(name: str, shards: list[dict[str, str]], types: list[str], patterns: list[str]) -> dict[str, Any]:
    encoding = types if len(types) > 1 else types[0]
    return {"@type": "cr:FileSet", "@id": name, "name": name, "containedIn": shards, "encodingFormat": encoding, "includes": patterns}


def _key(name: str, files: str) -> dict[str, Any]:
    """The key of a sample: the name of its files without what follows the dot."""
    return _field(name, "sc:Text", files, "filename", {"transform": {"regex": KEY}})


def _content(name: str, kind: str, files: str) -> dict[str, Any]:
    return _field(name, kind, files, "content", {})


def _field(name: str, kind: str, files: str, property: str, more: dict[str, Any]) -> dict[str, Any]:
    source = {"fileSet": {"@id": files}, "extract": {"fileProperty": property}} | more
    return {"@type": "cr:Field", "@id": name, "name": name.partition("/")[2], "dataType": kind, "source": source}


def _size(manifest: Manifest) -> str:
    images = sum(shard.samples for shard in manifest.shards)
    return f"{counted(images, 'image')} with captions in {counted(len(manifest.shards), 'tar shard')}"


def _licenses(manifest: Manifest) -> dict[str, int]:
    """Of the last step that counted them."""
    return next((step.licenses for step in reversed(manifest.steps) if step.licenses), {})


def _story(manifest: Manifest) -> str:
    """What was done, in a sentence a step."""
    return " ".join(
        f"{step.name} left {counted(step.samples, 'sample')} and dropped {sum(step.dropped.values())}"
        + "".join(f"; {note}: {number}" for note, number in step.notes.items())
        + "."
        for step in manifest.steps
    )


def readme(name: str, manifest: Manifest) -> str:
    """The corpus on a page of Markdown."""
    lines = [
        f"# {_safe(name)}",
        "",
        f"{_size(manifest)}, for pretraining.",
        "",
        f"`{MANIFEST}` lists the shards with their sizes and SHA-256 hashes, and all settings. `{CROISSANT}` is for programs.",
        f"Version: `{version_of(manifest)[:12]}`, a hash of the hashes of the shards.",
        "",
        "## What was done",
        "",
    ]
    for step in manifest.steps:
        lines += _step(step)
    if licenses := _licenses(manifest):
        lines += ["## Licenses", "", "As the samples state them that stay.", "", *_table("license", licenses), ""]
    lines += ["## How to read it", "", f"    tips-bench corpus check {name}"]
    lines += [f"    tips-bench train RECIPE --set data.shards='{name}/*.tar'", ""]
    return "\n".join(lines)


def _step(step: Step) -> list[str]:
    lines = [f"### {_safe(step.name)}", "", f"Kept: {counted(step.samples, 'sample')} (tips-bench {step.version}).", ""]
    if step.dropped:
        lines += [*_table("dropped because of", step.dropped), ""]
    if step.notes:
        lines += [*_table("noted", step.notes, "times"), ""]
    lines += ["| setting | value |", "| --- | --- |"]
    lines += [f"| {_safe(name)} | {_safe(_short(value))} |" for name, value in step.settings.items()]
    return [*lines, ""]


def _table(title: str, counts: dict[str, int], what: str = "samples") -> list[str]:
    """The most first."""
    rows = [f"| {_safe(name)} | {number} |" for name, number in sorted(counts.items(), key=lambda one: (-one[1], one[0]))]
    return [f"| {title} | {what} |", "| --- | ---: |", *rows]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}... (all of it is in {MANIFEST})"


def _safe(text: str) -> str:
    """Text of a stranger as Markdown that shows it as it is, on one line."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|!&" else letter for letter in " ".join(text.split()))
