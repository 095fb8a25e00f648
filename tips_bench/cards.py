"""Cards: the descriptions of tasks, protocols and models, as strict typed data.

YAML is read through mmengine.Config, so `_base_` inherits and merges. Reading a card never runs code: the YAML loader is
PyYAML's SafeLoader, bases must be YAML too, and neither custom imports nor environment substitution take place.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from mmengine.config import Config
from mmengine.fileio import BaseFileHandler, register_handler
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tips_bench import plain_yaml
from tips_bench.catalog import card_files, find_card
from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest
from tips_bench.registry import FAMILIES

MAX_BASES = 32


@register_handler(["yaml", "yml"])
class SafeYamlHandler(BaseFileHandler):
    """mmengine's YAML handler reads with a loader that builds any Python object; this one reads plain data only."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, Loader=plain_yaml.LOADER)

    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        yaml.safe_dump(obj, file)

    def dump_to_str(self, obj: Any, **kwargs: Any) -> str:
        return yaml.safe_dump(obj)


class Strict(BaseModel):
    """A card, or a part of a card. Unknown keys are errors; values cannot be changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Download(Strict):
    """One file to download for a data set or a model. size: in bytes. sha256, md5: in hex, if published."""

    url: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    unpack_to: str | None = None


class DataCard(Strict):
    """Where the data are, and how they are read.

    root: folder, relative to the data root. splits: role (train, test) -> name of the split for the reader.
    """

    reader: str
    root: str
    splits: dict[Literal["train", "test"], str]
    options: dict[str, Any] = {}
    expected: dict[str, int] = {}
    generator: Literal["rooms"] | None = None
    generator_options: dict[str, Any] = {}
    download: list[Download] = []


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


class ImageCard(Strict):
    """How an image is resized and cropped before it goes to the encoder.

    short_side: length of the shorter side after resizing, in pixels; null = keep the size. native: use the encoder's resolution. shape:
    "aspect" keeps the aspect, "square" stretches both sides to short_side, "center-crop" keeps the aspect and then takes the middle
    square. crop: its side in pixels; null = short_side. patch_multiple: round both sides to a multiple of the encoder's patch size.
    library: "mmcv" resizes with OpenCV, without antialiasing, and rounds the longer side; "torchvision" resizes with Pillow, with
    antialiasing, and rounds it down. fit: what happens to a side, of the image or of a window, that is no whole number of patches: "pad"
    leaves it to the encoder's own rule, "enlarge" stretches it bicubically to the next.
    """

    short_side: int | None = Field(gt=0)
    native: bool = False
    shape: Literal["aspect", "square", "center-crop"] = "aspect"
    crop: int | None = Field(None, gt=0)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    patch_multiple: bool = False
    library: Literal["mmcv", "torchvision"] = "mmcv"
    fit: Literal["pad", "enlarge"] = "pad"

    @model_validator(mode="after")
    def _a_square_has_a_side(self) -> ImageCard:
        if self.native and (self.short_side is not None or self.crop is not None):
            raise ValueError("native uses the encoder's resolution: set short_side and crop to null")
        if self.shape != "aspect" and self.short_side is None and not self.native:
            raise ValueError(f"shape {self.shape} needs a short_side")
        if self.crop is not None and (self.shape != "center-crop" or self.short_side is None or self.crop > self.short_side):
            raise ValueError("crop needs shape center-crop, and must not be greater than short_side")
        if self.library == "torchvision" and self.patch_multiple:
            raise ValueError("library torchvision rounds sides down, not to a multiple of the patch size")
        return self


class FeatureCard(Strict):
    """Which features are taken from the encoder.

    layers: block indices (negative ones count from the end), whose features are concatenated; or the name of a choice of four blocks.

    "last4" are the last four blocks; "even4" and "quarters" every fourth of the depth, for 12 blocks 2, 5, 8, 11, rounded as DINOv2 does
    it and as TIPSv2's DPT heads do, for 24 blocks 4, 11, 17, 23 and 5, 11, 17, 23. norm: the final norm is applied to
    each. global_token: index of a global token, each layer's own, concatenated to every patch, or null. values: the value path of the last
    block, projected to the space of the encoder's texts, stands for the last layer.
    """

    layers: list[int] | Literal["last4", "even4", "quarters"] = [-1]
    norm: bool = True
    global_token: int | None = None
    values: bool = False

    @model_validator(mode="after")
    def _values_stand_alone(self) -> FeatureCard:
        if self.values and (self.layers != [-1] or not self.norm or self.global_token is not None):
            raise ValueError("values: true needs layers: [-1], norm: true and global_token: null")
        return self


class WindowCard(Strict):
    """Inference on the scored split: the whole image at once, or sliding windows whose logits are averaged.

    window, stride: in pixels of the resized image. scales: the image is resized by each of these factors, and the predictions are
    averaged. flip: also predict the mirrored image, and average.
    """

    mode: Literal["whole", "slide"] = "whole"
    window: int | None = Field(None, gt=0)
    stride: int | None = Field(None, gt=0)
    scales: list[Annotated[float, Field(gt=0)]] = Field([1.0], min_length=1)
    flip: bool = False

    @model_validator(mode="after")
    def _slide_has_windows(self) -> WindowCard:
        if self.mode == "slide" and (self.window is None or self.stride is None or self.stride > self.window):
            raise ValueError("mode slide needs window and stride, and stride must not be greater than window")
        if self.mode == "whole" and (self.window is not None or self.stride is not None):
            raise ValueError("mode whole has no window and no stride: set both to null")
        return self


class SelectionCard(Strict):
    """The held-out part of the TRAIN split, on which hyperparameters are chosen: a fraction of its groups, by a hash of their names."""

    fraction: float = Field(0.1, gt=0, lt=1)
    max_images: int | None = Field(None, gt=0)


class ProtocolCard(Strict):
    """tasks/protocols/NAME.yaml: how a task is scored, with every number, and the paper or code that it reproduces.

    probe: {type: NAME, **options}; the options are checked by the probe that reads them.
    """

    name: str
    version: int
    title: str
    families: list[str]
    source: str
    notes: str = ""
    image: ImageCard
    features: FeatureCard = FeatureCard()
    inference: WindowCard = WindowCard()
    selection: SelectionCard = SelectionCard()
    probe: dict[str, Any]


class WeightsCard(Strict):
    """Where the weights of a model come from: a URL, a Hugging Face repository, a local file, or a seed for random weights.

    url: also with hub, which then names the same weights on the hub. file: the name inside a hub repository. path: relative to the
    working directory, else to the shipped cards. size: in bytes. sha256: in hex, if published.
    """

    url: str | None = None
    hub: str | None = None
    path: str | None = None
    seed: int | None = None
    revision: str | None = None
    file: str | None = None
    size: int | None = None
    sha256: str | None = None


class ModelCard(Strict):
    """model_zoo/NAME.yaml: a frozen encoder. architecture: options for the encoder class of the source.

    heads: released prediction heads for this encoder, by task family.
    """

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
    global_tokens: int
    has_text: bool = False
    pad: Literal["center", "resize"] = "center"
    parameters: int | None = None
    license: str
    citation: str
    homepage: str
    published: str | None = None
    notes: str = ""


CARDS: dict[str, type[Strict]] = {"task": TaskCard, "protocol": ProtocolCard, "model": ModelCard}
CardT = TypeVar("CardT", bound=Strict)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file with its bases merged in, as plain data. Errors: no file, not plain YAML, a base that is no YAML file, not a mapping."""
    data = _check_bases(path, above=(), read=[])
    if "_base_" not in data:
        return data  # nothing to merge, and mmengine writes three files to read one
    try:
        config = Config.fromfile(
            path, use_predefined_variables=False, import_custom_modules=False, use_environment_variables=False, lazy_import=False
        )
    except KeyError as error:
        raise UserError(
            f"the `_base_` cards cannot be merged: {error.args[0]}", where=path, fix="Set each key in one `_base_` card only."
        ) from error
    return config.to_dict()


def _check_bases(path: Path, above: tuple[Path, ...], read: list[Path]) -> dict[str, Any]:
    """What the file itself holds. Refuses what mmengine would execute or choke on, in it or in its bases, before mmengine reads it.

    above: the files this is a base of. read: all files so far.
    """
    path = path.resolve()
    if path in above:
        raise UserError("`_base_` refers back to the file itself", where=path, fix="Remove one of the `_base_` entries.")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"a card is a .yaml file, not {path.suffix or 'a file without a suffix'}", where=path)
    read.append(path)
    if len(read) > MAX_BASES:
        raise UserError(f"the card has over {MAX_BASES} bases, counted with theirs", where=read[0], fix="Use fewer files.")
    data = plain_yaml.load(path)
    bases = data.get("_base_", [])
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str) or "::" in base:
            raise UserError(f"_base_ = {base!r} is not a file name", where=path, fix="Give the path of a .yaml file, relative to this one.")
        _check_bases(path.parent / base, (*above, path), read)
    return data


def override(data: dict[str, Any], assignments: list[str], *, where: object = "--set") -> dict[str, Any]:
    """A copy of `data` with each "a.b=value" applied; the value is read as YAML, a list item is named by its index.

    Errors: no "=", a step through something that is neither a mapping nor a list.
    """
    changed = json.loads(json.dumps(data))
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise UserError(f"{assignment!r} is not KEY=VALUE", where=where, fix="For example: --set image.short_side=448.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{assignment!r}: the value is not YAML", where=where) from error
        *parents, last = key.split(".")
        node: Any = changed
        for part in parents:
            node = _step(node, part, assignment, where)
        if isinstance(node, list):
            node[_index(node, last, assignment, where)] = value
        elif isinstance(node, dict):
            node[last] = value
        else:
            raise UserError(f"{assignment!r}: {'.'.join(parents)} is a single value and has no keys", where=where)
    return changed


def _step(node: Any, part: str, assignment: str, where: object) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, assignment, where)]
    if isinstance(node, dict):
        return node.setdefault(part, {})
    raise UserError(f"{assignment!r}: {part!r} cannot be looked up in a single value", where=where)


def _index(node: list[Any], part: str, assignment: str, where: object) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise UserError(f"{assignment!r}: {part!r} is not an index below {len(node)}", where=where)
    return int(part)


def parse(kind: type[CardT], data: dict[str, Any], *, where: object, prefix: str = "") -> CardT:
    """Check `data` against a card type. prefix: of its keys in the file, for messages.

    Errors: the first wrong key with its value, what was expected, and near names for an unknown key.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # a misspelled key comes first: the key that it should be is missing, too
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        key = prefix + ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = [prefix + name for name in _known_keys(kind, first["loc"])]
            raise unknown_name("key", key, known, where=where) from error
        if first["type"] == "missing":
            raise UserError(f"{key} is missing", where=where, fix="Add it to the card.") from error
        expected = first["msg"].removeprefix("Value error, ")
        expected = expected[0].lower() + expected[1:]
        # a whole part is not repeated: what is wrong with it says so itself
        value = "" if isinstance(first["input"], dict) else f" = {json.dumps(first['input'], default=str)[:120]}"
        raise UserError(": ".join(filter(None, [key + value, expected])), where=where) from error


def _known_keys(kind: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    prefix = []
    for part in location[:-1]:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        kind = annotation
        prefix.append(part)
    return [".".join([*prefix, name]) for name in kind.model_fields]


def load_card(kind: Literal["task", "protocol", "model"], name: str, assignments: list[str] | None = None) -> Any:
    """The card `name` (or a path to one) of a kind, with "a.b=value" assignments applied.

    Errors: an unknown name, a card that does not validate, a card whose `name` is not its file's.
    """
    path = find_card(kind, name)
    data = override(read_yaml(path), assignments or [])
    card = parse(CARDS[kind], data, where=path)
    if card.name != path.stem:  # type: ignore[attr-defined]
        problem = f"name = {card.name!r}, but the file is {path.name}"  # type: ignore[attr-defined]
        raise UserError(problem, where=path, fix="Give the card the name of its file, or rename the file.")
    return card


def list_cards(kind: Literal["task", "protocol", "model"]) -> list[Any]:
    """All cards of a kind, shipped and the user's own, sorted by name."""
    return [load_card(kind, str(path)) for path in card_files(kind).values()]


def card_hash(card: Strict) -> str:
    """Hex SHA-256 of a card's content, independent of its file's layout."""
    return digest(json.dumps(card.model_dump(mode="json"), sort_keys=True))
