"""The card of a prompt: what a captioner is asked for one image."""

from __future__ import annotations

import re

from pydantic import Field, model_validator

from tips_bench.files import digest
from tips_bench.strict import Strict

WEB, SYNTHETIC = "web", "synthetic"
_USED = re.compile(r"\{(\w+)\}")


class PromptCard(Strict):
    """prompts/NAME.yaml: how an image is described in words.

    parts: the paragraphs of the prompt. In them, {web} stands for the caption that the image had on its web page, and {synthetic} for the
    first caption that a captioner gave it; a part is left out where what it names is not known. max_tokens: of the caption.
    temperature: 0 = the most likely caption. max_side: longest side in pixels of the image that the captioner sees; null = as it is.
    web_characters: how much of {web} is used. sources: key -> where the value comes from; "ours: ..." where no paper states it.
    """

    name: str
    version: int
    title: str
    parts: list[str] = Field(min_length=1)
    max_tokens: int = Field(gt=0)
    temperature: float = Field(0.0, ge=0)
    max_side: int | None = Field(None, gt=0)
    web_characters: int = Field(500, gt=0)
    sources: dict[str, str] = {}

    @model_validator(mode="after")
    def _asks_something_of_every_image(self) -> PromptCard:
        if unknown := self.used() - {WEB, SYNTHETIC}:
            raise ValueError(f"parts name {{{min(unknown)}}}; they may name {{{WEB}}} and {{{SYNTHETIC}}}")
        if all(_USED.search(part) or not part.strip() for part in self.parts):
            raise ValueError("parts should have one part that names nothing: it is asked of every image")
        return self

    def used(self) -> set[str]:
        """What the parts name."""
        return {name for part in self.parts for name in _USED.findall(part)}

    def text(self, web: str, synthetic: str) -> str:
        """The prompt for an image, from its captions; "" = there is none."""
        known = {WEB: web[: self.web_characters].strip(), SYNTHETIC: synthetic}
        asked = [part for part in self.parts if all(known[name] for name in _USED.findall(part))]
        return "\n\n".join(_USED.sub(lambda found: known[found[1]], part).strip() for part in asked)

    def digest(self) -> str:
        """Hex SHA-256 of what decides the caption: neither the card's name nor what is said about it."""
        data = self.model_dump(mode="json", exclude={"name", "version", "title", "sources"})
        return digest(*(f"{key}={data[key]!r}" for key in sorted(data)))
