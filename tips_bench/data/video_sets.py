"""DAVIS 2017, YouTube-VOS and MOSE: clips with palette PNGs of objects.

davis        ROOT/JPEGImages/480p/CLIP/00000.jpg, ROOT/Annotations/480p/CLIP/00000.png, ROOT/ImageSets/2017/{train,val,test-dev}.txt
youtube-vos  ROOT/{train,valid,test}/{JPEGImages,Annotations}/CLIP/00000.{jpg,png}, ROOT/{train,valid,test}/meta.json, which says in which
             frame each object is first annotated
mose         ROOT/{train,valid}/{JPEGImages,Annotations}/CLIP/00000.{jpg,png}

Layouts: davisvideochallenge/davis2017-evaluation ac7c43f, davis2017/davis.py:31-57; ychfan/youtube-vos.org bb4c3da,
_pages/dataset/vos.md; henghuiding/MOSE-api 241977a, MOSEv1/README.md:51-79. The objects of DAVIS are the numbers up to the greatest of the
first frame (davis.py:93), those of MOSE the numbers in the first frame. The annotations of YouTube-VOS and MOSE beyond the first are public
for the training clips alone, so that there is a split "holdout": some training clips, chosen by a hash of their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from tips_bench.cards import Strict, parse
from tips_bench.data.base import IGNORE
from tips_bench.data.dataset_files import file_sizes, inside, read_lines
from tips_bench.data.integrity import MAX_BYTES
from tips_bench.data.videos import Clip
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest

DAVIS_SPLITS = ("train", "val", "test-dev", "test-challenge")
HOLDOUT = "holdout"
YOUTUBE_TRAIN = 3471  # clips, of the versions of 2018 and 2019
MOSE_TRAIN = 1507  # clips: 1,206 and 301 in DINOv3 (arXiv 2508.10104), appendix D.5
Find = Callable[[str], Clip]


class DavisOptions(Strict):
    """resolution: "480p" or "Full-Resolution", the folder under JPEGImages and Annotations."""

    resolution: Literal["480p", "Full-Resolution"] = "480p"


class HoldoutOptions(Strict):
    """holdout: how many training clips the split "holdout" has."""

    holdout: int = Field(gt=0)


class VideoFiles:
    """One split of a set of clips, sorted by name; a VideoReader. find: name of a clip -> the clip.

    annotated: whether every frame must have a mask. Errors: a clip without frames, a missing or broken file.
    """

    def __init__(self, name: str, split: str, root: Path, clips: list[str], find: Find, *, how: str, annotated: bool) -> None:
        self.name, self.split, self.root = name, split, str(root)
        self.classes: list[str] = []
        self.remarks: tuple[str, ...] = ()
        self.ids = sorted(clips)
        self.groups, self.has_truth = list(self.ids), split in ("train", "val", HOLDOUT)
        if not clips:
            raise UserError("there is no clip", where=root, fix=how)
        self.clips = [find(id) for id in self.ids]
        for clip in self.clips:
            lacking = [path for frame, path in enumerate(clip.images) if annotated and frame not in clip.masks]
            if lacking:
                problem = f"a frame has no mask ({len(lacking)} of {len(clip)}, this is the first)"
                raise UserError(problem, where=lacking[0], fix=how)
        files = [str(path) for index in range(len(self.ids)) for path in self.sources(index)]
        sizes = file_sizes(files, "a frame or a mask is missing", how, MAX_BYTES)
        names = (f"{clip.id} {len(clip)} {sorted(clip.masks)} {clip.starts}" for clip in self.clips)
        self.fingerprint = digest(*self.ids, *names, *(Path(path).name for path in files), *sizes)

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, index: int) -> Clip:
        """One clip; nothing is decoded yet."""
        return self.clips[index]

    def sources(self, index: int) -> list[Path]:
        """The frames and masks of a clip."""
        return [*self.clips[index].images, *self.clips[index].masks.values()]


def davis(root: str | Path, split: str, **options: Any) -> VideoFiles:
    """The clips of a list under ImageSets/2017. Splits: train, val, test-dev, test-challenge. Errors: a missing list, clip or mask."""
    root, chosen = Path(root), parse(DavisOptions, options, where="data.options")
    how = "Unpack DAVIS-2017-trainval-480p.zip, so that JPEGImages, Annotations and ImageSets lie in this folder."
    if split not in DAVIS_SPLITS:
        raise unknown_name("split", split, DAVIS_SPLITS, where="davis")
    listing = root / "ImageSets" / "2017" / f"{split}.txt"
    if not listing.is_file():
        raise UserError("there is no list of clips", where=listing, fix=how)
    images, masks = (root / kind / chosen.resolution for kind in ("JPEGImages", "Annotations"))
    clips = [inside(line, listing) for line in read_lines(listing)]
    if len(set(clips)) < len(clips):
        raise UserError("the list names a clip twice", where=listing, fix="Get the list again.")

    def find(id: str) -> Clip:
        return _clip(id, images / id, masks / id, how, counted=True)

    return VideoFiles("davis", split, root, clips, find, how=how, annotated=split in ("train", "val"))


def youtube_vos(root: str | Path, split: str, **options: Any) -> VideoFiles:
    """Clips whose objects start where meta.json says. Splits: train, holdout, valid, test. Errors: a missing or broken file."""
    place = _folder(Path(root), split, ("train", HOLDOUT, "valid", "test"), "youtube-vos")
    chosen = parse(HoldoutOptions, options, where="data.options")
    how = f"Unpack {place.name}.zip, so that JPEGImages, Annotations and meta.json lie in this folder."
    objects = _first_frames(place / "meta.json", how)

    def find(id: str) -> Clip:
        clip = _clip(id, place / "JPEGImages" / id, place / "Annotations" / id, how)
        frame_of = {path.stem: frame for frame, path in enumerate(clip.images)}
        starts = {number: frame_of.get(first, -1) for number, first in objects[id].items()}
        if lost := [number for number, frame in starts.items() if frame not in clip.masks]:
            problem = f"object {lost[0]} of {id} starts in a frame that has no image or no mask"
            raise UserError(problem, where=place / "meta.json", fix=how)
        return replace(clip, starts=starts)

    clips = _held_out(list(objects), chosen.holdout) if split == HOLDOUT else list(objects)
    reader = VideoFiles("youtube-vos", split, place, clips, find, how=how, annotated=False)
    reader.remarks = _whole(split, len(objects), YOUTUBE_TRAIN)
    return reader


def mose(root: str | Path, split: str, **options: Any) -> VideoFiles:
    """Clips whose objects are those of the first frame. Splits: train, holdout, valid. Errors: a missing or broken file."""
    place = _folder(Path(root), split, ("train", HOLDOUT, "valid"), "mose")
    chosen = parse(HoldoutOptions, options, where="data.options")
    how = f"Unpack {place.name}.tar.gz, so that JPEGImages and Annotations lie in this folder."
    clips = [path.name for path in _listed(place / "JPEGImages", how) if path.is_dir()]

    def find(id: str) -> Clip:
        return _clip(id, place / "JPEGImages" / id, place / "Annotations" / id, how)

    used = _held_out(clips, chosen.holdout) if split == HOLDOUT else clips
    reader = VideoFiles("mose", split, place, used, find, how=how, annotated=split in ("train", HOLDOUT))
    reader.remarks = _whole(split, len(clips), MOSE_TRAIN)
    return reader


def _folder(root: Path, split: str, splits: tuple[str, ...], name: str) -> Path:
    if split not in splits:
        raise unknown_name("split", split, splits, where=name)
    return root / ("train" if split == HOLDOUT else split)


def _held_out(clips: list[str], number: int) -> list[str]:
    return sorted(clips, key=lambda clip: digest("held out", clip))[:number]


def _whole(split: str, found: int, published: int) -> tuple[str, ...]:
    """What a record says where clips are held out of another training set than the published one."""
    if split != HOLDOUT or found == published:
        return ()
    return (f"the training set has {found:,} clips, not {published:,}: other clips are held out",)


def _listed(folder: Path, how: str) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=folder, fix=how) from error


def _clip(id: str, images: Path, masks: Path, how: str, counted: bool = False) -> Clip:
    """The frames of a folder, and the masks of the same names. Errors: no frame, a mask without a frame."""
    frames = [path for path in _listed(images, how) if path.suffix == ".jpg"]
    if not frames:
        raise UserError("the clip has no frame", where=images, fix=how)
    frame_of, found = {path.stem: frame for frame, path in enumerate(frames)}, {}
    for path in _listed(masks, how):
        if path.suffix == ".png":
            if path.stem not in frame_of:
                raise UserError(f"the mask has no frame in {images}", where=path, fix=how)
            found[frame_of[path.stem]] = path
    return Clip(id, id, frames, found, counted=counted)


class _Object(BaseModel):
    frames: Annotated[list[str], Field(min_length=1)]


class _Video(BaseModel):
    objects: Annotated[dict[Annotated[int, Field(gt=0, lt=IGNORE)], _Object], Field(min_length=1)]


class _Meta(BaseModel):
    videos: dict[str, _Video]


def _first_frames(path: Path, how: str) -> dict[str, dict[int, str]]:
    """Clip -> object -> the frame in which it is annotated first. Errors: no such file, not YouTube-VOS's meta.json."""
    try:
        videos = _Meta.model_validate_json(path.read_bytes()).videos
    except OSError as error:
        raise UserError(f"cannot read: {error.strerror}", where=path, fix=how) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"not a list of videos, objects and frames: {place}: {first['msg']}", where=path, fix=how) from error
    return {inside(id, path): {number: min(thing.frames) for number, thing in video.objects.items()} for id, video in videos.items()}
