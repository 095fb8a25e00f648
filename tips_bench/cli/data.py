"""tips-bench data: download data sets, check them, generate rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.cli import complete
from tips_bench.cli.options import DataRoot, local_path
from tips_bench.cli.output import print_json, print_line, print_rich
from tips_bench.wording import counted

EXAMPLES = """Download data sets, check them, or generate images of rooms.

\b
Examples:
  tips-bench data download voc2012
  tips-bench data check voc2012
  tips-bench data rooms /tmp/rooms
"""
app = typer.Typer(help=EXAMPLES, no_args_is_help=True)


@app.command("download")
def download(
    task: Annotated[str, typer.Argument(autocompletion=complete.task, help="Name of the task whose data to download.")],
    data_root: DataRoot = None,
) -> None:
    """Download the data of a task, verify them and unpack them. An interrupted download is resumed.

    \b
    Examples:
      tips-bench data download ade20k
      tips-bench data download voc2012 --data-root /data
    """
    from tips_bench import catalog
    from tips_bench.cards import load_card
    from tips_bench.data.download.task_data import download as fetch

    card = load_card("task", task)
    root = fetch(card, data_root or catalog.data_root())
    print_line(str(root))


@app.command("check")
def check(
    task: Annotated[str, typer.Argument(autocompletion=complete.task, help="Name of the task whose data to check.")],
    data_root: DataRoot = None,
    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Which split to check.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check every file of a task's data, and print what was found.

    Checked are the number of files, image-label pairs, sizes, label ids and class
    names. The report also shows the fingerprint that records carry.
    Exit status 1 if there is an error in the data.

    \b
    Examples:
      tips-bench data check ade20k
      tips-bench data check voc2012 --split test --json
    """
    from tips_bench import catalog
    from tips_bench.cards import load_card
    from tips_bench.data.checks.task import check_task
    from tips_bench.evaluation.task_data import misfit

    card = load_card("task", task)
    if card.data.generator is None:
        root = data_root or catalog.data_root()
    else:
        from tips_bench.rooms.writing.writers import write_rooms

        root = data_root or catalog.generated_root()
        write_rooms(root=root / card.data.root, **card.data.generator_options)
    reports = check_task(card, root, ("train", "test") if split == "all" else (split,))
    if split == "all" and all(report.ok for report in reports) and (fault := misfit(card, root)):
        reports[-1].faults.append(fault)
    if as_json:
        print_json([report.to_json() for report in reports])
    else:
        print_rich(*(report.render() for report in reports))
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


@app.command("croissant")
def croissant(task: Annotated[str, typer.Argument(autocompletion=complete.task, help="Name of the task whose data to describe.")]) -> None:
    """Print a description of a task's data for other programs, in the Croissant format.

    It follows from the task's card; no data are needed.

    \b
    Examples:
      tips-bench data croissant ade20k
      tips-bench data croissant ade20k > croissant.json
    """
    from tips_bench.cards import load_card
    from tips_bench.data import croissant as described

    print_json(described.croissant(load_card("task", task)))


@app.command("rooms")
def rooms(
    out: Annotated[Path, typer.Argument(parser=local_path, metavar="FOLDER", help="The folder to write to.")],
    layout: Annotated[
        Literal[
            "ade20k",
            "voc2012",
            "voc2007-boxes",
            "pascal-context",
            "rooms",
            "webdataset",
            "webdataset-close-ups",
            "webdataset-details",
            "nyu",
            "nyu-labelled",
            "kitti",
            "navi",
            "scannet",
            "scannet-sens",
            "coco-captions",
            "flickr30k",
            "docci",
            "class-crops",
            "uned",
            "davis",
            "roxford5k",
            "amstertime",
            "gldv2",
        ],
        typer.Option(
            help="File layout: that of a data set, `rooms` (our own, with depth and poses), or `webdataset...` (shards for pretraining)."
        ),
    ] = "rooms",
    seed: Annotated[int, typer.Option(min=0, help="Random seed. The same seed gives the same files, byte for byte.")] = 0,
    train: Annotated[int, typer.Option(min=1, help="Number of images in the train split.")] = 200,
    val: Annotated[int, typer.Option(min=1, help="Number of images in the test split.")] = 50,
    size: Annotated[int, typer.Option(min=16, help="Width and height of each image, in pixels.")] = 224,
    frames_per_scene: Annotated[int, typer.Option(min=1, help="Number of images of each room, along one camera path.")] = 4,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes. Default: one per CPU core.")] = None,
) -> None:
    """Generate images of furnished rooms with labels, in the file layout of a real data set.

    \b
    Examples:
      tips-bench data rooms /tmp/rooms
      tips-bench data rooms /tmp/voc --layout voc2012 --train 1000 --size 448
      tips-bench data rooms rooms --layout webdataset --train 16384
    """
    from tips_bench.rooms.writing.writers import write_rooms

    made = write_rooms(layout, out, seed=seed, train=train, val=val, size=size, frames_per_scene=frames_per_scene, workers=workers)
    rooms = counted(len(set(made.groups.values())), "room")
    print_line(f"{out}: {made.counts['train']} + {counted(made.counts['val'], 'image')} of {rooms}")
