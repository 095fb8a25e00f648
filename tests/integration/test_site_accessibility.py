"""Every kind of page of a site under axe-core, on a phone and a desk, light and dark: nothing that keeps people from reading it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from tests.helpers.browser import look
from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.site import build

TASKS = (("rooms-seg", "convex-224"), ("voc2012", "convex"), ("ade20k", "convex"), ("cityscapes", "convex"), ("ade20k", "linear-tips"))
DARK = "--blink-settings=preferredColorScheme=0"
DRIVER = """<!doctype html><body><pre id="said"></pre><script>
const pages = {pages}, said = {{}};
const next = () => {{
  const page = pages.shift();
  if (!page) {{ document.getElementById("said").textContent = JSON.stringify(said); return; }}
  const frame = document.createElement("iframe");
  frame.style = "width:{width}px;height:800px;border:0";
  frame.src = `site/${{page}}`;
  frame.onload = () => {{
    const inside = frame.contentDocument, script = inside.createElement("script");
    for (const closed of inside.querySelectorAll("details")) closed.open = true;
    script.src = "/axe.min.js";
    script.onload = async () => {{
      const found = await frame.contentWindow.axe.run();
      const sideways = inside.documentElement.scrollWidth > inside.documentElement.clientWidth;
      said[page] = [...found.violations.map((one) => `${{one.id}}: ${{one.nodes[0].html}}`), ...(sideways ? ["scrolls sideways"] : [])];
      frame.remove();
      next();
    }};
    inside.head.append(script);
  }};
  document.body.prepend(frame);
}};
next();
</script>"""


@pytest.fixture(scope="module")
def www(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a site, in site/, and axe-core beside it."""
    folder = tmp_path_factory.mktemp("www")
    for number, (model, quality) in enumerate({"tips-b14": 0.8, "tips-s14": 0.78, "clip-b16": 0.5, "pixels": 0.3}.items()):
        for task, protocol in TASKS:
            write_record(folder / "results", model, quality, task=task, protocol=protocol, pictured=[3, 5], encoder_s=1.0 + number)
    for seed in (1, 2):
        changes = {"weights_sha256": f"{seed}" * 64, "created": f"2026-0{seed}-01T00:00:00Z"}
        write_record(folder / "results", "tips-l14", 0.3 * seed, seed=seed, **changes)
    build([folder / "results"], folder / "www" / "site")
    shutil.copy(str(files("axe_core_python") / "axe.min.js"), folder / "www")
    return folder / "www"


@pytest.mark.nightly
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier_or_scrolls_sideways(www: Path, tmp_path: Path, width: int, scheme: str) -> None:
    site = www / "site"
    folders = ("tables", "tasks", "runs", "versus", "samples")
    pages = ["index.html", "compare.html", "contents.html", "models/tips-l14.html"]
    pages += [sorted((site / folder).glob("*.html"))[0].relative_to(site).as_posix() for folder in folders]
    (www / "driver.html").write_text(DRIVER.format(pages=json.dumps(pages), width=width))
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(www)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port
        options = ["--virtual-time-budget=60000", *([DARK] if scheme == "dark" else [])]
        text = look(f"http://127.0.0.1:{port[1]}/driver.html", tmp_path, *options, size="1500,900")
    finally:
        server.terminate()
        server.communicate(timeout=20)
    said = re.search(r'<pre id="said">(.*?)</pre>', text, re.DOTALL)
    assert said and said[1]
    assert json.loads(html.unescape(said[1])) == {page: [] for page in pages}
