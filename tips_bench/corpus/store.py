"""A corpus is a folder of tar shards, an index beside each of them, and a manifest, corpus.json, which is written last.

The folder lies on a disk or in object storage. Here, only manifests and lists of shards are read there; shards are, by `storage.at_hand`.

A sample is an image and a .json beside it, as `tips-bench train` reads them: "web" and "synthetic" are its captions, "url", "license" and
others what else is known of it. A folder of shards without a manifest, as img2dataset leaves it, is read as it is.
The same samples give the same bytes, wherever and whenever they are written.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tips_bench.corpus.storage import listed, read_if_there
from tips_bench.errors import UserError
from tips_bench.files import atomic, sha256, write_text
from tips_bench.strict import Strict, parse
from tips_bench.training.caption_layouts import stated
from tips_bench.training.shard_files import is_remote
from tips_bench.training.shard_index import Entry, file_beside, index_shard, write_beside
from tips_bench.training.shards import BEGUN as BEGUN
from tips_bench.training.shards import MANIFEST as MANIFEST
from tips_bench.training.shards import SampleFault, not_ended

SCHEMA = "tips-bench/corpus/1"
DROPPED = "dropped.jsonl"
IMAGES = ("jpg", "jpeg", "png", "webp")
LICENSES = ("license", "licence")


@dataclass(frozen=True)
class Sample:
    """image: the bytes of its file. extension: of that file, one of IMAGES. said: the .json beside it: captions and what else is known."""

    key: str
    image: bytes
    extension: str
    said: dict[str, Any] = field(default_factory=dict)


class Shard(Strict):
    """One of a corpus. name: of its file. size: in bytes."""

    name: str
    samples: int
    size: int
    sha256: str


class Step(Strict):
    """What was done to a corpus.

    settings: all that decides the result. dropped: reason -> number of samples that went. notes: remark -> number of times.
    licenses: "license" of the samples that stay -> their number.
    """

    name: str
    settings: dict[str, Any]
    version: str
    samples: int
    dropped: dict[str, int] = {}
    notes: dict[str, int] = {}
    licenses: dict[str, int] = {}


class Manifest(Strict):
    """What corpus.json says. steps: the first first."""

    schema_name: str = SCHEMA
    steps: list[Step] = []
    shards: list[Shard] = []


def load_manifest(folder: Path) -> Manifest | None:
    """What is known of a corpus; None of a folder of shards without a manifest.

    Errors: a corpus whose step has not ended, a manifest that is none, a folder without shards.
    """
    path = folder / MANIFEST
    text = read_if_there(path)
    if text is not None:
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UserError(f"no JSON ({error})", where=path, fix="Make the corpus again.") from error
        return parse(Manifest, data, where=path)
    if read_if_there(folder / BEGUN) is not None:
        raise not_ended(folder)
    if not is_remote(folder) and not folder.is_dir():
        raise UserError("there is no such folder", where=folder, fix="Give the folder of a corpus.")
    if not tars(folder):
        fix = "Give the folder of a corpus, or of shards as webdataset has them."
        raise UserError("no shards (*.tar) are here", where=folder, fix=fix)
    return None


def manifest_text(manifest: Manifest) -> str:
    """What corpus.json says."""
    return json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def save_manifest(folder: Path, manifest: Manifest) -> None:
    """Write corpus.json, which makes the corpus whole."""
    write_text(folder / MANIFEST, manifest_text(manifest), durable=True)


def shards_of(folder: Path) -> list[Path]:
    """The shards of a corpus in their order. Errors: those of `load_manifest`."""
    manifest = load_manifest(folder)
    return [folder / name for name in (tars(folder) if manifest is None else [shard.name for shard in manifest.shards])]


def tars(folder: Path) -> list[str]:
    """The names of the shards that lie in a folder, sorted. Errors: storage that does not answer."""
    names = listed(folder) if is_remote(folder) else [path.name for path in folder.glob("*.tar")]
    return sorted(name for name in names if name.endswith(".tar"))


def read_samples(shard: Path, dropped: list[tuple[str, str]] | None = None) -> Iterator[Sample]:
    """The samples of a shard in their order.

    dropped: gets (key, reason) of those that are left out, for having no image or captions that are no JSON.
    Errors: a shard that is no whole tar file.
    """
    with shard.open("rb") as file:
        for entry in index_shard(shard):
            sample = read_sample(file, entry)
            if not isinstance(sample, str):
                yield sample
            elif dropped is not None:
                dropped.append((entry.key, sample))


def read_sample(file: IO[bytes], entry: Entry) -> Sample | str:
    """A sample of an open shard, or why it is left out."""
    extension = next((name for name in IMAGES if name in entry.members), None)
    if extension is None:
        return "no image"
    said = as_said(*(_member(file, entry, name) if name in entry.members else None for name in ("json", "txt")))
    if said is None:
        return "broken captions"
    return Sample(entry.key, _member(file, entry, extension), extension, said)


def as_said(about: bytes | None, text: bytes | None) -> dict[str, Any] | None:
    """What the .json and the .txt beside an image say, as training reads them, fit for UTF-8; None where that cannot be read."""
    try:
        said: dict[str, Any] = in_utf8(stated(about, text))
    except (SampleFault, RecursionError):
        return None
    return said


def in_utf8(value: Any) -> Any:
    """A value of a JSON text, with "?" for each half of a character: JSON can state half an emoji, as of a text that was cut off."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {in_utf8(name): in_utf8(one) for name, one in value.items()}
    return [in_utf8(one) for one in value] if isinstance(value, list) else value


def _member(file: IO[bytes], entry: Entry, extension: str) -> bytes:
    offset, size = entry.members[extension]
    file.seek(offset)
    return file.read(size)


def is_key(text: str) -> bool:
    """Whether a shard that is written here can have such a key: one that a name of a file begins with."""
    return bool(text) and not set("./") & set(text)


def write_shard(path: Path, samples: Iterable[Sample]) -> Shard:
    """Write a whole shard, and its index beside it, or none. Errors: samples after each other with one key; a key that is no file name."""
    starts, last = list[int](), ""
    with atomic(path) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for sample in samples:
            if sample.key == last or not is_key(sample.key):
                raise ValueError(f"{sample.key!r} is no key for a sample of {path}")
            last = sample.key
            starts.append(tar.offset)
            _add(tar, f"{sample.key}.{sample.extension}", sample.image)
            _add(tar, f"{sample.key}.json", json.dumps(sample.said, sort_keys=True, ensure_ascii=False).encode())
        end = tar.offset
    write_beside(path, [*starts, end])
    return Shard(name=path.name, samples=len(starts), size=path.stat().st_size, sha256=sha256(path))


def remove_shard(path: Path) -> None:
    """Remove a shard with its index."""
    path.unlink(missing_ok=True)
    file_beside(path).unlink(missing_ok=True)


def license_of(said: dict[str, Any]) -> str | None:
    """The license that a sample states, whatever the case and the spelling of the key; None where it is blank or "?"."""
    stated = (str(value).strip() for name, value in said.items() if name.lower() in LICENSES and value is not None)
    return next((text for text in stated if text not in ("", "?")), None)


def with_licenses(samples: Iterable[Sample], licenses: Counter[str]) -> Iterator[Sample]:
    """The samples, while their licenses are counted."""
    for sample in samples:
        licenses[license_of(sample.said) or "not stated"] += 1
        yield sample


def write_dropped(target: Path, dropped: Iterable[Sequence[str]]) -> None:
    """Write dropped.jsonl: (name, reason, detail) of each sample that was left out, a line each."""
    with atomic(target / DROPPED) as temporary, temporary.open("w", encoding="utf-8") as out:
        for name, reason, detail in dropped:
            out.write(json.dumps({"name": name, "reason": reason, "detail": detail}, ensure_ascii=False) + "\n")


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # no owner, no date
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
