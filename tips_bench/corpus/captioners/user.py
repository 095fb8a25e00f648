"""A function of the user's: `module:function`, called with a list of `Question` and returning a caption for each.

    # mine.py
    def describe(questions):
        return [my_model(question.picture(), question.text) for question in questions]

    tips-bench corpus caption raw/ --to captioned/ --captioner mine:describe

None in place of a caption means that there is none. The captions are kept for the file of the module as it is: a changed file is asked
anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tips_bench.corpus.captioners.base import Answer, Fault, Pace, Question
from tips_bench.corpus.user_code import as_it_is
from tips_bench.encoders.user import named
from tips_bench.errors import CodeFailed, UserError
from tips_bench.fetch import first_line

RETURN = "Return a list with one string, or None, for each question."


class UserCaptioner:
    """The function behind the contract."""

    needs: ClassVar[str] = "module:function"
    uses_gpu: ClassVar[bool] = True
    at_once = 1

    def __init__(self, rest: str, pace: Pace) -> None:
        self._target, self.batch = rest, pace.batch
        self._function = _load(rest)

    @classmethod
    def identity(cls, rest: str) -> str:
        return as_it_is(rest, _load(rest))

    def ask(self, questions: Sequence[Question]) -> list[Answer | Fault]:
        try:
            given = self._function(list(questions))
        except UserError:
            raise
        except Exception as error:
            problem = f"called with {len(questions)} questions, it raised {type(error).__name__}: {first_line(error)}"
            raise CodeFailed(problem, where=self._target, fix="Run it in Python alone to see where.") from error
        if not isinstance(given, list | tuple) or len(given) != len(questions):
            said = f"{len(given)} captions" if isinstance(given, list | tuple) else f"a {type(given).__name__}"
            raise UserError(f"it returned {said} for {len(questions)} questions", where=self._target, fix=RETURN)
        if wrong := [one for one in given if not isinstance(one, str | None)]:
            raise UserError(f"it returned a {type(wrong[0]).__name__} as a caption", where=self._target, fix=RETURN)
        return [Fault("none returned") if one is None else Answer(one) for one in given]


def _load(target: str) -> Any:
    return named(target, fix="Name a function from a list of questions to a list of captions.")
