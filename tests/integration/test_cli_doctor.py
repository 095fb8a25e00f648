"""tips-bench doctor: what is a fault and what is not."""

from __future__ import annotations

import ctypes
import json
import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from tips_bench.catalog import card_files
from tips_bench.cli import doctor
from tips_bench.cli.app import app

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def findings() -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in json.loads(run("--json").stdout)}


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the packages, which take seconds to import."""
    monkeypatch.setattr(doctor, "packages", lambda: iter(()))


def test_a_machine_that_passes_these_tests_has_no_fault() -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "0 faults"
    assert f"torch {torch.__version__}" in done.stdout
    assert re.search(rf" torch +{re.escape(torch.__version__)}\n", run("--all").stdout)


def test_what_is_found_is_a_line_for_each_section_and_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> Any:
        if name in ("timm", "open_clip"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name)

    monkeypatch.setattr(doctor, "import_module", without)
    lines = run().stdout.splitlines()
    assert len(lines) == 1 + len({finding["section"] for finding in findings().values()}) + 1
    assert any(line.endswith("other packages, without timm, open_clip_torch (optional)") for line in lines)
    assert re.search(r"data sets +\d+ are here or generated when first used, \d+ are not: tips-bench doctor --all lists them", lines[-2])


def test_processor_cores_and_disk_are_those_of_the_system(fast: None) -> None:
    found = findings()
    assert found["cpu"]["value"].startswith(f"{psutil.cpu_count()} cores")
    free = psutil.disk_usage(os.environ["TIPS_BENCH_DATA"].rsplit("/", 1)[0]).free / 1e9
    stated = float(re.search(r"(\d+) GB free", found["$TIPS_BENCH_CACHE"]["value"])[1])  # type: ignore[index]
    assert stated == pytest.approx(free, abs=2)


def test_a_missing_system_library_is_a_fault_with_its_package(fast: None, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ctypes.CDLL

    def missing(name: str, *rest: Any) -> Any:
        if name == "libGL.so.1":
            raise OSError("cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    done = run()
    assert done.exit_code == 1
    assert re.match(r"FAULT +system libraries +libGL\.so\.1: missing\. apt-get install libgl1", done.stdout.splitlines()[1])
    assert done.stdout.splitlines()[-1] == "1 fault"


@pytest.mark.parametrize(("module", "fault"), [("open3d", True), ("timm", False)])
def test_a_package_that_is_not_there_is_a_fault_unless_it_is_optional(monkeypatch: pytest.MonkeyPatch, module: str, fault: bool) -> None:
    def without(name: str) -> Any:
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return import_module(name)

    monkeypatch.setattr(doctor, "import_module", without)
    (finding,) = (one for one in doctor.packages() if one.name == module)
    assert finding.fault == fault
    assert finding.fix == ("pip install -e . in the clone of tips-bench" if fault else f"pip install {module}")


def test_a_package_that_breaks_when_it_is_imported_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        if name == "cv2":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return import_module(name)

    monkeypatch.setattr(doctor, "import_module", broken)
    monkeypatch.setitem(doctor.NEEDED, "opencv-python", "cv2")
    (finding,) = (one for one in doctor.packages() if one.name == "opencv-python")
    assert finding.fault and "libGL.so.1: cannot open shared object file" in finding.value


def test_a_cache_that_cannot_be_written_is_a_fault(fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    found = findings()["$TIPS_BENCH_CACHE"]
    assert found["fault"] and "cannot be written" in found["value"]


def test_what_the_cache_holds_is_added_up(fast: None) -> None:
    cache = Path(os.environ["TIPS_BENCH_CACHE"])
    (cache / "weights").mkdir(parents=True)
    os.truncate(os.open(cache / "weights" / "a", os.O_CREAT | os.O_WRONLY), 2_500_000_000)  # sparse
    assert ": 2.50 GB used" in findings()["$TIPS_BENCH_CACHE"]["value"]


def test_a_broken_card_is_a_fault_that_names_the_file(fast: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text("name: mine\n")
    monkeypatch.setenv("TIPS_BENCH_CARDS", str(tmp_path))
    done = run()
    assert done.exit_code == 1
    assert f"Fix {tmp_path}/tasks/mine.yaml" in done.stdout


def test_a_data_set_that_is_there_is_told_from_one_that_is_not(fast: None) -> None:
    root = yaml.safe_load(card_files("task")["ade20k"].read_text())["data"]["root"]
    missing = findings()["ade20k"]
    assert "is not there" in missing["value"] and missing["absent"] and not missing["fault"]
    assert re.search(r"^- +data sets +ade20k ", run("--all").stdout, re.MULTILINE)
    (Path(os.environ["TIPS_BENCH_DATA"]) / root).mkdir(parents=True)
    assert "is there" in findings()["ade20k"]["value"]


def test_the_libraries_are_those_of_the_set_up_script() -> None:
    script = (ROOT / "scripts" / "system_libraries.sh").read_text()
    needed = re.search(r'needed="([^"]+)"', script)[1].split()  # type: ignore[index]
    assert dict(pair.split(":") for pair in needed) == doctor.SYSTEM_LIBRARIES


def test_the_packages_are_those_of_the_project_file() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bare = re.compile(r"[A-Za-z0-9_-]+")
    declared = {bare.match(line)[0] for line in project["dependencies"]}  # type: ignore[index]
    # what starts the command at all need not be looked for, and mmsegmentation is imported by way of its stand-in
    assert declared - {"typer", "rich", "pydantic", "pyyaml", "ftfy", "regex", "mmsegmentation"} == set(doctor.NEEDED)
    extra = {bare.match(line)[0] for line in project["optional-dependencies"]["encoders"]}  # type: ignore[index]
    assert extra == set(doctor.OPTIONAL)
