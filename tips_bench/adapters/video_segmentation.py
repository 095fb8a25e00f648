"""The task family `video-segmentation`: masks of objects, given where they start, are carried through clips by their patches.

A sample is a clip. Its frames go through the encoder in order, and only those that later frames look at are held, so that a clip may be of
any length. An object that starts later has no label before; its mask is laid over what was carried to that frame, which is looked at from
then on, as the first is. An object is scored in the frames that the task's options name.

Axes: H W pixels, h w token grid, D feature, C labels (background, then objects), T frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tips_bench.adapters.base import Picture, Scores
from tips_bench.adapters.scoring import Scored, score_samples
from tips_bench.cards import ProtocolCard, Strict, TaskCard, parse
from tips_bench.data.split import Splits
from tips_bench.data.videos import Clip, VideoReader
from tips_bench.errors import UserError
from tips_bench.features.context import RunContext
from tips_bench.features.extract import Extractor
from tips_bench.features.propagation import Propagation, PropagationOptions, ids_of, on_grid, one_hot
from tips_bench.metrics.samples import SampleCounts
from tips_bench.metrics.videos import VideoCounts, boundary, object_sums, region
from tips_bench.pictures.clips import STRIP, Shown, clip_panel, save_film

FILM = 60  # frames of an animation, at most


class VideoRule(Strict):
    """scored: "inner", all frames but the first and the last, as DAVIS does; "after-start", those with a mask after the object starts."""

    scored: Literal["inner", "after-start"]

    def frames(self, clip: Clip, thing: int) -> list[int]:
        """The frames in which an object is scored. Errors: none is left."""
        first = clip.objects[thing]
        found = range(1, len(clip) - 1) if self.scored == "inner" else [frame for frame in sorted(clip.masks) if frame > first]
        if not len(found):
            raise UserError(f"object {thing} has no frame that is scored", where=clip.images[first].parent, fix="Leave the clip out.")
        return list(found)


@dataclass(frozen=True)
class Followed:
    """One frame of a clip. ids_HW: uint8, the object of each pixel, 0 = background; in a frame in which an object starts, its own mask."""

    frame: int
    image_HW3: np.ndarray
    ids_HW: np.ndarray


class VideoAdapter:
    """Nothing is fitted: the protocol says how labels are carried."""

    needs_text = False
    observed = False
    probe = None

    def __init__(self, task: TaskCard, protocol: ProtocolCard) -> None:
        where, image = f"protocol {protocol.name}", protocol.image
        self.task = task
        self.rule = parse(VideoRule, task.options, where=f"task {task.name}", prefix="options.")
        self.options = parse(PropagationOptions, protocol.probe, where=where, prefix="probe.")
        if image.crops or not (image.patch_multiple or image.fit == "enlarge"):
            fix = "Use shape aspect or square with patch_multiple: true or fit: enlarge."
            raise UserError("the patches must cover the frame and nothing else", where=f"{where}, image", fix=fix)

    def open(self, root: Path, limit: int | None) -> Splits[VideoReader]:
        """Only the scored clips. Errors: clips whose masks are not public."""
        splits = Splits.open(self.task.data, root, limit, train=False)
        if not splits.test.reader.has_truth:
            fix = "Score a split that has them; `tips-bench masks` writes masks for a server that scores this one."
            raise UserError(f"the masks of split {splits.test.name} are not public", where=f"task {self.task.name}", fix=fix)
        return splits

    def score(self, context: RunContext, splits: Splits[VideoReader], head: None, beside: dict[str, SampleCounts]) -> Scores:
        """Sums of every clip of the test split."""
        reader, notes = splits.test.reader, ("scored_objects", "scored_frames")

        def outcomes(indices: list[int]) -> Iterator[Scored]:
            for index in context.extractor.world.share(indices):
                clip = reader.load(index)
                sums_7, frames = self._sums(clip, context.extractor.alone())
                yield Scored(index, clip, sums_7, notes=(len(clip.objects), frames))

        return score_samples(context, splits.test, VideoCounts(), beside, outcomes, notes)

    def _sums(self, clip: Clip, extractor: Extractor) -> tuple[np.ndarray, int]:
        """The 7 sums over the objects of one clip, and how many frames were scored."""
        scored = {thing: self.rule.frames(clip, thing) for thing in clip.objects}
        last = max(frames[-1] for frames in scored.values())
        wanted = {thing: set(frames) for thing, frames in scored.items()}
        values: dict[int, list[tuple[float, float]]] = {thing: [] for thing in clip.objects}
        for found in self.follow(clip, extractor, last + 1):
            things = [thing for thing in clip.objects if found.frame in wanted[thing]]
            ids_HW = clip.ids(found.frame) if things else found.ids_HW
            for thing in things:
                truth_HW, found_HW = ids_HW == thing, found.ids_HW == thing
                values[thing].append((region(truth_HW, found_HW), boundary(truth_HW, found_HW)))
        sums_O7 = np.stack([object_sums(*zip(*values[thing], strict=True)) for thing in clip.objects])
        return sums_O7.sum(0), len(set().union(*wanted.values()))

    @torch.inference_mode()
    def follow(self, clip: Clip, extractor: Extractor, frames: int | None = None) -> Iterator[Followed]:
        """The frames of a clip in order, at most `frames`, each with the objects that are found in it."""
        tracker = _Tracker(clip, self.options, extractor.inner_size(*clip.shape))
        for batch, samples, pixels_B3HW in extractor.batches(clip, range(len(clip) if frames is None else frames)):
            for frame, sample, features_hwD in zip(batch, samples, extractor.encode(pixels_B3HW).features_BhwD, strict=True):
                yield Followed(frame, sample.image_HW3, tracker.step(frame, features_hwD))

    def draw(self, context: RunContext, splits: Splits[VideoReader], head: None, indices: list[int]) -> list[Picture]:
        """A strip of frames with true and found masks; beside each lies an animation of the same name."""
        reader, pictures = splits.test.reader, []
        for index in indices:
            clip = reader.load(index)
            strip = set(np.linspace(0, len(clip) - 1, STRIP).round().astype(int).tolist())
            shown = strip | set(range(0, len(clip), -(-len(clip) // FILM)))
            frames = []
            for found in self.follow(clip, context.extractor):
                if found.frame in shown:
                    truth_HW = clip.ids(found.frame) if found.frame in clip.masks else None
                    frames.append(Shown.of(found.frame, found.image_HW3, truth_HW, found.ids_HW))
            panel = clip_panel(clip.id, [frame for frame in frames if frame.frame in strip])
            pictures.append(Picture(panel, partial(save_film, frames)))
        return pictures


class _Tracker:
    """One clip in the making. inner: (height, width) of the network's input."""

    def __init__(self, clip: Clip, options: PropagationOptions, inner: tuple[int, int]) -> None:
        self.clip, self.options, self.inner = clip, options, inner
        self.numbers_C = np.array([0, *sorted(clip.objects)], np.uint8)
        self.carried = Propagation(options)

    def step(self, frame: int, features_hwD: Tensor) -> np.ndarray:
        """ids_HW of the next frame."""
        ids_HW, labels_hwC = np.zeros(self.clip.shape, np.uint8), None
        if self.carried.started:
            labels_hwC = self.carried.follow(features_hwD)
            ids_HW = self.numbers_C[ids_of(labels_hwC, self.options, self.inner, self.clip.shape)]
        new = [thing for thing, first in self.clip.objects.items() if first == frame]
        if not new:
            if labels_hwC is not None:
                self.carried.keep(features_hwD, labels_hwC)
            return ids_HW
        given_HW = self.clip.ids(frame)
        given_HW = np.where(np.isin(given_HW, new), given_HW, 0)
        labels_hw = np.searchsorted(self.numbers_C, on_grid(given_HW, (features_hwD.shape[0], features_hwD.shape[1])))
        own_hwC = one_hot(labels_hw, len(self.numbers_C), features_hwD.device)
        laid_over_hwC = own_hwC if labels_hwC is None else torch.where(own_hwC[..., :1] > 0, labels_hwC, own_hwC)
        self.carried.give(features_hwD, laid_over_hwC)
        return np.where(given_HW > 0, given_HW, ids_HW)
