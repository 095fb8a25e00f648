"""Fetching a task's data: resumed after a break, checked, unpacked whole.

    tips-bench data download ade20k

Archives are kept in `downloads/` of the data root; they may be deleted once they are unpacked.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from tips_bench.cards import Download, TaskCard
from tips_bench.data.download.unpack import unpack
from tips_bench.errors import UserError
from tips_bench.fetch import fetch
from tips_bench.files import cannot_write, digest, write_text
from tips_bench.web import check_url, file_name

ARCHIVES = "downloads"


def download(card: TaskCard, root: Path) -> Path:
    """Fetch and unpack everything a task's card lists; returns the folder its reader reads.

    Run again after a break or a kill, it goes on from there; what is unpacked already is left alone.
    Errors: a task whose data cannot be fetched by a program, with how to get it; those of `fetch` and `unpack`.
    """
    if card.data.generator is not None:
        raise UserError("the data of this task are generated, not downloaded", where=card.name, fix="Just start the run.")
    if not card.data.download:
        raise UserError("the data of this task must be downloaded by hand", where=card.name, fix=card.how_to_get)
    folder = root / card.data.root
    for item in card.data.download:
        _download(item, root, folder, card.name)
    if not folder.is_dir():
        raise UserError(
            f"after unpacking, there is no folder {card.data.root}", where=card.name, fix="Fix data.download.unpack_to in the task card."
        )
    return folder


def _download(item: Download, root: Path, wanted: Path, title: str) -> None:
    check_url(item.url, title)
    name = file_name(item.url, title)
    archive = root / ARCHIVES / name
    if item.unpack_to is None:
        fetch(item.url, archive, size=item.size, sha256=item.sha256, md5=item.md5, title=title)
        return
    folder = root / item.unpack_to
    if not folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"unpack_to = {item.unpack_to!r} points outside the data root", where=title)
    done = archive.with_name(f"{name}.unpacked")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(archive.with_name(f".{name}.unpacking.lock")):
            mark = f"{digest(item.url, item.sha256, item.md5)} {item.unpack_to}\n"
            if wanted.is_dir() and done.is_file() and done.read_text(encoding="utf-8") == mark:
                return
            fetch(item.url, archive, size=item.size, sha256=item.sha256, md5=item.md5, title=title)
            # An archive for the root itself must not pass for what was fetched.
            unpack(archive, folder, title, taken={ARCHIVES} if folder == root else ())
            write_text(done, mark)
    except OSError as error:
        raise cannot_write(archive, error) from error
