"""The data of a task on this machine: where they lie, whether they are here, and how many samples they have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tips_bench.adapters.base import Adapter
from tips_bench.cards import TaskCard, load_card
from tips_bench.catalog import data_root, generated_root
from tips_bench.data.split import Splits
from tips_bench.errors import UserError
from tips_bench.evaluation.spec import Spec
from tips_bench.registry import FAMILIES


def open_splits(adapter: Adapter, spec: Spec, root: Path | str | None) -> Splits[Any]:
    """What an evaluation reads. root: as for `data_folder`. Errors: those of the reader; where no folder is, with how to get the data."""
    folder, card = data_folder(spec, root), spec.task
    try:
        return adapter.open(folder, spec.limit)
    except UserError as error:
        if folder.is_dir():
            raise
        root = Path(root) if root else data_root()
        said = [error.fix] if error.fix and card.how_to_get not in error.fix else []
        here = [] if root == Path("data") else [f"Here, {root} takes the place of data."]
        raise UserError(error.problem, where=error.where, fix=" ".join([*said, card.how_to_get, *here])) from error


def data_folder(spec: Spec, folder: Path | str | None) -> Path:
    """The folder with the data of the task. Rooms are generated at first use, in the cache unless a data root (`folder`) is given."""
    place = data_place(spec, folder)
    if spec.task.data.generator is not None:
        from tips_bench.rooms.writing.writers import write_rooms

        write_rooms(root=place, **spec.task.data.generator_options)
    return place


def data_place(spec: Spec, root: Path | str | None) -> Path:
    """Where the data of the task lie, or are to lie. root: the data root; None = $TIPS_BENCH_DATA or ./data, of rooms the cache."""
    if root is None:
        root = data_root() if spec.task.data.generator is None else generated_root()
    return Path(root) / spec.task.data.root


def is_absent(spec: Spec, root: Path | str | None) -> bool:
    """Whether the data of a task are not here, and are not generated either. root: as for `data_place`."""
    return spec.task.data.generator is None and not data_place(spec, root).is_dir()


def counted_on_disk(spec: Spec, root: Path | str | None) -> Spec:
    """The evaluation with the number of samples of its splits, where its card does not say it and the data are here, as its own.

    The files are listed, not read. root: as for `data_place`.
    """
    data = spec.task.data
    if data.generator is not None or data.expected or data.parts or is_absent(spec, root):
        return spec
    try:
        splits = FAMILIES.get(spec.task.family).adapter_class()(spec.task, spec.applied).open(data_place(spec, root), None)
    except UserError:  # told when it is its turn
        return spec
    known = {name: len(split) for name, split in (("train", splits.train), ("test", splits.test)) if split is not None}
    expected = {data.splits[role]: number for role, number in known.items() if role in data.splits}
    return replace(spec, task=spec.task.model_copy(update={"data": data.model_copy(update={"expected": expected})}))


def misfit(task: TaskCard, root: Path) -> str | None:
    """Why the card of a task does not fit its data, for example too few class names; None = they fit. root: the data root."""
    protocol = load_card("protocol", task.protocol).for_task(task.name)
    try:
        FAMILIES.get(task.family).adapter_class()(task, protocol).open(root / task.data.root, None)
    except UserError as error:
        return str(error)
    return None
