"""The registries: names to "module:attribute" targets, each imported when it is first asked for.

Listing imports nothing, a second entry of one name is an error, and an unknown name suggests near ones. A plugin adds entries of its
own (tips_bench.plugins); they are there before a registry answers its first question.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tips_bench import plugins
from tips_bench.errors import UserError, unknown_name

EntryT = TypeVar("EntryT")


def load_target(target: Any) -> Any:
    """What a "module:attribute" string names; anything else is itself."""
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Registry(Generic[EntryT]):
    """Names of one kind and what they stand for: an object, or a "module:attribute" string that is imported at first use."""

    def __init__(self, kind: str, entries: dict[str, EntryT | str]) -> None:
        self.kind = kind
        self._entries: dict[str, EntryT | str] = dict(entries)
        self._imported: dict[str, Any] = {}

    def names(self) -> list[str]:
        """Every name, sorted; imports no entry."""
        plugins.load()
        return sorted(self._entries)

    def in_order(self) -> list[str]:
        """Every name, in the order of registration; imports no entry."""
        plugins.load()
        return list(self._entries)

    def add(self, name: str, entry: EntryT | str) -> None:
        """Register an object or a "module:attribute" string under `name`. Errors: the name is taken."""
        if name in self._entries:
            raise UserError(f"there is a {self.kind} named {name!r} already", fix="Choose another name.")
        self._entries[name] = entry

    def get(self, name: str, *, where: object = None) -> Any:
        """What `name` stands for, imported now if it was not yet. Errors: an unknown name, with near ones."""
        plugins.load()
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries, where=where)
        if name not in self._imported:
            self._imported[name] = load_target(self._entries[name])
        return self._imported[name]


@dataclass(frozen=True)
class Family:
    """A task family. Each part is an object or a "module:attribute" string.

    adapter: class of the Adapter (tips_bench.adapters.base), which opens, scores and draws. counts: the SampleCounts class that its
    records are made of (tips_bench.metrics.samples). check: (reader, expected samples or None, workers) -> Report, the look at a
    whole split before it is used (tips_bench.data.checks.base).
    """

    adapter: Any
    counts: Any
    check: Any

    def adapter_class(self) -> Any:
        """The class of the adapter, imported now."""
        return load_target(self.adapter)

    def counts_class(self) -> Any:
        """The class of the counts, imported now; needs no torch."""
        return load_target(self.counts)

    def check_of(self) -> Any:
        """The check of a split, imported now."""
        return load_target(self.check)


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption of images.

    function: (image_HW3 uint8, strength 1 to 5, numpy Generator) -> image_HW3 uint8, an object or a "module:attribute" string. moves:
    whether pixels leave their places, which the truth of a dense task does not. extra: of ImageNet-C's four validation kinds.
    """

    function: Any
    moves: bool = False
    extra: bool = False

    def apply(self) -> Any:
        """The function, imported now."""
        return load_target(self.function)


FAMILIES: Registry[Family] = Registry(
    "task family",
    {
        "segmentation": Family(
            "tips_bench.adapters.segmentation:SegmentationAdapter",
            "tips_bench.metrics.segmentation:SegmentationCounts",
            "tips_bench.data.checks.base:check",
        ),
        "zeroshot-segmentation": Family(
            "tips_bench.adapters.zeroshot_segmentation:ZeroShotAdapter",
            "tips_bench.metrics.segmentation:SegmentationCounts",
            "tips_bench.data.checks.base:check",
        ),
        "depth": Family(
            "tips_bench.adapters.depth:DepthAdapter",
            "tips_bench.metrics.depth:DepthCounts",
            "tips_bench.data.checks.pixel_values:check_depth",
        ),
        "normals": Family(
            "tips_bench.adapters.normals:NormalsAdapter",
            "tips_bench.metrics.normals:NormalsCounts",
            "tips_bench.data.checks.pixel_values:check_normals",
        ),
        "point-segmentation": Family(
            "tips_bench.adapters.point_segmentation:PointSegmentationAdapter",
            "tips_bench.metrics.points:PointCounts",
            "tips_bench.data.checks.scans:check",
        ),
        "retrieval": Family(
            "tips_bench.adapters.retrieval:RetrievalAdapter",
            "tips_bench.metrics.retrieval:RetrievalCounts",
            "tips_bench.data.checks.captions:check",
        ),
        "classification": Family(
            "tips_bench.adapters.classification:ClassificationAdapter",
            "tips_bench.metrics.classification:ClassificationCounts",
            "tips_bench.data.checks.images:check_classes",
        ),
        "instance-retrieval": Family(
            "tips_bench.adapters.instance_retrieval:InstanceAdapter",
            "tips_bench.metrics.instances:InstanceCounts",
            "tips_bench.data.checks.images:check_instances",
        ),
        "video-segmentation": Family(
            "tips_bench.adapters.video_segmentation:VideoAdapter",
            "tips_bench.metrics.videos:VideoCounts",
            "tips_bench.data.checks.videos:check",
        ),
        "keypoint-matching": Family(
            "tips_bench.adapters.keypoint_matching:KeypointAdapter",
            "tips_bench.metrics.matches:KeypointCounts",
            "tips_bench.data.checks.pairs:check_keypoints",
        ),
        "view-matching": Family(
            "tips_bench.adapters.view_matching:ViewAdapter",
            "tips_bench.metrics.matches:ViewCounts",
            "tips_bench.data.checks.pairs:check_views",
        ),
        "object-discovery": Family(
            "tips_bench.adapters.object_discovery:DiscoveryAdapter",
            "tips_bench.metrics.discovery:DiscoveryCounts",
            "tips_bench.data.checks.images:check_boxes",
        ),
        "landmark-retrieval": Family(
            "tips_bench.adapters.ranked_retrieval:LandmarkAdapter",
            "tips_bench.metrics.landmarks:LandmarkCounts",
            "tips_bench.data.checks.images:check_landmarks",
        ),
        "instance-recognition": Family(
            "tips_bench.adapters.recognition:RecognitionAdapter",
            "tips_bench.metrics.recognition:RecognitionCounts",
            "tips_bench.data.checks.images:check_exhibits",
        ),
        "ranked-retrieval": Family(
            "tips_bench.adapters.ranked_retrieval:DirectionAdapter",
            "tips_bench.metrics.landmarks:RankedCounts",
            "tips_bench.data.checks.images:check_ranked",
        ),
    },
)
# Metrics that may be scored beside a family's own: SampleCounts classes that name the families whose predictions they count.
METRICS: Registry[Any] = Registry(
    "metric",
    {
        "boundary-iou": "tips_bench.metrics.boundary_iou:BoundaryCounts",
        "difficulty": "tips_bench.metrics.difficulty:DifficultyCounts",
        "matched-miou": "tips_bench.metrics.matched_iou:MatchedCounts",
    },
)
# What `TASK+KIND-STRENGTH` does to the scored images: ImageNet-C's kinds, in its order.
CORRUPTIONS: Registry[Corruption] = Registry(
    "corruption",
    {
        "gaussian-noise": Corruption("tips_bench.data.corruptions.noise:gaussian_noise"),
        "shot-noise": Corruption("tips_bench.data.corruptions.noise:shot_noise"),
        "impulse-noise": Corruption("tips_bench.data.corruptions.noise:impulse_noise"),
        "defocus-blur": Corruption("tips_bench.data.corruptions.blur:defocus_blur"),
        "glass-blur": Corruption("tips_bench.data.corruptions.blur:glass_blur", moves=True),
        "motion-blur": Corruption("tips_bench.data.corruptions.blur:motion_blur", moves=True),
        "zoom-blur": Corruption("tips_bench.data.corruptions.blur:zoom_blur", moves=True),
        "snow": Corruption("tips_bench.data.corruptions.weather:snow"),
        "frost": Corruption("tips_bench.data.corruptions.frost:frost"),
        "fog": Corruption("tips_bench.data.corruptions.weather:fog"),
        "brightness": Corruption("tips_bench.data.corruptions.digital:brightness"),
        "contrast": Corruption("tips_bench.data.corruptions.digital:contrast"),
        "elastic-transform": Corruption("tips_bench.data.corruptions.digital:elastic_transform", moves=True),
        "pixelate": Corruption("tips_bench.data.corruptions.digital:pixelate"),
        "jpeg-compression": Corruption("tips_bench.data.corruptions.digital:jpeg_compression"),
        "speckle-noise": Corruption("tips_bench.data.corruptions.noise:speckle_noise", extra=True),
        "gaussian-blur": Corruption("tips_bench.data.corruptions.blur:gaussian_blur", extra=True),
        "spatter": Corruption("tips_bench.data.corruptions.weather:spatter", extra=True),
        "saturate": Corruption("tips_bench.data.corruptions.digital:saturate", extra=True),
    },
)
# What `features.upsampler.name` names: functions (UpsamplerCard, features a patch) -> function of (image, features, size).
UPSAMPLERS: Registry[Any] = Registry(
    "upsampler",
    {
        "bilinear": "tips_bench.features.upsamplers:bilinear",
        "anyup": "tips_bench.features.upsamplers:anyup",
        "jafar": "tips_bench.features.upsamplers:jafar",
        "loftup": "tips_bench.features.upsamplers:loftup",
        "featup": "tips_bench.features.upsamplers:featup",
    },
)
# What `running.loggers` of a recipe names: classes as tips_bench.loggers.base.Logger.
LOGGERS: Registry[Any] = Registry(
    "logger",
    {
        "tensorboard": "tips_bench.loggers.tensorboard:TensorBoardLogger",
        "wandb": "tips_bench.loggers.wandb:WandbLogger",
        "mlflow": "tips_bench.loggers.mlflow:MlflowLogger",
        "trackio": "tips_bench.loggers.trackio:TrackioLogger",
    },
)
# Where `run --on NAME` does its jobs: functions as tips_bench.executors.local.run.
EXECUTORS: Registry[Any] = Registry(
    "executor",
    {
        "local": "tips_bench.executors.local:run",
        "slurm": "tips_bench.executors.slurm:run",
        "ray": "tips_bench.executors.ray:run",
    },
)
# Who describes images for `corpus caption --captioner NAME:...`: tips_bench.corpus.captioners.base.Captioner.
CAPTIONERS: Registry[Any] = Registry(
    "captioner",
    {
        "openai": "tips_bench.corpus.captioners.openai:OpenAiCaptioner",
        "hf": "tips_bench.corpus.captioners.huggingface:HuggingFaceCaptioner",
        "pixels": "tips_bench.corpus.captioners.pixels:PixelsCaptioner",
    },
)
ENCODERS: Registry[Any] = Registry(
    "encoder source",
    {
        "tips": "tips_bench.encoders.tips:TipsEncoder",
        "timm": "tips_bench.encoders.timm:TimmEncoder",
        "transformers": "tips_bench.encoders.transformers:TransformersEncoder",
        "open_clip": "tips_bench.encoders.open_clip:OpenClipEncoder",
        "dinotxt": "tips_bench.encoders.dinotxt:DinoTxtEncoder",
        "callable": "tips_bench.encoders.user:CallableEncoder",
        "pixels": "tips_bench.encoders.pixels:PixelsEncoder",
    },
)
READERS: Registry[Any] = Registry(
    "reader",
    {
        "ade20k": "tips_bench.data.segmentation:ade20k",
        "voc2012": "tips_bench.data.segmentation:voc2012",
        "voc20": "tips_bench.data.segmentation:voc20",
        "pascal-context59": "tips_bench.data.segmentation:pascal_context59",
        "pascal-context60": "tips_bench.data.segmentation:pascal_context60",
        "cityscapes": "tips_bench.data.segmentation:cityscapes",
        "coco-stuff164k": "tips_bench.data.segmentation:coco_stuff164k",
        "coco-object": "tips_bench.data.segmentation:coco_object",
        "folder": "tips_bench.data.segmentation:folder",
        "scannet": "tips_bench.data.scannet:scannet",
        "coco-karpathy": "tips_bench.data.captions:coco_karpathy",
        "flickr30k": "tips_bench.data.captions:flickr30k",
        "docci": "tips_bench.data.captions:docci",
        "captions-folder": "tips_bench.data.captions:captions_folder",
        "depth-folder": "tips_bench.data.value_folders:depth_folder",
        "normals-folder": "tips_bench.data.value_folders:normals_folder",
        "nyu-depth": "tips_bench.data.nyu:nyu_depth",
        "nyu-labelled": "tips_bench.data.nyu:nyu_labelled",
        "nyu-normals": "tips_bench.data.nyu_normals:nyu_normals",
        "nyu-geonet": "tips_bench.data.nyu_geonet:nyu_geonet",
        "nyu-geonet-depth": "tips_bench.data.nyu_geonet:nyu_geonet_depth",
        "kitti-depth": "tips_bench.data.kitti:kitti_depth",
        "navi-depth": "tips_bench.data.navi:navi_depth",
        "navi-normals": "tips_bench.data.navi:navi_normals",
        "imagefolder": "tips_bench.data.imagefolder:imagefolder",
        "imagenet": "tips_bench.data.imagefolder:imagenet",
        "uned": "tips_bench.data.uned:uned",
        "davis": "tips_bench.data.video_sets:davis",
        "youtube-vos": "tips_bench.data.video_sets:youtube_vos",
        "mose": "tips_bench.data.video_sets:mose",
        "spair": "tips_bench.data.spair:spair",
        "ap10k": "tips_bench.data.ap10k:ap10k",
        "pf-pascal": "tips_bench.data.pf_pascal:pf_pascal",
        "navi-pairs": "tips_bench.data.navi_pairs:navi_pairs",
        "scannet-pairs": "tips_bench.data.scannet_pairs:scannet_pairs",
        "voc-boxes": "tips_bench.data.boxes:voc_boxes",
        "coco20k": "tips_bench.data.boxes:coco20k",
        "revisited": "tips_bench.data.revisited:revisited",
        "met": "tips_bench.data.met:met",
        "amstertime": "tips_bench.data.amstertime:amstertime",
        "gldv2": "tips_bench.data.gldv2:gldv2",
    },
)
PROBES: Registry[Any] = Registry(
    "probe",
    {
        "convex": "tips_bench.probes.solved.patch_convex:ConvexProbe",
        "linear": "tips_bench.probes.trained.linear_segmentation:LinearProbe",
        "in-context": "tips_bench.probes.training_free.in_context:InContextProbe",
        "patch-knn": "tips_bench.probes.training_free.patch_knn:PatchKnnProbe",
        "released": "tips_bench.probes.training_free.released_head:ReleasedProbe",
        "convex-points": "tips_bench.probes.solved.points_convex:ConvexPointsProbe",
        "kmeans": "tips_bench.probes.training_free.kmeans:KMeansProbe",
        "linear-points": "tips_bench.probes.trained.linear_points:LinearPointsProbe",
        "knn": "tips_bench.probes.training_free.knn:KnnProbe",
        "whole-convex": "tips_bench.probes.solved.image_convex:ImageConvexProbe",
        "whole-linear": "tips_bench.probes.trained.linear_classifier:LinearClassifierProbe",
    },
)
# Probes of values for every pixel: built with a PixelTarget, too.
PIXEL_PROBES: Registry[Any] = Registry(
    "probe of pixel values",
    {
        "ridge": "tips_bench.probes.solved.ridge:RidgeProbe",
        "linear-bins": "tips_bench.probes.trained.linear_depth:LinearBinsProbe",
        "dpt": "tips_bench.probes.trained.dpt:DptProbe",
        "in-context": "tips_bench.probes.training_free.in_context:InContextProbe",
        "released": "tips_bench.probes.training_free.released_head:ReleasedProbe",
    },
)
