"""Small sets of image pairs on disk, in the layouts of SPair-71k, PF-PASCAL, ScanNet's pairs and NAVI."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

PATCH, SIDE = 14, 112
NAMES = ("one", "two", "three")


def texture(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """An image [H,W,3] whose patches all differ."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_png(path: Path, image: np.ndarray) -> None:
    """A PNG, whatever the name says, so that no pixel changes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def write_spair(root: Path, categories: int = 3, shift: int = 1, split: str = "test") -> None:
    """In each category an image and a copy of it that is moved right by whole patches, both ways round."""
    names = []
    for kind in range(categories):
        category, wide_HW3 = NAMES[kind], texture(kind, SIDE, SIDE + PATCH * shift)
        pictures = {"a": wide_HW3[:, PATCH * shift :], "b": wide_HW3[:, :SIDE]}
        for name, image_HW3 in pictures.items():
            write_png(root / "JPEGImages" / category / f"{name}.jpg", image_HW3)
        inside = np.random.default_rng(kind).integers(2 * PATCH, SIDE - 3 * PATCH, (4 + kind, 2))
        moved = inside + np.array([PATCH * shift, 0])
        for number, (source, target, points, truth) in enumerate((("a", "b", inside, moved), ("b", "a", moved, inside))):
            name = f"{2 * kind + number:06d}-{source}-{target}:{category}"
            names.append(name)
            data = {"filename": name, "category": category, "src_imname": f"{source}.jpg", "trg_imname": f"{target}.jpg"}
            data |= {"src_imsize": [SIDE, SIDE, 3], "trg_imsize": [SIDE, SIDE, 3], "trg_bndbox": [10, 10, 60, 90]}
            data |= {"src_kps": points.tolist(), "trg_kps": truth.tolist()}
            data |= {"viewpoint_variation": kind % 3, "scale_variation": 0, "truncation": 3, "occlusion": number}
            path = root / "PairAnnotation" / split / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(data))
    listing = root / "Layout" / "large" / f"{split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("\n".join(names) + "\n")


def write_pf_pascal(root: Path) -> None:
    """Two pairs, of a cat and of a dog."""
    lines = ["source_image,target_image,class,XA,YA,XB,YB"]
    for kind, name in ((8, "cat"), (12, "dog")):
        for side, size in (("1", (60, 80)), ("2", (50, 40))):
            write_png(root / f"PF-dataset-PASCAL/JPEGImages/{name}{side}.jpg", texture(kind, *size))
        both = [f"PF-dataset-PASCAL/JPEGImages/{name}{side}.jpg" for side in "12"]
        lines.append(f"{both[0]},{both[1]},{kind},10.5;20,30;40.25,5;6,7;8.5")
    (root / "PF-dataset-PASCAL/test_pairs_pf_pascal.csv").write_text("\n".join(lines) + "\n")


def write_ap10k(root: Path, photos: dict[tuple[str, str], int] | None = None, points: int = 17) -> None:
    """Photos of species, a few points of each animal unseen, over the three files; image 2 shows several animals and image 3 few points."""
    photos = {("Bovidae", "cow"): 4, ("Bovidae", "sheep"): 3, ("Felidae", "cat"): 3} if photos is None else photos
    draw, number = np.random.default_rng(0), 0
    files: dict[str, dict[str, list]] = {name: {"images": [], "annotations": []} for name in ("train", "test", "val")}
    kinds = [{"id": place, "name": name, "supercategory": family} for place, (family, name) in enumerate(photos, 1)]
    for kind, many in zip(kinds, photos.values(), strict=True):
        for _ in range(many):
            number += 1
            seen_P = np.where(draw.random(points) < (0.1 if number == 3 else 0.8), 2, 0)
            seen_P[:2] = 2
            seen_P[2] = 0 if number == 3 else 2
            seen_P[3:] *= number != 3
            keypoints = np.concatenate([draw.integers(0, SIDE, (points, 2)), seen_P[:, None]], 1)
            file = files[("train", "test", "val")[number % 3]]
            file["images"].append({"id": number, "file_name": f"{number:012d}.jpg", "width": SIDE, "height": SIDE})
            known = {"image_id": number, "category_id": kind["id"], "bbox": [10, 20, 60, 80], "keypoints": keypoints.ravel().tolist()}
            file["annotations"].append(known | {"id": 100 + number, "num_keypoints": int((seen_P > 0).sum())})
            write_png(root / "data" / f"{number:012d}.jpg", texture(number))
    (root / "annotations").mkdir(parents=True)
    for name, data in files.items():
        (root / "annotations" / f"ap10k-{name}-split1.json").write_text(json.dumps(data | {"categories": kinds}))
    (root / "ap-10k_is_crowd.txt").write_text(f"{2:012d}\n")


def pose(degrees: float, x: float = 0.0) -> np.ndarray:
    """Camera to world: turned around the vertical axis, at (x, 0, 0)."""
    matrix_44, angle = np.eye(4), np.radians(degrees)
    matrix_44[0, 0] = matrix_44[2, 2] = np.cos(angle)
    matrix_44[0, 2], matrix_44[2, 0], matrix_44[0, 3] = np.sin(angle), -np.sin(angle), x
    return matrix_44


def write_scannet_pairs(root: Path, turns: tuple[float, ...] = (0.0, 0.0, 20.0)) -> None:
    """Two scenes of frames before a wall 2 m away, all of one texture; pairs of frame 0 with each other one."""
    rows = []
    for scene in (707, 708):
        folder = root / f"scene{scene:04d}_00"
        image_HW3 = cv2.resize(texture(scene, 30, 40), (640, 480), interpolation=cv2.INTER_NEAREST)
        for frame, turn in enumerate(turns):
            write_png(folder / "color" / f"{frame}.jpg", image_HW3)
            (folder / "depth").mkdir(exist_ok=True)
            Image.fromarray(np.full((480, 640), 2000, np.uint16)).save(folder / "depth" / f"{frame}.png")
            (folder / "pose").mkdir(exist_ok=True)
            np.savetxt(folder / "pose" / f"{frame}.txt", pose(turn))
        rows += [[scene, 0, 0, frame] for frame in range(1, len(turns))]
    np.savez(root / "test.npz", name=np.array(rows))
    matrix_33 = np.array([[577.0, 0, 319.5], [0, 577.0, 239.5], [0, 0, 1]])
    np.savez(root / "intrinsics.npz", scene0707_00=matrix_33, scene0708_00=matrix_33)


def write_navi(root: Path, images: int = 5, objects: int = 2) -> None:
    """Objects in the wild, each image turned by 25 degrees from the one before; the object is a square 0.5 m away."""
    for number in range(objects):
        for collection, several in (("wild_set", images), ("multiview-00-phone", 1)):
            folder, entries = root / f"object_{number}" / collection, []
            for index in range(several):
                write_png(folder / "images" / f"{index:03d}.jpg", texture(10 * number + index, 60, 80))
                depth_HW = np.zeros((60, 80), np.uint16)
                depth_HW[20:45, 30:60] = round(655350 / 500)
                (folder / "depth").mkdir(exist_ok=True)
                Image.fromarray(depth_HW).save(folder / "depth" / f"{index:03d}.png")
                half = np.radians(25 * index) / 2
                camera = {"q": [np.cos(half), 0, np.sin(half), 0], "t": [0.0, 0.0, 500.0], "focal_length": 90.0}
                entries.append({"filename": f"{index:03d}.jpg", "image_size": [60, 80], "camera": camera})
            (folder / "annotations.json").write_text(json.dumps(entries))
