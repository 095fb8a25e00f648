"""Small videos on disk, in the layouts of DAVIS, YouTube-VOS and MOSE."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

Video = tuple[np.ndarray, np.ndarray]  # frames_THW3 and ids_THW, uint8
PALETTE = [value * step % 256 for value in range(256) for step in (37, 101, 67)]


def noise(frames: int, height: int, width: int, seed: int = 0) -> Video:
    """Random frames with two objects that stay where they are."""
    ids_HW = np.zeros((height, width), np.uint8)
    ids_HW[: height // 2, : width // 2] = 1
    ids_HW[height // 2 :, width // 2 :] = 2
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8), np.stack([ids_HW] * frames)


def write_clip(images: Path, masks: Path, video: Video, annotated: set[int] | None = None) -> None:
    """Frames and masks of one clip. The frames are JPEGs of the best quality. annotated: frames with a mask, None = all."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for frame, (image_HW3, ids_HW) in enumerate(zip(*video, strict=True)):
        Image.fromarray(image_HW3).save(images / f"{frame:05d}.jpg", quality=100, subsampling=0)
        if annotated is None or frame in annotated:
            mask = Image.fromarray(ids_HW)
            mask.putpalette(PALETTE)
            mask.save(masks / f"{frame:05d}.png")


def write_davis(root: Path, clips: dict[str, Video], split: str = "val") -> None:
    """DAVIS 2017 with one list."""
    for name, video in clips.items():
        write_clip(root / "JPEGImages" / "480p" / name, root / "Annotations" / "480p" / name, video)
    listing = root / "ImageSets" / "2017" / f"{split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in clips))


def write_youtube(root: Path, clips: dict[str, Video], split: str = "train", late: dict[str, dict[int, int]] | None = None) -> None:
    """YouTube-VOS. late: clip -> object -> the frame that it starts in, where that is not the first. Other splits have only first masks."""
    videos = {}
    for name, video in clips.items():
        starts = {int(thing): 0 for thing in np.unique(video[1]) if thing} | (late or {}).get(name, {})
        folder = root / split
        write_clip(folder / "JPEGImages" / name, folder / "Annotations" / name, video, None if split == "train" else set(starts.values()))
        objects = {
            str(thing): {"category": "sofa", "frames": [f"{frame:05d}" for frame in range(first, len(video[0]))]}
            for thing, first in starts.items()
        }
        videos[name] = {"objects": objects}
    (root / split / "meta.json").write_text(json.dumps({"videos": videos}))


def write_mose(root: Path, clips: dict[str, Video], split: str = "train") -> None:
    """MOSE. Only the training masks are all there."""
    for name, video in clips.items():
        folder = root / split
        write_clip(folder / "JPEGImages" / name, folder / "Annotations" / name, video, None if split == "train" else {0})
