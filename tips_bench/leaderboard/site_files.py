"""The files of a site: names that every file system takes, a manifest of what was written, and a folder that is replaced whole.

`manifest.json` lists every file of a site with its SHA-256. It is how a later build or publication tells its own files, which it may
replace, from everybody else's, which it never touches.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tips_bench.errors import UserError
from tips_bench.files import cannot_write, digest, sha256, temporary_folder, write_text

MANIFEST = "manifest.json"
SCHEMA = "tips-bench/site/1"
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}  # names Windows keeps


def file_name(name: str) -> str:
    """A name as a file's, without suffix: as it stands where every file system takes it, else readable with a hash of the original.

    Lower case, so that two names never meet where case does not count.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_+-]{0,79}", name) and name not in DEVICES:
        return name
    readable = re.sub(r"[^a-z0-9_+-]+", "-", name.lower()).strip("-_+")[:60]
    return f"{readable or 'name'}.{digest(name)[:8]}"


@dataclass(frozen=True)
class Manifest:
    """files: path -> SHA-256. coming: of files that a publication under way, or broken off, is putting in their place."""

    files: dict[str, str]
    coming: dict[str, str]

    def wrote(self, path: str, hash: str | None) -> bool:
        """Whether a site put this content there."""
        return hash is not None and hash in (self.files.get(path), self.coming.get(path))

    def save(self, folder: Path) -> None:
        """Write it into `folder`, atomically."""
        data: dict[str, object] = {"schema": SCHEMA, "files": dict(sorted(self.files.items()))}
        if self.coming:
            data["coming"] = dict(sorted(self.coming.items()))
        write_text(folder / MANIFEST, json.dumps(data, indent=1) + "\n")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a site's folder, None where there is none. Errors: one that no site wrote, or that names files elsewhere."""
    path = folder / MANIFEST
    if not path.exists() and not path.is_symlink():
        return None
    fault = UserError("not the manifest of a site", where=path, fix="Choose another folder, or move the file away.")
    if path.is_symlink():
        raise fault
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise fault from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise fault
    parts = [data.get("files"), data.get("coming", {})]
    for part in parts:
        if not isinstance(part, dict) or not all(isinstance(hash, str) and _inside(name) for name, hash in part.items()):
            raise fault
    return Manifest(*parts)


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)  # so neither "..", nor a checkout's own files
    return bool(path.parts) and not path.is_absolute() and not hidden and "\\" not in name and ":" not in name


def files_of(folder: Path) -> list[str]:
    """Every file and link of a folder but the manifest, as paths within it, sorted."""
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    return sorted(name for name in found if name != MANIFEST)


def hash_at(folder: Path, name: str) -> str | None:
    """SHA-256 of a file of the folder; None where there is none, "" where something else or a link stands in its way."""
    path = folder
    for part in PurePosixPath(name).parts:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            return ""
        path = path / part
    if path.is_symlink() or path.is_dir():
        return ""
    return sha256(path) if path.exists() else None


def intact(site: Path) -> Manifest:
    """The manifest of a site that is as it was built. Errors: no site, a file that was added, changed or lost."""
    try:
        manifest = read_manifest(site)
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=site, fix="Name the folder of a site.") from error
    if manifest is None:
        raise UserError("not a site", where=site, fix="Build one with `tips-bench leaderboard build RESULTS --to FOLDER`.")
    strange = strangers(site, manifest)
    lost = [name for name in manifest.files if hash_at(site, name) is None]
    if strange or lost:
        raise UserError(f"not as it was built: {some(strange or lost)}", where=site, fix="Build it again.")
    return manifest


def strangers(folder: Path, manifest: Manifest | None) -> list[str]:
    """The files of a folder that no site wrote."""
    return [name for name in files_of(folder) if manifest is None or not manifest.wrote(name, hash_at(folder, name))]


def some(names: list[str], shown: int = 5) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(ascii, names[:shown])) + more


@contextmanager
def replaced(to: Path) -> Iterator[Path]:
    """Yield an empty sibling of `to`; when the block ends well it gets its manifest and takes the place of `to`.

    Errors: `to` is no folder, or holds a file that no site wrote; then nothing has changed.
    """
    try:
        _refuse_foreign(to)
        to = to.absolute()
        with temporary_folder(to) as temporary:
            yield temporary
            Manifest({name: sha256(temporary / name) for name in files_of(temporary)}, {}).save(temporary)
            _refuse_foreign(to)
            _put_in_place(temporary, to)
    except OSError as error:
        raise cannot_write(to, error) from error


def _put_in_place(temporary: Path, to: Path) -> None:
    """`temporary` takes the place of `to`, whatever was there."""
    earlier = temporary.with_suffix(".old")
    if to.exists():
        os.replace(to, earlier)
    try:
        os.replace(temporary, to)
    except OSError:
        if earlier.exists():
            os.replace(earlier, to)
        raise
    finally:
        shutil.rmtree(earlier, ignore_errors=True)


def _refuse_foreign(to: Path) -> None:
    if to.is_symlink() or (to.exists() and not to.is_dir()):
        raise UserError("not a folder", where=to, fix="Name a folder for the site.")
    if to.is_dir():
        strange = strangers(to, read_manifest(to))
        if strange:
            raise UserError(f"holds files that this command did not write: {some(strange)}", where=to, fix="Name a new folder.")
