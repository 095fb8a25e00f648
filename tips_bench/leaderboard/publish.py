"""A built site put where people read it: a folder, a git repository, or a Hugging Face Space or data set.

What would change is worked out first and handed to `confirm`. Files that no site wrote there are never replaced or removed, nor are
those of a site that somebody has edited since: both are conflicts, and nothing is sent then.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tips_bench.errors import UserError
from tips_bench.files import atomic, cannot_write, temporary_folder
from tips_bench.git import git
from tips_bench.leaderboard.site_files import MANIFEST, Manifest, hash_at, intact, read_manifest, some
from tips_bench.web import shown

GIT_SECONDS = 600
PLAIN_FILES = ("-c", "core.symlinks=false", "-c", "core.autocrlf=false")
MESSAGE = "Publish the leaderboard"
WORK = "tips-bench-publish"
# Ways that git may take to a repository; a remote helper of another name would be a program that an address picks.
ALLOWED = ["protocol.allow=never", *(f"protocol.{name}.allow=always" for name in ("https", "http", "ssh", "git", "file"))]
# Files as they are committed, whatever the repository's own attributes ask for: no line ends, filters or encodings.
ATTRIBUTES = "* -text !eol !ident !filter !working-tree-encoding !diff !merge\n"


@dataclass(frozen=True)
class Change:
    """Paths within the site. same: number of files that stay as they are."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    same: int

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def written(self) -> list[str]:
        return self.added + self.changed


# Sends the working copy after it was changed.
Send = Callable[[Change], None]


def publish(site: Path, to: str, confirm: Callable[[Change], bool], *, branch: str | None = None) -> Change | None:
    """Put a site at `to`; None where `confirm` said no. Nothing is asked or sent where nothing would change.

    to: a folder; a git URL (git@..., ssh://..., https://....git, file://..., or a path ending in .git); hf://spaces/OWNER/NAME or
    hf://datasets/OWNER/NAME. branch: of the git repository, its default otherwise.
    Errors: no site or one that was changed since, a conflict, a place that cannot be reached or has moved on meanwhile.
    """
    if not to.strip() or not to.isprintable():
        raise UserError(
            f"{shown(to)!a} is no place to publish to", where="--to", fix="Name a folder, a git URL, or hf://spaces/OWNER/NAME."
        )
    new = intact(site)
    try:
        with _working_copy(to, branch, new) as (folder, send):
            old = read_manifest(folder) or Manifest({}, {})
            change = compare_folders(new, old, folder, shown(to))
            if not change:
                return change
            if not confirm(change):
                return None
            _apply(site, folder, new, old, change)
            send(change)
    except OSError as error:
        raise cannot_write(Path(shown(to)), error) from error
    return change


def compare_folders(new: Manifest, old: Manifest, folder: Path, to: object) -> Change:
    """What publishing `new` into `folder` changes. Errors: every file in the way that the site of `old` did not write."""
    added: list[str] = []
    changed: list[str] = []
    removed: list[str] = []
    conflicts: list[str] = []
    for name, hash in new.files.items():
        there = hash_at(folder, name)
        if there is None:
            added.append(name)
        elif there != hash:
            (changed if old.wrote(name, there) else conflicts).append(name)
    for name in sorted({*old.files, *old.coming} - new.files.keys()):
        there = hash_at(folder, name)
        if there is not None:
            (removed if old.wrote(name, there) else conflicts).append(name)
    if conflicts:
        problem = f"holds {len(conflicts)} files that this command did not write, or that were edited since: {some(conflicts)}"
        raise UserError(problem, where=to, fix="Move them away, or choose another place.")
    return Change(added, changed, removed, len(new.files) - len(added) - len(changed))


def _apply(site: Path, folder: Path, new: Manifest, old: Manifest, change: Change) -> None:
    """Write the files one by one, each whole; broken off, the manifest still knows both what was and what comes."""
    Manifest({**old.coming, **old.files}, new.files).save(folder)
    for name in change.written:
        with atomic(folder / name) as temporary:
            temporary.write_bytes((site / name).read_bytes())
    for name in change.removed:
        (folder / name).unlink()
        for parent in (folder / name).relative_to(folder).parents:
            if parent.parts and not any((folder / parent).iterdir()):
                (folder / parent).rmdir()
    new.save(folder)


@contextmanager
def _working_copy(to: str, branch: str | None, new: Manifest) -> Iterator[tuple[Path, Send]]:
    """A folder as it is at `to`, and what sends it back."""
    if to.startswith("hf://"):
        kind, repository = _hub_name(to)
        with temporary_folder(Path(tempfile.gettempdir()) / WORK, private=True) as temporary:
            yield temporary, _hub_copy(temporary, kind, repository, new, to)
    elif is_git(to):
        with temporary_folder(Path(tempfile.gettempdir()) / WORK, private=True) as temporary:
            copy = temporary / "copy"
            _clone(to, copy, branch, new)
            yield copy, lambda change: _push(to, copy, branch, change)
    else:
        folder = Path(to)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UserError("not a folder", where=shown(to))
        yield folder, lambda change: None


def is_git(to: str) -> bool:
    """Whether a place is a git repository's URL, or a path that ends in .git."""
    return bool(re.match(r"(git@|ssh://|git://|file://|https?://)", to)) or to.rstrip("/").endswith(".git")


def _clone(url: str, copy: Path, branch: str | None, new: Manifest) -> None:
    """A shallow working copy, links as plain files so that nothing is written through one; a branch that is not there starts empty.

    Errors: another repository inside this one where the site is to go: git would commit nothing there.
    """
    exists = branch is None or bool(_git(copy.parent, url, "ls-remote", "--heads", "--", url, f"refs/heads/{branch}").strip())
    options = ["--branch", branch] if branch and exists else []
    _git(copy.parent, url, "clone", "--quiet", "--depth", "1", "--no-checkout", *options, "--", url, str(copy))
    (copy / ".git" / "info").mkdir(exist_ok=True)
    (copy / ".git" / "info" / "attributes").write_text(ATTRIBUTES, encoding="utf-8")
    if branch and not exists:
        _git(copy, url, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    elif _git(copy, url, "for-each-ref", "--count=1", "refs/heads"):
        _git(copy, url, "reset", "--quiet", "--hard")
        listed = [line.split("\t") for line in _git(copy, url, "ls-files", "--stage", "-z").split("\0") if line]
        inner = {name for about, name in listed if about.startswith("160000 ")}
        if within := sorted({name for file in [*new.files, MANIFEST] for name in _with_parents(file) if name in inner}):
            raise UserError(
                f"{within[0]!a} there is another repository (a submodule)", where=url, fix="Remove it, or choose another branch."
            )


def _with_parents(name: str) -> list[str]:
    path = PurePosixPath(name)
    return [name, *(str(parent) for parent in path.parents)]


def _push(url: str, copy: Path, branch: str | None, change: Change) -> None:
    _git(copy, url, "add", "--force", "--all", "--", *_top(change), MANIFEST)
    said = f"{len(change.added)} added, {len(change.changed)} changed, {len(change.removed)} removed"
    _git(copy, url, "commit", "--quiet", "--no-verify", "-m", f"{MESSAGE}: {said}")
    where = branch or _git(copy, url, "symbolic-ref", "--short", "HEAD").strip()
    _git(copy, url, "push", "--quiet", "origin", f"HEAD:refs/heads/{where}")


def _top(change: Change) -> list[str]:
    """The paths to tell git of: few enough for a command line, and none that the change does not touch."""
    return sorted({name.split("/")[0] for name in change.written + change.removed})


def _git(folder: Path, url: str, *arguments: str) -> str:
    """git's output. Errors: git's own last line, what cannot be asked for is not asked for."""
    options = (*PLAIN_FILES, *(word for setting in ALLOWED for word in ("-c", setting)))
    url = shown(url)
    try:
        done = git(folder, *options, *arguments, seconds=GIT_SECONDS, keep=GIT_KEPT, GIT_TERMINAL_PROMPT="0", LC_ALL="C")
    except FileNotFoundError as error:
        raise UserError("git is not installed", where=url, fix="Install it, or publish to a folder.") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"git {arguments[0]} took over {GIT_SECONDS} s", where=url) from error
    except OSError as error:
        raise UserError(f"git cannot be started: {error.strerror}", where=url) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("hint:")]
        moved = "push" in arguments and "rejected" in done.stderr
        fix = "Somebody else pushed meanwhile: publish again." if moved else "Nothing was sent. Fix this and publish again."
        raise UserError(f"git: {'; '.join(map(shown, lines[-3:])) or 'failed'}", where=url, fix=fix)
    return done.stdout


# who commits, and how git reaches the place; all others would point git elsewhere
GIT_KEPT = {"GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_SSL_CAINFO"} | {
    f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL", "DATE")
}


def _hub_name(to: str) -> tuple[str, str]:
    match = re.fullmatch(r"hf://(spaces|datasets)/([\w.-]+/[\w.-]+)/?", to)
    if not match:
        raise UserError("not a place on the hub", where=shown(to), fix="Write hf://spaces/OWNER/NAME or hf://datasets/OWNER/NAME.")
    return match[1].removesuffix("s"), match[2]


def _hub_copy(folder: Path, kind: str, repository: str, new: Manifest, to: str) -> Send:
    """Fetch what a publication may touch, at one revision; the returned function commits on top of that revision only."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled

    api = HfApi()

    def asked(call: Callable[..., object], **options: object) -> object:
        try:
            return call(repo_id=repository, repo_type=kind, **options)
        except HFValidationError as error:
            raise UserError(
                "not a name of the hub", where=shown(to), fix="Write hf://spaces/OWNER/NAME or hf://datasets/OWNER/NAME."
            ) from error
        except (HTTPError, OSError) as error:  # HTTPError: of the HTTP client that huggingface_hub has chosen
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            offline = isinstance(error, OfflineModeIsEnabled | ConnectionError | TimeoutError)
            if offline or (isinstance(error, HTTPError) and not isinstance(error, HfHubHTTPError)):
                fix = "Check the network, then publish again: nothing is sent twice."
                raise UserError(f"the Hugging Face hub cannot be reached: {reason}", where=shown(to), fix=fix) from error
            fix = "Does the repository exist, may you write to it (hf auth login), did it move on meanwhile? Nothing was sent."
            raise UserError(f"the Hugging Face hub answered: {reason}", where=shown(to), fix=fix) from error

    revision = asked(api.repo_info).sha  # type: ignore[attr-defined]
    asked(api.snapshot_download, revision=revision, local_dir=folder, allow_patterns=[MANIFEST])
    old = read_manifest(folder) or Manifest({}, {})
    wanted = sorted({*new.files, *old.files, *old.coming})
    if wanted:
        asked(api.snapshot_download, revision=revision, local_dir=folder, allow_patterns=wanted)

    def send(change: Change) -> None:
        added = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in [*change.written, MANIFEST]]
        removed = [CommitOperationDelete(path_in_repo=name) for name in change.removed]
        asked(api.create_commit, operations=[*added, *removed], commit_message=MESSAGE, parent_commit=revision)

    return send
