"""tips-bench data: fetch data sets, look inside them, generate the embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tips_bench.cli.output import print_json, print_rich

app = typer.Typer(help="Download, check and generate data sets.", no_args_is_help=True)

DataRoot = Annotated[Path | None, typer.Option(help="Folder that holds the data sets; $TIPS_BENCH_DATA or ./data otherwise.")]


@app.command("download")
def download(task: Annotated[str, typer.Argument(help="The task whose data to fetch.")], data_root: DataRoot = None) -> None:
    """Fetch a task's data: resumed after a break, checked, unpacked.

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
    print(root)


@app.command("check")
def check(
    task: Annotated[str, typer.Argument(help="The task whose data to look at.")],
    data_root: DataRoot = None,
    split: Annotated[Literal["train", "test", "all"], typer.Option(help="Which split of the task.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Look at every file of a task's data: counts, pairs, sizes, label ids and names of the classes, a fingerprint.

    Exit status 1 if a fault was found.

    \b
    Examples:
      tips-bench data check ade20k
      tips-bench data check voc2012 --split test --json
    """
    from tips_bench import catalog
    from tips_bench.cards import load_card
    from tips_bench.data.checks.task import check_task
    from tips_bench.evaluation.run import misfit

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


@app.command("rooms")
def rooms(
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    layout: Annotated[
        Literal[
            "ade20k",
            "voc2012",
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
        ],
        typer.Option(help="Whose files to mimic; `rooms` is our own, with depth and poses; `webdataset...` are for pretraining."),
    ] = "rooms",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    train: Annotated[int, typer.Option(min=1, help="Images of the train split.")] = 200,
    val: Annotated[int, typer.Option(min=1, help="Images of the scored split.")] = 50,
    size: Annotated[int, typer.Option(min=16, help="Side in pixels.")] = 224,
    frames_per_scene: Annotated[int, typer.Option(min=1, help="Images along one path through one room.")] = 4,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a processor otherwise.")] = None,
) -> None:
    """Generate furnished rooms with labels, in the layout of a real data set.

    \b
    Examples:
      tips-bench data rooms /tmp/rooms
      tips-bench data rooms /tmp/voc --layout voc2012 --train 1000 --size 448
      tips-bench data rooms rooms --layout webdataset --train 16384
    """
    from tips_bench.rooms.writing.writers import write_rooms

    made = write_rooms(layout, out, seed=seed, train=train, val=val, size=size, frames_per_scene=frames_per_scene, workers=workers)
    print(f"{out}: {made.counts['train']} + {made.counts['val']} images of {len(set(made.groups.values()))} rooms")
