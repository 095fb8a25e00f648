"""Whole runs over image pairs: copies that score 100, chance, a kill, pictures, and protocols that do not fit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from tests.helpers.kills import killed_after
from tests.helpers.pair_sets import write_navi, write_pf_pascal, write_scannet_pairs, write_spair
from tips_bench.errors import UserError
from tips_bench.evaluation.run import evaluate
from tips_bench.results.counts import load_scored
from tips_bench.results.record import Record

SMALL = ["image.short_side=112", "patch_size=null"]
VARYING = {"cost", "created", "command", "pictures", "per_sample"}
SETS = {
    "copies": ("keypoint-matching", "spair", "image PCK@0.10", ["spair-dift", "spair-probe3d", "spair-geoaware", "spair-insid3-debiased"]),
    "animals": ("keypoint-matching", "pf-pascal", "image PCK@0.10", ["spair-geoaware", "spair-dift"]),
    "walls": ("view-matching", "scannet-pairs", "recall@40px", ["views-probe3d-scannet", "views-224-mutual"]),
    "objects": ("view-matching", "navi-pairs", "recall@2cm", ["views-probe3d-navi", "views-dinov3-navi"]),
}


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tips-bench-cards" / "tasks").mkdir(parents=True)
    writers = {"copies": write_spair, "animals": write_pf_pascal, "walls": write_scannet_pairs, "objects": write_navi}
    for name, (family, reader, primary, protocols) in SETS.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        writers[name](tmp_path / "data" / name)
        options = {"step": 16} if family == "view-matching" else {"classes": list("abcdefghijklmnopqrst")} if name == "animals" else {}
        data = {"reader": reader, "root": name, "splits": {"test": "test"}, "options": options}
        card = {"name": name, "family": family, "title": "Drawn pairs", "version": 1, "data": data, "primary": primary}
        card |= {"protocol": protocols[0], "protocols": protocols, "license": "none", "citation": "none", "homepage": ""}
        text = yaml.safe_dump(card | {"how_to_get": "It is drawn."})
        (tmp_path / "tips-bench-cards" / "tasks" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIPS_BENCH_DATA", "data")
    return tmp_path


def run(out: Path, task: str, protocol: str, model: str = "pixels", extra: tuple[str, ...] = (), **options) -> Record:
    return evaluate(task, model, protocol, out=out, overrides=[*SMALL, *extra], **options)


def stable(record: Record) -> dict:
    return {key: value for key, value in record.model_dump(mode="json").items() if key not in VARYING}


@pytest.mark.parametrize("protocol", ["spair-dift", "spair-geoaware"])
def test_a_copy_moved_by_whole_patches_scores_100_with_features_of_patches_alone(sets, protocol):
    record = run(sets / "out", "copies", protocol, pictures=2)
    for alpha in ("0.05", "0.10", "0.20") if protocol == "spair-dift" else ("0.20",):  # the box is 80 pixels, half a patch is 7
        assert {record.metrics[f"{by} PCK@{alpha}"].value for by in ("image", "point", "category")} == {100.0}
    assert record.cost.image_forwards == 6 and (record.dataset.n, record.dataset.classes) == (6, ["one", "three", "two"])
    path = next((sets / "out").rglob(f"{protocol}-*.json"))
    assert load_scored(path).record == record and all((path.parent / name).is_file() for name in record.pictures)


def test_conventions_give_one_encoder_different_scores(sets):
    scores = {protocol: run(sets / "out", "copies", protocol).metrics["image PCK@0.10"].value for protocol in SETS["copies"][3][:3]}
    assert len(set(scores.values())) > 1


def test_points_are_scored_by_difficulty_beside_the_familys_own_numbers(sets):
    record = run(sets / "out", "copies", "spair-dift", metrics=["difficulty"])
    values = {name: metric.value for name, metric in record.metrics.items()}
    assert values["category PCK@0.10 truncation both"] == values["category PCK@0.10"]
    assert values["image PCK@0.10 viewpoint hard"] == 100 and math.isnan(values["image PCK@0.10 truncation none"])
    with pytest.raises(UserError, match="how difficult"):
        run(sets / "out", "animals", "spair-geoaware", extra=("probe.size=image",), metrics=["difficulty"])


def test_the_same_view_twice_scores_100_and_another_view_less(sets):
    record = run(sets / "out", "walls", "views-probe3d-scannet", pictures=1)
    by_angle, near = (record.per_class[f"recall@{limit} by angle"] for limit in ("80px", "5px"))
    assert by_angle["0 to 15 degrees"] == 100 and (by_angle["15 to 30 degrees"] or 0) < 50 and by_angle["60 to 180 degrees"] is None
    assert 95 < (near["0 to 15 degrees"] or 0) < 100, "half a patch at the border has one feature, and any of its points is the nearest"
    assert record.probe == {"matches": 4000, "pairs with fewer matches than wanted": 0} and record.cost.image_forwards == 6


@pytest.mark.parametrize("protocol", ["views-probe3d-navi", "views-dinov3-navi"])
def test_pairs_of_objects_are_scored(sets, protocol):
    record = run(sets / "out", "objects", protocol, extra=("task.data.options.every=1",), pictures=1)
    assert record.dataset.n == 10 and record.probe["pairs with fewer matches than wanted"] == 10
    recalls = [record.metrics[f"recall@{limit}cm"].value for limit in (1, 2, 5)]
    assert 0 <= recalls[0] <= recalls[2] <= 100
    assert record.metrics["mean recall@cm"].value == pytest.approx(sum(recalls) / 3, abs=1e-9)


def test_a_threshold_by_the_box_needs_a_box(sets):
    assert run(sets / "out", "animals", "spair-geoaware", extra=("probe.size=image",)).dataset.n == 2
    with pytest.raises(UserError, match=r"box.*probe\.size"):
        run(sets / "out", "animals", "spair-dift")


def test_a_protocol_that_cuts_images_is_refused(sets):
    with pytest.raises(UserError, match="cuts images"):
        run(sets / "out", "copies", "spair-dift", extra=("image.shape=center-crop",))
    with pytest.raises(UserError, match=r"debias = 600"):
        run(sets / "out", "copies", "spair-insid3-debiased", extra=("probe.debias=600",))


@pytest.mark.parametrize(("task", "protocol"), [("copies", "spair-insid3-debiased"), ("walls", "views-224-mutual")])
def test_a_killed_run_is_taken_up_to_the_same_record(sets, task, protocol):
    tiny = {"model": "tips-tiny-random", "batch_size": 2, "extra": ("probe.debias=20",) if task == "copies" else ()}
    whole = run(sets / "a", task, protocol, **tiny)
    with killed_after(2):
        run(sets / "b", task, protocol, **tiny)
    resumed = run(sets / "b", task, protocol, **tiny)
    assert stable(resumed) == stable(whole) and resumed.cost.resumed
    cached = [run(sets / out, task, protocol, cache=True, **tiny) for out in "cd"]
    assert stable(cached[0]) == stable(cached[1]) == stable(whole) and cached[1].cost.image_forwards == 0
