"""The memory of one training step on one rank, at each moment that can be its fullest.

    fullest(StageSizes(recipe, stage, ranks), fused_attention=True)

A step holds least between steps and most at one of these moments:

- in a loss over prototypes: all that the forward pass keeps, and scores of some rows;
- in the backward pass of the last block of each use of a tower: what the uses before it keep, and the working memory of this block;
- in the backward pass of the first block: gradients of everything, and the working memory of one block;
- in the contrastive loss over the embeddings of all ranks, and in the update.

With activation checkpointing, a block keeps only its input until its backward pass, which first makes everything else again. So the
working memory of a block contains what it keeps, once, and never exists together with that of a loss.

The formulas follow torch's autograd, one tensor after another. Not counted: what the driver and libraries take, what an allocator
loses, and what FSDP fetches ahead. All captions are assumed to have the maximum length; stochastic depth is assumed to skip nothing.

Letters: D width, M hidden width, H heads, N tokens, C prototypes, E bottleneck, b bytes of a value in the precision of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.training.prototypes import PIECE_VALUES
from tips_bench.training.recipe import AdamWPart, HeadPart
from tips_bench.training.stage_sizes import WIDE, StageSizes, TowerPass

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


def fullest(sizes: StageSizes, *, fused_attention: bool) -> Moment:
    """The moment of a step that needs most. fused_attention: as on a GPU; on a CPU in bfloat16, attention keeps its weights."""
    return max(_Step(sizes, fused_attention).moments(), key=lambda moment: moment.total)


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
    def __init__(self, sizes: StageSizes, fused: bool) -> None:
        self.sizes, self.fused = sizes, fused
        self.checkpointed = sizes.running.activation_checkpointing
        self.held = {"weights": self._weights(), "optimizer": self._optimizer(), "teacher": self._teacher(), "images": self._images()}

    def moments(self) -> list[Moment]:
        forward = sum(self._kept(one) + self._ends(one) for one in self.sizes.passes())
        return [*self._losses(forward), self._contrastive(forward), *self._backward(), self._update()]

    def _moment(self, name: str, *, gradients: float, activations: float = 0.0, working: float = 0.0, copies: float = 0.0) -> Moment:
        """copies: parameters that exist in bfloat16 too."""
        held = {**self.held, "weights": self.held["weights"] + (self.sizes.bytes * copies if self.sizes.bytes < WIDE else 0)}
        return Moment(name, {**held, "gradients": gradients, "activations": activations, "working": working})

    # What is held all the time

    def _weights(self) -> float:
        sizes, total = self.sizes, sum(self.sizes.parameters.values())
        if sizes.cut == 1:
            return WIDE * total
        # a part of everything, and beside it what is whole: all but the blocks, and two blocks
        blocks = sum(size for name, size in sizes.parameters.items() if ".blocks." in name)
        return WIDE * (total / sizes.cut + total - blocks) + 2 * sizes.bytes * sizes.block_parameters

    def _optimizer(self) -> float:
        rule = self.sizes.recipe.optimizer.rule
        if isinstance(rule, AdamWPart):
            return 2 * WIDE * self.sizes.trained / self.sizes.cut
        return (2 * self.sizes.trained if rule.beta1 is not None else 0) / self.sizes.cut

    def _teacher(self) -> float:
        part = self.sizes.method.teacher
        if part is None:
            return 0.0
        heads, tower = self.sizes.parameters_in("heads."), self.sizes.parameters_in("vision.")
        # a frozen teacher is a larger model, whose size only its run knows; it is taken as large as the student
        return WIDE * (heads + (tower / self.sizes.cut if part.kind != "ema-heads" else 0))

    def _images(self) -> float:
        """The batch as bytes, the pixels of a piece in float32, and the copies of them that the patch embedding keeps.

        Local crops are copied to put them together, global ones in bfloat16 alone.
        """
        stage, local = self.sizes.stage, self.sizes.recipe.local_count
        batch = self.sizes.images * (stage.global_px**2 + local * stage.local_px**2)
        whole = stage.global_px**2 * (WIDE + (self.sizes.bytes if self.sizes.bytes < WIDE else 0))
        return 3.0 * (batch + self.sizes.piece * (whole + local * stage.local_px**2 * (WIDE + self.sizes.bytes)))

    # What the forward pass leaves

    def _block(self, one: TowerPass) -> BlockMemory:
        dropout = one.is_text and self.sizes.recipe.model.dropout.text > 0
        return BlockMemory(one.config, one.tokens, self.sizes.bytes, fused=self.fused, dropout=dropout)

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
        part, one = self.sizes.method.teacher, self.sizes.global_pass()
        if part is None or part.kind == "ema-heads":
            return 0.0
        return self.sizes.piece * one.tokens * WIDE * self.sizes.vision.embed_dim

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
        of_block = sizes.block_parameters if sizes.cut == 1 else 0
        copies = of_block if self.checkpointed else sizes.multiplied
        heads = sizes.heads()
        waiting = WIDE * sizes.vision.embed_dim * heads[-1][0] if heads else 0.0  # the gradient of the patches
        passes = sizes.passes()
        for index in reversed(range(len(passes))):
            one = passes[index]
            before = sum(self._kept(other) + self._ends(other) for other in passes[:index])
            name = f"the backward pass of {one.name}"
            activations = before + self._kept(one) + (waiting if index else 0.0)
            gradients = self._gradients({other.name for other in passes[index + 1 :]})
            found.append(self._moment(name, gradients=gradients, activations=activations, working=self._working(one), copies=copies))
        first = passes[0]
        working = first.rows * first.tokens * self._block(first).backward
        found.append(self._moment("the end of the backward pass", gradients=self._all_gradients(), working=working, copies=copies))
        return found

    def _working(self, one: TowerPass) -> float:
        """Of one block in its backward pass, beside what is kept already."""
        block = self._block(one)
        return one.rows / one.groups * one.tokens * (block.backward - (block.input if self.checkpointed else block.kept))

    def _gradients(self, back: set[str]) -> float:
        """When so many passes have gone back. A tower that is used twice adds up its gradients before it hands them on."""
        sizes, waiting = self.sizes, 0.0
        if "local crops" in back:
            waiting += sizes.bytes * sizes.parameters_in("vision.")
        if sizes.pieces > 1:
            return self._all_gradients() + waiting
        done = sizes.parameters_in("heads.") + (sizes.parameters_in("text.") if "texts" in back else 0)
        return WIDE * done / sizes.cut + waiting

    def _earlier(self) -> float:
        """Of the pieces before this one."""
        return self._all_gradients() if self.sizes.pieces > 1 else 0.0

    def _all_gradients(self) -> float:
        """FSDP keeps them whole until the last of several pieces."""
        return WIDE * self.sizes.trained / (self.sizes.cut if self.sizes.pieces == 1 else 1)

    def _update(self) -> Moment:
        """AdamW is one kernel, and Adafactor works in the gradients."""
        return self._moment("the update", gradients=WIDE * self.sizes.trained / self.sizes.cut)


def _prototypes(head: HeadPart) -> int:
    return head.prototypes * head.bottleneck_dim
