"""tips-bench corpus: data for pretraining, from links or folders of images to shards that `train` reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tips_bench.catalog import card_files
from tips_bench.cli.executor_options import Jobs, On, Ray, Slurm
from tips_bench.cli.names import ALL, split
from tips_bench.cli.options import DataRoot, local_path
from tips_bench.cli.output import print_json, print_line, print_rich, print_table
from tips_bench.errors import UserError
from tips_bench.executors.chosen import chosen_executor
from tips_bench.wording import counted

if TYPE_CHECKING:
    from tips_bench.corpus.curation.task_images import TaskImages

EXAMPLES = """Make data for pretraining: shards of images with captions, and what is known of them.

\b
Examples:
  tips-bench corpus fetch links.parquet --to raw/
  tips-bench corpus check raw/ --html raw.html
  tips-bench corpus caption raw/ --to captioned/ --captioner pixels
  tips-bench corpus curate raw/ --to curated/ --dedup --encoder tips-b14
"""
app = typer.Typer(help=EXAMPLES, no_args_is_help=True)


def folder_or_address(name: str) -> Path:
    """A folder on a disk or in object storage. Errors: the package that reads the address is not installed."""
    from tips_bench.corpus.storage import place

    return place(name)


Folder = Annotated[
    Path,
    typer.Argument(
        parser=folder_or_address,
        metavar="FOLDER",
        help="The folder of a corpus, or of shards as webdataset or img2dataset write them; on a disk, or s3://, gs:// and others.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing: print how much there is to do, and what is done.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the manifest, or the plan of --dry-run, as JSON.")]
To = Annotated[
    Path,
    typer.Option(
        "--to",
        parser=folder_or_address,
        metavar="FOLDER",
        help="The folder of the new corpus: empty, or where the same command was stopped. Also s3://, gs:// and others.",
    ),
]
Work = Annotated[
    Path | None,
    typer.Option(
        "--work",
        parser=local_path,
        metavar="FOLDER",
        help="Folder on a disk where a step with an address as --to works. Default: `corpus-work` in the cache of tips-bench.",
    ),
]


def print_plan(plan: dict[str, int], as_json: bool) -> None:
    """What a step would do, a number a line."""
    if as_json:
        print_json(plan)
    else:
        print_table(["what", "number"], [[what, f"{number:,}"] for what, number in plan.items()])


@app.command("fetch")
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="Links: a .parquet, .csv, .tsv or .jsonl file with a column `url`. Or images: a folder of them, shards, Parquet "
            "files, a data set saved by `datasets`. Also under s3://, gs://, hf:// and other addresses that fsspec knows."
        ),
    ],
    to: To,
    url_column: Annotated[str | None, typer.Option(help="Column of the links. Default: url.")] = None,
    caption_column: Annotated[
        str | None,
        typer.Option(help="Column of captions, or their key in the .json of shards. Default: caption, text, alt_text, alt or web."),
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column of the images. Default: image, jpg, png, webp or img.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a data set that has several, as train: by its README, the names of its files, or as saved.")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a data set that has several: by its README, or a folder.")] = None,
    least_side: Annotated[int | None, typer.Option(min=1, help="Leave out images whose shorter side has fewer pixels.")] = None,
    most_aspect: Annotated[
        float | None, typer.Option(min=1, metavar="N", help="Leave out images whose longer side is over N times the shorter.")
    ] = None,
    shortest_text: Annotated[int | None, typer.Option(min=1, help="Leave out samples whose caption has fewer characters.")] = None,
    longest_text: Annotated[int | None, typer.Option(min=1, help="Leave out samples whose caption has more characters.")] = None,
    languages: Annotated[str | None, typer.Option(help="Keep captions in these languages only, as en,de.")] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:FUNCTION",
            help="Your own function, for example against unsafe images. It gets a list of samples, and returns None or a reason to "
            "leave it out for each.",
        ),
    ] = None,
    most_side: Annotated[
        int | None, typer.Option(min=1, help="Make images with a longer side smaller, to so many pixels, and write them as JPEG.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="License of samples that do not state one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Links to follow at a time, from each process. Default: 64.")] = None,
    link_timeout: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="How long a server may take to send an image. Default: 15.")
    ] = None,
    user_agent: Annotated[
        str | None, typer.Option(metavar="WORD", help="What you call yourself to the servers of links, and to their X-Robots-Tag.")
    ] = None,
    give_up: Annotated[
        int | None, typer.Option(min=0, help="End if a shard has so many links and none of them leads to a server. 0: never. Default: 20.")
    ] = None,
    samples_per_shard: Annotated[int, typer.Option(min=1, max=99_999, help="Samples of the source in each shard.")] = 10_000,
    on: On = None,
    jobs: Jobs = None,
    slurm: Slurm = None,
    ray: Ray = None,
    work: Work = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Bring images and their captions into the shards of a corpus.

    Images that cannot be decoded are left out, counted and named. A command that
    was stopped goes on where it was if it is given again.

    \b
    Examples:
      tips-bench corpus fetch links.parquet --to raw/ --least-side 200
      tips-bench corpus fetch photos/ --to raw/ --license CC0-1.0
      tips-bench corpus fetch 's3://bucket/old/{000..099}.tar' --to raw/
      tips-bench corpus fetch hf://datasets/OWNER/NAME --to s3://bucket/raw
    """
    from tips_bench.corpus import fetch as fetching
    from tips_bench.corpus.filters import Limits
    from tips_bench.corpus.plan import fetch_plan
    from tips_bench.corpus.sources.links import Manner
    from tips_bench.corpus.sources.named import Asked, open_source
    from tips_bench.corpus.sources.tables import Columns

    limits = Limits(
        least_side=least_side,
        most_aspect=most_aspect,
        shortest_text=shortest_text,
        longest_text=longest_text,
        languages=[name.strip() for name in languages.split(",")] if languages else None,
        classifier=classifier,
    )
    chosen = chosen_executor(on, jobs, slurm, ray)
    columns = Columns(link=url_column, caption=caption_column, image=image_column)
    manner = Manner(threads=threads, timeout_s=link_timeout, user_agent=user_agent, give_up=give_up)
    opened = open_source(source, Asked(columns=columns, links=manner, split=split, config=config))
    if dry_run:
        print_plan(fetch_plan(opened, to, limits, samples_per_shard), as_json)
        return
    manifest = fetching.fetch(opened, to, limits, size=samples_per_shard, license=license, chosen=chosen, most_side=most_side, works=work)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    step = manifest.steps[-1]
    print_line(f"{to}: {counted(step.samples, 'sample')} in {counted(len(manifest.shards), 'shard')}")
    for reason, number in step.dropped.items():
        print_line(f"{number:>9} left out: {reason}")
    for note, number in step.notes.items():
        print_line(f"{number:>9} {note}")


@app.command("check")
def check(
    folder: Folder,
    recipe: Annotated[str | None, typer.Option(help="A recipe: its kinds of captions must be there.")] = None,
    html: Annotated[
        Path | None, typer.Option(parser=local_path, metavar="FILE", help="Write a page with histograms and some samples.")
    ] = None,
    on: On = None,
    jobs: Jobs = None,
    slurm: Slurm = None,
    ray: Ray = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Read every sample of a corpus, and print what was found.

    Exit status 1 if there is something that training would stop at. What was
    found in a shard is kept, and only shards that changed are read again.

    \b
    Examples:
      tips-bench corpus check raw/
      tips-bench corpus check raw/ --html raw.html --on local --jobs 8
      tips-bench corpus check raw/ --recipe tips-nano
    """
    from tips_bench.corpus.check import check_corpus
    from tips_bench.corpus.page import write_page

    report = check_corpus(folder, recipe, chosen_executor(on, jobs, slurm, ray))
    if html is not None:
        write_page(html, report)
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"pictures"}))
    else:
        print_rich(*report.render())
    if report.faults:
        raise typer.Exit(1)


@app.command("caption")
def caption(
    source: Folder,
    to: To,
    captioner: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="openai:http://HOST:PORT/v1#MODEL, hf:OWNER/NAME, module:function, or pixels, which names colors and needs no model.",
        ),
    ],
    prompt: Annotated[
        str, typer.Option(metavar="NAME,...", help="One caption for each. Names from `tips-bench list prompts`, or paths to cards.")
    ] = "short,long",
    failed: Annotated[Literal["drop", "keep"], typer.Option(help="What happens to an image that does not get all captions.")] = "drop",
    add: Annotated[bool, typer.Option("--add", help="Put captions behind the synthetic ones that are there, not in their place.")] = False,
    at_once: Annotated[int, typer.Option(min=1, help="Requests to a server at a time, from each process.")] = 16,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Most requests to a server in a minute, from all processes.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How long a server may take for an answer.")] = 120.0,
    patience: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long a server that fails for all is waited for.")] = 600.0,
    batch: Annotated[int, typer.Option(min=1, help="Images that a model or a function of yours gets together.")] = 8,
    device: Annotated[str | None, typer.Option(help="Device of a model: cpu, cuda or cuda:N. Default: the first GPU, or the CPU.")] = None,
    give_up: Annotated[int, typer.Option(min=0, help="End after so many images in a row without a caption. 0: never.")] = 20,
    cache: Annotated[
        Path | None,
        typer.Option(parser=local_path, metavar="FOLDER", help="Where answers are kept. Default: `captions` in the cache of tips-bench."),
    ] = None,
    on: On = None,
    jobs: Jobs = None,
    slurm: Slurm = None,
    ray: Ray = None,
    work: Work = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Have the images of a corpus described in words.

    Answers are kept: a command that was stopped goes on where it stopped, and
    no image is asked about twice. A key for a server is read from
    $OPENAI_API_KEY and written nowhere.

    \b
    Examples:
      tips-bench corpus caption raw/ --to out/ --captioner pixels --prompt short
      tips-bench corpus caption raw/ --to captioned/ \\
        --captioner openai:http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct
      tips-bench corpus caption raw/ --to short/ --on local --prompt paligemma \\
        --captioner hf:google/paligemma-3b-mix-224
    """
    from tips_bench.cards import load_card
    from tips_bench.corpus.caption import Wish
    from tips_bench.corpus.caption import caption as make
    from tips_bench.corpus.captioners.base import Pace
    from tips_bench.corpus.plan import caption_plan

    cards = tuple(load_card("prompt", name) for name in split(prompt, "--prompt", lambda: list(card_files("prompt"))))
    pace = Pace(at_once=at_once, per_minute=per_minute, timeout_s=timeout, patience_s=patience, batch=batch, device=device)
    chosen = chosen_executor(on, jobs, slurm, ray)
    wish = Wish(captioner, cards, failed, add)
    if dry_run:
        print_plan(caption_plan(source, to, wish), as_json)
        return
    manifest, asked = make(source, to, wish, cache=cache, works=work, pace=pace, give_up=give_up, chosen=chosen)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
        return
    step = manifest.steps[-1]
    images, shards = counted(step.samples, "image"), counted(len(manifest.shards), "shard")
    print_line(f"{to}: {images} with captions in {shards}; the captioner was asked {counted(asked, 'time')}")
    for reason, number in step.dropped.items():
        print_line(f"  dropped: {number}  {reason}")
    for note, number in step.notes.items():
        print_line(f"  note:    {number}  {note}")


@app.command("curate")
def curate(
    folder: Folder,
    to: To,
    encoder: Annotated[str, typer.Option(metavar="MODEL", help="The model whose embeddings are compared.")],
    dedup: Annotated[bool, typer.Option("--dedup", help="Of images that are the same picture, keep the largest.")] = False,
    decontaminate: Annotated[
        str | None,
        typer.Option(metavar="TASKS", help="Drop images that show a test image of these tasks; `all` = of those whose data are here."),
    ] = None,
    agree: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Keep this share of the web captions, those that agree best with their images."),
    ] = None,
    require_all: Annotated[
        bool, typer.Option("--require-all", help="With --decontaminate all: end in an error if the data of a task are not here.")
    ] = False,
    near: Annotated[str | None, typer.Option(metavar="TASKS", help="Keep what is near the training images of these tasks.")] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Draw evenly from clusters of images.")] = False,
    keep: Annotated[int | None, typer.Option(min=1, help="Number of images to keep. Default: all; with --balance half.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the draw and of the new order.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a number of the curation, as duplicates.agreement=0.96."),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Weights for the model in place of its own: a file, or random:SEED.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N. Default: the first GPU, if there is one.")] = None,
    dtype: Annotated[Literal["fp32", "bf16"], typer.Option(help="Precision of the model.")] = "fp32",
    data_root: DataRoot = None,
    on: On = None,
    jobs: Jobs = None,
    slurm: Slurm = None,
    ray: Ray = None,
    work: Work = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Choose which images of a corpus stay, and write them in a new order.

    Every choice that is not asked for is left out. A curation that was stopped
    goes on when its command is given again. The folder also gets a page with
    pictures of what was dropped, curation.html, and a list, dropped.jsonl.

    \b
    Examples:
      tips-bench corpus curate raw/ --dedup --encoder tips-b14 --to curated/
      tips-bench corpus curate raw/ --agree 0.6 --encoder tips-b14 --to kept/
      tips-bench corpus curate raw/ --dedup --decontaminate all \\
        --near ade20k,nyu-depth --balance --keep 1000000 \\
        --encoder tips-b14 --to curated/ --on local
    """
    from tips_bench.corpus.curation.card import curation_card
    from tips_bench.corpus.curation.curate import curate as carry_out
    from tips_bench.corpus.curation.signatures import Signer
    from tips_bench.corpus.curation.wish import Wish
    from tips_bench.corpus.plan import curation_plan

    executor, card = chosen_executor(on, jobs, slurm, ray), curation_card(overrides or [])
    against, absent = _images(decontaminate, "--decontaminate", card.contamination.splits, data_root)
    if require_all and absent:
        fix = "Fetch their data (`tips-bench data`), or leave --require-all out."
        raise UserError(f"{counted(len(absent), 'task')} cannot be compared: {', '.join(absent)}", where="--require-all", fix=fix)
    queries = _images(near, "--near", ["train"], data_root)[0]
    signer = Signer(encoder, weights, device, dtype)
    wish = Wish(signer, card, queries, against, absent, dedup, balance, keep, seed, agree)
    if dry_run:
        print_plan(curation_plan(folder, to, wish), as_json)
        return
    made = carry_out(folder, to, wish, executor, work)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    step = made.steps[-1]
    rows = [["kept", f"{step.samples:,}"], *([reason, f"{number:,}"] for reason, number in [*step.dropped.items(), *step.notes.items()])]
    print_table(["what became of the images", "images"], rows)
    if compared := wish.comparison():
        print_line(compared)
    print_line(str(to / "curation.html"))


def _images(
    names: str | None, option: str, splits: list[Literal["train", "test"]], data_root: Path | None
) -> tuple[list[TaskImages], dict[str, str]]:
    """The images of the tasks that an option names, and why others cannot be compared. Errors: those of `gather`."""
    from tips_bench.corpus.curation.task_images import gather

    if names is None:
        return [], {}
    tasks = split(names, option, lambda: list(card_files("task")))
    return gather(tasks, splits, data_root, whatever_is_here=names.strip() == ALL)
