"""Files of models: from an address, or from a repository of the Hugging Face hub, kept in a cache."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tips_bench.cards import WeightsCard
from tips_bench.catalog import cache_root
from tips_bench.errors import UserError
from tips_bench.fetch import check_file, check_recorded, fetch, first_line
from tips_bench.files import digest

SINGLE_FILE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"


def fetch_weights(card: WeightsCard, title: str) -> Path:
    """The local file of a url or of a Hugging Face repository, kept in the cache.

    Errors: as `fetch` and `hub_file`; a file behind a form.
    """
    if card.url is not None:
        name = unquote(urlsplit(card.url).path).rpartition("/")[2] or "weights"
        target = cache_root() / "weights" / digest(card.url)[:12] / name
        return fetch(card.url, target, size=card.size, sha256=card.sha256, title=title)
    if card.how_to_get is not None:
        raise UserError(f"{card.file or 'the weights'} cannot be downloaded without a form", where=title, fix=card.how_to_get)
    if card.hub is None or card.file is None:
        raise UserError(
            "the weights have neither a url nor a hub repository with a file",
            where=title,
            fix="Fix the model card: give weights.url, or weights.hub and weights.file.",
        )
    path = hub_model(card.hub, card.revision, title) if card.file == SINGLE_FILE else hub_file(card.hub, card.file, card.revision, title)
    check_file(path, size=card.size, sha256=card.sha256)
    if card.sha256 is None:
        check_recorded(path, cache_root() / "hub" / f"{digest(card.hub, card.revision, card.file)[:16]}.sha256")
    return path


def hub_model(repo: str, revision: str | None, title: str) -> Path:
    """The model.safetensors of a repository; where it holds shards instead, their index, with the shards beside it."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return hub_file(repo, SINGLE_FILE, revision, title)
    except UserError as error:
        if not isinstance(error.__cause__, RemoteEntryNotFoundError):
            raise
        single = error
    try:
        index = hub_file(repo, SHARD_INDEX, revision, title)
    except UserError as error:
        # The missing single file is what a user would look for.
        raise single from error
    for shard in shard_names(index):
        hub_file(repo, shard, revision, title)
    return index


def shard_names(index: Path) -> list[str]:
    """The file names that an index of shards lists, sorted. Errors: not an index, a name that leads out of the folder."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("it is not an index of weight shards", where=index, fix="Delete it to download it again.") from error
    if bad := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise UserError(f"the shard {bad[0]!r} points outside its folder", where=index, fix="Do not use this repository.")
    return sorted(names)


def hub_file(repo: str, name: str, revision: str | None, title: str) -> Path:
    """A file of a Hugging Face repository, through huggingface_hub and its cache, which resumes and checks by itself."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where, page = f"{title}: {repo}/{name}", f"https://huggingface.co/{repo}"
    try:
        return Path(hf_hub_download(repo, name, revision=revision))
    except GatedRepoError as error:
        raise UserError(
            "you need permission to download from this repository",
            where=where,
            fix=f"Accept its license at {page} and run `hf auth login`.",
        ) from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            "the Hugging Face hub cannot be reached and the file is not in its cache",
            where=where,
            fix="Connect to the internet, or give --weights FILE.",
        ) from error
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise UserError(
            "there is no such repository, revision or file", where=where, fix=f"See {page}. A private repository needs `hf auth login`."
        ) from error
    except HfHubHTTPError as error:
        raise UserError(f"the Hugging Face hub answered: {first_line(error)}", where=where, fix="Try again later.") from error
    except OSError as error:
        raise UserError(f"the download failed: {first_line(error)}", where=where, fix="Try again, or give --weights FILE.") from error
