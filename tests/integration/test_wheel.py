"""The wheel: the cards are inside it, and what it unpacks to works without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("tasks", "model_zoo", "prompts", "leaderboards", "recipes")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def call(unpacked: Path, folder: Path, *arguments: str) -> str:
    """What the unpacked command prints, in a folder that is no checkout."""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-m", "tips_bench", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def committed(folder: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return {name for name in listed if (ROOT / name).is_file()}


def test_every_committed_file_of_the_package_and_of_the_card_folders_is_inside(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = committed("tips_bench") | {f"tips_bench/bundled/{name}" for folder in FOLDERS for name in committed(folder)}
    assert expected <= inside, sorted(expected - inside)


def test_type_checkers_are_told_that_the_package_has_types(wheel: Path) -> None:
    assert "tips_bench/py.typed" in zipfile.ZipFile(wheel).namelist()


def test_nothing_else_is_inside(wheel: Path) -> None:
    assert {name.split("/")[0].split("-")[0] for name in zipfile.ZipFile(wheel).namelist()} == {"tips_bench"}


def test_the_licence_and_the_command_are_inside(unpacked: Path) -> None:
    (info,) = unpacked.glob("*.dist-info")
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text()
    assert "tips-bench = tips_bench.cli.main:main" in (info / "entry_points.txt").read_text()


@pytest.mark.parametrize(("kind", "folder"), [("tasks", "tasks"), ("protocols", "tasks/protocols"), ("models", "model_zoo")])
def test_it_lists_its_cards_without_the_checkout(unpacked: Path, tmp_path: Path, kind: str, folder: str) -> None:
    listed = {card["name"] for card in json.loads(call(unpacked, tmp_path, "list", kind, "--json"))}
    assert listed >= {Path(name).stem for name in committed(folder) if Path(name).parent == Path(folder) and name.endswith(".yaml")}


def test_it_reads_its_cards_from_inside_itself(unpacked: Path, tmp_path: Path) -> None:
    assert str(unpacked / "tips_bench" / "bundled" / "tasks" / "ade20k.yaml") in call(unpacked, tmp_path, "show", "ade20k")
