"""One training step: a batch's losses and gradients, in one piece or in several, and the update.

In several pieces the contrastive loss still sees the whole batch (GradCache, arXiv 2101.06983): all embeddings are made without
gradients first, the loss gives the gradient of each, and every piece is run again to carry its part of that further back. The other
losses are sums over images, so their pieces add up by themselves.

Axes in tensor names: K global tokens, B images of this rank, D feature, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.backends.cuda import allow_fp16_bf16_reduction_math_sdp, fp16_bf16_reduction_math_sdp_allowed
from torch.nn.attention import SDPBackend, sdpa_kernel

from tips_bench.ranks import World
from tips_bench.training import distributed
from tips_bench.training.batches import Batch
from tips_bench.training.contrastive import contrastive_loss
from tips_bench.training.distributed import add_up, sync_gradients
from tips_bench.training.optim import clip_gradients, make_optimizer, set_rates
from tips_bench.training.pieces import MicroBatch, make_piece
from tips_bench.training.recipe import ContrastivePart, Over, Recipe
from tips_bench.training.schedule import cosine, first_taught, learning_rate
from tips_bench.training.student import CONTRASTIVE, Lesson, Student, checkpoint_activations
from tips_bench.training.teacher import Teacher, parts_with_heads, temperatures

EMBEDDINGS = ("image_KBD", "text_KBD")
"""What the student gives of each image and caption, for the contrastive loss."""


@dataclass(frozen=True)
class _Cached:
    """The contrastive losses of a whole batch, and the gradients of their weighted mean by what they are made from."""

    terms: dict[str, Tensor]
    image_KBD: Tensor
    text_KBD: Tensor
    temperature: Tensor


class Learner:
    """Student, teacher and optimiser of a run on this rank. teacher: a frozen one; None = made as the recipe says."""

    def __init__(self, recipe: Recipe, world: World, teacher: Teacher | None = None) -> None:
        self.recipe, self.world, self.running = recipe, world, recipe.running
        self.student = Student(recipe).to(world.device)
        self.student.init_weights(recipe.seed)
        self.teacher = _make_teacher(recipe, self.student) if teacher is None else teacher
        if self.teacher is not None:
            self.teacher.to(world.device)
        for block in self.student.blocks():
            if self.running.activation_checkpointing:
                checkpoint_activations(block)
            if self.running.compile:
                block.compile()
        self.first_taught = first_taught(recipe)
        self.model = distributed.spread(self.student, self.student.blocks(), world, self.running, unused=self.first_taught > 0)
        if world.size > 1 and self.running.parallel != "ddp" and self.teacher is not None and self.teacher.vision is not None:
            # The heads stay whole: they are used piece by piece, outside a forward pass of their own.
            distributed.cut_up(self.teacher.vision, self.teacher.vision.blocks, world, self.running, keep_whole=False)
        self.optimizer = make_optimizer(self.student, recipe.optimizer)

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        """Learns from this rank's part of a batch. number: of the step, from 0. Gives the losses and what else describes the step.

        Nothing is changed if a loss or the gradient is not finite.
        """
        with _attention_on_cpu(self.world.device.type, self.running.precision):
            terms = self._backward(batch, number)
        self._fill_gradients()
        names = list(terms)
        means = add_up(torch.stack([terms[name].detach().float() for name in names])) / self.world.size
        norm = clip_gradients(self.student, self.recipe.optimizer.clip_norm)
        report = dict(zip([*names, "grad_norm"], torch.cat([means, norm.float()[None]]).tolist(), strict=True))
        if all(map(math.isfinite, report.values())):
            report |= self._update(number)
        elif self.teacher is not None:
            self.teacher.forget_step()
        self.optimizer.zero_grad(set_to_none=True)
        return report

    @torch.no_grad()
    def forward(self, batch: Batch, number: int, *, dropping: bool) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """The rows of each piece and what the student gives of it: embeddings, and losses over prototypes. Nothing is learned from it.

        dropping: whether dropout and stochastic depth leave out what they do in the step of this number.
        """
        self.model.train(dropping)
        try:
            with _attention_on_cpu(self.world.device.type, self.running.precision):
                for here in self._pieces(batch):
                    piece = self._piece(batch, here)
                    with self._autocast():
                        yield here, self.model(piece, self._lesson(piece, number), embed_only=not self._taught(number))
        finally:
            self.model.train()
            if self.teacher is not None:
                self.teacher.forget_step()

    def losses(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """The losses of a batch as `step` reports them, with nothing dropped, and nothing learned from it."""
        taught, contrastive = self._taught(number), self.recipe.method.contrastive
        terms: dict[str, Tensor] = {}
        outs = []
        for here, out in self.forward(batch, number, dropping=False):
            outs.append(out)
            share = len(batch.global_B3HW[here]) / len(batch.global_B3HW)
            for name in taught:
                terms[name] = terms.get(name, 0) + share * out[name]
        if contrastive is not None:
            terms = _contrastive_terms(_put_together(outs), contrastive.chunk) | terms
        return self._with_total(terms, taught)

    def _update(self, number: int) -> dict[str, float]:
        recipe = self.recipe
        stage, within = recipe.stage_at(number)
        rate = learning_rate(recipe.stages[stage], within)
        decay = cosine(*recipe.optimizer.weight_decay, *self._place(recipe.schedules.weight_decay, number))
        set_rates(self.optimizer, rate, decay)
        self.optimizer.step()
        report = {"learning_rate": rate, "weight_decay": decay}
        part = recipe.method.teacher
        if self.teacher is not None and part is not None:
            if part.momentum is not None:
                report["momentum"] = cosine(*part.momentum, *self._place(recipe.schedules.momentum, number))
                self.teacher.follow(self.student, report["momentum"])
            if self._taught(number):
                notes = self.teacher.move_centers()
                report |= dict(zip(notes, torch.stack(list(notes.values())).tolist(), strict=True))
        return report

    def _backward(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Fills the gradients; gives every loss, "loss" being their weighted sum, and the temperature."""
        pieces, method, taught = self._pieces(batch), self.recipe.method, self._taught(number)
        contrastive = method.contrastive
        cached = self._cached(batch, pieces, contrastive) if contrastive is not None and len(pieces) > 1 else None
        terms: dict[str, Tensor] = {} if cached is None else dict(cached.terms)
        for index, here in enumerate(pieces):
            piece = self._piece(batch, here)
            sync_gradients(self.model, wanted=index == len(pieces) - 1)
            with self._autocast():
                out = self.model(piece, self._lesson(piece, number), embed_only=not taught)
            images = len(piece.global_B3HW)
            objective = torch.zeros((), device=self.world.device)
            for name, part in taught.items():
                share = out[name] * (images / len(batch.global_B3HW))
                objective = objective + part.weight * share
                terms[name] = terms.get(name, 0) + share.detach()
            if cached is not None:
                objective = objective + (cached.image_KBD[:, here] * out["image_KBD"]).sum()
                objective = objective + (cached.text_KBD[:, here] * out["text_KBD"]).sum()
                objective = objective + cached.temperature * out["temperature"] / len(pieces)
            elif contrastive is not None:
                found = _contrastive_terms(out, contrastive.chunk)
                terms |= found
                objective = objective + contrastive.weight * found[CONTRASTIVE]
            objective.backward()
        return {name: term.detach() for name, term in self._with_total(terms, taught).items()}

    def _cached(self, batch: Batch, pieces: list[slice], part: ContrastivePart) -> _Cached:
        with torch.no_grad(), self._autocast():
            outs = [self.model(self._piece(batch, rows), None, embed_only=True) for rows in pieces]
        whole = {name: value.detach().requires_grad_() for name, value in _put_together(outs).items()}
        terms = _contrastive_terms(whole, part.chunk)
        gradients = torch.autograd.grad(part.weight * terms[CONTRASTIVE], list(whole.values()))
        return _Cached(terms, *gradients)

    def _fill_gradients(self) -> None:
        """Zeros for what no loss has reached yet, so that the optimiser holds the same from the first step on."""
        for parameter in self.student.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _taught(self, number: int) -> dict[str, Any]:
        """The losses over prototypes at a step: none before the teacher starts."""
        part = self.recipe.method.teacher
        begun = part is not None and number >= self.first_taught
        return parts_with_heads(self.recipe.method) if begun else {}

    def _with_total(self, terms: dict[str, Tensor], taught: dict[str, Any]) -> dict[str, Tensor]:
        method = self.recipe.method
        weights = {name: part.weight for name, part in taught.items()}
        if method.contrastive is not None:
            weights[CONTRASTIVE] = method.contrastive.weight
        return {"loss": torch.stack([weight * terms[name] for name, weight in weights.items()]).sum(), **terms}

    def _place(self, over: Over, number: int, first: float = 0) -> tuple[float, float]:
        """The number of a step within its schedule, from 0, and how many steps that has. first: the schedule does not begin before it."""
        begin, end = self.recipe.steps_of(over, number)
        return number - max(begin, first), end - max(begin, first)

    def _lesson(self, piece: MicroBatch, number: int) -> Lesson | None:
        parts = self._taught(number)
        if self.teacher is None or not parts:
            return None
        place = self._place(self.recipe.schedules.temperature, number, self.first_taught)
        warmth = {name: temperatures(part.sharpening, *place) for name, part in parts.items()}
        return Lesson(self.teacher, warmth, self.teacher(piece.global_B3HW, piece.window_B2))

    def _autocast(self) -> torch.autocast:
        """bfloat16 where the recipe wants it."""
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.running.precision == "bf16")

    def _pieces(self, batch: Batch) -> list[slice]:
        """The rows of each piece; its pixels are made when it is its turn."""
        images = len(batch.global_B3HW)
        size = self.running.micro_batch or images
        return [slice(start, start + size) for start in range(0, images, size)]

    def _piece(self, batch: Batch, rows: slice) -> MicroBatch:
        return make_piece(batch, rows, self.running.text_groups, self.world.device)


@contextmanager
def _attention_on_cpu(device: str, precision: str) -> Iterator[None]:
    """In bfloat16 on a CPU, attention written out: the fused one is several times slower for few tokens.

    It spans the backward pass too: a block whose activations are not kept runs again there, and must do what it did before.
    """
    if device != "cpu" or precision != "bf16":
        yield
        return
    before = fp16_bf16_reduction_math_sdp_allowed()
    allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        allow_fp16_bf16_reduction_math_sdp(before)


def _make_teacher(recipe: Recipe, student: Student) -> Teacher | None:
    """A teacher that starts as the student does."""
    part, vision = recipe.method.teacher, recipe.model.vision_config
    if part is None:
        return None
    teacher = Teacher(recipe.method, vision if part.kind == "ema" else None, vision.embed_dim)
    own = dict(student.named_parameters())
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            parameter.copy_(own[name])
    return teacher


def _put_together(outs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What the contrastive loss is made from, of the pieces of a batch."""
    whole = {name: torch.cat([out[name] for out in outs], dim=1) for name in EMBEDDINGS}
    return {**whole, "temperature": outs[0]["temperature"]}


def _contrastive_terms(out: dict[str, Tensor], chunk: int) -> dict[str, Tensor]:
    """The loss of each global token, their mean, and the temperature."""
    temperature = out["temperature"]
    losses = [contrastive_loss(*pair, temperature, chunk) for pair in zip(out["image_KBD"], out["text_KBD"], strict=True)]
    named = {f"{CONTRASTIVE}/{token}": loss for token, loss in enumerate(losses)}
    return {CONTRASTIVE: torch.stack(losses).mean(), **(named if len(named) > 1 else {}), "temperature": temperature}
