"""Per-sample counts: shards, files and what they refuse."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tips_bench.errors import UserError
from tips_bench.metrics.segmentation import SegmentationCounts, count
from tips_bench.metrics.spec import PERCENT, MetricSpec

CLASSES = 5


def some(ids: list[str], seed: int = 0) -> SegmentationCounts:
    counts = SegmentationCounts(CLASSES)
    for id in ids:
        rng = np.random.default_rng([seed, *id.encode()])
        labels_HW, prediction_HW = rng.integers(0, CLASSES, (2, 6, 7), dtype=np.uint8)
        counts.update(id, f"scene-{id[:1]}", count(prediction_HW, labels_HW, CLASSES))
    return counts


@settings(max_examples=40, deadline=None)
@given(data=st.data(), names=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=12, unique=True))
def test_order_and_sharding_change_nothing(data, names):
    names = [name for name in names if not name.endswith("\0")]
    whole = some(names)
    merged = SegmentationCounts(CLASSES)
    shards = data.draw(st.lists(st.integers(0, 3), min_size=len(names), max_size=len(names)))
    for shard in data.draw(st.permutations(range(4))):
        merged.merge(some([name for name, of in zip(names, shards, strict=True) if of == shard][::-1]))
    assert merged == whole and merged.ids == sorted(names)
    assert np.array_equal(merged.counts_N, whole.counts_N)


def test_a_saved_file_gives_back_ids_groups_and_counts(tmp_path):
    counts = some(["b", "a", "straße/Ω 1"])
    counts.save(tmp_path / "new" / "c.samples.npz")
    assert SegmentationCounts(CLASSES).read(tmp_path / "new" / "c.samples.npz") == counts


def test_an_empty_set_of_counts_can_be_saved_and_read(tmp_path):
    SegmentationCounts(CLASSES).save(tmp_path / "c.npz")
    assert len(SegmentationCounts(CLASSES).read(tmp_path / "c.npz")) == 0


def test_the_same_samples_give_the_same_bytes_whatever_their_order(tmp_path):
    some(["a", "b", "c"]).save(tmp_path / "1.npz")
    some(["c", "a", "b"]).save(tmp_path / "2.npz")
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_a_count_beyond_32_bits_survives_the_file(tmp_path):
    counts = SegmentationCounts(1)
    counts.update("a", "", np.full((3, 1), 2**40))
    counts.save(tmp_path / "c.npz")
    assert SegmentationCounts(1).read(tmp_path / "c.npz").total().tolist() == [[2**40]] * 3


def test_a_sample_is_never_counted_twice(tmp_path):
    counts = some(["a", "b"])
    counts.save(tmp_path / "c.npz")
    with pytest.raises(UserError, match="sample 'a' would be counted twice"):
        counts.update("a", "", np.zeros((3, CLASSES), dtype=np.int64))
    with pytest.raises(UserError, match="sample 'a' and 1 more would be counted twice"):
        counts.merge(some(["a", "b", "c"]))
    with pytest.raises(UserError, match=r"c\.npz: sample 'b' would be counted twice"):
        some(["b", "x"]).read(tmp_path / "c.npz")
    assert counts.ids == ["a", "b"]


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        (np.zeros((3, CLASSES + 1), dtype=np.int64), "counts of shape"),
        (np.zeros((3, CLASSES)), "not integers"),
        (-np.ones((3, CLASSES), dtype=np.int64), "a count of -1"),
        (np.array([[2] * CLASSES, [1] * CLASSES, [1] * CLASSES]), "contradict"),
        (np.array([[1] * CLASSES, [2] * CLASSES, [1] * CLASSES]), "contradict"),
    ],
)
def test_counts_that_no_sample_can_have_are_refused(counts, sentence):
    with pytest.raises(UserError, match=sentence):
        SegmentationCounts(CLASSES).update("a", "", counts)


def test_shards_of_another_number_of_classes_do_not_merge():
    with pytest.raises(UserError, match="shape"):
        some(["a"]).merge(SegmentationCounts(CLASSES + 1))


def write(path, **arrays):
    np.savez_compressed(path, **arrays)


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :: 7] = b"\xff" * len(data[len(data) // 2 :: 7])
    path.write_bytes(data)


def huge(path):
    """An .npz whose header claims more numbers than any memory holds."""
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000, 3, 5), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("ids", "groups", "counts"):
            file.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def array_file(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


NAMES = np.array(["a", "b"])
GOOD = np.zeros((2, 3, CLASSES), dtype=np.int64)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"PK\x03\x04 and then nothing"), id="cut"),
        pytest.param(lambda path: path.write_text("{}"), id="text"),
        pytest.param(lambda path: path.write_bytes(array_file(GOOD)), id="npy"),
        pytest.param(lambda path: write(path, ids=NAMES), id="keys"),
        pytest.param(lambda path: write(path, ids=np.array([{}, []], dtype=object), groups=NAMES, counts=GOOD), id="pickled"),
        pytest.param(lambda path: write(path, ids=NAMES[:1], groups=NAMES, counts=GOOD), id="lengths"),
        pytest.param(lambda path: write(path, ids=np.arange(2), groups=NAMES, counts=GOOD), id="idtype"),
        pytest.param(lambda path: write(path, ids=np.array(["a", "a"]), groups=NAMES, counts=GOOD), id="twice"),
        pytest.param(lambda path: write(path, ids=NAMES, groups=NAMES, counts=GOOD.astype(float)), id="float"),
        pytest.param(lambda path: write(path, ids=NAMES, groups=NAMES, counts=GOOD - 1), id="negative"),
        pytest.param(lambda path: write(path, ids=NAMES, groups=NAMES, counts=GOOD[:, :, 1:]), id="classes"),
        pytest.param(lambda path: write(path, ids=NAMES, groups=NAMES, counts=np.array(5)), id="scalar"),
        pytest.param(lambda path: (write(path, ids=NAMES, groups=NAMES, counts=GOOD), damage(path)), id="damaged"),
        pytest.param(huge, id="huge"),
        pytest.param(lambda path: path.mkdir(), id="folder"),
        pytest.param(lambda path: None, id="missing"),
    ],
)
def test_a_file_that_is_no_good_is_named_and_adds_nothing(tmp_path, build):
    path = tmp_path / "c.npz"
    build(path)
    counts = some(["z"])
    with pytest.raises(UserError, match=r"c\.npz"):
        counts.read(path)
    assert counts == some(["z"])


def test_a_folder_that_takes_no_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        some(["a"]).save(tmp_path / "file" / "c.npz")


def test_a_better_score_is_found_by_direction_and_not_scored_loses():
    error = MetricSpec(unit="m", higher_is_better=False)
    assert PERCENT.better(2, 1) and not PERCENT.better(1, 2) and not PERCENT.better(1, 1)
    assert error.better(1, 2) and not error.better(2, 1)
    assert PERCENT.better(0, float("nan")) and not PERCENT.better(float("nan"), 0) and not PERCENT.better(float("nan"), float("nan"))
    assert (PERCENT.gain(2.0, 1.5), error.gain(2.0, 1.5)) == (0.5, -0.5) and (PERCENT.arrow, error.arrow) == ("↑", "↓")
    for metric, best_first in ((PERCENT, [3.0, 1.0, -2.0]), (error, [-2.0, 1.0, 3.0])):
        assert sorted([1.0, float("nan"), -2.0, 3.0], key=metric.order)[:3] == best_first
