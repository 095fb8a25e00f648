"""Files of a split are found by their names as Hugging Face's `datasets` finds them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tips_bench.corpus.sources.splits import Place, of_split, place_of
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


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS)
def test_files_have_the_split_that_hugging_face_gives_them(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    theirs = of_hugging_face(tmp_path)
    files = [tmp_path / name for name in sorted(names)]
    if len(theirs) == 1:
        assert theirs == {"train": sorted(names)} and of_split(files, sorted(names), None, tmp_path) == files
        return
    for split, own in theirs.items():
        assert of_split(files, sorted(names), split, tmp_path) == [tmp_path / name for name in own]
    with pytest.raises(UserError, match=r"several splits\. Choose one with --split: "):
        of_split(files, sorted(names), None, tmp_path)


def test_a_word_for_a_split_may_be_another_one_than_the_files_have() -> None:
    files = [Path("val-0.parquet"), Path("train-0.parquet")]
    for word in ("val", "validation", "dev"):
        assert of_split(files, [file.name for file in files], word, "here") == files[:1]


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
    ("names", "split", "said"),
    [
        (["train-0.parquet", "rest.parquet"], None, r"several splits.*--split: train; the names of 1 file tell none"),
        (["train-0.parquet", "val-0.parquet"], "tset", "there is no split named 'tset'.*Known: train, validation"),
        (["0.parquet"], "train", "the names of the files tell no split.*Leave --split out"),
        (["de/train-0.parquet", "en/data/train-0.parquet"], "train", "several configurations. Give the folder of one: hub/de, hub/en"),
    ],
)
def test_files_that_do_not_answer_the_question_are_said(names: list[str], split: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        of_split([Path(name) for name in names], names, split, "hub/")
