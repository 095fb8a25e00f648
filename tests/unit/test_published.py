"""Published numbers: every file of the shipped folder, and what is said of a measured record beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.helpers.records import record, said
from tips_bench.cards import load_card
from tips_bench.catalog import card_files, shipped
from tips_bench.errors import UserError
from tips_bench.leaderboard.published import beside_papers, papers_data, read_paper, reported
from tips_bench.leaderboard.published_text import papers_text
from tips_bench.registry import FAMILIES
from tips_bench.results.record import MetricValue

FILES = sorted((shipped("leaderboards") / "published").glob("*.yaml"))
PLAUSIBLE = {"%": (0.5, 99), "m": (0.01, 5), "deg": (5, 45)}
SEGMENTED = ("mIoU", "mIoU_visible", "allAcc_visible", "J&F")
MATCHED = ("R@1", "image-to-text R@1", "text-to-image R@1", "category PCK@0.10", "mean recall@cm")
RANKED = ("mAP", "mAP-medium", "mAP-hard", "GAP", "GAP-", "accuracy")
UNITS = dict.fromkeys((*SEGMENTED, *MATCHED, *RANKED, "top1", "CorLoc"), "%")


def protocols() -> dict:
    return {name: load_card("protocol", name).model_dump(mode="json") for name in card_files("protocol")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_names_tasks_models_and_protocols_that_are_there(path: Path) -> None:
    paper = read_paper(path)
    assert all(stated.like is None or stated.like in card_files("protocol") for stated in paper.protocols.values())
    for table in paper.tables:
        assert table.where
        for score in table.scores:
            assert score.task in card_files("task"), f"{score.task} is no task of ours"
            unit = UNITS.get(score.metric, "deg" if "normals" in score.task else "m")
            assert score.unit == unit, f"{score.task} {score.metric} in {score.unit}"
        assert all(row.model is None or row.model in card_files("model") for row in table.rows)
        printed = [row.printed for row in table.rows]
        assert len(set(printed)) == len(printed)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_column_fits_its_task_its_metric_and_its_protocol(path: Path) -> None:
    paper = read_paper(path)
    for score in (score for table in paper.tables for score in table.scores):
        task = load_card("task", score.task)
        counts = FAMILIES.get(task.family).counts_class()
        specs = counts(1).specs if task.family == "retrieval" else counts.specs  # of retrieval they depend on the number of tokens
        assert score.metric in specs, f"{score.task} has no metric {score.metric}, but {sorted(specs)}"
        assert specs[score.metric].unit == score.unit
        like = paper.protocols[score.protocol].like
        assert like is None or like in task.protocols, f"{score.task} does not allow {like}"


def test_every_number_says_where_it_was_read_and_which_are_second_hand() -> None:
    assert all("Read in " in row.note for row in reported())
    second_hand = {(row.paper, row.printed) for row in reported() if "Second-hand: " in row.note}
    assert ("dino.txt", "dino.txt L/14") in second_hand and ("TIPSv2", "DINOv3 L/16") in second_hand
    assert ("TIPS", "g/14-HR") not in second_hand


def test_the_sliding_number_of_tipsv2_belongs_to_its_own_notebook_and_dinov3s_to_none_of_ours() -> None:
    ade = {(row.printed, row.value): row.protocol.like for row in reported() if row.task == "zeroshot-ade150"}
    assert ade["TIPSv2 L/14", 25.1] == "tips-slide" and ade["TIPSv2-L", 25.06] == "tips-slide"
    assert ade["DINOv3 L/16", 24.7] is None and ade["dino.txt L/14", 20.6] in (None, "tcl-slide")


def test_every_number_is_of_the_size_of_its_unit() -> None:
    for row in reported():
        low, high = PLAUSIBLE[row.unit]
        assert low <= row.value <= high, row


@pytest.mark.parametrize(
    ("model", "task", "metric", "value", "paper"),
    [
        ("tips-g14", "ade20k", "mIoU", 49.9, "TIPSv2"),
        ("tips-g14", "voc2012", "mIoU", 83.1, "TIPS"),
        ("tipsv2-l14", "ade20k", "mIoU", 51.4, "TIPSv2"),
        ("dinov3-l16", "ade20k", "mIoU", 54.9, "TIPSv2"),
        ("dinov3-b16", "spair", "category PCK@0.10", 57.2, "DINOv3"),
        ("dinov3-7b16", "navi-pairs", "mean recall@cm", 64.4, "DINOv3"),
        ("dinov3-7b16", "voc2007-discovery", "CorLoc", 66.1, "DINOv3"),
        ("dinov3-7b16", "davis", "J&F", 83.3, "DINOv3"),
        ("dinov3-7b16", "met", "GAP", 55.4, "DINOv3"),
        ("dinov2-g14", "ade20k", "mIoU", 53.0, "DINOv2"),
        ("clip-l14", "voc2012", "mIoU", 74.5, "SigLIP 2"),
        ("siglip2-so400m14-378", "nyu-depth", "RMSE", 0.466, "SigLIP 2"),
        ("pe-spatial-g14", "ade20k", "mIoU", 49.3, "Perception Encoder"),
        ("tips-l14", "zeroshot-voc21", "mIoU", 30.5, "TIPSv2"),
        ("TIPS (size not stated)", "ade20k", "mIoU", 54.1, "Rows of leaderboards without a known source"),
    ],
)
def test_numbers_that_people_look_for_are_there(model: str, task: str, metric: str, value: float, paper: str) -> None:
    found = [row.value for row in reported() if (row.model, row.task, row.metric, row.paper) == (model, task, metric, paper)]
    assert value in found


def test_papers_that_print_the_same_row_agree() -> None:
    """The TIPSv2 paper prints CLIP's row of the SigLIP 2 paper again."""
    for task in ("voc2012", "ade20k", "nyu-depth", "navi-depth", "nyu-normals", "navi-normals"):
        values = {row.paper: row.value for row in reported() if row.model == "clip-l14" and row.task == task}
        assert values["TIPSv2"] == values["SigLIP 2"]


def write(folder: Path, text: str) -> Path:
    path = folder / "paper.yaml"
    path.write_text(text)
    return path


PAPER = """\
name: paper
title: A paper
citation: A. Author
url: null
read_in: the paper itself
protocols:
  p: {text: As stated., like: linear-tips, unstated: [resolution]}
tables:
  - where: Table 1
    scores:
      - {task: ade20k, metric: mIoU, unit: "%", protocol: p}
    rows:
      - {model: tips-b14, printed: B, values: [40.0]}
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("values: [40.0]", "values: [40.0, 1.0]", "tables.0: 'B' has 2 values for 1 columns"),
        ("values: [40.0]", "values: [forty]", "tables.0.rows.0.values.0: Input should be a valid number"),
        ("values: [40.0]", "values: [.nan]", "is not a finite number"),
        ("protocol: p}", "protocol: q}", "protocols named but not stated, or stated but not used: ['p', 'q']"),
        ("citation:", "cite:", "citation: Field required"),
        ("name: paper", "name: other", "name = 'other', but the file is paper.yaml"),
        ("url: null", "url: !!python/name:os.system", "a value of type 'python/name:os.system' is not plain data"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write(tmp_path, PAPER.replace(old, new))
    with pytest.raises(UserError) as caught:
        read_paper(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def measured(model: str = "tips-b14", protocol: str = "linear-tips", **changes):
    cards = {"protocol": load_card("protocol", protocol).model_dump(mode="json")}
    return record("ade20k", model, protocol, cards=cards, **changes)


def test_the_distance_is_measured_less_reported(tmp_path: Path) -> None:
    write(tmp_path, PAPER)
    (found,) = beside_papers(measured(), protocols(), tmp_path)
    assert found.distance == pytest.approx(41.25 - 40.0) and found.inside is True and found.differences == []
    (outside,) = beside_papers(
        measured(metrics={"mIoU": MetricValue(value=41.25, unit="%", higher_is_better=True, ci95=(40.5, 42), n=3)}), protocols(), tmp_path
    )
    assert outside.inside is False


def test_differences_of_protocol_weights_and_overrides_are_named(tmp_path: Path) -> None:
    write(tmp_path, PAPER)
    (found,) = beside_papers(
        measured("tips-b14", "convex", weights="mine.pth", deviations=said("probe.l2 = 3"), comparable=False), protocols(), tmp_path
    )
    assert found.differences[0] == "weights: mine.pth in place of the released ones"
    assert found.differences[1] == "protocol: convex, the nearest to the paper's is linear-tips"
    assert any(line.startswith("probe.type: ") and "linear" in line for line in found.differences)
    assert found.differences[-1] == "probe.l2 = 3"


def test_a_protocol_unlike_any_of_ours_is_said_to_be(tmp_path: Path) -> None:
    write(tmp_path, PAPER.replace("like: linear-tips, ", ""))
    (found,) = beside_papers(measured(), protocols(), tmp_path)
    assert found.differences == ["protocol: linear-tips, and none of ours is like the paper's"]


def test_a_model_that_no_paper_reports_is_told_which_are() -> None:
    with pytest.raises(UserError, match=r"no paper here reports pixels on ade20k\. They report: on ade20k, .*tips-g14"):
        beside_papers(measured("pixels"), protocols())
    with pytest.raises(UserError, match=r"no paper here reports dinov3-l16 on ade20k-x\. Of dinov3-l16 they report: ade20k, "):
        beside_papers(measured("dinov3-l16").model_copy(update={"task": "ade20k-x"}), protocols())


def test_the_text_keeps_reported_and_measured_apart_and_fits_80_columns() -> None:
    made = measured("tips-g14", "convex")
    found = beside_papers(made, protocols())
    text = papers_text(made, found)
    assert all(cell_len(line) <= 80 for line in text.splitlines())
    assert "  reported      49.90 % mIoU" in text and "  measured      41.25 % mIoU" in text and "-8.65" in text
    assert "(--json)" in text  # more values differ than are shown
    data = json.loads(json.dumps(papers_data(found), allow_nan=False))
    assert data[0]["reported"]["value"] == 49.9 and data[0]["measured"]["value"] == 41.25 and data[0]["reported"]["protocol"]["unstated"]
