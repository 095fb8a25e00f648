"""Cards of tasks, protocols and models, and `--set`: broken YAML, values of the wrong kind, paths that lead out."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.attacks.frame import Attack, Case, command, corpus, meet, same_numbers, seeded
from tests.attacks.mutations import HOSTILE, bytes_mutated, data_mutated
from tests.attacks.seeds import SHAPES, run_shapes, write_card
from tips_bench import plain_yaml
from tips_bench.catalog import KINDS, shipped

REAL = {
    "task": ["ade20k", "voc2012", "nyu-depth", "imagenet-zeroshot", "coco-retrieval", "scannet", "uned", "zeroshot-voc21"],
    "protocol": ["convex", "linear-dinov2-ms", "dpt-tips", "linear-tips-nyu", "knn-20", "tcl-slide", "retrieval-tips", "linear-lexicon3d"],
    "model": ["tips-b14", "dinov2-b14-reg", "clip-b16", "pe-core-b16", "siglip2-b16", "tips-tiny-random", "pixels", "tipsv2-b14"],
}
NINE = "abcdefghi"
ALIAS_BOMB = "a: &a [x,x,x]\n" + "".join(f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(NINE))
TEXTS = {
    "a tag that builds an object": "name: !!python/object/apply:os.system ['touch /tmp/attack-outside']\n",
    "a tag of a timestamp": "name: !!timestamp 2001-01-01\n",
    "an alias bomb": ALIAS_BOMB,
    "an anchor to itself": "a: &a [*a]\n",
    "deep lists": "a: " + "[" * 5000 + "]" * 5000,
    "deep mappings": "".join(" " * i + f"a{i}:\n" for i in range(900)),
    "an integer of 5,000 digits": f"version: {'9' * 5000}\n",
    "a hexadecimal of 100,000 digits": f"version: 0x{'f' * 100_000}\n",
    "sexagesimals": "version: 1:30:30\n",
    "an octal": "version: 0o17\n",
    "infinity": "version: .inf\n",
    "no number": "version: .nan\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a list": "- a\n- b\n",
    "a scalar": "hello\n",
    "only a comment": "# nothing\n",
    "a key twice": "name: a\nname: b\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a merge key": "<<: {a: 1}\n",
    "a tab": "a:\n\tb: 1\n",
    "UTF-16": "name: x\n".encode("utf-16").decode("latin-1"),
    "a byte order mark": "\ufeffname: x\n",
    "a NUL": "name: a\0b\n",
    "an escape": "name: \"\\e[2J\"\n",
    "half a character": "name: \"\\ud83d\"\n",
    "itself as base": "_base_: mutated.yaml\n",
    "a base far up": "_base_: ../../../../../../../etc/passwd\n",
    "a base that is a device": "_base_: /dev/zero\n",
    "a base with a NUL": "_base_: \"a\\0.yaml\"\n",
    "a base of 5,000 characters": f"_base_: {'a' * 5000}.yaml\n",
    "a base that is a number": "_base_: 7\n",
    "a base that is a list of lists": "_base_: [[a.yaml]]\n",
    "2 MB": "a: " + "x" * 2_000_000,
}  # fmt: skip


def shown(folder: Path, kind: str, card: Any, *form: str) -> Attack:
    """A card beside the shipped ones, shown as YAML or, with `--json`, as JSON."""
    write_card(folder, kind, card, "mutated")
    return command("show", "mutated", *form)


def real(kind: str, name: str) -> dict[str, Any]:
    return plain_yaml.read_yaml(shipped(KINDS[kind]) / f"{name}.yaml") | {"name": "mutated"}


def plain(data: Any) -> bytes:
    """As YAML, whatever is in it: PyYAML escapes what is no character."""
    return yaml.dump(data, Dumper=yaml.SafeDumper).encode("utf-8", "surrogatepass")


def mutated_cards() -> list[Case]:
    found = []
    for kind, names in REAL.items():
        for name in names:
            text = (shipped(KINDS[kind]) / f"{name}.yaml").read_bytes()
            for said, data in bytes_mutated(text, 9, seeded("cards", name)):
                found.append(Case(f"{name}, {said}", lambda folder, kind=kind, data=data: shown(folder, kind, data)))
            for said, changed in data_mutated(real(kind, name), 14, seeded("cards", f"{name} values")):
                found.append(Case(f"{name}, {said}", lambda folder, kind=kind, data=changed: shown(folder, kind, plain(data), "--json")))
    return found


def texts() -> list[Case]:
    return [
        Case(f"{kind} that is {name}", lambda folder, kind=kind, text=text: shown(folder, kind, text))
        for kind in REAL
        for name, text in TEXTS.items()
    ]


@corpus("cards", mutated_cards() + texts())
def test_a_card_is_read_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def runs_of_task_cards() -> list[Case]:
    """The card is read, and the run goes as far as it can; also `data check`."""

    def prepare(folder: Path, card: Any, verb: str) -> Attack:
        run = run_shapes(folder)
        write_card(folder, "task", plain(card), "shapes")
        return command(*(run if verb == "run" else ["data", "check", "shapes"]))

    found = []
    for verb in ("run", "data check"):
        for said, changed in data_mutated(SHAPES, 40, seeded("cards", f"{verb} shapes")):
            case = lambda folder, card=changed, verb=verb: prepare(folder, card, verb)  # noqa: E731
            found.append(Case(f"{verb}, {said}", case, statuses=(0, 1, 2) if verb == "data check" else (0, 2), check=same_numbers))
    return found


@corpus("task cards in use", runs_of_task_cards())
def test_a_task_card_is_scored_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


KEYS = [
    "image.short_side", "image.shape", "features.layers", "features.layers.0", "features.norm", "features.global_token", "inference.mode",
    "inference.window", "inference.scales", "selection.fraction", "probe", "probe.type", "probe.max_patches", "name", "model.embed_dim",
    "model.patch_size", "model.mean", "model.source", "model.architecture", "model.weights", "task.data.root", "task.data.splits.test",
    "task.primary", "task.family", "task.options", "task.data.options", "task.data.expected", "task.version", "model.resolution",
]  # fmt: skip
VALUES = {
    "nothing": "",
    "a list": "[1, 2]",
    "an open list": "[",
    "minus one": "-1",
    "zero": "0",
    "a great number": "9" * 18,
    "5,000 digits": "9" * 5000,
    "a text": "hello",
    "a path upwards": "../../x",
    "an escape": '"\\e[2J"',
    "a tag": "!!python/name:os.system",
    "null": "null",
    "a mapping": "{a: {b: 1}}",
    "no number": ".nan",
}


def settings() -> list[Case]:
    def prepare(folder: Path, assignment: str) -> Attack:
        return command(*run_shapes(folder, "--set", assignment))

    found = []
    for key in KEYS:
        for name in seeded("set", key).sample(sorted(VALUES), 5):
            found.append(Case(f"{key} is {name}", lambda folder, said=f"{key}={VALUES[name]}": prepare(folder, said), check=same_numbers))
    odd = [
        "", "=", "=1", "a", ".=1", "..=1", "a.b.c.d=1", "a" * 5000 + "=1", ".".join("a" * 3000) + "=1", "probe.\x1b[2J=1",
        "features.layers.-1=3", "features.layers.99999999999=3", "inference.scales.0.x=1", "task.=1", "model.=1",
        "protocol.name=x", "name.x=1",
    ]  # fmt: skip
    found += [Case(f"the assignment {said[:20]!a} of {len(said)}", lambda folder, said=said: prepare(folder, said)) for said in odd]
    return found


@corpus("--set", settings())
def test_a_changed_value_is_scored_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def test_the_hostile_values_are_what_they_are_called() -> None:
    assert len(HOSTILE["ten thousand numbers"]) == 10_000
    with pytest.raises(ValueError):
        HOSTILE["half a character"].encode()
