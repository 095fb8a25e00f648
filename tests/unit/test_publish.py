"""Publishing: to a folder, to a git repository on disk, to a stand-in of the hub; twice, with conflicts, broken off."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from tests.helpers.results_sets import write_record
from tips_bench.errors import UserError
from tips_bench.leaderboard import publish as publishing
from tips_bench.leaderboard.publish import Change, is_git, publish
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.site_files import MANIFEST, Manifest, files_of, read_manifest


def yes(change: Change) -> bool:
    return True


def no(change: Change) -> bool:
    return False


def never(change: Change) -> bool:
    raise AssertionError("nobody should have been asked")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sites: the second has one model less and another more."""
    folder = tmp_path_factory.mktemp("sites")
    for name, models in (("one", {"a": 0.5, "b": 0.6}), ("two", {"a": 0.5, "c": 0.7})):
        for model, quality in models.items():
            write_record(folder / f"results-{name}", model, quality, number=8)
        build([folder / f"results-{name}"], folder / name)
    return folder / "one", folder / "two"


def assert_same(folder: Path, site: Path, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert set(files_of(folder)) - but == set(files_of(site))
    for name in [*files_of(site), MANIFEST]:
        assert (folder / name).read_bytes() == (site / name).read_bytes(), name


def test_a_folder_gets_the_site_then_its_changes_then_nothing(sites: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = sites
    to = tmp_path / "www"
    first = publish(one, str(to), yes)
    assert first is not None and first.added == files_of(one) and not first.changed and not first.removed
    assert_same(to, one)
    second = publish(two, str(to), yes)
    assert second is not None
    assert "models/b.html" in second.removed and "models/c.html" in second.added and "index.html" in second.changed
    assert second.same == len(files_of(two)) - len(second.written) > 0
    assert_same(to, two)
    assert not publish(two, str(to), never)


def test_nothing_is_written_where_the_answer_is_no(sites: tuple[Path, Path], tmp_path: Path) -> None:
    assert publish(sites[0], str(tmp_path / "www"), no) is None
    assert not (tmp_path / "www").exists()


def test_files_of_others_stay_and_those_in_the_way_are_conflicts(sites: tuple[Path, Path], tmp_path: Path) -> None:
    one, two = sites
    to = tmp_path / "www"
    to.mkdir()
    (to / "CNAME").write_text("example.org")
    publish(one, str(to), yes)
    publish(two, str(to), yes)
    assert_same(to, two, but={"CNAME"})
    (to / "index.html").write_text("edited")
    (to / "models" / "b.html").write_text("mine")
    before = {name: (to / name).read_bytes() for name in files_of(to)}
    with pytest.raises(UserError, match=r"2 files that .* 'index\.html', 'models/b\.html'"):
        publish(one, str(to), never)
    assert {name: (to / name).read_bytes() for name in files_of(to)} == before


def test_nothing_is_written_through_a_link(sites: tuple[Path, Path], tmp_path: Path) -> None:
    to, other = tmp_path / "www", tmp_path / "other"
    to.mkdir()
    other.mkdir()
    (to / "models").symlink_to(other)
    with pytest.raises(UserError, match=r"models/a\.html"):
        publish(sites[0], str(to), never)
    assert not list(other.iterdir())


def test_a_publication_that_was_broken_off_is_taken_up(sites: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = sites
    to = tmp_path / "www"
    publish(one, str(to), yes)
    atomic, written = publishing.atomic, []

    def failing(path: Path) -> Any:
        written.append(path)
        if len(written) > 3:
            raise KeyboardInterrupt
        return atomic(path)

    monkeypatch.setattr(publishing, "atomic", failing)
    with pytest.raises(KeyboardInterrupt):
        publish(two, str(to), yes)
    monkeypatch.undo()
    publish(two, str(to), yes)
    assert_same(to, two)


def test_a_site_that_was_changed_since_it_was_built_is_not_sent(sites: tuple[Path, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(sites[0], site)
    (site / "index.html").write_text("changed")
    with pytest.raises(UserError, match=r"not as it was built: 'index\.html'"):
        publish(site, str(tmp_path / "www"), never)
    with pytest.raises(UserError, match="not a site"):
        publish(tmp_path, str(tmp_path / "www"), never)


@pytest.mark.parametrize("path", ["../above", "/etc/passwd", ".git/config", "a\\b", "c:/x", ""])
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    Manifest({path: "0" * 64}, {}).save(tmp_path)
    with pytest.raises(UserError, match="not the manifest of a site"):
        read_manifest(tmp_path)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty bare repository, and an author's name."""
    (tmp_path / "gitconfig").write_text("[user]\n name = A\n email = a@example.org\n[init]\n defaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    bare = tmp_path / "pages.git"
    git(tmp_path, "init", "--quiet", "--bare", str(bare))
    return bare


def checkout(repository: Path, to: Path, branch: str = "main") -> Path:
    git(to.parent, "clone", "--quiet", "--branch", branch, str(repository), str(to))
    shutil.rmtree(to / ".git")
    return to


def test_a_git_repository_gets_a_commit_a_publication(sites: tuple[Path, Path], repository: Path, tmp_path: Path) -> None:
    one, two = sites
    publish(one, str(repository), yes)
    assert_same(checkout(repository, tmp_path / "first"), one)
    publish(two, f"file://{repository}", yes)
    assert_same(checkout(repository, tmp_path / "second"), two)
    assert not publish(two, str(repository), never)
    assert len(git(repository, "log", "--oneline", "main").splitlines()) == 2


def commit_by_hand(repository: Path, work: Path, name: str, text: str) -> None:
    git(work.parent, "clone", "--quiet", str(repository), str(work))
    (work / name).write_text(text)
    git(work, "add", name)
    git(work, "commit", "--quiet", "-m", "by hand")
    git(work, "push", "--quiet", "origin", "HEAD:main")


def test_git_files_of_others_stay_and_an_edited_page_is_a_conflict(sites: tuple[Path, Path], repository: Path, tmp_path: Path) -> None:
    one, two = sites
    commit_by_hand(repository, tmp_path / "w1", "README.md", "hello")
    publish(one, str(repository), yes)
    assert_same(checkout(repository, tmp_path / "seen"), one, but={"README.md"})
    commit_by_hand(repository, tmp_path / "w2", "index.html", "edited")
    with pytest.raises(UserError, match=r"1 files that .*index\.html"):
        publish(two, str(repository), never)
    assert len(git(repository, "log", "--oneline", "main").splitlines()) == 3


def test_a_repository_that_moves_on_meanwhile_is_not_overwritten(sites: tuple[Path, Path], repository: Path, tmp_path: Path) -> None:
    publish(sites[0], str(repository), yes)

    def slowly(change: Change) -> bool:
        commit_by_hand(repository, tmp_path / "w", "NEWS", "meanwhile")
        return True

    with pytest.raises(UserError, match="Somebody else pushed meanwhile: publish again"):
        publish(sites[1], str(repository), slowly)
    publish(sites[1], str(repository), yes)
    assert_same(checkout(repository, tmp_path / "seen"), sites[1], but={"NEWS"})


def test_a_branch_that_is_not_there_is_started_empty(sites: tuple[Path, Path], repository: Path, tmp_path: Path) -> None:
    commit_by_hand(repository, tmp_path / "w", "code.py", "1")
    publish(sites[0], str(repository), yes, branch="gh-pages")
    assert_same(checkout(repository, tmp_path / "pages", "gh-pages"), sites[0])
    publish(sites[1], str(repository), yes, branch="gh-pages")
    assert_same(checkout(repository, tmp_path / "pages2", "gh-pages"), sites[1])
    assert files_of(checkout(repository, tmp_path / "main")) == ["code.py"]


def test_a_repository_that_is_not_there_says_what_git_says(sites: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.git: git: "):
        publish(sites[0], str(tmp_path / "nowhere.git"), never)
    with pytest.raises(UserError, match="git: "):
        publish(sites[0], "git@-oProxyCommand=touch:x.git", never)


def test_a_repository_that_changes_line_ends_or_filters_files_is_published_to_again_and_again(
    sites: tuple[Path, Path], repository: Path, tmp_path: Path
) -> None:
    attributes = "* text=auto eol=crlf\n*.html filter=lfs diff=lfs merge=lfs\n*.css working-tree-encoding=UTF-16\n*.json ident\n"
    commit_by_hand(repository, tmp_path / "w", ".gitattributes", attributes)
    for site in (*sites, sites[0]):
        publish(site, str(repository), yes)
        assert not publish(site, str(repository), never)
    for name in files_of(sites[0]):
        blob = subprocess.run(["git", "-C", str(repository), "show", f"main:{name}"], capture_output=True, check=True).stdout
        assert blob == (sites[0] / name).read_bytes(), name


def test_a_submodule_where_the_site_is_to_go_is_refused(sites: tuple[Path, Path], repository: Path, tmp_path: Path) -> None:
    commit_by_hand(repository, tmp_path / "w", "README", "1")
    for name in ("data", "elsewhere"):
        git(tmp_path / "w", "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},{name}")
        git(tmp_path / "w", "commit", "--quiet", "-m", name)
        git(tmp_path / "w", "push", "--quiet", "origin", "HEAD:main")
        with pytest.raises(UserError, match=r"'data' there is another repository \(a submodule\)"):
            publish(sites[0], str(repository), never)
    publish(sites[0], str(repository), yes, branch="gh-pages")
    assert_same(checkout(repository, tmp_path / "seen", "gh-pages"), sites[0])


@pytest.mark.parametrize("length", [300, 5_000, 200_000])
@pytest.mark.parametrize("form", ["{}", "{}/www", "{}.git", "file:///{}.git", "hf://spaces/owner/{}"])
def test_a_name_longer_than_the_system_takes_is_one_sentence(
    sites: tuple[Path, Path], tmp_path: Path, hub: Hub, form: str, length: int
) -> None:
    with pytest.raises(UserError) as error:
        publish(sites[0], form.format("a" * length), never)
    assert "\n" not in str(error.value)


def test_the_clone_of_a_process_that_was_killed_is_removed(
    sites: tuple[Path, Path], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp" / ".tips-bench-publish.4194305-0a1b2c3d.tmp" / "copy").mkdir(parents=True)
    publish(sites[0], str(repository), yes)
    assert not list((tmp_path / "temp").iterdir())


@pytest.mark.parametrize("to", ["git@github.com:a/b.git", "ssh://h/p", "https://h/p.git", "file:///p", "/srv/x.git", "x.git/"])
def test_these_are_git_repositories(to: str) -> None:
    assert is_git(to)


def test_these_are_folders() -> None:
    assert not any(map(is_git, ["site", "/srv/www", "a@b", "github"]))


class Hub:
    """Stands in for HfApi: one repository, with its revisions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.revision = 1
        self.commits: list[dict[str, Any]] = []
        self.before_commit: Callable[[], None] = lambda: None

    def repo_info(self, *, repo_id: str, repo_type: str) -> Any:
        if repo_id != "owner/board":
            raise OSError("404 Client Error: there is no such repository")
        return SimpleNamespace(sha=str(self.revision))

    def snapshot_download(self, *, repo_id: str, repo_type: str, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        assert revision == str(self.revision)
        for name in [*files_of(self.folder), MANIFEST]:
            if name in allow_patterns and (self.folder / name).exists():
                (Path(local_dir) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.folder / name, Path(local_dir) / name)

    def create_commit(self, *, repo_id: str, repo_type: str, operations: list[Any], commit_message: str, parent_commit: str) -> None:
        self.before_commit()
        if parent_commit != str(self.revision):
            raise OSError("412 Precondition Failed: a commit has happened since")
        for operation in operations:
            path = self.folder / operation.path_in_repo
            if isinstance(operation, huggingface_hub.CommitOperationDelete):
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(operation.path_or_fileobj, path)
        self.revision += 1
        self.commits.append({"repo_type": repo_type, "message": commit_message})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "README.md").write_text("---\nsdk: static\n---\n")
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    return made


def test_a_space_gets_one_commit_a_publication_and_keeps_its_readme(sites: tuple[Path, Path], hub: Hub) -> None:
    one, two = sites
    publish(one, "hf://spaces/owner/board", yes)
    publish(two, "hf://spaces/owner/board", yes)
    assert not publish(two, "hf://spaces/owner/board", never)
    assert_same(hub.folder, two, but={"README.md"})
    assert [commit["repo_type"] for commit in hub.commits] == ["space", "space"]


def test_a_hub_that_has_an_edited_page_or_moves_on_is_not_overwritten(sites: tuple[Path, Path], hub: Hub) -> None:
    one, two = sites
    publish(one, "hf://datasets/owner/board", yes)
    hub.before_commit = lambda: setattr(hub, "revision", hub.revision + 1)
    with pytest.raises(UserError, match="412 Precondition Failed"):
        publish(two, "hf://datasets/owner/board", yes)
    (hub.folder / "index.html").write_text("edited")
    with pytest.raises(UserError, match=r"index\.html"):
        publish(two, "hf://datasets/owner/board", never)
    assert (hub.folder / "index.html").read_text() == "edited"


@pytest.mark.parametrize("to", ["hf://owner/board", "hf://spaces/owner", "hf://spaces/../x/y", "hf://models/a/b"])
def test_a_place_that_is_not_on_the_hub_says_how_to_write_it(sites: tuple[Path, Path], hub: Hub, to: str) -> None:
    with pytest.raises(UserError, match="Write hf://spaces/OWNER/NAME or hf://datasets/OWNER/NAME"):
        publish(sites[0], to, never)


def test_a_repository_that_the_hub_does_not_know_says_so(sites: tuple[Path, Path], hub: Hub) -> None:
    with pytest.raises(UserError, match="404 Client Error"):
        publish(sites[0], "hf://spaces/owner/other", never)


class Answering(BaseHTTPRequestHandler):
    """A hub that answers every question with the status in `status`."""

    status = 404

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """huggingface_hub itself, asking a server of this machine."""
    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_hub_that_refuses_is_one_sentence(
    sites: tuple[Path, Path], endpoint: HTTPServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Answering, "status", status)
    with pytest.raises(
        UserError, match=rf"hf://spaces/owner/board: the Hugging Face hub answered: .*{status}.* Nothing was sent"
    ) as caught:
        publish(sites[0], "hf://spaces/owner/board", never)
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_sentence(
    sites: tuple[Path, Path], endpoint: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.shutdown()
    endpoint.server_close()
    with pytest.raises(UserError, match=r"the Hugging Face hub cannot be reached: .*refused.* Check the network"):
        publish(sites[0], "hf://spaces/owner/board", never)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"the Hugging Face hub cannot be reached: .*offline"):
        publish(sites[0], "hf://datasets/owner/board", never)


@pytest.mark.parametrize("name", ["-owner/board", "owner/a--b", "owner/board.git", f"owner/{'x' * 200}"])
def test_a_name_that_the_hub_does_not_allow_is_one_sentence(sites: tuple[Path, Path], endpoint: HTTPServer, name: str) -> None:
    with pytest.raises(UserError, match="not a name of the hub"):
        publish(sites[0], f"hf://spaces/{name}", never)
