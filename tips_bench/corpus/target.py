"""Where the corpus of a step comes to lie: a folder on a disk, or an address in object storage.

Object storage has no locks and no names that change. So a step with such a target works in a folder on a disk, as it always does, whose
locks count for all its processes, and brings up what is whole, in this order:

    .owner.json       which work folder makes this corpus; only what works in that folder writes here
    .begun.json       the step and its settings
    a shard, its index, and then the record of its piece, in .fetch or .captions
    lists, pages, the description and the README, and last the manifest: now the corpus is whole

Of a piece with a record nothing is made again, not even where the work folder is lost and another one has taken its place. Records,
.owner.json and the work folder are removed when the manifest is there.
"""

from __future__ import annotations

import json
import platform
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tips_bench.catalog import cache_root
from tips_bench.claims import used, waited_for
from tips_bench.corpus.storage import address, listed, place, put_bytes, put_file, put_first, read_if_there, remove
from tips_bench.corpus.store import BEGUN, MANIFEST, Manifest, Shard, manifest_text, remove_shard
from tips_bench.errors import UserError
from tips_bench.files import cannot_write, write_text
from tips_bench.training.shard_files import is_remote
from tips_bench.training.shard_index import file_beside

OWNER = ".owner.json"
WORKS = "corpus-work"
AT_ONCE = 16  # requests

Destination = dict[str, str]
"""What a piece needs to know of a target in object storage: its "address", its "owner", and the folder "work"."""


@dataclass(frozen=True)
class Target:
    """folder: as the user named it. work: the folder on a disk where the step leaves its files; the same, but of an address another one.

    owner: by which a target in object storage knows `work`.
    """

    folder: Path
    work: Path
    owner: str = ""

    @property
    def name(self) -> str:
        """The name of the corpus."""
        return address(self.folder).rstrip("/").rpartition("/")[2]

    @property
    def destination(self) -> Destination | None:
        """Of a target in object storage, as plain data."""
        return {"address": str(self.folder), "owner": self.owner, "work": str(self.work)} if is_remote(self.folder) else None

    def begin(self, text: str) -> bytes:
        """What .begun.json says in object storage: `text`, unless another command was first. Errors: as for `put_bytes`."""
        with waited_for(self.work / BEGUN):  # here only a lock
            begun = read_if_there(self.folder / BEGUN)
            if begun is None:
                begun = text.encode()
                put_bytes(self.folder / BEGUN, begun)
            return begun

    def recover(self, records: Path) -> None:
        """Bring the records of pieces that are up into the work folder, and forget those whose shard is not there as it was brought.

        records: their folder in `work`. Errors: storage that does not answer.
        """
        if not is_remote(self.folder):
            return
        up = self.folder / records.relative_to(self.work)
        missing = [name for name in listed(up) if name.endswith(".json") and not (records / name).is_file()]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for name, data in zip(missing, threads.map(lambda name: read_if_there(up / name), missing), strict=True):
                with suppress(ValueError):  # a server of files keeps what a killed process wrote of one
                    if data is not None and json.loads(data):
                        write_text(records / name, data.decode())
        known = sorted(records.glob("*.json"))  # before the shards are listed: a process beside this one may bring one just now
        sizes = {name: one.size for name, one in listed(self.folder).items()}
        for record in known:
            shard = _shard_of(record)
            if shard is not None and sizes.get(shard.name) != shard.size:
                record.unlink(missing_ok=True)

    def close(self, manifest: Manifest) -> None:
        """Bring up the other files of the work folder, and then the manifest.

        Errors: a shard of the manifest is not there; storage that does not answer.
        """
        if not is_remote(self.folder):
            return
        _check_owner(self.folder, self.owner)
        there = listed(self.folder)
        for shard in manifest.shards:
            if shard.name not in there or there[shard.name].size != shard.size:
                fix = "Give the command again: it makes the shard anew."
                raise UserError("the shard is not there as it was brought up", where=self.folder / shard.name, fix=fix)
        ours = {shard.name for shard in manifest.shards}
        for name in there:
            if name.removesuffix(".index").endswith(".tar") and name.removesuffix(".index") not in ours:
                remove(self.folder / name)  # of a choice that was made before the work folder was lost
        shards = (".tar", ".tar.index")
        for file in sorted(self.work.glob("[!.]*")):
            if file.is_file() and file.name != MANIFEST and not file.name.endswith(shards):
                put_file(file, self.folder / file.name)
        put_bytes(self.folder / MANIFEST, manifest_text(manifest).encode())


@contextmanager
def opened(folder: Path, works: Path | None, records: str = "") -> Iterator[Target]:
    """A target, to be made whole by the block. works: where work folders lie; None = in the cache. records: folder of records in `work`.

    Errors: storage that does not answer or refuses; an address without a step's files that is not empty, or that another work folder
    makes; `works` for a folder on a disk.
    """
    if not is_remote(folder):
        if works is not None:
            raise UserError("a folder on a disk needs no work folder", where=folder, fix="Leave --work out.")
        yield Target(folder, folder)
        return
    target = _owned(folder, (works or cache_root() / WORKS).absolute())
    if not target.work.is_dir():  # whole
        yield target
        return
    with used(target.work):
        yield target
        if records:
            remove(folder / records)
        remove(folder / OWNER)


def _owned(folder: Path, works: Path) -> Target:
    there = listed(folder)
    if there and not {BEGUN, OWNER} & set(there):
        raise UserError("the folder is not empty, and no step began here", where=folder, fix="Give an empty folder, or a new one.")
    found = _owner(folder)
    if found is None and MANIFEST not in there:
        own = secrets.token_hex(8)
        try:
            (works / own).mkdir(parents=True)
        except OSError as error:
            raise cannot_write(works, error) from error
        said = {"work": own, "folder": str(works / own), "machine": platform.node()}
        put_first(folder / OWNER, json.dumps(said).encode())
        found = _owner(folder) or {}
        if found.get("work") != own:  # another command came first
            (works / own).rmdir()
    owner = str((found or {}).get("work", "whole"))
    target = Target(folder, works / (owner if owner.isalnum() else "unknown"), owner)
    if not target.work.is_dir() and read_if_there(folder / MANIFEST) is None:  # it may have been ended just now
        raise UserError(
            f"the corpus there is made from the work folder {(found or {}).get('folder')} of {(found or {}).get('machine')}",
            where=folder,
            fix=f"Give the command there, or --work with a folder that both machines share. If that folder is lost, and nothing "
            f"works there any more, delete {OWNER} at the address, and give the command again.",
        )
    return target


def _owner(folder: Path) -> dict[str, Any] | None:
    data = read_if_there(folder / OWNER)
    try:
        said = {} if data is None else json.loads(data)
    except ValueError:
        said = {}
    return None if data is None else said if isinstance(said, dict) else {}


def _check_owner(folder: Path, owner: str) -> None:
    """Errors: another work folder makes the corpus by now, or it is whole."""
    if (_owner(folder) or {}).get("work") != owner:
        fix = "Give the command again: it says what became of the corpus."
        raise UserError("another command has taken the corpus over, or has ended it", where=folder, fix=fix)


def bring(shard: Path, said: dict[str, Any], done: Path, to: Destination | None, *, again: bool = True) -> None:
    """What a piece does last: bring its shard to a target in object storage, and write `done`, which says `said`.

    to: None = the shard lies where it belongs. again: the record goes up, too, for a step that has lost its work folder.
    Errors: storage that does not answer; another work folder makes the corpus by now.
    """
    text = json.dumps(said) + "\n"
    if to is not None:
        folder = place(to["address"])
        _check_owner(folder, to["owner"])
        if said["shard"] and said["shard"]["samples"]:
            put_file(shard, folder / shard.name)
            put_file(file_beside(shard), folder / file_beside(shard).name)
        if again:
            _check_owner(folder, to["owner"])
            put_bytes(folder / done.relative_to(to["work"]), text.encode())
        remove_shard(shard)
    write_text(done, text, durable=True)


def _shard_of(record: Path) -> Shard | None:
    """The shard that a record speaks of; None where the piece has left none."""
    said = json.loads(record.read_text(encoding="utf-8"))["shard"]
    return Shard(**said) if said and said["samples"] else None
