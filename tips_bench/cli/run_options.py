"""The options of `tips-bench run`, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tips_bench.cli.complete import list_of
from tips_bench.cli.options import local_path

Tasks = Annotated[
    str,
    typer.Option(
        autocompletion=list_of("task"),
        help="Task names, separated by commas, or `all`. A name may change the images: ade20k+fog-3 (corrupted), "
        "ade20k+rotate-90, ade20k@896 (input size), ade20k+few-64 (1/64 of the training images); fog-1..5 is five "
        "strengths, corruptions-3 every kind.",
    ),
]
Models = Annotated[
    str,
    typer.Option(
        autocompletion=list_of("model"),
        help="Models, separated by commas, or `all`. Each is a name from `tips-bench list models`, timm:NAME, hf:REPO, "
        "open_clip:ARCH/TAG, module.path:callable, a model card (.yaml), the folder of an exported model, or a TIPS weight file.",
    ),
]
Protocols = Annotated[
    str | None,
    typer.Option(
        autocompletion=list_of("protocol"),
        help="Protocol names, separated by commas, or `all`. Each task runs under those of them that it allows. "
        "Default: the default protocol of each task.",
    ),
]
Out = Annotated[Path, typer.Option(parser=local_path, metavar="FOLDER", help="Folder to write the records to.")]
Weights = Annotated[
    str | None,
    typer.Option(help="Weights to load: a file for the architecture of the model, `random` or `random:SEED`. Default: as the card says."),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Have torch.compile make code of the encoder for this machine. Numbers then differ in their last digits."
    ),
]
BatchSize = Annotated[
    str | None,
    typer.Option(help="Images per batch, or `auto`: found by a trial of a few seconds. Default: 32 on a GPU, 4 on a CPU."),
]
Workers = Annotated[
    Any,
    typer.Option(
        parser=str,
        metavar="TEXT",
        help="Number of threads or processes that decode images, or `auto`: found by a short trial. 0: a single thread, and no process. "
        "Default: 8 with a GPU, less where a rank has fewer processors; 2 on a CPU.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one value of the protocol card. task.KEY and model.KEY change the other two cards. May be given "
        "several times. The record lists each change and is no longer comparable.",
    ),
]
Pictures = Annotated[
    int,
    typer.Option(
        min=0,
        help="Number of samples to draw, a quarter each of the hardest and the easiest: image, ground truth, prediction, "
        "PCA of the features.",
    ),
]
Predictions = Annotated[bool, typer.Option("--predictions", help="Keep what is predicted of each sample, in a folder beside the record.")]
KeepHead = Annotated[
    bool,
    typer.Option("--keep-head", help="Keep the fitted head in a file beside the record, for `explore --head` and `load_head`."),
]
Cache = Annotated[bool, typer.Option("--cache", help="Keep the features on disk, so that the next run can reuse them.")]
CacheLimit = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="With --cache: how much all kept features may take, as 200GB. Those that were not used for longest are deleted. "
        "Default: $TIPS_BENCH_CACHE_LIMIT, or no limit.",
    ),
]
CacheDtype = Annotated[
    Literal["fp16", "bf16"] | None,
    typer.Option(
        help="With --cache: round features to this number format before they are used and kept. The record is then not comparable. "
        "Default: as the encoder computes them."
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only N images of each split. The record is then not comparable.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed for everything random.")]
Rerun = Annotated[bool, typer.Option("--rerun", help="Evaluate again, even if this version of tips-bench already wrote the record.")]
Metrics = Annotated[str | None, typer.Option(help="Additional metrics, separated by commas, for example boundary-iou.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Evaluate nothing: print what it would cost, images and disk.")]
Trial = Annotated[bool, typer.Option("--trial", help="With --dry-run: try each model on this machine for a few seconds, and print hours.")]
LogTo = Annotated[
    str | None,
    typer.Option(metavar="LOGGER,...", help="Also show each record in wandb, mlflow, trackio or tensorboard; files go to OUT/loggers."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the records, or the plan of --dry-run, as JSON.")]
