"""The memory of one training step on one rank, at each moment that can be its fullest.

    fullest(StageSizes(recipe, stage, ranks))

A step holds least between steps and most at one of these moments:

- in the forward pass of a teacher with an encoder of its own, which may be larger than the student;
- in a loss over prototypes: all that the forward pass keeps, and scores of some rows;
- in the backward pass of the last block of each use of a tower: what the uses before it keep, and the working memory of this block;
- in the backward pass of the first block: gradients of everything, and the working memory of one block;
- in the contrastive loss over the embeddings of all ranks, and in the update.

In a step before the teacher starts, there are only the whole views of the global crops, the texts and the contrastive loss.

With activation checkpointing, a block keeps only its input until its backward pass, which first makes everything else again. So the
working memory of a block contains what it keeps, once, and never exists together with that of a loss.

With FSDP a rank holds its part of weights, gradients and optimizer state. Whole beside them are: what is in no block, from the forward
pass to the end of the backward pass, where its gradients are added up over ranks; and, around a block's turn, the block, what was sent
to put it or the next one together, its gradients, and those gradients once more in float32 as they are sent.

The formulas follow torch's autograd, one tensor after another. Not counted: what the driver and libraries take, and what an allocator
loses. All captions are assumed to have the maximum length; stochastic depth is assumed to skip nothing.

Letters: D width, M hidden width, H heads, N tokens, C prototypes, E bottleneck, b bytes of a value in the precision of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.training.adafactor import CAST_AT_ONCE
from tips_bench.training.prototypes import PIECE_VALUES
from tips_bench.training.recipe import AdafactorPart, HeadPart, MuonPart
from tips_bench.training.stage_sizes import WIDE, StageSizes, TowerPass
from tips_bench.training.teacher import parts_with_heads

_COPIES_OF_MUON = 6
"""Of a matrix, in bfloat16: sent and received, before and after an iteration, and two products as large as its shorter side squared."""
_HASH = 24  # bytes for each value that dropout draws for: three int64


@dataclass(frozen=True)
class Moment:
    """Bytes that are held at the same time: part -> bytes."""

    name: str
    memory: dict[str, float]

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(self.memory.values())


def fullest(sizes: StageSizes) -> Moment:
    """The moment of a step that needs most."""
    return max(_Step(sizes).moments(), key=lambda moment: moment.total)


class BlockMemory:
    """Bytes for each token of a block of a tower. dropout: whether the tower drops values."""

    def __init__(self, config: VisionConfig | TextConfig, tokens: int, size: int, *, fused: bool, dropout: bool = False) -> None:
        self.is_text = isinstance(config, TextConfig)
        self.dim, self.hidden, self.size, self.dropout = config.embed_dim, config.mlp_dim, size, dropout
        self.ffn = "relu" if isinstance(config, TextConfig) else config.ffn
        self.weights = config.num_heads * tokens  # of attention, for each token
        self.fused = fused and not dropout

    @property
    def input(self) -> float:
        """The residual sum that comes in."""
        return WIDE * self.dim

    @property
    def kept(self) -> float:
        """For the backward pass: two residual sums in float32; inputs of the maps, queries, keys, values and their mean, what LayerScale
        multiplies, and the hidden values before and after their activation."""
        hidden = {"relu": 1, "mlp": 2, "swiglu": 4}[self.ffn]
        maps = (6 if self.is_text else 8) * self.dim + hidden * self.hidden
        return 2 * self.input + self.size * maps + self._weights_kept() + self._dropout_kept()

    @property
    def forward(self) -> float:
        """Without gradients: the residual sum, the branch in float32, its input, and queries, keys, values and mean or hidden values."""
        hidden = {"relu": 2, "mlp": 2, "swiglu": 4}[self.ffn]
        weights = 0.0 if self.fused else 2 * self.size * self.weights
        return 2 * self.input + self.size * (self.dim + max(4 * self.dim + weights / self.size, hidden * self.hidden))

    def _weights_kept(self) -> float:
        """Attention weights. With dropout: in float32, which of them are kept, and what is left of them."""
        if self.dropout:
            return (WIDE + 1 + self.size) * self.weights
        return 0.0 if self.fused else self.size * self.weights

    def _dropout_kept(self) -> float:
        """Which values of both branches and of the hidden values are kept, and what is left of the hidden values."""
        return 2 * self.dim + (1 + self.size) * self.hidden if self.dropout else 0.0

    @property
    def backward(self) -> float:
        """At its fullest moment, `kept` included: the start, the activation of the feed-forward part, attention, or drawing numbers."""
        gradient = self.input  # of the residual sum
        # the gradients of a branch and of LayerScale before it is summed, and the branch in float32
        start = gradient if self.is_text else gradient * (3 if self.size == WIDE else 4)
        feed_forward = gradient + self.size * self.hidden * (1 if self.ffn == "mlp" else 2)
        draws = gradient + _HASH * max(self.hidden, self.weights) if self.dropout else 0.0
        return max(self.kept + max(start, feed_forward, draws), self._attention())

    def _attention(self) -> float:
        """The residual sum and its gradient; the input of the map, queries, keys, values, mean, their gradients and those put together.

        Without fused attention, before that: weights, their gradients and those of scores; input, queries, keys and the gradient of values.
        """
        together: float = self.size * 12 * self.dim
        if not self.fused:
            together = max(together, self.size * 4 * self.dim + self._weights_kept() + 2 * self.size * self.weights)
        return 2 * self.input + together


class _Step:
    def __init__(self, sizes: StageSizes) -> None:
        self.sizes = sizes
        self.checkpointed = sizes.running.activation_checkpointing
        weights = WIDE * sizes.everything / sizes.cut
        self.held = {"weights": weights, "optimizer": self._optimizer(), "teacher": self._teacher(), "images": self._images()}

    def moments(self) -> list[Moment]:
        forward = sum(self._kept(one) + self._ends(one) for one in self.sizes.passes())
        return [*self._teaching(), *self._losses(forward), self._contrastive(forward), *self._backward(), *self._sums(), self._update()]

    def _moment(self, name: str, *, gradients: float, activations: float = 0.0, working: float = 0.0, copies: float = 0.0) -> Moment:
        """In a forward or backward pass. copies: parameters that exist in bfloat16 too."""
        copied = self.sizes.bytes * copies if self.sizes.bytes < WIDE else 0
        return self._held_moment(name, copied + self._gathered(), gradients=gradients, activations=activations, working=working)

    def _held_moment(self, name: str, gathered: float, *, gradients: float, activations: float = 0.0, working: float = 0.0) -> Moment:
        parts = {"copies of weights": gathered, "gradients": gradients, "activations": activations, "working": working}
        return Moment(name, self.held | parts)

    # What is held all the time

    def _gathered(self) -> float:
        """With FSDP: what is in no block, one block, and one as it is sent."""
        sizes = self.sizes
        return 0.0 if sizes.cut == 1 else WIDE * sizes.outside_blocks + 2 * sizes.sent * sizes.block_parameters

    def _optimizer(self) -> float:
        rule, trained = self.sizes.recipe.optimizer.rule, self.sizes.trained
        if isinstance(rule, AdafactorPart):
            return (2 * trained if rule.beta1 is not None else 0) / self.sizes.cut
        return WIDE * (2 * trained - (self.sizes.hidden if isinstance(rule, MuonPart) else 0)) / self.sizes.cut

    def _teacher(self) -> float:
        sizes = self.sizes
        if sizes.method.teacher is None:
            return 0.0
        heads = sum(sizes.teacher_in(f"heads.{name}.") for name in parts_with_heads(sizes.method))
        return WIDE * (heads + (sizes.teacher_in("vision.") / sizes.cut if sizes.teacher_encodes else 0))

    def _images(self) -> float:
        """The batch as bytes, the pixels of a piece in float32, and the copies of them that the patch embedding keeps.

        Local crops that are seen are copied to put them together, global ones in bfloat16 alone.
        """
        stage, local = self.sizes.stage, self.sizes.recipe.local_count
        batch = self.sizes.images * (stage.global_px**2 + local * stage.local_px**2)
        whole = stage.global_px**2 * (WIDE + (self.sizes.bytes if self.sizes.bytes < WIDE else 0))
        return 3.0 * (batch + self.sizes.piece * (whole + stage.local_px**2 * (local * WIDE + self.sizes.locals_seen * self.sizes.bytes)))

    # What the teacher does first

    def _teaching(self) -> list[Moment]:
        """Its forward pass keeps nothing but the residual sum. With FSDP, its blocks are put together one after the other."""
        sizes = self.sizes
        if not sizes.teacher_sees:
            return []
        block = BlockMemory(sizes.teacher_vision, sizes.teacher_tokens, sizes.bytes, fused=sizes.fused)
        outside = sizes.teacher_in("vision.") - sizes.teacher_in("vision.blocks.")
        gathered = 0.0 if sizes.cut == 1 else WIDE * outside + 2 * sizes.sent * sizes.teacher_in("vision.blocks.0.")
        working = sizes.piece * sizes.teacher_tokens * block.forward
        return [self._held_moment("the forward pass of the teacher", gathered, gradients=self._earlier(), working=working)]

    # What the forward pass leaves

    def _block(self, one: TowerPass) -> BlockMemory:
        dropout = one.is_text and self.sizes.recipe.model.dropout.text > 0
        return BlockMemory(one.config, one.tokens, self.sizes.bytes, fused=self.sizes.fused, dropout=dropout)

    def _kept(self, one: TowerPass) -> float:
        """What the blocks keep."""
        block = self._block(one)
        return one.rows * one.tokens * one.config.depth * (block.input if self.checkpointed else block.kept)

    def _ends(self, one: TowerPass) -> float:
        """The input of the last norm, and its output if it is a tensor of all tokens."""
        return one.rows * one.tokens * WIDE * one.config.embed_dim * (1 if one.name == "local crops" else 2)

    def _losses(self, forward: float) -> list[Moment]:
        """One for each loss over prototypes; the losses before it have left the gradients of their rows and of their prototypes."""
        found, before = [], forward + self._targets()
        for rows, views, part in self.sizes.heads():
            kept = rows * views * self._head_row(part.head)
            given = rows * WIDE * (self.sizes.vision.embed_dim + part.head.bottleneck_dim)
            scores = min(max(1, PIECE_VALUES // (views * part.head.prototypes)), rows) * views * part.head.prototypes
            # student's and teacher's scores: their product with its sum over views, or the two steps to a logarithm
            working = WIDE * (scores * max(1 + 4 / views, 2 + 2 / views) + 4 * _prototypes(part.head))
            found.append(
                self._moment(
                    "a loss over prototypes",
                    gradients=self._earlier(),
                    activations=before + kept,
                    working=given + working,
                    copies=self.sizes.multiplied,
                )
            )
            before += kept + WIDE * 2 * _prototypes(part.head)
        return found

    def _head_row(self, head: HeadPart) -> float:
        """What a head keeps of a row: its input, hidden values before and after activation, bottleneck, direction, gradient of that."""
        copied = self.sizes.bytes if self.sizes.bytes < WIDE else 0
        hidden = 2 * (head.layers - 1) * head.hidden_dim
        return (WIDE + copied) * self.sizes.vision.embed_dim + self.sizes.bytes * hidden + WIDE * 3 * head.bottleneck_dim

    def _targets(self) -> float:
        """What a teacher with an encoder of its own has seen."""
        sizes = self.sizes
        return WIDE * sizes.piece * sizes.teacher_tokens * sizes.teacher_vision.embed_dim if sizes.teacher_sees else 0.0

    def _contrastive(self, forward: float) -> Moment:
        """In one piece, it comes after the forward pass; in several, before that of the first piece."""
        sizes, part = self.sizes, self.sizes.method.contrastive
        everyone = WIDE * sizes.stage.batch * sizes.vision.embed_dim * (2 * sizes.captions + 2)
        logits = WIDE * 3 * sizes.images * min(part.chunk, sizes.stage.batch) if part is not None else 0
        heads = sum(rows * views * self._head_row(part.head) + WIDE * 2 * _prototypes(part.head) for rows, views, part in sizes.heads())
        kept = forward + heads if sizes.pieces == 1 else 0.0
        copies = 0 if self.checkpointed else sizes.multiplied
        return self._moment("the contrastive loss", gradients=0.0, activations=kept, working=everyone + logits, copies=copies)

    # What the backward pass adds

    def _backward(self) -> list[Moment]:
        """The last pass goes back first."""
        sizes, found = self.sizes, []
        of_block = sizes.block_parameters if sizes.copies_blocks else 0
        copies = of_block if self.checkpointed else sizes.multiplied
        heads = sizes.heads()
        waiting = WIDE * sizes.vision.embed_dim * heads[-1][0] if heads else 0.0  # the gradient of the patches
        passes = sizes.passes()
        for index in reversed(range(len(passes))):
            one = passes[index]
            before = sum(self._kept(other) + self._ends(other) for other in passes[:index]) + (waiting if index else 0.0)
            name, back = f"the backward pass of {one.name}", {other.name for other in passes[index + 1 :]}
            # the groups before the last one have left their gradients and nothing else
            for left in {one.groups, 1}:
                activations = before + self._kept(one) * left / one.groups
                gradients = self._gradients(back, waits=left < one.groups) + self._of_block()
                found.append(self._moment(name, gradients=gradients, activations=activations, working=self._working(one), copies=copies))
        first = passes[0]
        working = first.rows * first.tokens * self._block(first).backward
        found.append(
            self._moment("the end of the backward pass", gradients=self._all_gradients() + self._of_block(), working=working, copies=copies)
        )
        return found

    def _working(self, one: TowerPass) -> float:
        """Of one block in its backward pass, beside what is kept already."""
        block = self._block(one)
        return one.rows / one.groups * one.tokens * (block.backward - (block.input if self.checkpointed else block.kept))

    def _gradients(self, back: set[str], *, waits: bool) -> float:
        """When so many passes have gone back. A tower that is used several times adds up its gradients before it hands them on.

        waits: the text tower has such gradients.
        """
        sizes = self.sizes
        towers = [prefix for prefix, seen in (("vision.", "local crops" in back), ("text.", waits)) if seen]
        waiting = sizes.bytes * sum(sizes.parameters_in(prefix) for prefix in towers)
        if sizes.pieces > 2 or (sizes.pieces == 2 and sizes.cut == 1):
            return WIDE * (sizes.trained - sizes.unused) + waiting
        if sizes.pieces == 2:  # those of the first piece are cut up when a block first goes back in the second
            cut = sum(sizes.parameters_in(prefix, ".blocks.") for prefix in {*towers, *(["text."] if "texts" in back else [])})
            return WIDE * (sizes.trained - sizes.unused - cut + cut / sizes.cut) + waiting
        whole, cut = sizes.parameters_in("heads.") - sizes.unused, 0
        if "texts" in back:
            cut = sizes.parameters_in("text.", ".blocks.")
            whole += sizes.parameters_in("text.") - cut
        return WIDE * (whole + cut / sizes.cut) + waiting

    def _of_block(self) -> float:
        """With FSDP: gradients of a block, and what is sent of them in float32."""
        return 0.0 if self.sizes.cut == 1 else (self.sizes.sent + WIDE) * self.sizes.block_parameters

    def _earlier(self) -> float:
        """Of the pieces before this one."""
        return self._all_gradients() if self.sizes.pieces > 1 else 0.0

    def _all_gradients(self) -> float:
        """FSDP keeps them whole until the last of several pieces."""
        sizes = self.sizes
        return WIDE * (sizes.trained - sizes.unused) if sizes.pieces > 1 else self._reduced()

    def _reduced(self) -> float:
        """Those of blocks cut up, others whole."""
        sizes = self.sizes
        outside = min(sizes.outside_blocks, sizes.trained)
        return WIDE * ((sizes.trained - outside) / sizes.cut + outside - sizes.unused)

    def _sums(self) -> list[Moment]:
        """FSDP adds up at the end what is in no block."""
        if self.sizes.cut == 1:
            return []
        sent = WIDE * (self.sizes.outside_blocks - self.sizes.unused)
        return [self._moment("the sum of gradients over ranks", gradients=self._reduced(), working=sent)]

    def _update(self) -> Moment:
        gradients = WIDE * self.sizes.trained / self.sizes.cut
        return self._held_moment("the update", 0.0, gradients=gradients, working=self._updating())

    def _updating(self) -> float:
        """AdamW is one kernel. Adafactor works in the gradients, and holds some of them in bfloat16 too; Muon makes one matrix whole."""
        sizes, rule = self.sizes, self.sizes.recipe.optimizer.rule
        if isinstance(rule, AdafactorPart) and rule.beta1 is not None:
            return 2 * min(sizes.trained, max(CAST_AT_ONCE * sizes.cut, *sizes.parameters.values())) / sizes.cut
        if isinstance(rule, MuonPart):
            return 2 * _COPIES_OF_MUON * sizes.largest_hidden
        return 0.0


def _prototypes(head: HeadPart) -> int:
    return head.prototypes * head.bottleneck_dim
