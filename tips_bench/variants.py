"""A task with changed images or fewer of them, as a name says it: `ade20k@896+fog-3+rotate-90`, `ade20k+few-64`.

    TASK@SIZE              the input size of the protocol, in pixels; training and scored images
    TASK+KIND-STRENGTH     the scored images corrupted: a kind of the registry CORRUPTIONS, strength 1 to 5
    TASK+rotate-DEGREES    the scored images and their dense truth turned together, counterclockwise: 90, 180 or 270
    TASK+...+refit         the training images are changed in the same way as the scored ones
    TASK+few-N             one of N training images; +few-N-seed-S draws others than seed 0

The parts can be combined, in any order; a record names them in the order of this list. Needs no torch.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tips_bench.errors import UserError, unknown_name
from tips_bench.files import digest
from tips_bench.registry import CORRUPTIONS
from tips_bench.strict import Strict, parse

STRENGTHS = (1, 2, 3, 4, 5)
ALL_KINDS = "corruptions"  # in a list of tasks: every kind of ImageNet-C's test set that is there
FORMS = "Use @SIZE, +KIND-STRENGTH (as +fog-3), +rotate-90, +refit or +few-N."
MOST_PIXELS = 1 << 14
TAIL = re.compile(r"(?P<base>.*[^@+])(?P<part>[@+][^@+]*)", re.DOTALL)
PART = re.compile(
    r"@(?P<size>\d{1,9})|\+(?:rotate-(?P<rotate>\d{1,9})|(?P<refit>refit)|few-(?P<few>\d{1,9})(?:-seed-(?P<few_seed>\d{1,9}))?"
    r"|(?P<kind>[a-z][a-z-]*)-(?P<strength>\d{1,9}))"
)
RANGE = re.compile(rf"(?P<before>.*)\+(?P<kind>[a-z-]+)-(?P<first>[{STRENGTHS[0]}-{STRENGTHS[-1]}])(?:\.\.(?P<last>\d))?(?P<after>\+.*)?")


class Changes(Strict):
    """What a task's name changes of the data of the task `base`.

    size: of the protocol's input, in pixels. kind, strength: of the corruption of an image. rotate: degrees counterclockwise. refit: the
    training images are changed, too. few: the probe is fitted on one of so many training images, drawn by few_seed.
    """

    base: str
    size: Annotated[int, Field(gt=0, le=MOST_PIXELS)] | None = None
    kind: str | None = None
    strength: Literal[1, 2, 3, 4, 5] | None = None
    rotate: Literal[90, 180, 270] | None = None
    refit: bool = False
    few: Annotated[int, Field(ge=2)] | None = None
    few_seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if (self.kind is None) != (self.strength is None):
            raise ValueError("kind and strength go together")
        if self.kind is not None and self.kind not in CORRUPTIONS.names():
            raise ValueError(f"kind {self.kind!r} is no corruption: there are {', '.join(CORRUPTIONS.names())}")
        if self.refit and not self.changes_images:
            raise ValueError("refit needs a corruption or a rotation")
        if self.few is None and self.few_seed:
            raise ValueError("few_seed needs few")
        return self

    @property
    def changes_images(self) -> bool:
        """Whether the pixels of the scored images differ from those of the task."""
        return self.kind is not None or self.rotate is not None

    @property
    def name(self) -> str:
        """The whole name of the task."""
        parts = [
            f"@{self.size}" if self.size else "",
            f"+{self.kind}-{self.strength}" if self.kind else "",
            f"+rotate-{self.rotate}" if self.rotate else "",
            "+refit" if self.refit else "",
            f"+few-{self.few}" if self.few else "",
            f"-seed-{self.few_seed}" if self.few_seed else "",
        ]
        return self.base + "".join(parts)

    @property
    def sentence(self) -> str:
        """The changes in words, for the title of the task."""
        who = "training and scored images" if self.refit else "scored images"
        said = [
            f"input of {self.size} px" if self.size else "",
            f"{who} with {self.kind} of strength {self.strength}" if self.kind else "",
            f"{who} turned by {self.rotate} degrees" if self.rotate else "",
            f"fitted on 1/{self.few} of the training images" + (f", seed {self.few_seed}" if self.few_seed else "") if self.few else "",
        ]
        return ", ".join(filter(None, said))

    def of_images(self, role: str) -> str:
        """What is done to the images of a role ("train", "test"), as a short text; "" = nothing."""
        if not self.changes_images or (role == "train" and not self.refit):
            return ""
        return f"{self.kind} {self.strength} {self.rotate}"

    def fingerprint(self, own: str) -> str:
        """Of changed images. own: of the images before."""
        return changed_fingerprint(own, self.kind, self.strength, self.rotate)


def changed_fingerprint(own: str, kind: str | None, strength: int | None, rotate: int | None) -> str:
    """Hex: of a data set whose images are changed. own: of the data set as it is on disk."""
    return digest(own, f"{kind} {strength} {rotate}")


def parse_name(name: str) -> Changes | None:
    """The changes that a task's name says; None where it says none. Errors: values that do not exist, a part given twice."""
    base, values = name, dict[str, object]()
    while (found := TAIL.fullmatch(base)) and (part := PART.fullmatch(found["part"])):
        if part["kind"] and part["kind"] not in CORRUPTIONS.names():
            break
        said = {key: text if key == "kind" else text == "refit" or int(text) for key, text in part.groupdict().items() if text is not None}
        if twice := sorted(said.keys() & values.keys()):
            problem = f"the name of the task gives {twice[0]} twice"
            raise UserError(problem, where=f"task {name}", fix="Give one of each: a size, a corruption, a rotation, a share.")
        base, values = found["base"], said | values
    return parse(Changes, {"base": base} | values, where=f"task {name}") if values else None


def base_of(name: str) -> str:
    """The name of the task without its changes."""
    changes = parse_name(name)
    return name if changes is None else changes.base


def unknown_part(name: str, tasks: list[str]) -> UserError | None:
    """What is wrong with a name that begins with a known task; None where it does not."""
    base, parts = name, [""]
    while (found := TAIL.fullmatch(base)) and base not in tasks:
        base, parts = found["base"], [found["part"], *parts]
    if base not in tasks:
        return None
    kind = re.fullmatch(r"\+([\w-]*?)-?\d*", parts[0])
    if kind and parts[0][-1:].isdigit():
        return unknown_name("corruption", kind[1], CORRUPTIONS.names(), where=f"task {name}")
    return UserError(f"{parts[0]!r} is no change of a task", where=f"task {name}", fix=FORMS)


def expand(name: str) -> list[str]:
    """A name of a list of tasks with its ranges written out: `+fog-1..5` is five strengths, `+corruptions-3` every kind."""
    found = RANGE.fullmatch(name)
    if found is None or not (found["last"] or found["kind"] == ALL_KINDS):
        return [name]
    kinds = common_kinds() if found["kind"] == ALL_KINDS else [found["kind"]]
    first, last = int(found["first"]), int(found["last"] or found["first"])
    if last not in STRENGTHS or last < first:
        raise UserError(f"{first}..{last} are not strengths", where=f"task {name}", fix="Give two of 1 to 5, the smaller one first.")
    after = found["after"] or ""
    return [f"{found['before']}+{kind}-{strength}{after}" for kind, strength in product(kinds, range(first, last + 1))]


def common_kinds() -> list[str]:
    """The kinds of ImageNet-C's test set that are there, without the extra ones, in its order."""
    return [name for name in CORRUPTIONS.in_order() if not CORRUPTIONS.get(name).extra]
