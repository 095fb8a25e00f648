"""Every layout by its name."""

from __future__ import annotations

from tips_bench.rooms.caption_sets import Coco, Docci, Flickr30k
from tips_bench.rooms.layouts import Ade20k, Layout, PascalContext, Rooms, Voc2012, WebDataset
from tips_bench.rooms.scannet import ScanNet

LAYOUTS: dict[str, Layout] = {
    "ade20k": Ade20k(),
    "voc2012": Voc2012(),
    "pascal-context": PascalContext(),
    "rooms": Rooms(),
    "webdataset": WebDataset(),
    "scannet": ScanNet(sens=False),
    "scannet-sens": ScanNet(sens=True),
    "coco-captions": Coco(),
    "flickr30k": Flickr30k(),
    "docci": Docci(),
}
