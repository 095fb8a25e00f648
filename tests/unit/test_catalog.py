"""Where cards are found: shipped, the user's, by path; and the folders the environment names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tips_bench import catalog
from tips_bench.errors import UserError


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder with cards beside it, in a working directory of its own."""
    package = tmp_path / "checkout" / "tips_bench"
    package.mkdir(parents=True)
    put(tmp_path / "checkout", "tasks/one.yaml", "tasks/two.yaml", "tasks/protocols/p.yaml", "model_zoo/m.yaml", "tasks/_base_/b.yaml")
    monkeypatch.setattr(catalog, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    return package


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {root.name}")


def test_a_checkout_has_its_cards_beside_the_package(shipped: Path) -> None:
    assert list(catalog.card_files("task")) == ["one", "two"]
    assert list(catalog.card_files("protocol")) == ["p"]
    assert list(catalog.card_files("model")) == ["m"]


def test_a_wheel_has_its_cards_inside_the_package(shipped: Path) -> None:
    put(shipped / "bundled", "tasks/three.yaml")
    assert list(catalog.card_files("task")) == ["three"]


def test_the_users_folder_in_the_working_directory_comes_before_the_shipped_one(shipped: Path) -> None:
    put(Path(catalog.USER_FOLDER), "tasks/one.yaml", "model_zoo/mine.yaml")
    assert catalog.card_files("task")["one"].parts[0] == catalog.USER_FOLDER
    assert list(catalog.card_files("model")) == ["m", "mine"]


def test_folders_of_the_environment_come_first_in_their_order(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        put(tmp_path / name, "tasks/one.yaml")
    put(Path(catalog.USER_FOLDER), "tasks/one.yaml")
    monkeypatch.setenv("TIPS_BENCH_CARDS", os.pathsep.join([str(tmp_path / "b"), str(tmp_path / "a")]))
    assert catalog.find_card("task", "one") == tmp_path / "b" / "tasks" / "one.yaml"


def test_a_named_folder_that_is_not_there_is_an_error(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPS_BENCH_CARDS", "nowhere")
    with pytest.raises(UserError, match=r"\$TIPS_BENCH_CARDS: nowhere is not a folder"):
        catalog.card_files("task")


def test_a_path_to_a_card_is_taken_as_it_is(shipped: Path, tmp_path: Path) -> None:
    put(tmp_path, "mine.yaml")
    assert catalog.find_card("task", str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"


def test_a_path_that_is_not_there_is_said_to_be_missing(shipped: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: there is no such file"):
        catalog.find_card("task", "absent.yaml")


@pytest.mark.parametrize("name", ["../tasks/one", "protocols/p", "/etc/passwd", ""])
def test_a_name_is_never_a_way_to_another_folder(shipped: Path, name: str) -> None:
    with pytest.raises(UserError, match="there is no task named"):
        catalog.find_card("task", name)


def test_folders_are_the_ones_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("TIPS_BENCH_DATA", "~/d")
    assert catalog.cache_root() == tmp_path / "c"
    assert catalog.data_root() == Path.home() / "d"


def test_without_an_environment_the_cache_is_in_the_home_and_the_data_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIPS_BENCH_CACHE")
    monkeypatch.setenv("TIPS_BENCH_DATA", "")
    assert catalog.cache_root() == Path.home() / ".cache" / "tips-bench"
    assert catalog.data_root() == Path("data")


def test_files_that_begin_with_a_dot_are_no_cards(shipped: Path, tmp_path: Path) -> None:
    put(tmp_path / "checkout", "tasks/._one.yaml", "tasks/.#two.yaml")
    assert list(catalog.card_files("task")) == ["one", "two"]


@pytest.mark.parametrize("name", ["x" * 5000 + ".yaml", "a\0b.yaml", "~nobody-of-that-name/x.yaml", "."])
def test_a_path_that_cannot_be_is_a_sentence(shipped: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"there is no such file|no task named"):
        catalog.find_card("task", name)


def test_a_card_folder_that_cannot_be_is_a_sentence(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIPS_BENCH_CARDS", "x" * 5000)
    with pytest.raises(UserError, match="is not a folder"):
        catalog.card_files("task")
