"""Places that a site is never published to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.results_sets import write_record
from tips_bench.errors import UserError
from tips_bench.leaderboard.publish import Change, publish
from tips_bench.leaderboard.site import build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    write_record(folder / "results", "a", 0.5, number=8)
    build([folder / "results"], folder / "site")
    return folder / "site"


def never(change: Change) -> bool:
    raise AssertionError("nobody should have been asked")


@pytest.mark.parametrize("to", ["", " ", "\n", "a\0b", "\x1b[31mx", "x\nx.git"])
def test_a_place_without_a_name_is_refused(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--to: .* is no place to publish to"):
        publish(site, to, never)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["fd::7/x.git", "ext::sh -c touch% x .git", "hg::h/x.git", "transport::a://x.git"])
def test_a_remote_helper_is_never_started(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"git: .*transport '\w+' not allowed"):
        publish(site, to, never)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_password_in_an_address_is_not_shown(site: Path, scheme: str) -> None:
    with pytest.raises(UserError) as error:
        publish(site, f"{scheme}://user:secret@127.0.0.1:9/x.git", never)
    assert "secret" not in str(error.value) and "***@127.0.0.1:9" in str(error.value)
