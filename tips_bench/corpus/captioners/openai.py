"""A server with OpenAI's chat completions: vLLM, SGLang, llama.cpp, TGI, LM Studio, OpenAI itself and others.

    --captioner openai:http://localhost:8000/v1#Qwen/Qwen2.5-VL-7B-Instruct

The image goes along as a data URL, in the form of OpenAI's API reference, "Create chat completion": a message of the parts image_url and
text. A key is taken from $OPENAI_API_KEY, sent to that address alone, and written nowhere.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar

from tips_bench.corpus.captioners.base import MIME, Answer, Fault, Pace, Question
from tips_bench.corpus.captioners.server import Gate, Server
from tips_bench.errors import UserError
from tips_bench.journal import warn
from tips_bench.web import check_url

WHERE = "--captioner"
KEY = "OPENAI_API_KEY"
ENDPOINT = "chat/completions"
LIMIT, NEWER_LIMIT, TEMPERATURE = "max_tokens", "max_completion_tokens", "temperature"


class OpenAiCaptioner:
    """A model of a server. The address may change from one call to the next, as captions are the model's.

    A server that refuses `max_tokens` is asked with its newer name, and one that refuses a temperature without it, which is told.
    """

    needs: ClassVar[str] = "http://HOST:PORT/v1#MODEL"
    uses_gpu: ClassVar[bool] = False
    batch = 1

    def __init__(self, rest: str, pace: Pace) -> None:
        url, self._model = _parts(rest)
        self.at_once = pace.at_once
        self._server = Server(f"{url.rstrip('/')}/{ENDPOINT}", _key(), Gate(pace.per_minute), pace.timeout_s)
        self._limit, self._with_temperature = LIMIT, True

    @classmethod
    def identity(cls, rest: str) -> str:
        return f"openai#{_parts(rest)[1]}"

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        answers: list[Answer | Fault] = []
        for question in questions:
            try:
                answers.append(_answer(self._post(question)))
            except Fault as fault:
                answers.append(fault)
        return answers

    def _post(self, question: Question) -> dict[str, Any]:
        asked = self._asked(question)
        try:
            return self._server.post(asked)
        except Fault as fault:
            if not self._has_learned(str(fault), asked):
                raise
            return self._post(question)

    def _has_learned(self, refusal: str, asked: dict[str, Any]) -> bool:
        """Whether the refusal names a value of the question that is left out from now on."""
        if LIMIT in asked and LIMIT in refusal:
            self._limit = NEWER_LIMIT
        elif TEMPERATURE in asked and TEMPERATURE in refusal:
            if self._with_temperature:
                warn(f"{self._model} takes no temperature, so its captions are drawn as it draws them: {refusal}")
            self._with_temperature = False
        else:
            return False
        return True

    def _asked(self, question: Question) -> dict[str, Any]:
        data = base64.b64encode(question.image).decode()
        image = {"type": "image_url", "image_url": {"url": f"data:{MIME[question.extension]};base64,{data}"}}
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": [image, {"type": "text", "text": question.text}]}],
            self._limit: question.max_tokens,
            **({TEMPERATURE: question.temperature} if self._with_temperature else {}),
        }


def _key() -> str:
    """The key in the environment. Errors: one that no header can hold."""
    key = os.environ.get(KEY, "").strip()
    if re.search(r"[^!-~]", key):
        raise UserError("it holds a space or a character beyond ASCII, which no key has", where=f"${KEY}", fix="Set it again.")
    return key


def _parts(rest: str) -> tuple[str, str]:
    """(address, model). Errors: no model, no address."""
    url, _, model = rest.partition("#")
    if not model or not model.isprintable():
        fix = f"Write openai:{OpenAiCaptioner.needs}, with a model that the server lists at /v1/models."
        raise UserError(f"no model is named in 'openai:{rest}'", where=WHERE, fix=fix)
    check_url(url, WHERE)
    return url, model


def _answer(given: dict[str, Any]) -> Answer | Fault:
    """What a completion says."""
    try:
        choice = given["choices"][0]
        text, reason = choice["message"].get("content"), choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        return Fault("no completion as an answer")
    if reason == "content_filter":
        return Fault("refused")
    if isinstance(text, list):  # some servers give parts, as they take them
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    return Answer(text if isinstance(text, str) else "", cut=reason == "length")
