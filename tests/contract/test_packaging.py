"""Images, the conda recipe and the workflows say what the project says: its packages, its files, its commands."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import tips_bench

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ON_CONDA_FORGE = {"torch": "pytorch", "mmcv-lite": "mmcv", "matplotlib": "matplotlib-base"}
DOCKERFILES = sorted((ROOT / "packaging" / "docker").glob("*.Dockerfile"))


def test_the_conda_recipe_needs_what_the_project_needs() -> None:
    recipe = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text())
    needed = {}
    for requirement in PROJECT["dependencies"]:
        name, versions = re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        needed[ON_CONDA_FORGE.get(name, name)] = versions
    run = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])
    assert run == {"python": PROJECT["requires-python"], **needed}
    assert recipe["context"]["version"] == tips_bench.__version__


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_takes_extras_and_files_that_exist(path: Path) -> None:
    text = path.read_text()
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (ROOT / source).exists()
    assert re.findall(r"^USER (\d+)$", text, re.MULTILINE) == ["1000"], "nothing runs as root"


def test_an_image_gets_all_that_a_wheel_is_made_of() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    assert {folder.strip("/") for folder in wheel} | {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml"} <= kept


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_runs_scripts_and_targets_that_exist(path: Path) -> None:
    targets = re.findall(r"^([^\s:#]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    workflow = yaml.safe_load(path.read_text())
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 120
        for command in (step["run"] for step in job["steps"] if "run" in step):
            for script in re.findall(r"scripts/\w+\.sh", command):
                assert (ROOT / script).is_file()
            for target in re.findall(r"make PYTHON=python (\S+)", command):
                assert target in targets or target.startswith(".venv/")


def test_only_a_person_publishes() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())["jobs"]
    publishing = [name for name, job in jobs.items() if any("pypi-publish" in step.get("uses", "") for step in job["steps"])]
    assert publishing == ["publish"] and jobs["publish"]["environment"] == "pypi" and jobs["publish"]["needs"] == ["build", "try"]


def test_the_development_container_makes_the_environment_of_the_tests() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert ".venv/.installed-test" in container["postCreateCommand"] and "scripts/system_libraries.sh" in container["postCreateCommand"]
