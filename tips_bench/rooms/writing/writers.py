"""Sets of rooms on disk: drawn by several processes, the same bytes however many, whole or not there at all.

write_rooms("ade20k", Path("data/rooms-ade20k"), seed=0, train=800, val=200)
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tips_bench.errors import UserError, unknown_name
from tips_bench.files import cannot_write, sha256, temporary_folder
from tips_bench.progress import bar
from tips_bench.rooms.generate import VERSION, room
from tips_bench.rooms.writing.layout_table import JOINED, LAYOUTS
from tips_bench.rooms.writing.layouts import Entry
from tips_bench.rooms.writing.packing import pack

SCHEMA = "tips-bench/rooms/1"
MANIFEST = "manifest.json"
VIDEOS = {"davis"}  # layouts whose pictures of a room are a video
ONE_LENS = {"scannet", "scannet-sens", "scannet-pairs"}  # layouts with one camera a room


@dataclass(frozen=True)
class Manifest:
    """What a generated set is, kept as manifest.json in its root.

    version: of the generator. counts: split -> images. groups: file stem -> room; frames of a room belong together.
    files: path under the root -> hex SHA-256, of every file but this one.
    """

    schema: str
    version: int
    layout: str
    seed: int
    size: int
    frames_per_scene: int
    counts: dict[str, int]
    groups: dict[str, str]
    files: dict[str, str]

    @classmethod
    def read(cls, root: Path) -> Manifest:
        """The manifest of a set. Errors: there is none, or it is not one of ours."""
        path = root / MANIFEST
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UserError(
                "this is not a folder of generated rooms: it has no manifest",
                where=path,
                fix="Generate the rooms again, in another folder.",
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"not a manifest of generated rooms ({error})", where=path, fix="Remove the folder and generate the rooms again."
            ) from error

    def faults(self, root: Path) -> list[str]:
        """Files that are missing or whose bytes differ, one sentence each."""
        found = []
        for name, expected in self.files.items():
            path = root / name
            if not path.is_file():
                found.append(f"{name} is missing")
            elif sha256(path) != expected:
                found.append(f"{name} has other bytes than were written")
        return found


@dataclass(frozen=True)
class _Job:
    """One room to draw and write: `first` is the number of its first image within the split, from 1."""

    layout: str
    folder: str
    seed: int
    split: str
    number: int
    first: int
    frames: int
    size: int


def _write_room(job: _Job) -> tuple[list[Entry], dict[str, str]]:
    """Draw one room and write its files; their entries and hashes."""
    layout, one_lens, video = LAYOUTS[job.layout], job.layout in ONE_LENS, job.layout in VIDEOS
    drawn = room(job.seed, job.split, job.number, frames=job.frames, size=job.size, one_lens=one_lens, video=video)
    stems = [layout.stem(job.split, drawn.name, k, job.first + k) for k in range(job.frames)]
    entries = [Entry(job.split, stem, drawn.name, drawn.scene.kind, said) for stem, said in zip(stems, drawn.captions, strict=True)]
    return entries, _put(Path(job.folder), layout.files(job.split, drawn, stems))


def _put(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    hashes = {}
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    return hashes


def write_rooms(
    layout: str, root: Path, *, seed: int = 0, train: int, val: int, size: int = 224, frames_per_scene: int = 4, workers: int | None = None
) -> Manifest:
    """Generate `train` + `val` images of size x size pixels in a layout of LAYOUTS and return their manifest.

    A set that is already at `root` with the same version and options is kept as it is. train and val share no room. workers: processes,
    None for one a processor; the bytes do not depend on it.
    Errors: an unknown layout; sizes or counts that make no sense; `root` holds something else; the folder takes no file.
    """
    _check(layout, seed, train, val, size, frames_per_scene, workers)
    root = Path(root)
    wanted = Manifest(SCHEMA, VERSION, layout, seed, size, frames_per_scene, {"train": train, "val": val}, {}, {})
    present = _present(root, wanted)
    if present is not None:
        return present
    try:
        with _whole_folder(root) as folder:
            jobs = _jobs(wanted, folder)
            entries, hashes = _run(jobs, workers or _processors(), train + val)
            entries.sort(key=lambda e: (e.split, e.stem))
            hashes |= _put(folder, LAYOUTS[layout].index(entries))
            if (images := LAYOUTS[layout].images_per_shard) is not None:
                hashes = pack(folder, list(hashes), images)
            if layout in JOINED:
                hashes = JOINED[layout](folder, list(hashes))
            manifest = Manifest(**(asdict(wanted) | {"groups": {e.stem: e.scene for e in entries}, "files": dict(sorted(hashes.items()))}))
            (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # another process was faster
            present = _present(root, wanted)
            if present is not None:
                return present
        raise cannot_write(root, error) from error
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended early",
            where=root,
            fix='Use fewer workers if memory is short; call it below `if __name__ == "__main__":` in a script of yours.',
        ) from error
    return manifest


def _processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check(layout: str, seed: int, train: int, val: int, size: int, frames_per_scene: int, workers: int | None) -> None:
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    least = {
        "seed": (seed, 0),
        "train": (train, 0),
        "val": (val, 0),
        "train + val": (train + val, 1),
        "size": (size, 16),
        "frames_per_scene": (frames_per_scene, 1),
    }
    if workers is not None:
        least["workers"] = (workers, 1)
    for name, (value, low) in least.items():
        if value < low:
            raise UserError(f"{name} = {value} is too small", where="rooms", fix=f"Use {low} or more.")


def _present(root: Path, wanted: Manifest) -> Manifest | None:
    """The set at `root` if it is the wanted one; None if there is nothing."""
    if not root.exists():
        return None
    if root.is_dir() and not any(root.iterdir()):
        return None
    if not (root / MANIFEST).is_file():
        raise UserError("the folder contains files that are not generated rooms", where=root, fix="Choose another folder.")
    present = Manifest.read(root)
    names = ("schema", "version", "layout", "seed", "size", "frames_per_scene", "counts")
    pairs = {name: (getattr(present, name), getattr(wanted, name)) for name in names}
    differs = [f"{name} {there!r} instead of {asked!r}" for name, (there, asked) in pairs.items() if there != asked]
    if differs:
        raise UserError(
            f"the folder contains rooms generated with other options ({'; '.join(differs)})",
            where=root,
            fix="Remove it or choose another folder.",
        )
    return present


@contextmanager
def _whole_folder(root: Path) -> Iterator[Path]:
    """A temporary sibling folder that becomes `root` when the block ends well and is removed when it does not."""
    with temporary_folder(root) as temporary:
        yield temporary
        if root.exists():
            root.rmdir()
        temporary.rename(root)


def _jobs(wanted: Manifest, folder: Path) -> list[_Job]:
    jobs = []
    for split, count in wanted.counts.items():
        for number, done in enumerate(range(0, count, wanted.frames_per_scene)):
            frames = min(wanted.frames_per_scene, count - done)
            jobs.append(_Job(wanted.layout, str(folder), wanted.seed, split, number, done + 1, frames, wanted.size))
    return jobs


def _run(jobs: list[_Job], workers: int, images: int) -> tuple[list[Entry], dict[str, str]]:
    entries: list[Entry] = []
    hashes: dict[str, str] = {}
    with bar("rooms", images) as advance:
        for made, written in _results(jobs, min(workers, len(jobs))):
            entries += made
            hashes |= written
            advance(len(made))
    return entries, hashes


def _results(jobs: list[_Job], workers: int) -> Iterator[tuple[list[Entry], dict[str, str]]]:
    """The rooms as they get done, in any order."""
    if workers == 1:
        yield from map(_write_room, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with _without_current_folder(), ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        futures: list[Future[tuple[list[Entry], dict[str, str]]]] = [pool.submit(_write_room, job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_current_folder() -> Iterator[None]:
    """A new interpreter that is started meanwhile imports nothing from the current folder, which may hold a stranger's files."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when the parent has died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
