"""An image-text-to-text model of transformers on this machine, in batches, always with the most likely words.

    --captioner hf:google/paligemma-3b-mix-224 --prompt paligemma
    --captioner hf:OWNER/NAME@REVISION, or hf:FOLDER

A model with a chat template is asked in it; another one, as PaliGemma, gets the image and the words of the prompt alone. Weights are read
from safetensors files, and no code of a repository is run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from tips_bench.corpus.captioners.base import Answer, Fault, Pace, Question
from tips_bench.corpus.hashes import file_hashes
from tips_bench.encoders.foreign import silent
from tips_bench.encoders.hub import hub_file
from tips_bench.encoders.huggingface import CONFIG_FILE
from tips_bench.encoders.weights import require_package
from tips_bench.errors import UserError
from tips_bench.fetch import first_line
from tips_bench.files import digest
from tips_bench.models.devices import resolve_device

PARTS = ("*.json", "*.jinja", "*.model", "*.safetensors", "*.txt")


class HuggingFaceCaptioner:
    """A model and its processor. Axes: B batch, T tokens."""

    needs: ClassVar[str] = "OWNER/NAME"
    uses_gpu: ClassVar[bool] = True
    at_once = 1

    def __init__(self, rest: str, pace: Pace) -> None:
        self._name, self.batch, self._device = rest, pace.batch, resolve_device(pace.device)
        source, revision = _source(rest)
        self._transformers = transformers = require_package("transformers")
        options = {"revision": revision, "local_files_only": Path(source).is_dir()}
        dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
        try:
            with silent(transformers):
                self._processor = transformers.AutoProcessor.from_pretrained(source, **options)
                model = transformers.AutoModelForImageTextToText.from_pretrained(source, dtype=dtype, use_safetensors=True, **options)
        except (OSError, ValueError, ImportError, KeyError) as error:
            fix = "Name an image-text-to-text model that transformers knows by itself, with its processor beside it."
            raise UserError(f"it cannot be loaded: {first_line(error)}", where=f"hf:{rest}", fix=fix) from error
        self._model = model.to(self._device).eval()
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"  # what is generated begins at the same place in each row
        self._ends = _ends(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)

    @classmethod
    def identity(cls, rest: str) -> str:
        source, revision = _source(rest)
        if revision is not None:
            return f"hf:{source}@{revision}"
        files = sorted({file for pattern in PARTS for file in Path(source).glob(pattern)})
        said = [f"{file.name} {known}" for file, known in zip(files, file_hashes(files), strict=True)]
        return f"hf:{Path(source).name}@{digest(*said)[:16]}"

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        given: dict[int, Answer | Fault] = {}
        pictures: dict[int, Image.Image] = {}
        for place, question in enumerate(questions):
            if question.temperature:
                fix = "Set temperature: 0 in the card of the prompt."
                raise UserError(f"temperature = {question.temperature:g}: it takes the most likely words", where="hf:", fix=fix)
            try:
                pictures[place] = question.picture()
            except Fault as fault:
                given[place] = fault
        if pictures:
            texts = [questions[place].text for place in pictures]
            given |= zip(pictures, self._generate(list(pictures.values()), texts, questions[0].max_tokens), strict=True)
        return [given[place] for place in range(len(questions))]

    @torch.inference_mode()
    def _generate(self, pictures: list[Image.Image], texts: list[str], most: int) -> list[Answer]:
        inputs = self._inputs(pictures, [self._without_special(text) for text in texts]).to(self._device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        try:
            tokens_BT = self._model.generate(**inputs, max_new_tokens=most, do_sample=False, num_beams=1)
        except torch.OutOfMemoryError as error:
            problem = f"the memory of {self._device} does not suffice for {len(pictures)} images together"
            raise UserError(problem, where=f"hf:{self._name}", fix="Use a smaller --batch.") from error
        if not self._model.config.is_encoder_decoder:
            tokens_BT = tokens_BT[:, inputs["input_ids"].shape[1] :]
        words = self._processor.batch_decode(tokens_BT, skip_special_tokens=True)
        ended = [bool(self._ends & set(row)) for row in tokens_BT.tolist()]
        return [Answer(text, cut=not end) for text, end in zip(words, ended, strict=True)]

    def _inputs(self, pictures: list[Image.Image], texts: list[str]) -> Any:
        if not getattr(self._processor, "chat_template", None):
            with silent(self._transformers):  # PaliGemma's warns that it puts the image's tokens in front by itself
                return self._processor(images=pictures, text=texts, padding=True, return_tensors="pt")
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": text}]}]
            for picture, text in zip(pictures, texts, strict=True)
        ]
        return self._processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )

    def _without_special(self, text: str) -> str:
        """A prompt in which no web caption can stand for an image, or end the user's turn."""
        for token in {*self._tokenizer.all_special_tokens, getattr(self._processor, "image_token", None) or ""} - {""}:
            text = text.replace(token, " ")
        return text


def _source(rest: str) -> tuple[str, str | None]:
    """(folder, None), or (repository, the commit that a revision stands for now). Errors: neither is there."""
    folder = Path(os.path.expanduser(rest))
    if folder.is_dir():
        if not (folder / CONFIG_FILE).is_file():
            raise UserError(f"the folder has no {CONFIG_FILE}", where=f"hf:{rest}", fix="Give the folder of a model.")
        return str(folder), None
    repo, _, revision = rest.partition("@")
    config = hub_file(repo, CONFIG_FILE, revision or None, f"hf:{rest}")
    return repo, config.parent.name  # the hub's cache has a folder for each commit


def _ends(*given: int | list[int] | None) -> set[int]:
    """The tokens that end an answer."""
    return {token for one in given for token in (one if isinstance(one, list) else [one]) if token is not None}
