"""Images behind links, fetched by img2dataset (github.com/rom1504/img2dataset, 1.47), which honours X-Robots-Tag.

img2dataset is a program, and may have an environment of its own (`pipx install img2dataset`), for its package asks for older versions of
others. It fetches the links of one part into a folder that goes again, images as they are; they are then given the order of the links.

An image of which the list states the SHA-256 of the file behind the link, in a column `sha256` as in DataComp, has to have it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from tips_bench.corpus.sources.base import Found, Refuse
from tips_bench.errors import UserError
from tips_bench.strict import Strict
from tips_bench.training.shard_index import index_shard

PROGRAM = "img2dataset"
RETRIES, TIMEOUT_S, THREADS, GIVE_UP = 3, 15, 64, 20
# What Python says where no server answered, on Linux, macOS and Windows; a status of HTTP comes from a server.
NO_SERVER = re.compile(
    "refused|unreachable|no route to host|timed out|name resolution|name or service not known|no address associated|nodename nor servname"
    "|getaddrinfo failed|network is down",
    re.IGNORECASE,
)


class Manner(Strict):
    """How links are followed; None = as usual.

    threads: links at a time. timeout_s: how long a server may take. user_agent: a word by which the owners of servers know who asks.
    give_up: so many links of a part without any server are a fault of the network, not of the links; 0 = never.
    """

    threads: int | None = Field(None, ge=1)
    timeout_s: int | None = Field(None, ge=1)
    user_agent: str | None = None
    give_up: int | None = Field(None, ge=0)

    def options(self) -> dict[str, object]:
        """The values by their options of `corpus fetch`."""
        return {
            "--threads": self.threads,
            "--link-timeout": self.timeout_s,
            "--user-agent": self.user_agent,
            "--give-up": self.give_up,
        }

    def check(self) -> None:
        """Errors: a word that img2dataset would not take for one."""
        if self.user_agent is not None and not re.fullmatch(r"(?!(None|True|False)$)[A-Za-z][A-Za-z0-9_-]*", self.user_agent):
            fix = "Give one word of letters, digits, - and _, for example my-lab-bot."
            raise UserError(f"{self.user_agent!r} is no name of a program", where="--user-agent", fix=fix)


def program() -> str:
    """The path of img2dataset: beside this Python, or on the PATH. Errors: it is not installed."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if found is None:
        fix = "Run `pipx install img2dataset`, or `pip install img2dataset` in an environment of its own that is on the PATH."
        raise UserError("img2dataset is not installed, which fetches links", where=PROGRAM, fix=fix)
    return found


def read(refuse: Refuse, manner: dict[str, Any], rows: list[tuple[Any, dict[str, Any]]]) -> Iterator[Found]:
    """The images behind the links of a part. Links of samples that are refused are not followed.

    Errors: img2dataset fails; of many links not one finds a server, as without a network.
    """
    known = Manner(**manner)
    refused = {number: reason for number, (link, said) in enumerate(rows) if is_link(link) and (reason := refuse(said))}
    good = [number for number, (link, _) in enumerate(rows) if is_link(link) and number not in refused]
    with tempfile.TemporaryDirectory(prefix="tips-bench-fetch-") as folder:
        images, problems = _fetched([rows[number][0] for number in good], known, Path(folder)) if good else (None, {})
        _check_network([str(rows[number][0]) for number in good], problems, known)
        places = {number: place for place, number in enumerate(good)}
        for number, (link, said) in enumerate(rows):
            place = places.get(number)
            if number in refused:
                yield Found(link, said=said, fault=refused[number])
            elif place is None or images is None:
                yield Found(str(link)[:300], said=said, fault="no http or https address")
            elif place in problems:
                yield Found(link, said=said, fault="not fetched", detail=problems[place])
            else:
                yield _as_stated(link, images[place], said)


def is_link(value: object) -> bool:
    """Whether it is an address of http or https."""
    return isinstance(value, str) and re.fullmatch(r"https?://[^\s]+", value) is not None


def _as_stated(link: str, image: bytes, said: dict[str, Any]) -> Found:
    """The image, or that it is another one than the list states."""
    stated = said.get("sha256")
    if isinstance(stated, str) and re.fullmatch("[0-9a-fA-F]{64}", stated):
        own = hashlib.sha256(image).hexdigest()
        if own != stated.lower():
            return Found(link, said=said, fault="not the stated image", detail=f"sha256 {own}")
    return Found(link, image, said)


def _check_network(links: list[str], problems: dict[int, str], manner: Manner) -> None:
    enough = GIVE_UP if manner.give_up is None else manner.give_up
    if enough and enough <= len(links) == sum(NO_SERVER.search(problem) is not None for problem in problems.values()):
        fix = "Check the network of this machine, and give the command again; if these servers are gone for good, with --give-up 0."
        raise UserError(f"not one of {len(links)} links leads to a server ({problems[0]})", where=links[0], fix=fix)


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


def _fetched(links: list[str], manner: Manner, folder: Path) -> tuple[_Images, dict[int, str]]:
    """The images, and why there is none of the other links, both by the number of the link."""
    from pyarrow import Table, parquet

    listed, out = folder / "links.parquet", folder / "out"
    parquet.write_table(Table.from_pydict({"url": links}), listed)  # a list of lines it reads as CSV, and links have commas
    options: dict[str, object] = {
        "url_list": listed,
        "output_folder": out,
        "output_format": "webdataset",
        "input_format": "parquet",
        "number_sample_per_shard": len(links),
        "processes_count": 1,
        "thread_count": manner.threads or THREADS,
        "retries": RETRIES,
        "timeout": manner.timeout_s or TIMEOUT_S,
        "disable_all_reencoding": True,  # the bytes as they come
        "extract_exif": False,
        "compute_hash": None,
    }
    if manner.user_agent is not None:
        options["user_agent_token"] = manner.user_agent
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
