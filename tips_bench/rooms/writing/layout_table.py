"""Every layout by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tips_bench.rooms.writing.boxes import VocBoxes
from tips_bench.rooms.writing.caption_sets import Coco, Docci, Flickr30k
from tips_bench.rooms.writing.class_crops import ClassCrops, Uned, join_lists
from tips_bench.rooms.writing.clips import Davis
from tips_bench.rooms.writing.close_ups import CloseUps
from tips_bench.rooms.writing.dense_sets import Kitti, Navi, Nyu, NyuLabelled, join_labelled
from tips_bench.rooms.writing.layouts import Ade20k, Layout, PascalContext, Rooms, Voc2012, WebDataset
from tips_bench.rooms.writing.pair_sets import (
    NaviPairs,
    PfPascal,
    ScanNetPairs,
    Spair,
    join_pf_pascal,
    join_scannet_pairs,
    join_spair,
)
from tips_bench.rooms.writing.retrieval_sets import AmsterTime, GoogleLandmarks, Revisited, join_landmarks, join_views
from tips_bench.rooms.writing.scannet import ScanNet

LAYOUTS: dict[str, Layout] = {
    "ade20k": Ade20k(),
    "voc2012": Voc2012(),
    "voc2007-boxes": VocBoxes(),
    "pascal-context": PascalContext(),
    "rooms": Rooms(),
    "webdataset": WebDataset(),
    "webdataset-close-ups": CloseUps(per_frame=7, sides=(0.28, 0.65), plain=False),
    "webdataset-details": CloseUps(per_frame=15, sides=(0.2, 0.5), plain=True),
    "nyu": Nyu(),
    "nyu-labelled": NyuLabelled(),
    "kitti": Kitti(),
    "navi": Navi(),
    "scannet": ScanNet(sens=False),
    "scannet-sens": ScanNet(sens=True),
    "coco-captions": Coco(),
    "flickr30k": Flickr30k(),
    "docci": Docci(),
    "class-crops": ClassCrops(),
    "uned": Uned(),
    "davis": Davis(),
    "spair": Spair(),
    "pf-pascal": PfPascal(),
    "scannet-pairs": ScanNetPairs(),
    "navi-pairs": NaviPairs(),
    "roxford5k": Revisited(),
    "amstertime": AmsterTime(),
    "gldv2": GoogleLandmarks(),
}
# Layouts whose files are joined in the end: (folder, names of the files) -> name -> hex SHA-256 of what is there then.
JOINED: dict[str, Callable[[Path, list[str]], dict[str, str]]] = {
    "nyu-labelled": join_labelled,
    "uned": join_lists,
    "spair": join_spair,
    "pf-pascal": join_pf_pascal,
    "scannet-pairs": join_scannet_pairs,
    "roxford5k": join_views,
    "gldv2": join_landmarks,
}
