"""What starts light: the package, its listing and its help load no torch, and the public names are there all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ["torch", "torchvision", "mmseg", "mmcv", "open3d", "pandas", "matplotlib", "transformers", "timm", "open_clip", "scipy", "sklearn"]
REPORT = "import json, sys, atexit; atexit.register(lambda: print(json.dumps(sorted({name.split('.')[0] for name in sys.modules}))))\n"


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds when `code` has run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", REPORT + code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments: str) -> str:
    return f"import sys; sys.argv = {['tips-bench', *arguments]!r}; from tips_bench.cli.main import main; main()"


def test_importing_the_package_loads_nothing_of_others() -> None:
    added = loaded_by("import tips_bench") - loaded_by("pass")
    assert added - {"tips_bench"} <= set(sys.stdlib_module_names)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import tips_bench; tips_bench.list_tasks(), tips_bench.list_models()",
        "import tips_bench.registry",
        "import tips_bench.encoders",
        "import tips_bench.executors.slurm, tips_bench.executors.ray, tips_bench.executors.work",
        "from tips_bench import Record, UserError, load_record",
        "import tips_bench; tips_bench.list_protocols(), dir(tips_bench)",
        command("--help"),
        command("--version"),
        command("run", "--help"),
        command("list", "models"),
        command("list", "tasks", "--json"),
        command("list", "protocols"),
        command("show", "ade20k"),
    ],
)
def test_nothing_heavy_is_loaded_by(code: str) -> None:
    assert not loaded_by(code) & set(HEAVY)


def test_the_public_names_are_there_when_they_are_asked_for() -> None:
    import tips_bench
    from tips_bench.encoders import load_encoder
    from tips_bench.evaluation.run import evaluate
    from tips_bench.results.record import load_record

    assert tips_bench.run is evaluate
    assert tips_bench.load_encoder is load_encoder
    assert tips_bench.load_record is load_record
    assert set(tips_bench.__all__) <= set(dir(tips_bench))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import tips_bench

    with pytest.raises(AttributeError, match="'tips_bench' has no attribute 'evaluate_all'"):
        _ = tips_bench.evaluate_all
