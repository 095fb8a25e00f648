"""A leaderboard of 200 models on 40 sets: its first page has 1 MB at most, with what it loads. `-s` prints how long it takes.

The records are drawn: models of different qualities on sets that do not exist.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.chromium import chromium
from tests.helpers.results_sets import write_record
from tips_bench.leaderboard.site import build

MODELS, TASKS, SAMPLES = 200, 40, 16
MB = 1e6
ASKED_FOR = re.compile(r'(?:href|src)="([\w./-]+\.(?:css|js|svg|png))"')


def write_records(folder: Path) -> None:
    for model, quality in enumerate(np.linspace(0.2, 0.9, MODELS)):
        for task in range(TASKS):
            path = write_record(folder / f"{task}", f"lab-vit-{model:03d}", float(quality), number=SAMPLES, seed=task)
            path.write_text(path.read_text(encoding="utf-8").replace('"rooms-seg"', f'"set-{task:02d}"'), encoding="utf-8")


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_the_first_page_of_many_models_is_small(tmp_path: Path) -> None:
    write_records(tmp_path / "records")
    used = time.process_time()
    built = build([tmp_path / "records"], tmp_path / "site")
    used = time.process_time() - used
    assert built.records == MODELS * TASKS and not built.broken
    page = tmp_path / "site" / "index.html"
    text = page.read_text(encoding="utf-8")
    size = len(text.encode()) + sum((page.parent / name).stat().st_size for name in set(ASKED_FOR.findall(text)) if "share" not in name)
    assert size <= MB
    with chromium(tmp_path) as browser:
        for _ in range(2):  # the second time it is in the memory of the system
            browser.open(page.as_uri())
            times = json.loads(browser.run("JSON.stringify(performance.getEntriesByType('navigation')[0])"))
    said = f"first page {size / MB:.2f} MB, readable after {times['domContentLoadedEventEnd'] / 1e3:.2f} s"
    print(f"{said}; {built.pages} pages built in {used:.0f} s of the processor")
