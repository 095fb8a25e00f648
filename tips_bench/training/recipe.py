"""Recipes: every number of a pretraining run as strict typed data, each with the paper it comes from or marked as ours.

Method: TIPS (arXiv 2410.16512) and TIPSv2 (arXiv 2604.12012). A part that is null is switched off.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from tips_bench.cards import Strict
from tips_bench.errors import UserError
from tips_bench.models.configs import Growth, TextConfig, VisionConfig, text_config, vision_config
from tips_bench.training.recipe_beside import BadStepsPart, Evaluations
from tips_bench.training.recipe_data import DataPart, Fraction

CaptionKind = Literal["web", "synthetic"]
Over = Literal["run", "stage"]


class BeginningPart(Strict):
    """Towers to train on from, in place of first weights; read again when the run is resumed.

    vision, text: files of weights or folders in Hugging Face layout; the tower of one that is null has first weights.
    """

    vision: str | None = None
    text: str | None = None


class DropoutPart(Strict):
    """What is left out at random while a model is trained; never in the teacher's own encoder.

    path: rate at which an image skips a residual branch of the image tower (stochastic depth), in the last block or in all of them, as
    path_growth says. text: rate of dropout in the text tower, of the weights of attention, of its branches and of hidden values.
    """

    path: float = Field(0.0, ge=0, lt=1)
    path_growth: Growth = "linear"
    text: float = Field(0.0, ge=0, lt=1)


class ModelPart(Strict):
    """The towers: an architecture by its published name, or both towers written out.

    vision, text: the fields of VisionConfig and TextConfig; beside an architecture they change single fields of it.
    initial: "vit", all weights with a standard deviation of 0.02; "scenic", as the training code of TIPS; "narrow", see
    `models.initialization`. layer_scale: of the image tower; "fixed", it stays what it begins with.
    positions: of a crop whose grid is not that of the position table: "interpolated", the whole table at the crop's grid, as TIPS; or
    "window", a random part of the table of the crop's size, see `models.initialization`.
    begin: weights to train on from.
    """

    architecture: str | None = None
    vision: dict[str, Any] = {}
    text: dict[str, Any] = {}
    initial: Literal["vit", "scenic", "narrow"] = "vit"
    layer_scale: Literal["trained", "fixed"] = "trained"
    positions: Literal["interpolated", "window"] = "interpolated"
    dropout: DropoutPart = DropoutPart()
    begin: BeginningPart = BeginningPart()

    @model_validator(mode="after")
    def _described(self) -> ModelPart:
        try:
            _ = self.vision_config, self.text_config
        except (UserError, TypeError) as error:
            raise ValueError(str(error)) from error
        return self

    @cached_property
    def vision_config(self) -> VisionConfig:
        base = {} if self.architecture is None else vision_config(self.architecture).to_dict()
        return VisionConfig.from_dict(base | self.vision, where="model.vision")

    @cached_property
    def text_config(self) -> TextConfig:
        base = {} if self.architecture is None else text_config(self.architecture).to_dict()
        return TextConfig.from_dict(base | self.text, where="model.text")


class ContrastivePart(Strict):
    """InfoNCE between global tokens and captions (TIPSv2, section 3.1); with several tokens, the mean of their losses.

    captions: one list for each global token, naming the kinds of caption it is trained with; of several kinds one is drawn
    uniformly for each image. [[web], [synthetic]] is TIPS, [[web, synthetic]] has both on one token.
    synthetic: take the first synthetic caption of an image, or draw one uniformly (TIPSv2's multi-granularity captions).
    temperature: where it starts; it is learned. chunk: rows of the similarity matrix held at once.
    """

    weight: float = Field(gt=0)
    captions: list[list[CaptionKind]] = Field(min_length=1)
    synthetic: Literal["first", "uniform"]
    temperature: PositiveFloat
    chunk: PositiveInt = 1024

    @model_validator(mode="after")
    def _named_once(self) -> ContrastivePart:
        if any(not kinds or len(set(kinds)) < len(kinds) for kinds in self.captions):
            raise ValueError("each global token needs one or two kinds of caption, each named once")
        return self


class HeadPart(Strict):
    """A projection head: an MLP of `layers` with GELU, L2 normalisation, and one prototype an output (DINO, arXiv 2104.14294)."""

    prototypes: PositiveInt
    layers: PositiveInt
    hidden_dim: PositiveInt
    bottleneck_dim: PositiveInt


class SharpeningPart(Strict):
    """What keeps a head's targets from collapse: temperatures of student and teacher, and a centre that is a running mean.

    teacher_warmup: share of the steps in which it teaches over which the teacher's temperature goes linearly from teacher_start to
    teacher; of those of its schedule.
    """

    student: PositiveFloat
    teacher: PositiveFloat
    teacher_start: PositiveFloat
    teacher_warmup: Fraction
    center_momentum: Fraction


class SelfDistillationPart(Strict):
    """The student's global token of each local crop is to say what the teacher's says of the global crop (TIPSv2, equation 1).

    token: index of the global token.
    """

    weight: float = Field(gt=0)
    token: int = Field(0, ge=0)
    head: HeadPart
    sharpening: SharpeningPart


class MaskPart(Strict):
    """Which patches the student does not see.

    ratio: share of the patches of an image. pattern: each for itself, or in blocks (iBOT, arXiv 2111.07832).
    """

    ratio: float = Field(gt=0, lt=1)
    pattern: Literal["random", "block"] = "random"


class PatchPart(Strict):
    """The student's patches are to say what the teacher's say, who sees the whole image (TIPSv2, equations 2 and 3).

    mask: null shows the student the whole image too, as distillation from a larger model does.
    patches: where the loss is taken: on the masked patches (iBOT, TIPS) or on all (iBOT++, TIPSv2).
    """

    weight: float = Field(gt=0)
    mask: MaskPart | None
    patches: Literal["masked", "all"]
    head: HeadPart
    sharpening: SharpeningPart

    @model_validator(mode="after")
    def _something_to_learn(self) -> PatchPart:
        if self.mask is None and self.patches == "masked":
            raise ValueError("without a mask no patch is masked; set patches to all")
        return self


class TeacherPart(Strict):
    """Who gives the targets of self-distillation and of the patch loss.

    kind: "ema", encoder and heads are running means of the student's (TIPS); "ema-heads", the heads alone are and the encoder is
    the student's (TIPSv2); "frozen", a larger model of an earlier run, with its heads.
    momentum: at the first and at the last step of its schedule, a cosine between. run: folder of the earlier run.
    start: share of all steps before which it teaches nothing and the contrastive loss is alone; SigLIP 2 (arXiv 2502.14786) has 0.8.
    """

    kind: Literal["ema", "ema-heads", "frozen"]
    start: float = Field(0.0, ge=0, lt=1)
    momentum: tuple[Fraction, Fraction] | None = None
    run: str | None = None

    @model_validator(mode="after")
    def _what_its_kind_needs(self) -> TeacherPart:
        if self.kind == "frozen" and self.momentum is not None:
            raise ValueError("a frozen teacher has no momentum; set it to null")
        if self.kind != "frozen" and (self.momentum is None or self.run is not None):
            raise ValueError(f"a teacher of kind {self.kind} needs a momentum and no run")
        return self


class MethodPart(Strict):
    """The losses that are added up, each switched off by null, and their teacher."""

    contrastive: ContrastivePart | None
    self_distillation: SelfDistillationPart | None
    patches: PatchPart | None
    teacher: TeacherPart | None

    @model_validator(mode="after")
    def _taught(self) -> MethodPart:
        taught = self.self_distillation is not None or self.patches is not None
        if not taught and self.contrastive is None:
            raise ValueError("every loss is switched off")
        if taught != (self.teacher is not None):
            raise ValueError("self_distillation and patches need a teacher, and nothing else has one")
        if self.teacher is not None and self.teacher.start and self.contrastive is None:
            raise ValueError("before the teacher starts there is no loss but the contrastive one, which is switched off")
        return self


class AdamWPart(Strict):
    """AdamW (arXiv 1711.05101)."""

    type: Literal["adamw"]
    betas: tuple[Fraction, Fraction]
    eps: PositiveFloat


class AdafactorPart(Strict):
    """Adafactor (arXiv 1804.04235), its steps not scaled by the size of the parameters.

    decay: exponent of the second moment's decay. clip: largest root mean square of an update. beta1: momentum in bfloat16, null for none.
    """

    type: Literal["adafactor"]
    decay: float = Field(lt=0)
    clip: PositiveFloat
    beta1: Fraction | None


class MuonPart(Strict):
    """Muon for the matrices of blocks, at AdamW's learning rate (arXiv 2502.16982; see `training.muon`), and AdamW for all else.

    momentum: of the matrices. betas, eps: of AdamW.
    """

    type: Literal["muon"]
    momentum: Fraction
    betas: tuple[Fraction, Fraction]
    eps: PositiveFloat


class OptimizerPart(Strict):
    """weight_decay: at the first and the last step of its schedule, a cosine between; on matrices alone, never on norms, biases, tokens
    and positions.

    clip_norm: largest norm of the whole gradient, null for no limit.
    """

    rule: Annotated[AdamWPart | AdafactorPart | MuonPart, Field(discriminator="type")]
    weight_decay: tuple[float, float]
    clip_norm: PositiveFloat | None


class StagePart(Strict):
    """A stretch of training at one resolution.

    batch: images of one step, over all ranks. global_px, local_px: sides of the crops.
    learning_rate: at its peak, reached linearly over warmup steps; then a cosine down to final_learning_rate.
    """

    name: str
    steps: PositiveInt
    batch: PositiveInt
    global_px: PositiveInt
    local_px: PositiveInt
    learning_rate: PositiveFloat
    final_learning_rate: float = Field(ge=0)
    warmup: int = Field(ge=0)

    @model_validator(mode="after")
    def _warms_up_in_time(self) -> StagePart:
        if self.warmup >= self.steps:
            raise ValueError(f"{self.warmup} steps of warm-up leave none of {self.steps}")
        return self


class SchedulesPart(Strict):
    """What a schedule goes over: "run", all steps once; or "stage", the steps of a stage, so that it begins again with each stage.

    momentum: of the teacher. temperature: of the teacher, whose warm-up it is. weight_decay: of the optimizer. The learning rate always has
    a schedule for each stage.
    """

    momentum: Over = "run"
    temperature: Over = "run"
    weight_decay: Over = "run"


class RunningPart(Strict):
    """How the steps are computed; none of it changes what is learned, but for rounding.

    micro_batch: images of one forward pass on one rank, null for all of them; the contrastive batch stays whole (GradCache, arXiv
    2101.06983). text_groups: forward passes of the text tower for a piece, each over texts of like length; where padding costs more
    than a pass, more of them are faster. parallel: of several ranks; in "hsdp" each has a part of what `shard_ranks` ranks hold together,
    null for those of a machine. checkpoint_every, log_every: steps. checkpoint_minutes: another checkpoint when so many have passed since
    the newest. keep: checkpoints. keep_models: of those that were exported for evaluations, and are scored; null for all.
    timeout_minutes: a rank that finds no end of a step, or of a part of the start, for so long ends. bad_steps: when they end the run.
    loggers: names of `tips_bench.loggers`, beside log.jsonl; null: TensorBoard, where it is installed.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    text_groups: PositiveInt = 2
    micro_batch: PositiveInt | None = None
    activation_checkpointing: bool = False
    compile: bool = False
    parallel: Literal["ddp", "fsdp", "hsdp"] = "ddp"
    shard_ranks: PositiveInt | None = None
    checkpoint_every: PositiveInt = 1000
    checkpoint_minutes: PositiveFloat | None = None
    timeout_minutes: PositiveFloat = 20.0
    bad_steps: BadStepsPart = BadStepsPart()
    keep: PositiveInt = 2
    keep_models: PositiveInt | None = None
    log_every: PositiveInt = 10
    loggers: list[str] | None = None


class Recipe(Strict):
    """recipes/NAME.yaml. sources: key, or the key of a part -> where its value comes from; "ours: why" where no paper states it.

    seed: of the weights, the order of the data, crops, captions and masks.
    """

    name: str
    title: str
    notes: str = ""
    seed: int = Field(0, ge=0)
    data: DataPart
    model: ModelPart
    method: MethodPart
    optimizer: OptimizerPart
    stages: list[StagePart] = Field(min_length=1)
    schedules: SchedulesPart = SchedulesPart()
    running: RunningPart = RunningPart()
    evaluation: Evaluations = []
    sources: dict[str, str]

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        vision, text, method = self.model.vision_config, self.model.text_config, self.method
        if vision.embed_dim != text.embed_dim:
            raise ValueError(f"the towers' widths differ: {vision.embed_dim} and {text.embed_dim}")
        tokens = max(
            len(method.contrastive.captions) if method.contrastive else 0,
            method.self_distillation.token + 1 if method.self_distillation else 0,
        )
        if tokens > vision.num_global_tokens:
            raise ValueError(f"the method uses {tokens} global tokens, the image tower has {vision.num_global_tokens}")
        if self.model.begin.text is not None and self.data.tokenizer.file is None:
            raise ValueError("weights of a text tower need the tokenizer they were trained with; set data.tokenizer={file: FILE}")
        if method.self_distillation is not None and not self.data.crops.local_count:
            raise ValueError("self_distillation needs local crops; data.crops.local_count is 0")
        if self.model.positions == "window" and method.teacher is not None and method.teacher.kind == "frozen":
            raise ValueError("a frozen teacher has a table of positions of its own; set model.positions to interpolated")
        for stage in self.stages:
            if stage.global_px % vision.patch_size or stage.local_px % vision.patch_size:
                raise ValueError(f"stage {stage.name!r}: crops must be multiples of the patch size {vision.patch_size}")
            side = max(stage.global_px, stage.local_px) // vision.patch_size
            if self.model.positions == "window" and side > min(vision.position_grid):
                raise ValueError(f"stage {stage.name!r}: crops of {side} x {side} patches do not fit position_grid {vision.position_grid}")
        return self

    @property
    def local_count(self) -> int:
        """Local crops of an image; none where nothing is learned from them."""
        return self.data.crops.local_count if self.method.self_distillation is not None else 0

    @property
    def resolution(self) -> int:
        """Pixels of the side that images should have: those of the last crops, or of the table of positions that crops are windows of."""
        vision = self.model.vision_config
        return vision.position_grid[0] * vision.patch_size if self.model.positions == "window" else self.stages[-1].global_px

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def steps_of(self, over: Over, step: int) -> tuple[int, int]:
        """Of the schedule that step `step` of the run belongs to: its first step, and the one behind its last."""
        if over == "run":
            return 0, self.steps
        stage, within = self.stage_at(step)
        return step - within, step - within + self.stages[stage].steps

    def learns_at(self, step: int) -> bool:
        """Whether step `step` (from 0) is none of those whose batches are read and passed over."""
        return not any(first <= step + 1 <= last for first, last in self.data.skip_steps)

    def stage_at(self, step: int) -> tuple[int, int]:
        """Index of the stage that step `step` (from 0) belongs to, and the step's number within it."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        raise ValueError("the recipe has no such step")
