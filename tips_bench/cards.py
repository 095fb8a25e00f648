"""Cards: the descriptions of tasks, protocols, models and prompts, as strict typed data.

A card may name bases, with which it is merged as mmengine's configs are (`_base_`, `_delete_`). Reading a card never runs code: it is
plain YAML, its bases must be too, and nothing in it is imported or substituted.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from tips_bench.catalog import card_files, find_card
from tips_bench.errors import UserError
from tips_bench.image_card import ImageCard as ImageCard
from tips_bench.input_size import bring_to
from tips_bench.plain_yaml import override, read_yaml
from tips_bench.prompt_card import PromptCard as PromptCard
from tips_bench.registry import FAMILIES
from tips_bench.strict import Strict as Strict
from tips_bench.strict import parse as parse
from tips_bench.upsampler_card import UpsamplerCard
from tips_bench.variants import Changes, parse_name, unknown_part
from tips_bench.window_card import WindowCard as WindowCard

MAX_PATH, MAX_NAME = 1000, 255
CARD_NAME = re.compile(r"[^\W_][\w.+-]{0,99}")


def _below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or ".." in parts or "\\" in path or ":" in path or not path.isprintable():
        raise ValueError("should be a path inside its folder: relative, without '..', ':' and backslash")
    if len(path) > MAX_PATH or any(len(part.encode()) > MAX_NAME for part in parts):
        raise ValueError(f"should be a path of at most {MAX_PATH} characters, each name in it of at most {MAX_NAME} bytes")
    return path


PathBelow = Annotated[str, AfterValidator(_below)]
"""A path that cannot lead out of the folder it is taken from: cards come from anywhere, and data are written where they say."""


class Download(Strict):
    """One file to download for a data set or a model. size: in bytes. sha256, md5: in hex, if published."""

    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    unpack_to: PathBelow | None = None


def _generator_options(options: dict[str, Any]) -> dict[str, Any]:
    """Errors: options that the generator of rooms does not have, or of another type."""
    layout, numbers = options.get("layout"), {name: value for name, value in options.items() if name != "layout"}
    if unknown := sorted(numbers.keys() - {"seed", "train", "val", "size", "frames_per_scene", "workers"}):
        raise ValueError(f"there is no option {unknown[0]!r}")
    if options and not (isinstance(layout, str) and {"train", "val"} <= numbers.keys() and all(type(n) is int for n in numbers.values())):
        raise ValueError("should hold a layout, and train and val as whole numbers")
    return options


class DataCard(Strict):
    """Where the data are, and how they are read.

    root: folder, relative to the data root. splits: role (train, test) -> name of the split for the reader.

    expected: split -> the number of samples that its publisher states, or several where lists of several lengths are passed around.
    images: split -> how many images its clips, scans or pairs are made of, at most. parts: split -> name -> number of images, where
    the splits of several tasks in one folder have some parts in common and others not. changes: what a name as `ade20k+fog-3` changes of
    them; a card's own file has none.
    """

    added: ClassVar[tuple[str, ...]] = ("images", "parts", "changes")
    reader: str
    root: PathBelow
    splits: dict[Literal["train", "test"], PathBelow]
    options: dict[str, Any] = {}
    expected: dict[str, int | list[int]] = {}
    images: dict[str, int] = {}
    parts: dict[str, dict[str, Annotated[int, Field(gt=0)]]] = {}
    generator: Literal["rooms"] | None = None
    generator_options: Annotated[dict[str, Any], AfterValidator(_generator_options)] = {}
    download: list[Download] = []
    changes: Changes | None = None

    @model_validator(mode="after")
    def _what_is_scored_was_not_fitted_on(self) -> DataCard:
        if "test" not in self.splits:
            raise ValueError("splits.test is missing: the split that is scored")
        if self.splits.get("train") == self.splits["test"]:
            raise ValueError(
                f"splits.train and splits.test are both {self.splits['test']!r}: a probe would be scored on what it was fitted on"
            )
        if (self.generator is None) == bool(self.generator_options):
            raise ValueError("generator and generator_options go together")
        return self

    def split(self, role: Literal["train", "test"]) -> str:
        """The reader's name of the split with a role. Errors: the card names none."""
        if role not in self.splits:
            fix = "Name it in the task's card, or choose a protocol that is fitted on nothing."
            raise UserError(f"the data have no {role} split, and the protocol needs one", where=f"data.splits, {self.root}", fix=fix)
        return self.splits[role]


def _known_family(name: str) -> str:
    try:
        FAMILIES.get(name)
    except UserError as error:
        raise ValueError(str(error)) from error
    return name


Family = Annotated[str, AfterValidator(_known_family)]  # a task family of the registry


class TaskCard(Strict):
    """tasks/NAME.yaml: what is scored. protocol: the default protocol. protocols: all protocols that are allowed.

    options: settings of the task family for this data set, for example class names; the adapter of the family checks them.
    """

    name: str
    family: Family
    title: str
    version: int
    data: DataCard
    protocol: str
    protocols: list[str]
    primary: str
    license: str
    citation: str
    homepage: str
    how_to_get: str
    options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _its_name_says_the_changes(self) -> TaskCard:
        if self.data.changes is not None and self.data.changes.name != self.name:
            raise ValueError("data.changes is set by the name of the task alone, as in ade20k+fog-3")
        return self


class ProxyCard(Strict):
    """The encoder that says which patches belong together. model: of the zoo. beta, gamma: similarities less beta times their mean, times
    gamma, are the scores of an attention that leaves out the negative ones.
    """

    model: str
    beta: float
    gamma: float = Field(gt=0)


class FeatureCard(Strict):
    """Which features are taken from the encoder.

    layers: block indices (negative ones count from the end), whose features are concatenated; or the name of a choice of blocks.

    "last4" are the last four blocks; "even4" and "quarters" every fourth of the depth, for 12 blocks 2, 5, 8, 11, rounded as DINOv2 does
    it and as TIPSv2's DPT heads do, for 24 blocks 4, 11, 17, 23 and 5, 11, 17, 23; "quarters-down" is as Probe3D rounds it; "backbone" is
    the last block before a head that was trained on top, as dino.txt has one, or else the last. norm: the final norm is applied to each.
    global_token: index of a global token, each layer's own, concatenated to every patch, or null. token_for: the encoders of which that
    token is taken, each a word in the encoder's name, as dinov2 in "dinov2-b14"; null = all. values: the value path of the last block,
    projected to the space of the encoder's texts, stands for the last layer.

    attention: of the last block on that path, one of tips_bench.encoders.last_block. proxy: the encoder whose features make the attention
    "proxyclip". positions: how position embeddings are brought to another grid: as the encoder does it, as DINO does, or bicubically and
    not antialiased. network: how the tower computes: as its library does, or as MaskCLIP's vision transformer in mmsegmentation, with GELU
    for QuickGELU and norms with an epsilon of 1e-6. keys: those of the last block after its output projection follow the features.
    upsampler: makes a finer grid of the features before any head sees them; null = none.

    facet: what stands for a patch: its token, as above, or its query, key or value in the last block, the heads side by side.
    """

    added: ClassVar[tuple[str, ...]] = ("attention", "proxy", "positions", "network", "keys", "upsampler", "facet")
    layers: list[int] | Literal["last4", "even4", "quarters", "quarters-down", "backbone"] = [-1]
    norm: bool = True
    global_token: int | None = None
    token_for: list[str] | None = None
    values: bool = False
    attention: Literal["itself", "maskclip", "sclip", "naclip", "clearclip", "proxyclip"] = "itself"
    proxy: ProxyCard | None = None
    positions: Literal["encoder", "dino", "bicubic"] = "encoder"
    network: Literal["encoder", "mmseg"] = "encoder"
    keys: bool = False
    upsampler: UpsamplerCard | None = None
    facet: Literal["token", "query", "key", "value"] = "token"

    @model_validator(mode="after")
    def _values_stand_alone(self) -> FeatureCard:
        if self.values and (self.layers != [-1] or not self.norm or self.global_token is not None):
            raise ValueError("values: true needs layers: [-1], norm: true and global_token: null")
        if self.facet != "token" and (self.values or self.layers != [-1] or not self.norm or self.global_token is not None):
            raise ValueError(f"facet {self.facet} needs layers: [-1], norm: true, values: false and global_token: null")
        if not self.values and self.attention != "itself":
            raise ValueError(f"attention {self.attention} needs values: true")
        for key, value in (("positions", self.positions), ("network", self.network), ("keys", self.keys)):
            if self.attention == "itself" and value not in ("encoder", False):
                raise ValueError(f"{key} {value} needs another attention than itself")
        if (self.attention == "proxyclip") != (self.proxy is not None):
            raise ValueError("attention proxyclip and proxy go together")
        return self


class SelectionCard(Strict):
    """The held-out part of the TRAIN split, on which hyperparameters are chosen: a fraction of its groups, by a hash of their names."""

    fraction: float = Field(0.1, gt=0, lt=1)
    max_images: int | None = Field(None, gt=0)


class SourceDeviation(Strict):
    """One thing that a protocol does differently from its source.

    where: the source's repository, commit, file and line, or the section of a paper. effect: on scores, and whether it was measured or is
    an estimate. tasks: those that it concerns; none named = all.
    """

    source_does: str = Field(min_length=1)
    where: str = Field(min_length=1)
    we_do: str = Field(min_length=1)
    why: str = Field(min_length=1)
    effect: str = Field(min_length=1)
    tasks: list[str] = []


class ProtocolCard(Strict):
    """tasks/protocols/NAME.yaml: how a task is scored, with every number, and the paper or code that it reproduces.

    patch_size: sizes in pixels are for patches of so many pixels, and are scaled for an encoder with others so that the number of patches
    stays; null = sizes are as they are. probe: {type: NAME, **options}; the options are checked by the probe that reads them. by_task:
    values for single tasks, laid over the card's own: {TASK: {probe: {...}}}.
    published_for: the tasks that the source has a configuration or a number for; on others the protocol is an extension by tips-bench;
    null = not said. published_for and deviations_from_source change no score, so they are not dumped: they are in no record, in no hash
    and in no comparison of cards. `in_full` has them.
    """

    added: ClassVar[tuple[str, ...]] = ("by_task",)
    name: str
    version: int
    title: str
    families: list[str]
    source: str
    notes: str = ""
    patch_size: int | None = Field(None, gt=0)
    image: ImageCard
    features: FeatureCard = FeatureCard()
    inference: WindowCard = WindowCard()
    selection: SelectionCard = SelectionCard()
    probe: dict[str, Any]
    by_task: dict[str, dict[Literal["image", "features", "inference", "selection", "probe"], dict[str, Any]]] = {}
    published_for: list[str] | None = Field(None, exclude=True)
    deviations_from_source: list[SourceDeviation] = Field([], exclude=True)

    def extends_to(self, task: str) -> bool:
        """Whether the source never used the protocol on this task, as far as the card says."""
        return self.published_for is not None and task not in self.published_for

    def for_task(self, task: str) -> ProtocolCard:
        """The card as it is for a task, at the input size that its name says. Errors: values that do not fit."""
        changes = parse_name(task)
        size = changes.size if changes else None
        if not self.by_task and size is None:
            return self
        data = self.model_dump(mode="json", exclude={"by_task"})
        for part, values in self.by_task.get(changes.base if changes else task, {}).items():
            data[part] = data[part] | values
        if size is not None:
            bring_to(data, size)
        card = parse(ProtocolCard, data, where=f"protocol {self.name}, by_task.{task}")
        return card.model_copy(update={name: getattr(self, name) for name in ("published_for", "deviations_from_source")})


class WeightsCard(Strict):
    """Where the weights of a model come from: a URL, a Hugging Face repository, a local file, or a seed for random weights.

    url: also with hub, which then names the same weights on the hub. file: the name inside a hub repository. path: relative to the
    working directory, else to the shipped cards. size: in bytes. sha256: in hex, if published. how_to_get: what to do, where nothing can
    fetch `file`: it is behind a form.
    """

    added: ClassVar[tuple[str, ...]] = ("how_to_get",)
    url: str | None = None
    hub: str | None = None
    path: str | None = None
    seed: int | None = None
    revision: str | None = None
    file: str | None = None
    size: int | None = None
    sha256: str | None = None
    how_to_get: str | None = None


class ModelCard(Strict):
    """model_zoo/NAME.yaml: a frozen encoder. architecture: options for the encoder class of the source.

    heads: released prediction heads for this encoder, by task family. preprocessing: how the model's own publisher resizes and crops an
    image, for protocols with image.from_encoder; null = not known.
    """

    added: ClassVar[tuple[str, ...]] = ("preprocessing",)

    name: str
    title: str
    source: str
    architecture: dict[str, Any] = {}
    weights: WeightsCard | None = None
    text_weights: WeightsCard | None = None
    tokenizer: WeightsCard | None = None
    heads: dict[Family, WeightsCard] = {}
    patch_size: int
    embed_dim: int
    depth: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resolution: int
    preprocessing: ImageCard | None = None
    global_tokens: int
    has_text: bool = False
    pad: Literal["center", "resize"] = "center"
    parameters: int | None = None
    license: str
    citation: str
    homepage: str
    published: str | None = None
    notes: str = ""


CARDS: dict[str, type[Strict]] = {"task": TaskCard, "protocol": ProtocolCard, "model": ModelCard, "prompt": PromptCard}
Kind = Literal["task", "protocol", "model", "prompt"]


def load_card(kind: Kind, name: str, assignments: list[str] | None = None) -> Any:
    """The card `name` (or a path to one) of a kind, with "a.b=value" assignments applied. A task's name may say changes of its data.

    Errors: an unknown name, a card that does not validate, a card whose `name` is not its file's.
    """
    if kind == "task" and name not in (files := card_files("task")):
        if changes := parse_name(name):
            return _changed(load_card("task", changes.base, assignments), changes)
        if error := unknown_part(name, list(files)):
            raise error
    path = find_card(kind, name)
    if not CARD_NAME.fullmatch(path.stem):
        fix = "Name it with letters, digits and . _ + -, a letter or a digit first, at most 100."
        raise UserError(f"{path.stem!r} is no name for a card", where=path, fix=fix)
    data = override(read_yaml(path), assignments or [])
    card: Any = parse(CARDS[kind], data, where=path)
    if card.name != path.stem:
        problem = f"name = {card.name[:100]!r}, but the file is {path.name}"
        raise UserError(problem, where=path, fix="Give the card the name of its file, or rename the file.")
    for task in card.by_task if kind == "protocol" else ():
        card.for_task(task)
    return card


def _changed(card: TaskCard, changes: Changes) -> TaskCard:
    """A task with changed data, under a name and a title that say so."""
    changes = changes.model_copy(update={"base": card.name})
    data = card.data.model_copy(update={"changes": changes})
    return card.model_copy(update={"name": changes.name, "title": f"{card.title}, {changes.sentence}", "data": data})


def list_cards(kind: Kind) -> tuple[list[Any], list[UserError]]:
    """All cards of a kind, shipped and the user's own, sorted by name, and what is wrong with those that cannot be read."""
    cards, faults = [], []
    for path in card_files(kind).values():
        try:
            cards.append(load_card(kind, str(path)))
        except UserError as error:
            faults.append(error)
    return cards, faults


def in_full(card: Strict) -> dict[str, Any]:
    """Everything that a card says, as plain data without what is null; of a protocol, what it says of its source too."""
    data = card.model_dump(mode="json", exclude_none=True)
    if isinstance(card, ProtocolCard):
        if card.published_for is not None:
            data["published_for"] = card.published_for
        data["deviations_from_source"] = [one.model_dump(mode="json") for one in card.deviations_from_source]
    return data
