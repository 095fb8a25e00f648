"""The files that `tips-bench init` writes, as text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tips_bench.errors import UserError
from tips_bench.starters.layout import Layout

ENCODER = '''"""An encoder for tips-bench: `tips-bench run --task rooms-seg --model {module}:build`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 16  # pixels; the height and width of an image are multiples of it


class Encoder(nn.Module):
    """[B,3,H,W] pixels in [0,1] -> [B,D,h,w] features of patches, one for each PATCH x PATCH pixels."""

    def __init__(self) -> None:
        super().__init__()
        # Put your network here, for example:
        #   self.network = my_package.load("checkpoint.pth")
        # Do its normalization here, too, if it needs one.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])

    def forward(self, pixels: Tensor) -> Tensor:
        normalized = (pixels - self.mean) / self.std
        # return self.network.patch_features(normalized)
        return F.avg_pool2d(torch.cat([normalized, normalized.square()], dim=1), PATCH)


def build() -> nn.Module:
    """What tips-bench calls, once for each run."""
    return Encoder()
'''
GITHUB = """# Scores of {model} in each pull request; fails if one got worse than in baselines/ (docs/ci.md of tips-bench).
# The baseline: tips-bench run --task {tasks} --model {model} --out baselines/   and commit it.
name: scores
on: pull_request
permissions:
  contents: read
  pull-requests: write
jobs:
  check:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    env:
      PIP_EXTRA_INDEX_URL: https://download.pytorch.org/whl/cpu # torch without CUDA, which this runner has no use for
    steps:
      - uses: actions/checkout@v4
        with:
          lfs: true # weights over 100 MB
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - uses: actions/cache@v4 # packages, weights and rooms
        with:
          path: |
            ~/.cache/pip
            ~/.cache/tips-bench
            ~/.cache/huggingface
          key: tips-bench-${{{{ runner.os }}}}
      - run: sudo apt-get update && sudo apt-get install --yes libusb-1.0-0 libgl1 libegl1 libx11-6
      - uses: tips-bench/tips-bench@main # better a release or a commit: what main does may change
        with:
          model: {model}
          task: {tasks}
          baseline: baselines
          comment: "true"
"""
GITLAB = """# Scores of {model}; the job fails if one got worse than in baselines/ (docs/ci.md of tips-bench).
# The baseline: tips-bench run --task {tasks} --model {model} --out baselines/   and commit it.
scores:
  image: python:3.12
  timeout: 1 hour
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
  variables:
    PIP_EXTRA_INDEX_URL: https://download.pytorch.org/whl/cpu # torch without CUDA, which this runner has no use for
    PIP_CACHE_DIR: $CI_PROJECT_DIR/.cache/pip
    TIPS_BENCH_CACHE: $CI_PROJECT_DIR/.cache/tips-bench
  cache:
    key: tips-bench
    paths: [.cache]
  before_script:
    - apt-get update -qq && apt-get install -y -qq git libusb-1.0-0 libgl1 libegl1 libx11-6
    # better a release or a commit: what main does may change
    - pip install --quiet "tips-bench[encoders] @ git+https://github.com/tips-bench/tips-bench@main"
  script:
    - tips-bench run --task {tasks} --model {model} --out results
    - tips-bench check results --against baselines --junit check.xml --markdown check.md
  artifacts:
    when: always
    paths: [results, check.md]
    reports:
      junit: check.xml
"""
CI = {"github": (Path(".github/workflows/scores.yml"), GITHUB), "gitlab": (Path(".gitlab-ci.yml"), GITLAB)}


def encoder_file(name: str) -> tuple[Path, str]:
    """Where a Python module of that name lies, and an encoder to put a network into. Errors: no name of a module."""
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        raise UserError(
            f"{name!r} is no name of a Python module", where="init encoder", fix="Use small letters, digits and _, as my_encoder."
        )
    return Path(f"{name}.py"), ENCODER.format(module=name)


def task_file(name: str, root: str, layout: Layout) -> tuple[Path, str]:
    """Where the card of a task lies, and the card. root: folder of the data, relative to the data root."""
    card = {
        "name": name,
        "family": layout.family,
        "title": name.replace("-", " ").capitalize(),
        "version": 1,
        "data": {"reader": layout.reader, "root": root, "splits": layout.splits},
        **layout.more,
        "protocol": layout.protocols[0],
        "protocols": list(layout.protocols),
        "primary": layout.primary,
        "license": "not stated",
        "citation": "none",
        "homepage": "",
        "how_to_get": "not stated",
    }
    return Path("tips-bench-cards/tasks") / f"{name}.yaml", yaml.safe_dump(card, sort_keys=False, allow_unicode=True)


def ci_file(kind: str, tasks: str, model: str) -> tuple[Path, str]:
    """Where the file of a CI system lies, and a job that scores a model. Errors: another system."""
    if kind not in CI:
        raise UserError(f"there is no starter for {kind!r}", where="init ci", fix=f"Use one of {', '.join(CI)}.")
    path, text = CI[kind]
    return path, text.format(tasks=tasks, model=_plain(model))


def _plain(value: str) -> str:
    """A word of YAML and of a shell. Errors: one that would need quotes."""
    if not re.fullmatch(r"[\w./:@+-]+", value):
        raise UserError(
            f"{json.dumps(value)} cannot stand in a CI file as it is", where="--model", fix="Use a name or path without spaces."
        )
    return value
