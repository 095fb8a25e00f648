"""Files of a split are found by their names as Hugging Face's `datasets` finds them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tips_bench.corpus.sources.hub_readme import as_stated
from tips_bench.corpus.sources.splits import Parts, Place, by_names, chosen, place_of
from tips_bench.errors import UserError

LAYOUTS = {
    "pushed": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
    "pushed, names of its own": ["data/train_clean-00000-of-00001.parquet", "data/dev.other-00000-of-00001.parquet"],
    "folders": ["train/0000.parquet", "validation/0000.parquet", "test/part-0.parquet"],
    "folders with more words": ["my_set-train/a.parquet", "my_set-val.v2/a.parquet", "eval 3/a.parquet"],
    "folders below": ["data/train/cats/0.parquet", "data/test/cats/0.parquet"],
    "files": ["train.parquet", "valid.parquet", "evaluation.parquet"],
    "files with more words": ["images_train_0.parquet", "images-train-1.parquet", "dev-images.parquet"],
    "no split": ["0000.parquet", "b/trained.parquet", "contest.parquet", "part-00000-4d0e.snappy.parquet"],
}


def of_hugging_face(folder: Path) -> dict[str, list[str]]:
    from datasets.data_files import get_data_patterns, resolve_pattern

    files = dict[str, list[str]]()
    for split, patterns in get_data_patterns(str(folder)).items():
        found = set[str]()
        for pattern in patterns:
            with suppress(FileNotFoundError):  # of several patterns of a split not each has files
                found |= {Path(name).relative_to(folder).as_posix() for name in resolve_pattern(pattern, str(folder))}
        files[str(split)] = sorted(found)
    return files


def laid_out(folder: Path, names: list[str], readme: str | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    if readme is not None:
        (folder / "README.md").write_text(readme)
    return folder


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
def test_files_have_the_split_that_hugging_face_gives_them(tmp_path: Path, names: list[str]) -> None:
    theirs = of_hugging_face(laid_out(tmp_path, names))
    parts = by_names(names)
    if len(theirs) == 1:
        assert theirs == {"train": sorted(names)} and chosen(parts, None, None, tmp_path) == sorted(names)
        return
    for split, own in theirs.items():
        assert chosen(parts, split, None, tmp_path) == own
    with pytest.raises(UserError, match=r"several splits\. Choose one with --split: "):
        chosen(parts, None, None, tmp_path)


README = """---
license: cc0-1.0
configs:
- config_name: english
  default: true
  data_files:
  - split: train
    path: en/a-*
  - split: held.out
    path: [en/b-*.parquet, "en/**/c.parquet"]
- config_name: all
  data_files: ["*/*.parquet"]
- config_name: one
  data_files: ./de/a-0.parquet
- config_name: below
  data_dir: de
---
# A data set
"""
NAMES = ["en/a-0.parquet", "en/a-1.parquet", "en/b-0.parquet", "en/x/y/c.parquet", "de/a-0.parquet", "de/test.parquet", "de/train.parquet"]


@pytest.mark.parametrize("config", ["english", "all", "one", "below"])
def test_a_readme_names_the_files_that_hugging_face_finds_by_it(tmp_path: Path, config: str) -> None:
    from datasets import load_dataset_builder

    laid_out(tmp_path, NAMES, README)
    theirs = load_dataset_builder(str(tmp_path), config, cache_dir=str(tmp_path.parent / "cache")).config.data_files
    parts = as_stated(README, NAMES, tmp_path)
    assert parts is not None and theirs is not None and {str(split) for split in theirs} >= {"train"}
    for split, files in theirs.items():
        assert chosen(parts, str(split), config, tmp_path) == sorted(Path(name).relative_to(tmp_path).as_posix() for name in files)
    if config == "english":
        assert chosen(parts, "train", None, tmp_path) == NAMES[:2], "the default"


@pytest.mark.parametrize(
    ("readme", "said"),
    [
        ("---\nconfigs: [{config_name: a, data_files: [{split: train}]}]\n---\n", "does not state its configurations"),
        ("---\nconfigs: [\n---\n", "does not state its configurations"),
        ("---\nconfigs: 3\n---\n", "does not state its configurations"),
        ("---\n- configs\n---\n", "does not state its configurations"),
        ("---\nlicense: x\n---\n", None),
        ("configs: a", None),
        ("---\nconfigs: [{config_name: a, data_files: '*.csv'}]\n---\n", None),
    ],
)
def test_a_readme_that_states_nothing_is_passed_over_and_a_broken_one_said(readme: str, said: str | None) -> None:
    if said is None:
        assert as_stated(readme, NAMES, "here") is None
    else:
        with pytest.raises(UserError, match=said):
            as_stated(readme, NAMES, "here")


def test_a_word_for_a_split_may_be_another_one_than_the_files_have() -> None:
    for word in ("val", "validation", "dev"):
        assert chosen(by_names(["val-0.parquet", "train-0.parquet"]), word, None, "here") == ["val-0.parquet"]
    stated = Parts({Place("val"): ["a"], Place("train"): ["b"]})
    assert chosen(stated, "val", None, "here") == ["a"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("data/train-00000-of-00004.parquet", Place("train")),
        ("english/train-00000-of-00004.parquet", Place("train", "english")),
        ("english/data/part.b-00000-of-00004.parquet", Place("part.b", "english")),
        ("english/test/0000.parquet", Place("test", "english")),
        ("test/cats/train-0.parquet", Place("test")),
        ("cc3m-validation-0007.tar", Place("validation")),
        ("00000.tar", Place(None)),
        ("cats/00000.parquet", Place(None)),
    ],
)
def test_the_place_of_a_file(name: str, place: Place) -> None:
    assert place_of(name) == place


@pytest.mark.parametrize(
    ("names", "split", "config", "said"),
    [
        (["train-0.parquet", "rest.parquet"], None, None, r"several splits.*--split: train; 1 file of none"),
        (["train-0.parquet", "val-0.parquet"], "tset", None, "there is no split named 'tset'.*Known: train, validation"),
        (["0.parquet"], "train", None, "the names of the files tell no split.*Leave --split out"),
        (["de/train-0.parquet", "en/data/train-0.parquet"], "train", None, r"several configurations. Choose one with --config: de, en\."),
        (["de/train-0.parquet", "en/data/train-0.parquet"], None, "fr", "there is no configuration named 'fr'"),
        (["de/train-0.parquet", "train-0.parquet"], None, None, r"--config: \., de\."),
    ],
)
def test_files_that_do_not_answer_the_question_are_said(names: list[str], split: str | None, config: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        chosen(by_names(names), split, config, "hub/")
