"""Readers of image pairs: what they find in the layouts of their sets, what they refuse, and what the check of the data says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers.pair_sets import SIDE, write_navi, write_pf_pascal, write_scannet_pairs, write_spair
from tips_bench.adapters.keypoint_matching import OnCanvas
from tips_bench.data.checks.pairs import check_keypoints, check_views
from tips_bench.data.navi_pairs import drawn_partners, navi_pairs
from tips_bench.data.pf_pascal import TEST_PAIRS as PASCAL_PAIRS
from tips_bench.data.pf_pascal import pf_pascal
from tips_bench.data.scannet_pairs import scannet_pairs
from tips_bench.data.spair import TEST_PAIRS, spair
from tips_bench.data.view_geometry import match_errors
from tips_bench.errors import UserError
from tips_bench.rooms.generate import room
from tips_bench.rooms.writing.layout_table import JOINED, LAYOUTS
from tips_bench.rooms.writing.pair_sets import pairs_of, seen, things, world


def test_the_published_pairs_of_categories_add_up():
    assert len(TEST_PAIRS) == 18 and sum(TEST_PAIRS) == 12_234
    assert len(PASCAL_PAIRS) == 20 and sum(PASCAL_PAIRS) == 299


def test_spair_reads_pairs_with_their_points(tmp_path):
    write_spair(tmp_path)
    reader = spair(tmp_path, "test")
    assert reader.classes == ["one", "three", "two"] and reader.groups == ["one", "one", "two", "two", "three", "three"]
    pair = reader.load(0)
    assert reader.ids[0] == "000000-a-b:one" and (pair.points_2K2[1] - pair.points_2K2[0] == [14, 0]).all() and pair.size == (SIDE, SIDE)
    assert [reader.images.ids[place] for place in (pair.first, pair.second)] == ["one/a.jpg", "one/b.jpg"] and pair.box == (10, 10, 60, 90)
    assert len(reader.images) == 6 and reader.images.load(0).image_HW3.shape == (SIDE, SIDE, 3)
    assert [pair.difficulty for pair in map(reader.load, range(4))] == [(0, 0, 3, 0), (0, 0, 3, 1), (1, 0, 3, 0), (1, 0, 3, 1)]
    assert len(reader.sources(0)) == 2 and spair(tmp_path, "test").fingerprint == reader.fingerprint
    report = check_keypoints(reader, 6)
    assert report.ok and report.facts["pairs"] == "one 2, three 2, two 2" and report.sizes == {"112x112": 6}


def test_other_points_are_other_data(tmp_path):
    write_spair(tmp_path)
    before = spair(tmp_path, "test").fingerprint
    path = next((tmp_path / "PairAnnotation/test").glob("*.json"))
    data = json.loads(path.read_text())
    data["trg_kps"][0][0] += 1
    path.write_text(json.dumps(data))
    assert spair(tmp_path, "test").fingerprint != before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"src_kps": [[1, 2]]}, "not an annotation|as many points"),
        ({"trg_bndbox": [5, 5, 5, 5]}, "no extent"),
        ({"trg_imname": "../../x.jpg"}, "outside the folder"),
        ({"trg_imname": "c.jpg"}, "is missing"),
        ({"trg_kps": [[float("nan"), 1]] * 4}, "as many points"),
        ({"category": None}, "missing"),
        ({"occlusion": 4}, "no levels of difficulty"),
        ({"truncation": "some"}, "not an annotation"),
    ],
)
def test_a_pair_that_contradicts_itself_is_refused_by_name(tmp_path, change, said):
    write_spair(tmp_path, 1)
    path = tmp_path / "PairAnnotation/test/000000-a-b:one.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=said):
        spair(tmp_path, "test")


def test_missing_lists_and_annotations_say_how_to_get_the_set(tmp_path):
    with pytest.raises(UserError, match=r"list of pairs is missing.*SPair-71k\.tar\.gz"):
        spair(tmp_path, "test")
    write_spair(tmp_path, 1)
    (tmp_path / "PairAnnotation/test/000000-a-b:one.json").unlink()
    with pytest.raises(UserError, match="annotation of a pair"):
        spair(tmp_path, "test")
    with pytest.raises(UserError, match="split"):
        spair(tmp_path, "train")


def test_the_check_finds_points_outside_and_sizes_that_are_not_the_images(tmp_path):
    write_spair(tmp_path, 1)
    path = tmp_path / "PairAnnotation/test/000000-a-b:one.json"
    data = json.loads(path.read_text())
    data["trg_kps"][0], data["trg_imsize"] = [500, 3], [99, 98, 3]
    path.write_text(json.dumps(data))
    faults = "\n".join(check_keypoints(spair(tmp_path, "test"), 3).faults)
    assert "lies outside of one/b.jpg" in faults and "its annotation says (98, 99)" in faults and "2 pairs, expected 3" in faults


def test_pf_pascal_reads_its_list(tmp_path):
    write_pf_pascal(tmp_path)
    reader = pf_pascal(tmp_path, "test")
    pair = reader.load(0)
    assert reader.ids == ["0001-cat1-cat2:cat", "0002-dog1-dog2:dog"] and pair.size == (50, 40) and pair.box is None
    assert pair.points_2K2.tolist() == [[[10.5, 30], [20, 40.25]], [[5, 7], [6, 8.5]]] and reader.remarks
    assert check_keypoints(reader).ok
    path = tmp_path / "PF-dataset-PASCAL/test_pairs_pf_pascal.csv"
    path.write_text(path.read_text().replace("5;6,", "5;6;7,"))
    with pytest.raises(UserError, match="row 1"):
        pf_pascal(tmp_path, "test")


def test_scannet_pairs_have_points_where_their_poses_say(tmp_path):
    write_scannet_pairs(tmp_path)
    reader = scannet_pairs(tmp_path, "test")
    assert reader.ids == ["scene0707_00/0-1", "scene0707_00/0-2", "scene0708_00/0-1", "scene0708_00/0-2"]
    assert reader.groups == ["scene0707"] * 2 + ["scene0708"] * 2 and [reader.pair(k).kind for k in range(2)] == [0, 1]
    same, turned = reader.load(0), reader.load(1)
    assert same.points_2HW3.shape == (2, 120, 160, 3) and same.angle == 0 and turned.angle == pytest.approx(20)
    first_N3, second_N3 = (points_HW3.reshape(-1, 3) for points_HW3 in same.points_2HW3)
    assert np.concatenate(match_errors(first_N3, second_N3, same.move_44, same.focal)).max() == 0
    assert first_N3[0] == pytest.approx([2 * (2 - 320) / 577, 2 * (2 - 240) / 577, 2])  # the first of 4 x 4 pixels, by its center
    report = check_views(reader, 4)
    assert report.ok and report.facts["images"] == "6" and "seen twice" in report.facts


def test_scannet_pairs_without_a_pose_or_intrinsics_are_refused(tmp_path):
    write_scannet_pairs(tmp_path)
    (tmp_path / "scene0707_00/pose/1.txt").write_text("-inf " * 16)
    with pytest.raises(UserError, match="pose is lost"):
        scannet_pairs(tmp_path, "test")
    write_scannet_pairs(tmp_path)
    np.savez(tmp_path / "intrinsics.npz", scene0707_00=np.eye(3))
    with pytest.raises(UserError, match="no intrinsics of scene0708_00"):
        scannet_pairs(tmp_path, "test")
    np.savez(tmp_path / "test.npz", name=np.zeros((0, 4), int))
    with pytest.raises(UserError, match="four numbers"):
        scannet_pairs(tmp_path, "test")


def test_navi_pairs_are_other_images_of_the_object_within_the_greatest_angle(tmp_path):
    write_navi(tmp_path, images=8)
    reader = navi_pairs(tmp_path, "test", every=1)
    assert len(reader) == 16 and reader.groups == ["object_0"] * 8 + ["object_1"] * 8
    for index in range(len(reader)):
        pair = reader.load(index)
        assert pair.first != pair.second and 0 < pair.angle <= 120
        numbers = [int(reader.images.ids[place].rpartition("/")[2]) for place in (pair.first, pair.second)]
        assert pair.angle == pytest.approx(25 * abs(numbers[0] - numbers[1])) and pair.points_2HW3.shape == (2, 128, 128, 3)
    known_N3 = reader.load(0).points_2HW3[0].reshape(-1, 3)
    assert set(np.unique(known_N3[:, 2].round(3))) == {0.0, 0.5} and reader.images.load(0).image_HW3.shape == (512, 512, 3)
    assert len(navi_pairs(tmp_path, "test")) == 4, "every 4th image has a partner"
    assert check_views(reader).ok


def test_partners_are_the_same_whatever_the_order_of_the_images(tmp_path):
    write_navi(tmp_path)
    poses = navi_pairs(tmp_path, "test", every=1).images.poses
    backwards = dict(reversed(poses.items()))
    assert drawn_partners(poses, list(poses), 120) == drawn_partners(backwards, list(poses), 120)
    assert all(first != second for first, second in drawn_partners(poses, list(poses), 30).items())


def test_navi_without_poses_is_refused(tmp_path):
    write_navi(tmp_path)
    path = tmp_path / "object_0/wild_set/annotations.json"
    path.write_text(path.read_text().replace('"q"', '"p"'))
    with pytest.raises(UserError, match="no poses of NAVI"):
        navi_pairs(tmp_path, "test")


@pytest.mark.parametrize(
    ("canvas", "shift", "shade"), [("corner-white", [0, 0], 255), ("center-black", [0, 10], 0), ("none", [0, 0], None)]
)
def test_images_are_put_on_a_square_canvas(tmp_path, canvas, shift, shade):
    write_pf_pascal(tmp_path)
    images = pf_pascal(tmp_path, "test").images
    shown, place = OnCanvas(images, canvas), images.ids.index("PF-dataset-PASCAL/JPEGImages/cat1.jpg")
    image_HW3 = shown.load(place).image_HW3
    assert shown.shift(place).tolist() == shift and shown.size(place) == image_HW3.shape[:2]
    assert image_HW3.shape == ((60, 80, 3) if shade is None else (80, 80, 3))
    left, top = shift
    assert (image_HW3[top : top + 60, left : left + 80] == images.load(place).image_HW3).all()
    assert shade is None or (image_HW3[-1] == shade).all()


@pytest.mark.slow
def test_rooms_are_written_in_these_layouts(tmp_path):
    """One room, drawn once."""
    drawn = room(0, "val", 0, frames=4, size=64, one_lens=True)
    readers = {"spair": spair, "pf-pascal": pf_pascal, "scannet-pairs": scannet_pairs, "navi-pairs": navi_pairs}
    wide = {"navi-pairs": {"every": 1, "angles": (0, 180)}, "pf-pascal": {"classes": tuple("abcdefghijklmnopqrst")}}
    for layout, open_ in readers.items():
        folder, kind = tmp_path / layout, LAYOUTS[layout]
        files = kind.files("val", drawn, [kind.stem("val", drawn.name, k, k + 1) for k in range(4)])
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        if layout in JOINED:
            assert set(JOINED[layout](folder, list(files))) == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        reader = open_(folder, "test", **wide.get(layout, {}))
        report = (check_keypoints if layout in ("spair", "pf-pascal") else check_views)(reader)
        assert report.ok and len(reader) > 1, (layout, report.faults)


@pytest.mark.slow
def test_frames_whose_thing_is_beside_the_square_that_is_read_are_left_out(tmp_path):
    drawn, kind = room(0, "val", 2, frames=4, size=64), LAYOUTS["navi-pairs"]
    files = kind.files("val", drawn, [kind.stem("val", drawn.name, k, k + 1) for k in range(4)])
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert [name for name in files if "wild_set/depth" in name] == ["object_val_002/wild_set/depth/003.png"]


@pytest.mark.slow
def test_points_of_rooms_are_where_depth_and_poses_say():
    """Each point of a thing, seen in another frame, is within half a pixel of its file's pixel there and at the depth of the frame."""
    drawn = room(0, "val", 0, frames=4, size=64)
    found = [(number, shown) for number, _, shown in things(drawn)]
    assert sum(len(pairs_of(shown)) for _, shown in found) > 3
    for number, shown in found:
        for a, b, common in pairs_of(shown):
            first, second = drawn.frames[a.frame], drawn.frames[b.frame]
            for n in common:
                (x, y), (column, row) = a.points[n], b.points[n]
                place_3 = world(first, np.array([y]), np.array([x]))
                ((seen_x, seen_y, depth),) = seen(second.camera, place_3)
                blur = 1.5 + 0.02 * second.camera.focal  # the point lies anywhere in its pixel of the first frame
                assert abs(seen_x - column - 0.5) < blur and abs(seen_y - row - 0.5) < blur
                assert depth == pytest.approx(second.depth_HW[row, column], rel=0.1)
                assert second.instances_HW[row, column] == number
