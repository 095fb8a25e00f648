"""Small scans on disk: generated rooms in ScanNet's layout, and a scan made by hand of any frames."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tips_bench.data.ply import write_vertices
from tips_bench.rooms.writing.layouts import jpeg, png
from tips_bench.rooms.writing.writers import write_rooms

OPTIONS = {"seed": 3, "train": 9, "val": 6, "size": 56, "frames_per_scene": 3, "workers": 1}


def write_both(root: Path) -> tuple[Path, Path]:
    """The same rooms with exported frames and with .sens files: 3 + 2 scans of 3 frames."""
    for layout in ("scannet", "scannet-sens"):
        write_rooms(layout, root / layout, **OPTIONS)
    return root / "scannet", root / "scannet-sens"


def write_cloud(folder: Path, points_N3: np.ndarray, labels_N: np.ndarray) -> None:
    """ID_vh_clean_2.ply and its labels, NYU40 ids, in the folder named ID."""
    kinds = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue", "alpha")]
    cloud = np.zeros(len(points_N3), kinds)
    labeled = np.zeros(len(points_N3), [*kinds, ("label", "<u2")])
    for axis, values_N in zip("xyz", points_N3.T, strict=True):
        cloud[axis] = labeled[axis] = values_N
    labeled["label"] = labels_N
    folder.mkdir(parents=True, exist_ok=True)
    write_vertices(cloud, folder / f"{folder.name}_vh_clean_2.ply")
    write_vertices(labeled, folder / f"{folder.name}_vh_clean_2.labels.ply")


def write_frames(
    folder: Path, color_33: np.ndarray, depth_33: np.ndarray, frames: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> None:
    """Exported frames: number -> (image_HW3, millimetres_HW, pose_44)."""
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, matrix_33 in (("color", color_33), ("depth", depth_33)):
        matrix_44 = np.eye(4)
        matrix_44[:3, :3] = matrix_33
        np.savetxt(folder / f"intrinsic/intrinsic_{name}.txt", matrix_44)
    for number, (image_HW3, millimeters_HW, pose_44) in frames.items():
        (folder / f"color/{number}.jpg").write_bytes(jpeg(image_HW3))
        (folder / f"depth/{number}.png").write_bytes(png(millimeters_HW))
        np.savetxt(folder / f"pose/{number}.txt", pose_44)


def plain_sens(path: Path) -> tuple[list[np.ndarray], list[tuple[np.ndarray, bytes, np.ndarray]]]:
    """(four 4 x 4 matrices, (pose, JPEG, depth) of every frame), read from front to back field by field."""
    data = path.read_bytes()
    place = 0

    def take(code: str) -> tuple:
        nonlocal place
        values = struct.unpack_from("<" + code, data, place)
        place += struct.calcsize("<" + code)
        return values

    (version,), (length,) = take("I"), take("Q")
    assert version == 4
    take(f"{length}s")
    matrices = [np.array(take("16f")).reshape(4, 4) for _ in range(4)]
    assert take("2i") == (2, 1)
    _, _, width, height = take("4I")
    assert take("f") == (1000.0,)
    frames = []
    for _ in range(take("Q")[0]):
        pose = np.array(take("16f")).reshape(4, 4)
        take("2Q")
        sizes = take("2Q")
        picture, depth = take(f"{sizes[0]}s")[0], take(f"{sizes[1]}s")[0]
        frames.append((pose, picture, np.frombuffer(zlib.decompress(depth), np.uint16).reshape(height, width)))
    assert place == len(data)
    return matrices, frames


def write_task(folder: Path, root: str, name: str = "scans", **options: object) -> None:
    """A task card in tips-bench-cards of a folder. root: of the data, relative to the data root."""
    card = {
        "name": name,
        "family": "point-segmentation",
        "title": "Small scans",
        "version": 1,
        "data": {"reader": "scannet", "root": root, "splits": {"train": "train", "test": "val"}, "options": {"frame_step": 1, **options}},
        "protocol": "convex-points",
        "protocols": ["convex-points", "linear-lexicon3d"],
        "primary": "mIoU_visible",
        **dict.fromkeys(("license", "citation", "homepage"), "none"),
        "how_to_get": "It is drawn by the tests.",
    }
    place = folder / "tips-bench-cards" / "tasks"
    place.mkdir(parents=True, exist_ok=True)
    (place / f"{name}.yaml").write_text(yaml.safe_dump(card))


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth uint8 RGB image."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def pixels_of(path: Path) -> np.ndarray:
    """As stored."""
    with Image.open(path) as image:
        return np.asarray(image)


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) in pixels."""
    with Image.open(path) as image:
        return image.size


def to_cpp(folder: Path) -> None:
    """Turn exported frames into what ScanNet's SensReader in C++ writes (SensReader/c++/src/sensorData.h:1342-1466)."""
    cameras = {name: np.loadtxt(folder / f"intrinsic/intrinsic_{name}.txt") for name in ("color", "depth")}
    sizes = {name: size_of(next((folder / name).iterdir())) for name in ("color", "depth")}
    lines = ["m_versionNumber = 4", "m_sensorName = StructureSensor"]
    lines += [f"m_{name}{side} = {sizes[name][axis]}" for name in sizes for axis, side in enumerate(("Width", "Height"))]
    lines += ["m_depthShift = 1000"]
    for name, title in (("color", "Color"), ("depth", "Depth")):
        lines += [
            f"m_calibration{title}{kind} = {_row(matrix)}" for kind, matrix in (("Intrinsic", cameras[name]), ("Extrinsic", np.eye(4)))
        ]
    (folder / "_info.txt").write_text("\n".join([*lines, "m_frames.size = 3", ""]))
    for color in sorted((folder / "color").iterdir()):
        stem = f"frame-{int(color.stem):06d}"
        depth_HW = pixels_of(folder / f"depth/{color.stem}.png").astype(">u2")
        head = f"P5\n# data values are 16-bit each; depth shift is 1000\n{depth_HW.shape[1]} {depth_HW.shape[0]}\n65535\n"
        (folder / f"{stem}.depth.pgm").write_bytes(head.encode() + depth_HW.tobytes())
        color.rename(folder / f"{stem}.color.jpg")
        (folder / f"pose/{color.stem}.txt").rename(folder / f"{stem}.pose.txt")
    for part in ("color", "depth", "pose", "intrinsic"):
        shutil.rmtree(folder / part)


def to_openscene(root: Path) -> None:
    """Move exported frames into OpenScene's 2D set, depth and colour of one size and one camera (scripts/preprocess/README.md:57-78)."""
    place = root / "scannet_2d"
    for folder in sorted((root / "scans").iterdir()):
        (place / folder.name).mkdir(parents=True)
        size = size_of(next((folder / "depth").iterdir()))
        for path in (folder / "color").iterdir():
            small_HW3 = np.asarray(Image.fromarray(pixels_of(path)).resize(size, Image.Resampling.NEAREST))
            path.write_bytes(jpeg(small_HW3))
        np.savetxt(place / "intrinsics.txt", np.loadtxt(folder / "intrinsic/intrinsic_depth.txt"))
        for part in ("color", "depth", "pose"):
            (folder / part).rename(place / folder.name / part)
        shutil.rmtree(folder / "intrinsic")


def to_frames_25k(root: Path, inside: str = "") -> None:
    """Move exported frames into scannet_frames_25k: six digits, intrinsics beside the folders."""
    for folder in sorted((root / "scans").iterdir()):
        place = root / inside / "scannet_frames_25k" / folder.name
        for part in ("color", "depth", "pose"):
            (place / part).mkdir(parents=True)
            for path in (folder / part).iterdir():
                path.rename(place / part / f"{int(path.stem):06d}{path.suffix}")
            (folder / part).rmdir()
        for name in ("color", "depth"):
            (folder / f"intrinsic/intrinsic_{name}.txt").rename(place / f"intrinsics_{name}.txt")
        shutil.rmtree(folder / "intrinsic")


def _row(matrix_44: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in matrix_44.ravel())
