"""variants.py, data/varied.py and input_size.py: what the name of a task changes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tips_bench.cards import DataCard, TaskCard, load_card, parse
from tips_bench.cli.app import app
from tips_bench.cli.leaderboard import _card_of
from tips_bench.data.base import DepthSample, LabeledImage, NormalsSample, SegmentationSample
from tips_bench.data.camera_geometry import Intrinsics, normals_from_depth
from tips_bench.data.split import Split, Splits
from tips_bench.data.varied import few, turned
from tips_bench.errors import UserError
from tips_bench.evaluation.sharing import fit_key, images_key, unchanged_images_key
from tips_bench.evaluation.spec import resolve
from tips_bench.registry import CORRUPTIONS
from tips_bench.variants import Changes, base_of, common_kinds, expand, parse_name

STRENGTH = st.integers(1, 5)
CHANGES = st.builds(
    lambda size, kind, rotate, few, seed: {
        "size": size,
        **({"kind": kind[0], "strength": kind[1]} if kind else {}),
        "rotate": rotate,
        "refit": bool(kind or rotate) and seed % 2 == 1,
        "few": few,
        "few_seed": seed if few else 0,
    },
    st.none() | st.integers(1, 4096),
    st.none() | st.tuples(st.sampled_from(CORRUPTIONS.names()), STRENGTH),
    st.sampled_from([None, 90, 180, 270]),
    st.none() | st.integers(2, 10_000),
    st.integers(0, 50),
)


@given(CHANGES)
def test_a_name_says_all_changes_and_is_read_as_the_same(values: dict[str, Any]) -> None:
    changes = Changes(base="ade20k", **values)
    if changes.name == "ade20k":
        assert parse_name(changes.name) is None
    else:
        assert parse_name(changes.name) == changes and base_of(changes.name) == "ade20k" and changes.sentence


def test_the_parts_of_a_name_may_stand_in_any_order() -> None:
    card = load_card("task", "ade20k+few-8+rotate-90+refit+fog-3@896")
    assert card.name == "ade20k@896+fog-3+rotate-90+refit+few-8"
    assert card.title.startswith(load_card("task", "ade20k").title + ", ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ade20k+fgo-3", "Did you mean 'fog'"),
        ("ade20k+fog-6", "strength = 6"),
        ("ade20k+rotate-45", "rotate = 45"),
        ("ade20k+hail-3", "no corruption named 'hail'"),
        ("ade20k+large", "'+large' is no change of a task"),
        ("ade20k+fog-3+snow-2", "gives kind twice"),
        ("ade20k+few-1", "few = 1"),
        ("ade20k+refit", "needs a corruption or a rotation"),
        ("ade2k+fog-3", "Did you mean 'ade20k'"),
    ],
)
def test_a_wrong_name_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("+", r"\+")):
        load_card("task", name)


def test_ranges_in_a_list_of_tasks_are_written_out() -> None:
    assert expand("ade20k@512+fog-2..4+few-8") == [f"ade20k@512+fog-{strength}+few-8" for strength in (2, 3, 4)]
    assert expand("ade20k+corruptions-3") == [f"ade20k+{kind}-3" for kind in common_kinds()] and len(common_kinds()) == 15
    assert expand("ade20k+fog-3") == ["ade20k+fog-3"] and expand("ade20k") == ["ade20k"]
    with pytest.raises(UserError, match="not strengths"):
        expand("ade20k+fog-4..2")


def test_a_users_own_card_may_have_a_plus_in_its_name_and_be_given_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    card = load_card("task", "ade20k").model_dump(mode="json") | {"name": "mine+fog-3"}
    folder = tmp_path / "tips-bench-cards" / "tasks"
    folder.mkdir(parents=True)
    (folder / "mine+fog-3.yaml").write_text(json.dumps(card))
    assert load_card("task", "mine+fog-3").data.changes is None
    path = str(folder / "mine+fog-3.yaml")
    (tmp_path / "b.yaml").write_text(json.dumps(card | {"name": "b"}))
    assert load_card("task", path).data.changes is None
    assert load_card("task", f"{tmp_path / 'b.yaml'}+snow-1").name == "b+snow-1"


def test_a_card_whose_name_does_not_say_its_changes_is_refused() -> None:
    data = load_card("task", "ade20k+fog-3").model_dump(mode="json")
    assert parse(TaskCard, data, where="here").data.changes is not None
    for changed in ({"name": "ade20k"}, {"data": data["data"] | {"changes": {"base": "ade20k", "kind": "fog", "strength": 1}}}):
        with pytest.raises(UserError, match="set by the name of the task alone"):
            parse(TaskCard, data | changed, where="here")
    with pytest.raises(UserError, match="set by the name of the task alone"):
        resolve("ade20k+fog-3", "tips-nano", overrides=["task.data.changes.strength=1"])


def test_a_card_without_changes_is_dumped_as_before() -> None:
    assert "changes" not in load_card("task", "ade20k").model_dump(mode="json")["data"]


def test_only_the_input_size_changes_the_protocol() -> None:
    clean = resolve("ade20k", "tips-nano", "linear-dinov3")
    assert resolve("ade20k+fog-3+rotate-90+few-4", "tips-nano", "linear-dinov3").protocol == clean.protocol
    large = resolve("ade20k@768", "tips-nano", "linear-dinov3").protocol
    own, probe = clean.protocol.image.short_side, clean.protocol.probe["augment"]
    assert own == 512 and large.image.short_side == 768
    assert (large.inference.window, large.inference.stride) == (
        clean.protocol.inference.window * 3 // 2,
        round(clean.protocol.inference.stride * 1.5),
    )
    assert large.probe["augment"]["crop_size"] == probe["crop_size"] * 3 // 2
    assert large.model_copy(update={"image": clean.protocol.image}).features == clean.protocol.features


def test_values_for_single_tasks_hold_for_their_variants() -> None:
    card = load_card("protocol", "clearclip")
    task = next(iter(card.by_task))
    assert card.for_task(f"{task}+fog-3") == card.for_task(task)


def test_a_crop_takes_the_size_and_the_resized_image_follows() -> None:
    image = resolve("imagenet-linear@448", "tips-nano", "convex-classifier").protocol.image
    assert (image.short_side, image.crop) == (512, 448)


def test_a_protocol_without_an_input_size_refuses_one() -> None:
    with pytest.raises(UserError, match=r"no input size in pixels"):
        resolve("nyu-depth@448", "tips-nano", "linear-dinov2-nyu")


def test_variants_share_a_fit_and_only_those_of_the_same_images_share_features() -> None:
    clean, fog, turned_, few_, large, refit = (
        resolve(f"rooms-seg{change}", "tips-nano") for change in ("", "+fog-3", "+rotate-90", "+few-8", "@112", "+fog-3+refit")
    )
    assert fit_key(clean) == fit_key(fog) == fit_key(turned_) != fit_key(few_)
    assert len({fit_key(one) for one in (clean, few_, large, refit)}) == 4
    assert images_key(clean) == images_key(few_) != images_key(fog) != images_key(refit)
    assert unchanged_images_key(clean) == unchanged_images_key(refit) != unchanged_images_key(large)


def test_a_smaller_share_is_a_part_of_a_larger_one_and_another_seed_draws_others() -> None:
    ids = [f"image{number}" for number in range(640)]
    shares = {n: few(ids, Changes(base="x", few=n)) for n in (4, 64)}
    assert [len(shares[n]) for n in (4, 64)] == [160, 10] and set(shares[64]) < set(shares[4])
    assert few(ids, Changes(base="x", few=64, few_seed=1)) != shares[64] and len(few(ids, Changes(base="x", few=1000))) == 1
    assert few(ids, None) == list(range(640))


def sample(**parts: Any) -> dict[str, Any]:
    image_HW3 = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return {"id": "a", "group": "a", "image_HW3": image_HW3, **parts}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_truth_turns_with_the_image(times: int) -> None:
    places_HW = np.arange(35, dtype=np.uint8).reshape(5, 7)
    image_HW3 = np.repeat(places_HW[..., None], 3, -1)
    for kind, name, truth_HW in (
        (SegmentationSample, "labels_HW", places_HW),
        (DepthSample, "depth_HW", places_HW.astype(np.float32)),
    ):
        found = turned(kind(**sample(image_HW3=image_HW3, **{name: truth_HW})), times)
        assert np.array_equal(found.image_HW3[..., 0], getattr(found, name))
        assert np.array_equal(turned(found, 4 - times).image_HW3, image_HW3)
    assert turned(LabeledImage(**sample(label=3)), times).label == 3


@pytest.mark.parametrize("times", [1, 2, 3])
def test_turned_normals_are_those_of_the_turned_depth(times: int) -> None:
    y_HW, x_HW = np.mgrid[:24, :32]
    depth_HW = (2 + 0.02 * x_HW + 0.011 * y_HW).astype(np.float32)
    camera = Intrinsics(40.0, 40.0, 16.0, 12.0, 24, 32)
    upright_HW3 = normals_from_depth(depth_HW, camera)
    found = turned(NormalsSample(**sample(image_HW3=np.zeros((24, 32, 3), np.uint8), normals_HW3=upright_HW3)), times).normals_HW3
    height, width = found.shape[:2]
    other = Intrinsics(40.0, 40.0, width / 2, height / 2, height, width)
    expected_HW3 = normals_from_depth(np.rot90(depth_HW, times).copy(), other)
    assert np.abs(found - expected_HW3)[1:-1, 1:-1].max() < 1e-5


def test_a_sample_whose_truth_is_not_known_to_turn_is_refused() -> None:
    class Pair(LabeledImage):
        pass

    with pytest.raises(UserError, match="not defined for samples of the kind Pair"):
        turned(Pair(**sample(label=0)), 1)


def test_a_rotation_is_refused_where_a_crop_of_upright_depth_is_scored() -> None:
    from tips_bench.adapters.depth import DepthAdapter

    spec = resolve("nyu-depth+rotate-180", "tips-nano", "convex-depth")
    with pytest.raises(UserError, match="the crop of the depth maps is of upright images"):
        DepthAdapter(spec.task, spec.protocol)


class Drawn:
    """A reader of two noisy images."""

    name, split, root = "drawn", "test", "."
    ids, groups, fingerprint = ["a", "b"], ["a", "b"], "f"
    classes, palette = ["x"], [(0, 0, 0)]

    def __len__(self) -> int:
        return 2

    def size(self, index: int) -> tuple[int, int]:
        return 5, 7

    def load(self, index: int) -> SegmentationSample:
        labels_HW = np.zeros((5, 7), np.uint8)
        return SegmentationSample(**sample(labels_HW=labels_HW) | {"id": self.ids[index]})


def opened(monkeypatch: pytest.MonkeyPatch, role: Any, **changes: Any) -> Split:
    monkeypatch.setattr("tips_bench.data.split.READERS.get", lambda name: lambda root, split, **options: Drawn())
    data = DataCard(reader="drawn", root="x", splits={"train": "a", "test": "b"}, changes=Changes(base="x", **changes) if changes else None)
    return Split.open(data, Path("x"), role, None)


def test_the_scored_images_are_changed_and_the_training_images_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = opened(monkeypatch, "test")
    test = opened(monkeypatch, "test", kind="contrast", strength=5, rotate=90)
    assert test.reader.size(0) == (7, 5) and test.reader.load(0).image_HW3.shape == (7, 5, 3)
    assert test.reader.load(0).image_HW3.std() < clean.reader.load(0).image_HW3.std() / 5
    assert test.fingerprint != clean.fingerprint and test.ids == clean.ids and test.reader.classes == ["x"]
    train = opened(monkeypatch, "train", kind="contrast", strength=5)
    assert train.fingerprint == clean.fingerprint and np.array_equal(train.reader.load(0).image_HW3, clean.reader.load(0).image_HW3)
    refitted = opened(monkeypatch, "train", kind="contrast", strength=5, refit=True)
    assert refitted.fingerprint != clean.fingerprint and refitted.reader.load(0).image_HW3.std() < 20


def test_a_changed_reader_can_be_sent_to_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = opened(monkeypatch, "test", kind="gaussian-noise", strength=2).reader
    again = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(again.load(1).image_HW3, reader.load(1).image_HW3) and again.fingerprint == reader.fingerprint


def test_changes_of_training_images_are_refused_where_none_are_read() -> None:
    data = load_card("task", "ade20k+few-8").data
    with pytest.raises(UserError, match="reads no training images"):
        Splits.open(data, Path("x"), None, train=False)


def test_a_submission_is_held_against_the_card_with_its_changes() -> None:
    name = "ade20k@896+fog-3"
    found = _card_of("task", name, name, own=False)
    assert found is not None and found["name"] == name and found["data"]["changes"]["kind"] == "fog"
    protocol = _card_of("protocol", "convex", name, own=False)
    assert protocol is not None and protocol["image"]["short_side"] == 896
    assert _card_of("task", "ade20k+unknown-3", name, own=False) is None


def test_a_changed_task_can_be_shown() -> None:
    done = CliRunner().invoke(app, ["show", "ade20k+fog-3", "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["task"]["name"] == "ade20k+fog-3"
