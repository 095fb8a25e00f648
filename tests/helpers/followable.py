"""Which commands of the pages a test can do offline within a minute or two, and why not the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from tests.helpers.commands import Shown

# pages whose commands have a test of their own, which does them in their order
FOLLOWED = {"docs/tutorials": "tests/nightly/test_tutorials.py", "docs/plugins.md": "tests/integration/test_plugins.py"}
MODELS = re.compile(r"tips-nano|tips-nano-random|tips-tiny-random|pixels|(mine|my_encoder):\w+|\./[\w-]+/")  # those whose weights are here
TASKS = re.compile(r"rooms-[\w-]+|mine|my-shapes")
ELSEWHERE = re.compile(r"slurm|ray|local|s3://.*|hf://.*|.*http://.*|.*\[tensorboard, wandb\]|fetch|download|publish")
PLACEHOLDER = re.compile(r"[A-Z]+(_[A-Z]+)*(\.pth)?")
UNINSTALLED = {"links.parquet", "tensorboard", "wandb,mlflow"}  # read by img2dataset, and loggers: the tests do not install them
LONG = {"dpt-224", "16384", "12000", "recipes/tips-nano.yaml", "recipes/tips-b14.yaml", "recipes/tipsv2-b14.yaml"}


def why_not(shown: Shown) -> str | None:
    """None: a test does it."""
    words = shown.words
    if not words:
        return "is a command line without a command"
    verb = " ".join(words[:2])
    if words[0] == "explore" or verb == "leaderboard serve":
        return "starts a server, which other tests do"
    if words == ("init",):
        return "asks questions at a terminal"
    if any(PLACEHOLDER.fullmatch(word) for word in words):
        return "has a name to fill in"
    if not UNINSTALLED.isdisjoint(words):
        return "needs a package that is not here"
    if "--dry-run" in words:
        return None
    if "torchrun" in shown.text or any(ELSEWHERE.fullmatch(word) for word in words):
        return "needs a network, a service, a cluster or several GPUs"
    if words[0] == "data" and words[1] != "rooms" and not TASKS.fullmatch(words[2]):
        return "needs data that are not here"
    if not all(TASKS.fullmatch(name) for name in given(words, "--task")):
        return "needs data that are not here"
    encoders = [name for option in ("--model", "--encoder", "--captioner") for name in given(words, option)]
    if not all(MODELS.fullmatch(name) for name in encoders) or "my_run" in shown.text:
        return "needs weights that are not here"
    if any(value in LONG for word in words for value in (word, word.partition("=")[2])):
        return "takes many minutes"
    return None


def can_be_planned(shown: Shown) -> bool:
    """Whether `--dry-run` says offline what the command would do: its cards fit each other, whatever is not here."""
    lacks = (why_not(shown) or "").startswith(("needs data", "needs weights"))
    unknown = re.search(r"hf:|my_run/checkpoint.npz", " ".join(given(shown.words, "--model")))  # what is planned has an architecture
    return lacks and shown.words[0] == "run" and not unknown and given(shown.words, "--task") != ["mine"]


def given(words: Sequence[str], option: str) -> list[str]:
    """The names that an option is given, with commas between them."""
    return [name for word, value in pairwise(words) if word == option for name in value.split(",")]
