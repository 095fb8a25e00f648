"""Small sets in the layouts of Revisited Oxford, AmsterTime, Google Landmarks v2 and Met: patches of color, of which views are cut."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.segmentation_sets import picture


def write_revisited(root: Path, places: int = 4, views: int = 4, dataset: str = "roxford5k", others: int = 0) -> dict:
    """`places` queries, each with `views` images of it: easy, hard, junk and easy again. Returns what the list of answers holds."""
    folder, rng = root / dataset, np.random.default_rng(0)
    (folder / "jpg").mkdir(parents=True)
    lists: dict = {"imlist": [], "qimlist": [], "gnd": []}
    for place in range(places):
        wide_HW3 = picture(place, 80, 96)
        answers: dict = {"bbx": [8.4, 6.6, 71.5, 60.2], "easy": [], "hard": [], "junk": []}
        for view in range(views):
            name = f"place{place}_{view:06d}"
            cut_HW3 = wide_HW3[view * 4 : view * 4 + 48, view * 6 : view * 6 + 56].astype(float) + rng.normal(
                0, 12 * (view + 1), (48, 56, 3)
            )
            Image.fromarray(np.clip(cut_HW3, 0, 255).astype(np.uint8)).save(folder / "jpg" / f"{name}.jpg")
            answers[("easy", "hard", "junk", "easy")[view % 4]].append(len(lists["imlist"]))
            lists["imlist"].append(name)
        name = f"place{place}_9{place:05d}"
        Image.fromarray(wide_HW3).save(folder / "jpg" / f"{name}.jpg")
        lists["qimlist"].append(name)
        lists["gnd"].append(answers)
    write_answers(root, lists, dataset)
    if others:
        (root / "revisitop1m" / "jpg" / "0").mkdir(parents=True)
        names = [f"0/other{number}.jpg" for number in range(others)]
        (root / "revisitop1m" / "revisitop1m.txt").write_text("".join(f"{name}\n" for name in names))
        for number, name in enumerate(names):
            Image.fromarray(picture(50 + number, 40, 40)).save(root / "revisitop1m" / "jpg" / name)
    return lists


def write_answers(root: Path, lists: object, dataset: str = "roxford5k", protocol: int = 2) -> Path:
    """The pickle of the answers."""
    path = root / dataset / f"gnd_{dataset}.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(lists, protocol=protocol))
    return path


def write_amstertime(root: Path, places: int = 6) -> None:
    """The same pictures in color and in gray."""
    for folder in ("new", "old"):
        (root / folder).mkdir(parents=True)
    for place in range(places):
        image = Image.fromarray(picture(place, 56, 64))
        image.save(root / "new" / f"{place:04d}.png")
        image.convert("L").convert("RGB").save(root / "old" / f"{place:04d}.jpg")


def write_gldv2(root: Path, places: int = 4, views: int = 3) -> dict[str, str]:
    """`places` queries, each with `views` images in the index: by turns private and public, and the last one ignored. Returns the lists."""
    lists = {"index": "id\n", "solution": "id,images,Usage\n"}
    for place in range(places):
        wide_HW3, query = picture(place, 80, 96), f"{place:x}" * 16
        ids = [f"{place:x}{view:x}" * 8 for view in range(10, 10 + views)]
        for view, id in enumerate(ids):
            _save(root / "index", id, wide_HW3[view * 4 : view * 4 + 48, view * 6 : view * 6 + 56])
        _save(root / "test", query, wide_HW3)
        ignored = place == places - 1
        lists["index"] += "".join(f"{id}\n" for id in ids)
        lists["solution"] += f"{query},None,Ignored\n" if ignored else f"{query},{' '.join(ids)},{('Private', 'Public')[place % 2]}\n"
    write_gldv2_lists(root, lists)
    return lists


def write_gldv2_lists(root: Path, lists: dict[str, str]) -> None:
    """The two tables."""
    for path, name in (("metadata/index.csv", "index"), ("ground_truth/retrieval_solution_v2.1.csv", "solution")):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(lists[name])


def write_met(root: Path) -> None:
    """Four exhibits in two images each; for testing and for validation one photo of each, and one of nothing that is there."""
    database = [{"path": f"MET/{place}/{view}.jpg", "id": place, "more": 1} for place in range(4) for view in range(2)]
    queries = [{"path": f"test_met/{place}.jpg", "MET_id": place} for place in range(4)] + [{"path": "test_other/9.jpg"}]
    validation = [entry | {"path": entry["path"].replace("test", "val")} for entry in queries]
    (root / "ground_truth").mkdir(parents=True)
    for name, entries in (("MET_database", database), ("testset", queries), ("valset", validation)):
        (root / "ground_truth" / f"{name}.json").write_text(json.dumps(entries))
        for entry in entries:
            file = root / "images" / entry["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(entry.get("id", entry.get("MET_id", 9)), 42, 56)).save(file)


def _save(folder: Path, id: str, image_HW3: np.ndarray) -> None:
    path = folder / id[0] / id[1] / id[2] / f"{id}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image_HW3).save(path)
