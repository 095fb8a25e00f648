"""The data of a task in Croissant 1.0, a description of data sets that other programs read.

It follows from the task's card alone: no file is opened. Vocabulary: docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html.
"""

from __future__ import annotations

import mimetypes
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from tips_bench.cards import Download, TaskCard

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(card: TaskCard) -> dict[str, Any]:
    """As JSON-LD. Files without a published checksum are not listed, for the format demands one; the description says how to get them."""
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": card.name,
        "description": f"{card.title}. {_splits(card)} How to get it: {card.how_to_get}",
        "version": f"{card.version}.0.0",
        "license": card.license,
        "citeAs": card.citation,
        **({"url": card.homepage} if card.homepage else {}),
        "distribution": [_file(number, one) for number, one in enumerate(card.data.download) if one.sha256 or one.md5],
    }


def _splits(card: TaskCard) -> str:
    """Which splits there are, and how many samples each should have."""
    said = []
    for role, split in card.data.splits.items():
        expected = card.data.expected.get(split)
        numbers = expected if isinstance(expected, list) else [expected] if expected else []
        said.append(f"{role}: {split}" + (f" ({' or '.join(map(str, numbers))} samples)" if numbers else ""))
    return f"Splits: {'; '.join(said)}."


def _file(number: int, download: Download) -> dict[str, Any]:
    name = PurePosixPath(urlsplit(download.url).path).name
    found = {
        "@type": "cr:FileObject",
        "@id": f"{number}-{name}",
        "name": name,
        "contentUrl": download.url,
        "encodingFormat": mimetypes.guess_type(name)[0] or "application/octet-stream",
    }
    size = {} if download.size is None else {"contentSize": f"{download.size} B"}
    return found | size | {key: value for key, value in (("sha256", download.sha256), ("md5", download.md5)) if value}
