"""What sets a fresh clone up: the scripts, the Makefile, and the command of continuous integration."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SH = shutil.which("sh") or "/bin/sh"


def tool(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!{SH}\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH of its own: a Linux without the libraries, a user who is not root, no package manager."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sort", "tr", "cat"):
        (folder / name).symlink_to(shutil.which(name) or "")
    tool(folder, "uname", "echo Linux")
    tool(folder, "id", "echo 1000")
    tool(folder, "ldconfig", "echo '	libX11.so.6 (libc6,x86-64) => /lib/libX11.so.6'")
    return folder


def script(name: str, tools: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SH, str(ROOT / "scripts" / name)], env={"PATH": str(tools), **environment}, capture_output=True, text=True, check=False
    )


def test_this_machine_has_its_libraries() -> None:
    done = subprocess.run([SH, str(ROOT / "scripts" / "system_libraries.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_missing_libraries_are_named_with_the_one_command(tools: Path) -> None:
    tool(tools, "apt-get", "exit 9")
    done = script("system_libraries.sh", tools)
    assert done.returncode == 1
    assert "libGL.so.1" in done.stderr and "libX11" not in done.stderr
    assert "sudo apt-get install -y libegl1 libgl1 libglib2.0-0 libgomp1 libusb-1.0-0" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_root_on_debian_gets_them_installed_without_a_question(tools: Path, tmp_path: Path) -> None:
    tool(tools, "id", "echo 0")
    tool(tools, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {tmp_path}/calls')
    done = script("system_libraries.sh", tools)
    assert done.returncode == 0, done.stderr
    update, install = (tmp_path / "calls").read_text().splitlines()
    assert update.startswith("noninteractive update")
    assert install.startswith("noninteractive install -y") and install.split()[-5:] == [
        "libegl1",
        "libgl1",
        "libglib2.0-0",
        "libgomp1",
        "libusb-1.0-0",
    ]


def test_an_installation_that_fails_is_a_failure(tools: Path) -> None:
    tool(tools, "id", "echo 0")
    tool(tools, "apt-get", "exit 100")
    assert script("system_libraries.sh", tools).returncode == 100


def test_another_system_is_left_alone(tools: Path) -> None:
    tool(tools, "uname", "echo Darwin")
    assert script("system_libraries.sh", tools).returncode == 0


def test_a_machine_without_a_python_is_told_so_in_a_sentence(tools: Path) -> None:
    tool(tools, "python3", "exit 1")  # too old
    done = script("find_python.sh", tools)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("tips-bench needs Python 3.11 or newer")


def test_a_python_of_ones_own_is_taken_first(tools: Path) -> None:
    (tools / "python3.11").symlink_to(sys.executable)
    assert script("find_python.sh", tools).stdout == "python3.11\n"
    assert script("find_python.sh", tools, PYTHON=sys.executable).stdout == f"{sys.executable}\n"


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("demo", ".venv/bin/tips-bench quickstart"),
        ("test", ".venv/bin/python -m pytest"),
        ("check", ".venv/bin/python -m pytest"),
        ("lint", ".venv/bin/mypy"),
        ("bench", "benchmarks/bench_*.py"),
        ("docs", "scripts/card_pages.py"),
        ("sanity", "-m benchmarks.sanity"),
    ],
)
def test_every_target_sets_up_what_it_needs_from_nothing(target: str, command: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "-n", target], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    steps = done.stdout
    assert steps.index("system_libraries.sh") < steps.index("-m venv") < steps.index("pip install") < steps.index(command)
    assert ("'.[test]'" in steps) == (target in ("test", "check", "lint", "bench", "sanity"))


def test_a_second_call_sets_nothing_up_again(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("bin/python", ".installed", ".installed-test"):
        (tmp_path / ".venv" / name).touch()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "-n", "test"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith(".venv/bin/python -m pytest")


def test_continuous_integration_lints_and_runs_the_tests_and_reads_no_input() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "make lint test </dev/null" in run.read_text()


def test_what_only_tests_need_is_installed_for_root_and_otherwise_named_in_one_line(tools: Path, tmp_path: Path) -> None:
    done = script("test_packages.sh", tools, FASHION_MNIST=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (0, "")
    (line,) = done.stderr.splitlines()
    assert "test_cli_leaderboard.py" in line and "test_fashion_mnist.py" in line
    assert line.endswith("sudo apt-get install -y chromium dataset-fashion-mnist")
    tool(tools, "id", "echo 0")
    tool(tools, "apt-get", f'echo "$DEBIAN_FRONTEND $*" >> {tmp_path}/calls')
    done = script("test_packages.sh", tools, FASHION_MNIST=str(tmp_path / "none"))
    assert (done.returncode, done.stderr) == (0, "")
    assert [call.split()[-1] for call in (tmp_path / "calls").read_text().splitlines()] == ["-qq", "chromium", "dataset-fashion-mnist"]


def test_a_package_for_tests_that_cannot_be_had_is_named_and_no_error(tools: Path, tmp_path: Path) -> None:
    tool(tools, "id", "echo 0")
    tool(tools, "apt-get", 'case "$*" in *chromium*) exit 100;; esac')
    done = script("test_packages.sh", tools, FASHION_MNIST=str(tmp_path / "none"))
    assert done.returncode == 0 and done.stderr.endswith("sudo apt-get install -y chromium\n")


def test_nothing_is_said_where_all_that_tests_need_is_there(tools: Path, tmp_path: Path) -> None:
    tool(tools, "google-chrome", "exit 0")
    done = script("test_packages.sh", tools, FASHION_MNIST=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_pages_of_the_cards_are_what_the_cards_say() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("card_pages", ROOT / "scripts" / "card_pages.py")
    assert spec and spec.loader
    card_pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(card_pages)
    pages = card_pages.pages()
    for name, text in pages.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"{name}: run `make docs`"
    assert {f"protocols/{path.name}" for path in (ROOT / "docs" / "protocols").iterdir()} == {name for name in pages if "/" in name}


def test_open3d_without_its_system_libraries_is_one_sentence_and_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "open3d.py").write_text("raise ImportError('libusb-1.0.so.0: cannot open shared object file: No such file or directory')")
    command = [sys.executable, "-m", "tips_bench", "data", "rooms", str(tmp_path / "rooms"), "--train", "4", "--val", "4", "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "open3d: cannot be imported: libusb-1.0.so.0" in done.stderr and "tips-bench doctor" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".py" and path.name != "__pycache__") == []
