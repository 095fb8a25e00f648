"""Masks of a split of videos as files, for a server that scores splits whose true masks are not public.

    tips-bench masks --task youtube-vos --split valid --model dinov3-b16 --out valid/

Each clip becomes a folder with a palette PNG for each of its frames, in the size of the frame, under its name and with the palette of the
clip's own masks. A clip that is there is not made again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tips_bench.adapters.video_segmentation import VideoAdapter
from tips_bench.data.videos import Clip, VideoReader
from tips_bench.encoders.load import load_encoder
from tips_bench.errors import UserError
from tips_bench.evaluation.run import BATCH_SIZE, RunOptions
from tips_bench.evaluation.spec import Spec
from tips_bench.evaluation.task_data import data_folder
from tips_bench.features.extract import Extractor
from tips_bench.features.trial import default_workers
from tips_bench.files import cannot_write, temporary_folder
from tips_bench.progress import bar
from tips_bench.registry import FAMILIES, READERS


def write_masks(spec: Spec, split: str, out: Path, options: RunOptions) -> int:
    """Write the masks of every clip of a split below `out`; returns how many clips there are. options: device, dtype, batch_size, workers.

    split: the reader's name of it, scored here or not. Errors: a task of another family, a missing file, a folder that takes none.
    """
    adapter = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied)
    if not isinstance(adapter, VideoAdapter):
        raise UserError(f"{spec.task.family} has no masks of videos", where=f"task {spec.task.name}", fix="Name a task of videos.")
    data = spec.task.data
    reader: VideoReader = READERS.get(data.reader)(data_folder(spec, options.data_root), split, **data.options)
    encoder = load_encoder(spec.model, spec.weights, options.device, options.dtype)
    batch_size = options.batch_size if isinstance(options.batch_size, int) else BATCH_SIZE.get(encoder.device.type, BATCH_SIZE["cpu"])
    workers = options.workers if isinstance(options.workers, int) else default_workers(encoder.device)
    extractor = Extractor(encoder, spec.applied.image, spec.applied.features, batch_size, workers)
    with bar("masks", len(reader), "clips") as advance:
        for index in range(len(reader)):
            clip = reader.load(index)
            if not (out / clip.id).is_dir():
                _write(adapter, clip, extractor, out / clip.id)
            advance()
    return len(reader)


def _write(adapter: VideoAdapter, clip: Clip, extractor: Extractor, folder: Path) -> None:
    """One clip; the folder appears whole or not at all."""
    palette = palette_of(clip)
    try:
        with temporary_folder(folder) as temporary:
            for found in adapter.follow(clip, extractor):
                mask = Image.fromarray(found.ids_HW)
                mask.putpalette(palette)
                mask.save(temporary / f"{clip.images[found.frame].stem}.png")
            temporary.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error


def palette_of(clip: Clip) -> list[int]:
    """Flat RGB of a clip's first mask, 256 gray values where it has none."""
    with Image.open(clip.masks[min(clip.masks)]) as mask:
        return mask.getpalette() or np.repeat(np.arange(256), 3).tolist()
