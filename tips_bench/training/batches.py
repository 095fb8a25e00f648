"""What one training step on one rank sees, the same for a seed however many worker processes read it.

    data = TrainingData(recipe, tokenizer, rank=rank, world=world)
    for batch in data.batches(recipe.stages[0]):
        ...                                     # one step
        state = data.state_dict()               # a few numbers: the place behind this batch

Workers take turns at chunks of the rank's samples and send uint8 images with what was wrong; only this side puts batches together, so a
skipped sample moves the others up.

Axes in tensor names: B images of this rank, K captions of an image, H W pixels, P patches of the global crop, L tokens of a text.
"""

from __future__ import annotations

import resource
import signal
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tips_bench.errors import UserError
from tips_bench.models.tokenizer import Tokenizer
from tips_bench.training.chunks import CHUNK, Chunk, Outcome, Reader, Taken
from tips_bench.training.rank_counts import images_of_a_rank
from tips_bench.training.recipe import Recipe, StagePart
from tips_bench.training.shards import Cursor
from tips_bench.training.sources import Found, shard_order

MOST_BESIDE = 5  # tensors of a chunk beside its local crops: the global crop, windows, a mask, texts and their paddings
OTHER_FILES = 48  # that a process has open beside them
ENOUGH_DRAWN = 1000  # samples of a rank, after which it is an error
MOST_SKIPPED = 0.5  # to have skipped a larger share of them


@dataclass(frozen=True)
class Texts:
    """The captions of a batch for one global token. int64; paddings: 1 marks padding."""

    ids_BL: Tensor
    paddings_BL: Tensor


@dataclass(frozen=True)
class Batch:
    """Images are uint8, a quarter of what the towers take; `pieces` makes pixels in [0, 1] of a piece of them at a time.

    Images lie on the device. All else is small and lies on the CPU, where its values can be looked at without waiting for the device.
    locals: one [B,3,h,w] for each local crop.
    texts: texts[k] goes with global token k, as the recipe's contrastive.captions says; empty without a contrastive loss.
    mask_BP: bool, True where the student does not see a patch; None where the recipe has no mask.
    samples_B: each sample's number among the draws of all ranks since the start of the run.
    windows: where the global crop and each local one stand among the positions, int64 [B,2] each; empty where positions are interpolated.
    names: of the samples, as "SHARD: KEY".
    """

    global_B3HW: Tensor
    locals: list[Tensor]
    texts: list[Texts]
    mask_BP: Tensor | None
    samples_B: Tensor
    windows: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What a rank's data held. drawn, skipped: samples. faults: kind -> how often; examples: kind -> where it was met first.

    A fault need not skip its sample: one empty caption of several is left out.
    """

    drawn: int = 0
    skipped: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line: "skipped 2 of 640 samples: broken image 1 (train-000.tar: 0007), no web caption 1 (...)"."""
        listed = ", ".join(f"{kind} {count} ({self.examples[kind]})" for kind, count in sorted(self.faults.items()))
        return f"skipped {self.skipped} of {self.drawn} samples" + (f": {listed}" if listed else "")

    def check(self) -> None:
        """Errors: more samples were skipped than used, so that the run does not see what its shards seem to hold."""
        if self.drawn >= ENOUGH_DRAWN and self.skipped > MOST_SKIPPED * self.drawn:
            fix = "Read `tips-bench corpus check`; `corpus fetch` and `corpus caption` write shards without such samples."
            raise UserError(f"too many samples cannot be used: {self}", where="data.shards", fix=fix)


class TrainingData:
    """The batches of one rank, from the recipe's shards.

    places: what `state_dict` gave on each rank at a checkpoint, to go on behind that batch. With as many ranks as now each goes on where
    it was; with another number they share what is left, and every sample still comes once an epoch. found: what is known of the shards.
    Errors: those of `shard_order`; captions without a tokenizer, or with one of more pieces than the text tower embeds; places of other
    shards or another seed.
    """

    def __init__(
        self,
        recipe: Recipe,
        tokenizer: Tokenizer | None,
        *,
        rank: int = 0,
        world: int = 1,
        places: Sequence[dict[str, Any]] = (),
        found: Found | None = None,
    ) -> None:
        self.recipe, self.tokenizer, self.rank, self.world = recipe, tokenizer, rank, world
        self.order = shard_order(recipe, found)
        self.cursor, self.report = Cursor(), Report()
        self.taken: Taken = []
        self._last_whole = 0  # the epoch of the last sample that could be used
        if recipe.method.contrastive is not None:
            _check_tokenizer(recipe, tokenizer)
        if places:
            self._resume(places)

    def state_dict(self) -> dict[str, Any]:
        """The place behind the last batch, and the report so far; plain values, fit for JSON."""
        taken = [rule for rule in self.taken if max(rule) > self.cursor.drawn]
        return {"order": self.order.identity, "cursor": self.cursor.numbers, "taken": taken, "report": asdict(self.report)}

    def batches(self, stage: StagePart, device: torch.device | str = "cpu") -> Iterator[Batch]:
        """Batches of stage.batch / world images from the current place on, without end.

        Errors: a batch that the ranks cannot share; a broken shard; not one sample of a whole epoch that can be used; a worker that died.
        """
        images = images_of_a_rank(self.recipe, stage, self.world)
        with closing(self._chunks(stage)) as chunks:
            held: list[Chunk] = []
            while True:
                yield self._batch(chunks, held, images, torch.device(device))

    def _chunks(self, stage: StagePart) -> Generator[Chunk, None, None]:
        workers = self.recipe.data.workers
        ahead = max(2, -(-2 * stage.batch // (self.world * CHUNK * max(1, workers))))
        if workers:
            _check_handles(ahead * (MOST_BESIDE + self.recipe.local_count))
        loader = DataLoader(
            Reader(self.recipe, stage, self.tokenizer, self.order, self.cursor, self.rank, self.world, self.taken),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_stopping_to_the_run,
            prefetch_factor=ahead if workers else None,
            generator=torch.Generator(),  # its own, so that the global random state stays as it is
        )
        try:
            for sent in loader:
                if isinstance(sent, UserError):
                    raise sent
                # A tensor that another process sent keeps a file open; a batch of thousands would reach the limit of a process.
                yield Chunk(sent.outcomes, [tensor.clone() for tensor in sent.tensors]) if workers else sent
        except RuntimeError as error:
            raise_if_reader_died(error)
            raise

    def _batch(self, chunks: Iterator[Chunk], held: list[Chunk], size: int, device: torch.device) -> Batch:
        """The next `size` whole samples. held: the rest of a chunk, from the batch before and for the one behind."""
        samples: list[Outcome] = []
        columns: list[list[Tensor]] = []
        while len(samples) < size:
            chunk = held.pop() if held else next(chunks)
            used, rows = self._use(chunk.outcomes, size - len(samples))
            samples += rows
            columns.append([tensor[: len(rows)] for tensor in chunk.tensors])
            if used < len(chunk.outcomes):
                held.append(Chunk(chunk.outcomes[used:], [tensor[len(rows) :] for tensor in chunk.tensors]))
        stacked = [torch.cat(column) for column in zip(*(c for c in columns if c), strict=True)]
        return self._assembled(stacked, samples, device)

    def _use(self, outcomes: list[Outcome], wanted: int) -> tuple[int, list[Outcome]]:
        """Go on over outcomes until `wanted` are whole, counting faults; how many were gone over, and the whole ones."""
        whole: list[Outcome] = []
        for used, outcome in enumerate(outcomes):
            if len(whole) == wanted:
                return used, whole
            self.cursor = outcome.after
            self.report.drawn += 1
            for fault in outcome.faults:
                self.report.faults[fault] = self.report.faults.get(fault, 0) + 1
                self.report.examples.setdefault(fault, outcome.name)
            if outcome.whole:
                whole.append(outcome)
                self._last_whole = outcome.after.epoch
            else:
                self.report.skipped += 1
                self.report.check()
            if outcome.after.epoch > self._last_whole + 1:
                raise UserError(f"not one sample of the shards can be used ({self.report})", where="data.shards", fix="Fix the shards.")
        return len(outcomes), whole

    def _assembled(self, tensors: list[Tensor], samples: list[Outcome], device: torch.device) -> Batch:
        method, images = self.recipe.method, 1 + self.recipe.local_count
        whole, *parts = [send(tensor, device) for tensor in tensors[:images]]
        rest = tensors[images:]
        windows = list(rest.pop(0).unbind(1)) if self.recipe.model.positions == "window" else []
        mask_BP = rest.pop(0) if method.patches is not None and method.patches.mask is not None else None
        texts = []
        if rest:
            ids_BKL, paddings_BKL = rest
            texts = [Texts(ids_BKL[:, k], paddings_BKL[:, k]) for k in range(ids_BKL.shape[1])]
        samples_B = torch.tensor([sample.number for sample in samples])
        return Batch(whole, parts, texts, mask_BP, samples_B, windows, [sample.name for sample in samples])

    def _resume(self, places: Sequence[dict[str, Any]]) -> None:
        if any(place.get("order") != self.order.identity for place in places):
            raise UserError(
                "the checkpoint was written with other shards, another seed or another shuffle",
                where="data",
                fix="The order of all samples follows from these, and from the names and sizes of all shards, so that none can be added."
                " Resume with the same ones; or export the model, and start another run from it with model.begin.",
            )
        if len(places) == self.world:
            own = places[self.rank]
            self.cursor, self.taken, self.report = Cursor.of(own["cursor"]), own.get("taken", []), Report(**own["report"])
        else:
            cursors = [Cursor.of(place["cursor"]) for place in places]
            self.cursor = min(cursors, key=lambda cursor: cursor.drawn)
            before = (tuple(rule) for place in places for rule in place.get("taken", []))  # most are those of all ranks
            self.taken = [[cursor.drawn for cursor in cursors], *map(list, dict.fromkeys(before))]
            if self.rank == 0:
                self.report = all_together([Report(**place["report"]) for place in places])
        self._last_whole = self.cursor.epoch


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, or the tensor itself if it is there. The processor does not wait for a GPU.

    Only memory that is pinned is copied beside what the processor does next; from other memory it would wait for the copy.
    """
    held = tensor.pin_memory() if device.type == "cuda" and tensor.device.type == "cpu" else tensor
    return held.to(device, non_blocking=True)


def all_together(reports: Sequence[Report]) -> Report:
    """What the data of all ranks held."""
    faults = sum((Counter(report.faults) for report in reports), Counter())
    examples = {kind: name for report in reversed(reports) for kind, name in report.examples.items()}
    return Report(sum(report.drawn for report in reports), sum(report.skipped for report in reports), dict(faults), examples)


def raise_if_reader_died(error: RuntimeError) -> None:
    """A sentence in place of what torch raises, wherever this process is just then, when one that reads the data was killed."""
    if str(error).startswith("DataLoader worker"):
        problem = "a process that reads the data was killed, most likely for want of memory or of space in /dev/shm"
        raise UserError(problem, where="data.workers", fix="Use fewer, or give a container more shared memory.") from error


def _check_handles(sent: int) -> None:
    """sent: tensors that a reader has on their way, each with a file open. Errors: more than a process may open; it would wait for ever."""
    wanted, allowed = sent + OTHER_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed != resource.RLIM_INFINITY and allowed < wanted:
        problem = f"a process may open {allowed} files at a time, and one that reads the data needs {wanted}"
        raise UserError(problem, where="data.workers", fix=f"Raise the limit with `ulimit -n {wanted}`, or set data.workers=0.")


def _check_tokenizer(recipe: Recipe, tokenizer: Tokenizer | None) -> None:
    if tokenizer is None:
        raise ValueError("captions need a tokenizer")
    if tokenizer.vocab_size > (embedded := recipe.model.text_config.vocab_size):
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the text tower embeds {embedded}",
            where="model.text.vocab_size",
            fix="Set model.text.vocab_size to the size of the tokenizer.",
        )


def _leave_stopping_to_the_run(worker: int) -> None:
    """A SIGTERM to all processes of a run, as schedulers send it, or a Ctrl-C leaves the readers alive until the run has ended its step."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _as_it_is(chunk: Any) -> Any:
    return chunk
