"""The explorer's arrays, and what goes into its page."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest

from tips_bench.errors import UserError
from tips_bench.explorer import document, maps, packing, surfaces


@pytest.fixture
def features() -> list[np.ndarray]:
    """Of two photos of other sizes, with a few axes that are larger by far, as encoders have them."""
    rng = np.random.default_rng(0)
    scale_D = np.where(np.arange(96) < 2, 15.0, 1.0)
    return [(rng.normal(size=(*hw, 96)) * scale_D + 0.3).astype(np.float32) for hw in ((6, 8), (5, 9))]


def test_cosines_of_packed_features_are_those_of_features(features: list[np.ndarray]) -> None:
    exact_hw = maps.similarity(features[0][2, 3], features[1])
    packed = [packing.quantized(one_hwD).astype(np.float64) for one_hwD in features]
    query_D = packed[0][2, 3]
    found_hw = packed[1] @ query_D / np.linalg.norm(packed[1], axis=-1) / np.linalg.norm(query_D)
    np.testing.assert_allclose(found_hw, exact_hw, atol=0.01)
    assert maps.similarity(features[0][2, 3], features[0])[2, 3] == pytest.approx(1)


def test_a_patch_without_length_is_packed_as_zeros() -> None:
    assert not packing.quantized(np.zeros((2, 2, 5), np.float32)).any()


def test_packed_features_are_bytes_in_the_order_of_patches(features: list[np.ndarray]) -> None:
    packed = packing.packed_features(features[0], maps.shared_colors(features)[0])
    values_hwD = np.frombuffer(base64.b64decode(packed["features"]), np.int8).reshape(packed["rows"], packed["columns"], packed["dim"])
    np.testing.assert_array_equal(values_hwD, packing.quantized(features[0]))
    assert len(base64.b64decode(packed["colors"])) == 3 * 6 * 8


def test_a_color_means_the_same_in_every_photo(features: list[np.ndarray]) -> None:
    first_hw3, second_hw3 = maps.shared_colors([features[0], features[0][:3]])
    np.testing.assert_array_equal(first_hw3[:3], second_hw3)


def test_matches_are_each_others_nearest_best_first(features: list[np.ndarray]) -> None:
    found, back = maps.patch_matches(*features), maps.patch_matches(*features[::-1])
    pairs = set(zip(found.first_M.tolist(), found.second_M.tolist(), strict=True))
    assert pairs and pairs == set(zip(back.second_M.tolist(), back.first_M.tolist(), strict=True))
    units = [one_hwD.reshape(-1, 96) / np.linalg.norm(one_hwD, axis=-1).reshape(-1, 1) for one_hwD in features]
    cosines = units[0] @ units[1].T
    assert pairs == {(row, int(cosines[row].argmax())) for row in range(48) if cosines[:, cosines[row].argmax()].argmax() == row}
    assert (np.diff(found.cosines_M) <= 0).all()


def test_a_photo_matches_itself_patch_by_patch(features: list[np.ndarray]) -> None:
    found = maps.patch_matches(features[0], features[0])
    assert sorted(zip(found.first_M.tolist(), found.second_M.tolist(), strict=True)) == [(row, row) for row in range(48)]


def test_a_place_gets_the_class_that_is_nearest() -> None:
    texts_CD = np.eye(3, 8, dtype=np.float32)
    features_hwD = texts_CD[np.array([[0, 0, 1, 1], [2, 2, 1, 1]])] * 5
    found = maps.class_map(features_hwD, texts_CD)
    assert found.labels_HW.shape == (2 * maps.FINER, 4 * maps.FINER)
    assert (found.labels_HW[0, 0], found.labels_HW[0, -1], found.labels_HW[-1, 0]) == (0, 1, 2)
    assert found.cosines_HW[0, 0] == pytest.approx(1)
    with pytest.raises(UserError, match="8 features and its texts 4"):
        maps.class_map(features_hwD, texts_CD[:, :4])


def test_depth_that_is_linear_in_the_features_is_found() -> None:
    rng = np.random.default_rng(1)
    weight_D4 = rng.normal(size=(6, 4))

    def patches() -> tuple[np.ndarray, np.ndarray]:
        features_ND = rng.normal(size=(300, 6))
        return features_ND * 7 + 2, features_ND @ weight_D4 + np.array([20, 0, 0, 3])

    head = surfaces.fit([patches(), patches()], [patches()])
    features_ND, targets_N4 = patches()
    depth_N, normals_N3 = head(features_ND)
    np.testing.assert_allclose(depth_N, targets_N4[:, 0], atol=0.01)
    np.testing.assert_allclose(np.linalg.norm(normals_N3, axis=-1), 1)
    assert head.depth_error < 0.01


def test_depth_is_packed_within_a_half_of_a_255th_of_its_range() -> None:
    depth_hw = np.array([[1.0, 2.5], [4.0, 1.3]])
    packed = packing.packed_depth(depth_hw)
    values_hw = np.frombuffer(base64.b64decode(packed["values"]), np.uint8).reshape(2, 2)
    np.testing.assert_allclose(packed["low"] + values_hw / 255 * (packed["high"] - packed["low"]), depth_hw, atol=3 / 510 + 1e-9)


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for page in (document.page(), document.page({"answers": {}, "settings": {}})):
        assert not re.search(r"""(?:src|href|url|import|fetch)\s*[=(]\s*["']?(?:https?:)?//""", page)
        assert "default-src 'none'" in page and "{{" not in page
    assert "connect-src 'self'" in document.policy(live=True) and "connect-src" not in document.policy(live=False)


def test_what_a_saved_page_holds_cannot_end_its_element() -> None:
    held = {"answers": {"state {}": {"photos": [{"name": "</script><script>alert(1)</script> {{ script }}"}]}}, "settings": {}}
    page = document.page(held)
    found = re.search(r'<script type="application/json" id="saved">(.*?)</script>', page, re.DOTALL)
    assert found and json.loads(found[1]) == held
    assert page.count("<script") == 2
