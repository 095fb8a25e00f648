"""examples/notebooks: each is executed whole by a Jupyter kernel, in an empty folder, and shows what its text promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXECUTE = """
import sys, nbclient, nbformat
book = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(book, timeout=900, kernel_name="python3").execute(cwd=".")
nbformat.write(book, sys.argv[2])
"""
# notebook -> how many tables and pictures its cells show
SHOWN = {"score-your-encoder": (5, 1), "compare-and-see": (1, 2)}


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "examples" / "notebooks").glob("*.ipynb")))
def test_a_notebook_runs_from_its_first_cell_to_its_last(
    name: str, readers_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, *_ = map(pytest.importorskip, ("nbformat", "nbclient", "ipykernel"))
    rooms = readers_cache / "generated" / "rooms"
    rooms.mkdir(parents=True, exist_ok=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rooms").symlink_to(rooms)
    monkeypatch.setenv("TIPS_BENCH_CACHE", str(readers_cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    done = tmp_path / "done.ipynb"
    command = [sys.executable, "-c", EXECUTE, ROOT / "examples" / "notebooks" / f"{name}.ipynb", done]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    shown = [
        output["data"]
        for cell in nbformat.read(done, as_version=4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type in ("display_data", "execute_result")
    ]
    tables = [data["text/html"] for data in shown if "<table" in data.get("text/html", "")]
    assert (len(tables), sum("image/png" in data for data in shown)) == SHOWN[name]
    assert any("B is better" in table for table in tables)
