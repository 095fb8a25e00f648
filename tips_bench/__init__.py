"""tips-bench: dense evaluation of frozen vision encoders.

Evaluate an encoder. The record contains the scores, their intervals, and how they were made. It is written to results/:

    import tips_bench

    record = tips_bench.run("rooms-seg", "tips-nano")
    record = tips_bench.run("ade20k", "tips-b14", protocol="convex", limit=50, dtype="bf16")     # options: RunOptions
    record = tips_bench.run("rooms-seg", my_backbone)      # a module or function: pixels [B,3,H,W] in [0, 1] -> [B,D,h,w]

    record.primary_metric.value, record.primary_metric.ci95
    record.metrics["mAcc"].value
    record.per_class["IoU"]["chair"]
    record.deviations                                      # the reasons, if it is not comparable
    record.samples().nsmallest(5, "mIoU")                  # the hardest images, a DataFrame
    record.counts()                                        # the numbers behind the scores, one row per sample
    tips_bench.load_predictions(record)                    # of a run with predictions=True: sample id -> array
    tips_bench.confusion(record)                           # of it, too: which classes are taken for which, a DataFrame

List what is available:

    tips_bench.list_tasks(), tips_bench.list_models(), tips_bench.list_protocols()

Load records, one or many, and compare them:

    record = tips_bench.load_record("results/rooms-seg/tips-nano/convex-224-01234567.json")
    frame = tips_bench.load_records("results/")            # a DataFrame, one row per record and metric
    frame[frame["primary"]].pivot_table(index="model", columns="task", values="value")

    found = tips_bench.compare(record_a, record_b)         # records or their files
    found.verdict, found.gain, found.gain_interval
    report = tips_bench.check("results/new", "baselines/") # did a score get worse?
    report.passed, report.outcomes
    again = tips_bench.reproduce(record, out="reproduced") # is it the same number here and today?
    again.agrees, again.sentence

Use an encoder, or the features of a run with cache=True:

    encoder = tips_bench.load_encoder("tips-b14", device="cuda")
    patches = encoder.encode_image(pixels).patches[0]      # [B, h, w, D]
    features = tips_bench.load_features(record)            # sample id -> [h, w, D]
    head = tips_bench.load_head(record)                    # of a run with keep_head=True: the fitted head, with its encoder
    depth = head(image)                                    # uint8 [H, W, 3] -> what the task predicts of it

Add task families, readers, probes, metrics or encoders of your own (docs/plugins.md):

    tips_bench.load_plugin("my_plugin")

Errors that you can fix are tips_bench.UserError. The command line can do all of this, too: see `tips-bench --help`. Each name is imported
when it is first used, so `import tips_bench` loads neither torch nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tips_bench.encoders import load_encoder
    from tips_bench.errors import UserError
    from tips_bench.evaluation.again import again as reproduce
    from tips_bench.evaluation.cached_features import load_features
    from tips_bench.evaluation.confusion import confusion
    from tips_bench.evaluation.fitted_head import load_head
    from tips_bench.evaluation.run import RunOptions
    from tips_bench.evaluation.run import evaluate as run
    from tips_bench.plugins import load_plugin
    from tips_bench.results.comparison import compare
    from tips_bench.results.frames import load_records
    from tips_bench.results.predictions import load_predictions
    from tips_bench.results.record import Record, load_record
    from tips_bench.results.regression import check

__version__ = "0.1.0"
__all__ = [
    "Record",
    "RunOptions",
    "UserError",
    "__version__",
    "check",
    "compare",
    "confusion",
    "list_models",
    "list_protocols",
    "list_tasks",
    "load_encoder",
    "load_features",
    "load_head",
    "load_plugin",
    "load_predictions",
    "load_record",
    "load_records",
    "reproduce",
    "run",
]

_LAZY = {
    "Record": "tips_bench.results.record:Record",
    "RunOptions": "tips_bench.evaluation.run:RunOptions",
    "UserError": "tips_bench.errors:UserError",
    "check": "tips_bench.results.regression:check",
    "compare": "tips_bench.results.comparison:compare",
    "confusion": "tips_bench.evaluation.confusion:confusion",
    "load_encoder": "tips_bench.encoders:load_encoder",
    "load_features": "tips_bench.evaluation.cached_features:load_features",
    "load_head": "tips_bench.evaluation.fitted_head:load_head",
    "load_plugin": "tips_bench.plugins:load_plugin",
    "load_predictions": "tips_bench.results.predictions:load_predictions",
    "load_record": "tips_bench.results.record:load_record",
    "load_records": "tips_bench.results.frames:load_records",
    "reproduce": "tips_bench.evaluation.again:again",
    "run": "tips_bench.evaluation.run:evaluate",
}


def list_tasks() -> list[str]:
    """Names of all task cards, shipped and the user's own."""
    return _names("task")


def list_models() -> list[str]:
    """Names of all model cards, shipped and the user's own."""
    return _names("model")


def list_protocols() -> list[str]:
    """Names of all protocol cards, shipped and the user's own."""
    return _names("protocol")


def _names(kind: str) -> list[str]:
    from tips_bench.catalog import card_files

    return list(card_files(kind))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tips_bench' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
