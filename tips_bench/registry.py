"""The registries: names to "module:attribute" targets, imported only when one is asked for.

They are mmengine registries, so an mmengine config can name their entries, with three habits of this house: listing imports
nothing, a duplicate is an error, and an unknown name suggests near ones.
"""

from __future__ import annotations

import importlib
from typing import Any

from mmengine.registry import Registry

from tips_bench.errors import UserError, unknown_name


class LazyRegistry(Registry):
    """An mmengine Registry whose entries may be "module:attribute" strings until they are first used."""

    def __init__(self, name: str, targets: dict[str, str]) -> None:
        super().__init__(name, scope="tips_bench")
        self._targets = dict(targets)

    def names(self) -> list[str]:
        """Every name, sorted; imports nothing."""
        return sorted({*self._targets, *self._module_dict})

    def add(self, name: str, target: Any) -> None:
        """Register an object or a "module:attribute" string under `name`; a second time is an error."""
        if name in self.names():
            raise UserError(f"{self.name} {name!r} is registered already", fix="Choose another name.")
        if isinstance(target, str):
            self._targets[name] = target
        else:
            self._register_module(module=target, module_name=name)

    def get(self, key: str) -> Any:
        """The object registered under `key`, imported now if it was lazy."""
        if key in self._module_dict:
            return self._module_dict[key]
        if key not in self._targets:
            raise unknown_name(self.name, key, self.names())
        module, _, attribute = self._targets[key].partition(":")
        loaded = getattr(importlib.import_module(module), attribute)
        self._register_module(module=loaded, module_name=key)
        return loaded


ENCODERS = LazyRegistry(
    "encoder source",
    {
        "tips": "tips_bench.encoders.tips:TipsEncoder",
        "timm": "tips_bench.encoders.timm:TimmEncoder",
        "transformers": "tips_bench.encoders.transformers:TransformersEncoder",
        "open_clip": "tips_bench.encoders.open_clip:OpenClipEncoder",
        "callable": "tips_bench.encoders.user:CallableEncoder",
        "pixels": "tips_bench.encoders.pixels:PixelsEncoder",
    },
)
READERS = LazyRegistry(
    "reader",
    {
        "ade20k": "tips_bench.data.segmentation:ade20k",
        "voc2012": "tips_bench.data.segmentation:voc2012",
        "voc20": "tips_bench.data.segmentation:voc20",
        "pascal-context59": "tips_bench.data.segmentation:pascal_context59",
        "pascal-context60": "tips_bench.data.segmentation:pascal_context60",
        "cityscapes": "tips_bench.data.segmentation:cityscapes",
        "coco-stuff164k": "tips_bench.data.segmentation:coco_stuff164k",
        "folder": "tips_bench.data.segmentation:folder",
        "scannet": "tips_bench.data.scannet:scannet",
        "coco-karpathy": "tips_bench.data.captions:coco_karpathy",
        "flickr30k": "tips_bench.data.captions:flickr30k",
        "docci": "tips_bench.data.captions:docci",
        "depth-folder": "tips_bench.data.dense:depth_folder",
        "normals-folder": "tips_bench.data.dense:normals_folder",
        "nyu-depth": "tips_bench.data.nyu:nyu_depth",
        "nyu-labelled": "tips_bench.data.nyu:nyu_labelled",
        "nyu-normals": "tips_bench.data.nyu_normals:nyu_normals",
        "nyu-geonet": "tips_bench.data.nyu_normals:nyu_geonet",
        "kitti-depth": "tips_bench.data.kitti:kitti_depth",
        "navi-depth": "tips_bench.data.navi:navi_depth",
        "navi-normals": "tips_bench.data.navi:navi_normals",
        "imagefolder": "tips_bench.data.imagefolder:imagefolder",
        "imagenet": "tips_bench.data.imagefolder:imagenet",
        "uned": "tips_bench.data.uned:uned",
    },
)
PROBES = LazyRegistry(
    "probe",
    {
        "convex": "tips_bench.probes.solved.patch_convex:ConvexProbe",
        "linear": "tips_bench.probes.trained.linear_segmentation:LinearProbe",
        "released": "tips_bench.probes.training_free.released_head:ReleasedProbe",
        "convex-points": "tips_bench.probes.trained.linear_points:ConvexPointsProbe",
        "linear-points": "tips_bench.probes.trained.linear_points:LinearPointsProbe",
        "knn": "tips_bench.probes.training_free.knn:KnnProbe",
        "whole-convex": "tips_bench.probes.solved.image_convex:WholeConvexProbe",
        "whole-linear": "tips_bench.probes.trained.linear_classifier:WholeLinearProbe",
    },
)
# Probes of values for every pixel: built with a PixelTarget, too.
PIXEL_PROBES = LazyRegistry(
    "probe of dense values",
    {
        "ridge": "tips_bench.probes.solved.ridge:RidgeProbe",
        "linear-bins": "tips_bench.probes.trained.linear_depth:LinearBinsProbe",
        "dpt": "tips_bench.probes.trained.dpt:DptProbe",
        "released": "tips_bench.probes.training_free.released_head:ReleasedProbe",
    },
)
# Family -> check of a reader's whole split: (reader, expected samples or None, workers) -> Report.
CHECKS = LazyRegistry(
    "check of a family",
    {
        "segmentation": "tips_bench.data.checks.base:check",
        "zeroshot-segmentation": "tips_bench.data.checks.base:check",
        "depth": "tips_bench.data.checks.pixel_values:check_depth",
        "normals": "tips_bench.data.checks.pixel_values:check_normals",
        "retrieval": "tips_bench.data.checks.captions:check",
        "point-segmentation": "tips_bench.data.checks.scans:check",
        "classification": "tips_bench.data.checks.images:check_classes",
        "instance-retrieval": "tips_bench.data.checks.images:check_instances",
    },
)
METRICS = LazyRegistry(
    "metric",
    {
        "segmentation": "tips_bench.metrics.segmentation:SegmentationCounts",
        "zeroshot-segmentation": "tips_bench.metrics.segmentation:SegmentationCounts",
        "depth": "tips_bench.metrics.depth:DepthCounts",
        "normals": "tips_bench.metrics.normals:NormalsCounts",
        "retrieval": "tips_bench.metrics.retrieval:RetrievalCounts",
        "point-segmentation": "tips_bench.metrics.points:PointCounts",
        "classification": "tips_bench.metrics.classification:counts_of",
        "instance-retrieval": "tips_bench.metrics.instances:InstanceCounts",
    },
)
ADAPTERS = LazyRegistry(
    "task family",
    {
        "segmentation": "tips_bench.adapters.segmentation:SegmentationAdapter",
        "zeroshot-segmentation": "tips_bench.adapters.zeroshot_segmentation:ZeroShotAdapter",
        "depth": "tips_bench.adapters.depth:DepthAdapter",
        "normals": "tips_bench.adapters.normals:NormalsAdapter",
        "retrieval": "tips_bench.adapters.retrieval:RetrievalAdapter",
        "point-segmentation": "tips_bench.adapters.point_segmentation:PointSegmentationAdapter",
        "classification": "tips_bench.adapters.classification:ClassificationAdapter",
        "instance-retrieval": "tips_bench.adapters.instance_retrieval:InstanceAdapter",
    },
)
