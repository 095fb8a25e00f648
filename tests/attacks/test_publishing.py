"""Where a site may be published to: places without a name, remote helpers, passwords, repositories that change files."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attacks.frame import Attack, Case, Outcome, command, corpus, meet
from tests.attacks.mutations import ESCAPE
from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.site_files import files_of

SITE: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("board")
    write_record(folder / "results", "a", 0.5, number=8)
    build([folder / "results"], folder / "site")
    SITE[:] = [folder / "site"]
    yield


@pytest.fixture(autouse=True)
def _author(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path_factory.mktemp("git") / "config"
    config.write_text("[user]\n name = A\n email = a@example.org\n[init]\n defaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def publish(to: str, *options: str) -> Attack:
    return command("leaderboard", "publish", str(SITE[0]), f"--to={to}", "--yes", *options)


LONG = "a" * 5000
PLACES = [
    "", " ", "\t", "\n", "\0", "a\0b", ESCAPE, "\u202e", "fd::7/x.git", "fd::7,8/x.git", "ext::sh -c touch% outside .git", "hg::x/x.git",
    "transport::address.git", "::x.git", "-x.git", "--upload-pack=touch outside;.git", ".git", "x.git", "x.git/", "/dev/null",
    "/dev/null.git", "file:///dev/null", "file://", "file:///nowhere/x.git", "git://127.0.0.1:9/x", "ssh://-oProxyCommand=touch/x.git",
    "git@-oProxyCommand=touch:x.git", "git@:x.git", "git@", "http://127.0.0.1:9/x.git", "https://u:secret@127.0.0.1:9/x.git",
    "https://secret@127.0.0.1:9/x.git", "http://u:se@secret@127.0.0.1:9/x.git", "ssh://u:secret@127.0.0.1:9/x.git", "https://", "http://[::1/x.git",
    "hf://", "hf://spaces", "hf://spaces/a", "hf://spaces/a/b/c", "hf://models/a/b", "hf://spaces/../b", "hf://spaces/a/..", "hf://spaces/a/b",
    "hf://datasets/a/b", f"hf://spaces/a/{LONG}", f"hf://spaces/{ESCAPE}/b", "hf://spaces/-a/b", "hf://spaces/a/b.git", LONG, f"{LONG}.git",
    f"file:///{LONG}.git", f"https://127.0.0.1:9/{LONG}.git", "a/" * 3000,
]  # fmt: skip


def silent(outcome: Outcome, folder: Path) -> None:
    assert outcome.status == 2
    assert "secret" not in outcome.err + outcome.out
    assert not (folder / "outside").exists()


def places() -> list[Case]:
    return [
        Case(f"{number} {to[:30]!a} of {len(to)}", lambda folder, to=to: publish(to), statuses=(2,), check=silent)
        for number, to in enumerate(PLACES)
    ]


@corpus("places to publish to", places())
def test_a_place_that_is_none_is_one_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=True)


Change = Callable[[Path], None]


def text(name: str, content: str) -> Change:
    def change(work: Path) -> None:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(content)

    return change


def link(name: str, to: str) -> Change:
    return lambda work: (work / name).symlink_to(to)


def inner(name: str) -> Change:
    return lambda work: git(work, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{name}")


REPOSITORIES: dict[str, tuple[Change, bool]] = {
    "is empty": (text(".keep", ""), True),
    "ends lines with CRLF": (text(".gitattributes", "* text=auto eol=crlf\n"), True),
    "ends lines with CRLF in a folder": (text("data/.gitattributes", "* text eol=crlf\n"), True),
    "filters": (text(".gitattributes", "* filter=lfs diff=lfs merge=lfs -text\n"), True),
    "has a filter of its own": (text(".gitattributes", "* filter=evil\n"), True),
    "encodes": (text(".gitattributes", "*.html working-tree-encoding=UTF-16\n"), True),
    "puts ids into files": (text(".gitattributes", "* ident\n"), True),
    "ignores all": (text(".gitignore", "*\n"), True),
    "has modules that are none": (text(".gitmodules", '[submodule "x"]\n path = data\n url = ext::touch outside\n'), True),
    "has another repository elsewhere": (inner("other"), True),
    "has another repository at data": (inner("data"), False),
    "has another repository at a page": (inner("index.html"), False),
    "has another repository at the manifest": (inner("manifest.json"), False),
    "has a link at data": (link("data", "/tmp"), False),
    "has a link at a page": (link("index.html", "/etc/passwd"), False),
    "has a link at the manifest": (link("manifest.json", "/etc/passwd"), False),
    "has a page": (text("index.html", "mine"), False),
    "has a file at data": (text("data", "mine"), False),
    "has a manifest that is none": (text("manifest.json", "{}"), False),
    "has a manifest that names files elsewhere": (text("manifest.json", '{"schema": "tips-bench/site/1", "files": {"../x": "0"}}'), False),
    "has a manifest of deep nesting": (text("manifest.json", "[" * 99_999), False),
}


def into(folder: Path, change: Change, takes: bool) -> Attack:
    bare, work = folder / "out" / "pages.git", folder / "out" / "work"
    bare.mkdir(parents=True)
    git(bare, "init", "--quiet", "--bare")
    git(folder, "clone", "--quiet", str(bare), str(work))
    change(work)
    if change is not REPOSITORIES["is empty"][0]:
        git(work, "add", "--all", "--force") if not _is_inner(work) else None
        git(work, "commit", "--quiet", "-m", "by hand")
        git(work, "push", "--quiet", "origin", "HEAD:main")
    return publish(str(bare))


def _is_inner(work: Path) -> bool:
    listed = subprocess.run(["git", "-C", str(work), "ls-files", "--stage"], capture_output=True, text=True, check=True)
    return listed.stdout.startswith("160000")


def as_it_is(outcome: Outcome, folder: Path) -> None:
    """What was published is what the site holds, byte for byte, and once more changes nothing."""
    if outcome.status != 0:
        return
    for name in files_of(SITE[0]):
        shown = subprocess.run(["git", "-C", str(folder / "out" / "pages.git"), "show", f"main:{name}"], capture_output=True, check=True)
        assert shown.stdout == (SITE[0] / name).read_bytes(), name
    again = publish(str(folder / "out" / "pages.git"))()
    assert again.status == 0 and "is up to date" in again.out
    shutil.rmtree(folder / "out")


@corpus(
    "repositories",
    [
        Case(f"one that {name}", lambda folder, of=of: into(folder, *of), statuses=(0,) if of[1] else (2,), check=as_it_is)
        for name, of in REPOSITORIES.items()
    ],
)
def test_a_repository_gets_the_site_as_it_is_or_nothing(case: Case, arena: Path) -> None:
    meet(case, arena)
