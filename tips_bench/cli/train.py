"""tips-bench train: pretrain a model by a recipe, in one process or under torchrun."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tips_bench.cli import complete
from tips_bench.cli.options import local_path
from tips_bench.cli.output import print_line
from tips_bench.cli.ranked import one_rank
from tips_bench.cli.training_plan import print_plan
from tips_bench.errors import UserError
from tips_bench.executors.watched import TIMED_OUT

if TYPE_CHECKING:
    from tips_bench.training.recipe_beside import EvaluationPart

SCORED_LIKE = "tips-nano"
"""A model of the catalog that fits the tasks which a model under training fits."""
# What torchrun tells its processes; one that is no rank must not know of it.
_OF_A_LAUNCHER = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
_THREADS = "OMP_NUM_THREADS"


def train(
    recipe: Annotated[str, typer.Argument(autocompletion=complete.recipe, help="Name of a recipe, or its .yaml file.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe. May be given several times.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint of the run, if it has one, with what was set before.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(parser=local_path, metavar="FOLDER", help="Folder for the run. Default: runs/NAME, with the name of the recipe."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda. Default: one GPU per rank, or cpu if there is no GPU. With --dry-run: a100, h100, h200, b200."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: print memory, operations and days, calculated from the recipe.")
    ] = False,
    ranks: Annotated[int, typer.Option(min=1, help="With --dry-run: the number of GPUs.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print the plan as JSON.")] = False,
) -> None:
    """Pretrain a model on image-text pairs, by the method of TIPS.

    For several GPUs, start it with torchrun. On SIGTERM the current step is
    finished, a checkpoint is written, and the exit status is 0.

    \b
    Examples:
      tips-bench train recipes/tips-nano.yaml \\
        --set data.shards='rooms/train-{000..031}.tar'
      tips-bench train recipes/tips-nano.yaml --resume
      tips-bench train recipes/tips-nano.yaml --resume \\
        --set stages.0.learning_rate=0.00025
      torchrun --nproc-per-node 8 -m tips_bench train recipes/tipsv2-g14.yaml \\
        --set data.shards='shards/*.tar'
      tips-bench train recipes/tipsv2-g14.yaml --dry-run --ranks 256
    """
    from tips_bench.training.loop import train as train_recipe
    from tips_bench.training.recipe_files import find_recipe, load_recipe
    from tips_bench.training.runs import RECIPE_FILE, read_recipe, steps_done

    folder = out or Path("runs") / find_recipe(recipe).stem
    resumed = read_recipe(folder) if resume and (folder / RECIPE_FILE).is_file() else None
    chosen = load_recipe(recipe, overrides or [], resumed=resumed, done=steps_done(folder))
    check_evaluations(chosen.evaluation)
    if dry_run:
        print_plan(chosen, ranks, device or "h100", as_json=as_json)
        return
    if ranks > 1 or as_json:
        fix = f"Several ranks are started by torchrun: torchrun --nproc-per-node {ranks} -m tips_bench train {shlex.quote(recipe)}"
        raise UserError("this is an option of the plan alone", where="--ranks" if ranks > 1 else "--json", fix=f"Add --dry-run. {fix}")
    warn_of_shared_store()
    with one_rank():
        outcome = train_recipe(chosen, folder, resume=resume, device=device, evaluate=evaluate)
        if os.environ.get("RANK", "0") == "0":
            print_end(outcome, folder, recipe)


def print_end(outcome: str, run: Path, recipe: str) -> None:
    """How a run ended, its last loss, and the command that comes next."""
    from tips_bench.training.log import read_log

    losses = [line for line in read_log(run) if line.get("loss") is not None]
    at = f"  step {losses[-1]['step']}, loss {losses[-1]['loss']:.4g}" if losses else ""
    print_line(f"{outcome}  {run}{at}")
    place = shlex.quote(str(run))
    if outcome == "finished":
        print_line(f"Next: tips-bench export {place} --to {shlex.quote(run.name)}/")
    else:
        print_line(f"Next: tips-bench train {shlex.quote(recipe)} --out {place} --resume")


def warn_of_shared_store() -> None:
    """Ranks that torchrun starts again find one another in a store that still has the addresses of those before (pytorch issue 135712)."""
    told = os.environ
    if told.get("RANK") == "0" and told.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and told.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        said = "with --max-restarts, ranks that are started again may not find one another: set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
        print(f"tips-bench: {said} before torchrun", file=sys.stderr)


def check_evaluations(parts: list[EvaluationPart]) -> None:
    """What each evaluation will need, before the first step and not hours later; data that are not there yet are only told.

    Errors: an unknown task or protocol, values that do not fit, a device that is not there, a program that is not there to launch with.
    """
    from tips_bench.evaluation.spec import resolve
    from tips_bench.evaluation.task_data import data_place, is_absent
    from tips_bench.models.devices import resolve_device

    for part in parts:
        spec = resolve(part.task, SCORED_LIKE, part.protocol, overrides=part.overrides)
        words = shlex.split(part.launch)
        if words and shutil.which(words[0]) is None:
            raise UserError("there is no such program", where=f"evaluation.launch = {part.launch!r}", fix="Name one that is in $PATH.")
        if not words:
            resolve_device(part.device)
            if is_absent(spec, None) and os.environ.get("RANK", "0") == "0":
                said = f"the data of {part.task} are not here yet ({data_place(spec, None)}); its evaluations will fail until they are"
                print(f"tips-bench: {said}", file=sys.stderr)


def evaluate(part: EvaluationPart, model: Path, out: Path) -> dict[str, float]:
    """Scores an exported model by a task card, in a process that is no rank of the training; its metrics by name."""
    command = [*shlex.split(part.launch), sys.executable, "-m", "tips_bench", "run", "--json", "--task", part.task, "--model", str(model)]
    command += ["--out", str(out), *(f"--set={override}" for override in part.overrides)]
    device = part.device or ("cpu" if os.environ.get("WORLD_SIZE", "1") != "1" and not part.launch else None)
    command += [f"--{name}={value}" for name, value in (("protocol", part.protocol), ("device", device)) if value is not None]
    done = _run_watched(command, 60 * part.timeout_minutes)
    if done.returncode == TIMED_OUT:
        fix = "Raise evaluation.timeout_minutes, or see what it waits for."
        raise UserError(f"it had not ended after {part.timeout_minutes:g} minutes", where=f"evaluation of {part.task}", fix=fix)
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UserError(said[-1].removeprefix("tips-bench: ") if said else f"it ended with status {done.returncode}")
    try:
        (record,) = json.loads(done.stdout)
    except ValueError as error:
        problem = f"its output holds more than a record: {done.stdout[:100]!r}"
        raise UserError(problem, where=f"evaluation.launch = {part.launch!r}", fix="Name a program that prints nothing itself.") from error
    return {name: metric["value"] for name, metric in record["metrics"].items()}


def _run_watched(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """Runs a command that ends when its time is over, and at the latest with this process: a run that goes on may start the same again."""
    watched = [sys.executable, "-m", "tips_bench.executors.watched", str(seconds), *command]
    stdin, held = os.pipe()
    try:
        return subprocess.run(watched, env=_environment(), stdin=stdin, capture_output=True, text=True, start_new_session=True)
    finally:
        os.close(stdin)
        os.close(held)


def _environment() -> dict[str, str]:
    """That of a process which is no rank."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_A_LAUNCHER)}
    if _threads_are_torchruns():
        del own[_THREADS]
    return own


def _threads_are_torchruns() -> bool:
    """Whether torchrun gave each of several ranks one thread; it does so where its own environment says nothing of threads."""
    told = os.environ
    if "TORCHELASTIC_RUN_ID" not in told or told.get("LOCAL_WORLD_SIZE", "1") == "1" or told.get(_THREADS) != "1":
        return False
    try:
        launcher = Path(f"/proc/{os.getppid()}/environ").read_bytes()
    except OSError:
        return False
    return not any(line.startswith(f"{_THREADS}=".encode()) for line in launcher.split(b"\0"))
