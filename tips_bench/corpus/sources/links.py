"""Images behind links, fetched by img2dataset (github.com/rom1504/img2dataset, 1.47), which honours X-Robots-Tag.

img2dataset is a program, and may have an environment of its own (`pipx install img2dataset`), for its package asks for older versions of
others. It fetches the links of one part into a folder that goes again, images as they are; they are then given the order of the links.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tips_bench.corpus.sources.base import Found
from tips_bench.errors import UserError
from tips_bench.training.shard_index import index_shard

PROGRAM = "img2dataset"
RETRIES, TIMEOUT_S, THREADS = 3, 15, 64
ENOUGH = 20  # links of which one would be there, if there were a network


def program() -> str:
    """The path of img2dataset: beside this Python, or on the PATH. Errors: it is not installed."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if found is None:
        fix = "Run `pipx install img2dataset`, or `pip install img2dataset` in an environment of its own that is on the PATH."
        raise UserError("img2dataset is not installed, which fetches links", where=PROGRAM, fix=fix)
    return found


def read(rows: list[tuple[Any, dict[str, Any]]]) -> Iterator[Found]:
    """The images behind the links of a part. Errors: img2dataset fails; of many links not one leads to an image, as without a network."""
    with tempfile.TemporaryDirectory(prefix="tips-bench-fetch-") as folder:
        good = [number for number, (link, _) in enumerate(rows) if isinstance(link, str) and re.fullmatch(r"https?://[^\s]+", link)]
        images, problems = _fetched([str(rows[number][0]) for number in good], Path(folder)) if good else (None, {})
        if len(good) >= ENOUGH and len(problems) == len(good):
            fix = "Check the network of this machine and the list, and give the command again."
            raise UserError(f"not one of {len(good)} links could be fetched ({problems[0]})", where=str(rows[good[0]][0]), fix=fix)
        places = {number: place for place, number in enumerate(good)}
        for number, (link, said) in enumerate(rows):
            place = places.get(number)
            if place is None or images is None:
                yield Found(str(link)[:300], said=said, fault="no http or https address")
            elif place in problems:
                yield Found(str(link), said=said, fault="not fetched", detail=problems[place])
            else:
                yield Found(str(link), images[place], said)


class _Images:
    """The images of a shard of img2dataset by the number of their link."""

    def __init__(self, shard: Path) -> None:
        self._file = shard
        self._places = {int(entry.key): entry.members["jpg"] for entry in index_shard(shard) if "jpg" in entry.members}

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __getitem__(self, number: int) -> bytes:
        offset, size = self._places[number]
        with self._file.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def _fetched(links: list[str], folder: Path) -> tuple[_Images, dict[int, str]]:
    """The images, and why there is none of the other links, both by the number of the link."""
    listed, out = folder / "links.txt", folder / "out"
    listed.write_text("".join(f"{link}\n" for link in links), encoding="utf-8")
    options = {
        "url_list": listed,
        "output_folder": out,
        "output_format": "webdataset",
        "input_format": "txt",
        "number_sample_per_shard": len(links),
        "processes_count": 1,
        "thread_count": THREADS,
        "retries": RETRIES,
        "timeout": TIMEOUT_S,
        "disable_all_reencoding": True,  # the bytes as they come
        "extract_exif": False,
        "compute_hash": None,
    }
    command = [program(), *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True, errors="replace", env=_environment())
    shard = out / "00000.tar"
    if done.returncode or not shard.is_file():
        said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        raise UserError(f"img2dataset ended with status {done.returncode}: {said[-1][:300]}", where=command[0], fix="Try it by hand.")
    images = _Images(shard)
    said_by_key = {int(row["key"]): row["error_message"] for row in _log(out / "00000.parquet")}
    return images, {number: said_by_key.get(number) or "no reason given" for number in range(len(links)) if number not in images}


def _environment() -> dict[str, str]:
    """Without what leads to packages of this process, which are not those of img2dataset. None of its own looks for updates."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return own | {"NO_ALBUMENTATIONS_UPDATE": "1"}


def _log(file: Path) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return parquet.read_table(file, columns=["key", "error_message"]).to_pylist()
