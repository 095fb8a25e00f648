"""The tokenizer of the TIPS text tower: SentencePiece on lower-cased text, 64 tokens, none added at the ends.

Source: google-deepmind/tips, pytorch/text_encoder.py, whose tf.strings.lower changes ASCII letters alone. One deviation: where one text
of a batch is cut, that code no longer marks the padding of the others; here padding is always marked.

Axes in tensor names: T texts, L tokens of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from tips_bench.errors import UserError
from tips_bench.models.configs import MAX_TEXT_TOKENS

_PAD = 0


class Tokenizer:
    """Strings to token ids, from a SentencePiece model file.

    vocab_size: number of pieces; a text tower needs at least as many embeddings.
    Errors: a file that is missing, unreadable or no SentencePiece model.
    """

    def __init__(self, path: Path | str) -> None:
        path = Path(path)
        try:
            model = path.read_bytes()
        except OSError as error:
            raise UserError(f"the tokenizer cannot be read ({error.strerror})", where=path, fix="Check the path.") from error
        try:
            # An empty model would be taken for none at all, and be found out at the first text only.
            if not model:
                raise RuntimeError("it is empty")
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(
                f"this is not a SentencePiece model ({' '.join(str(error).split())})", where=path, fix="Download tokenizer.model again."
            ) from error
        self.vocab_size: int = self._pieces.vocab_size()

    def __call__(self, texts: Sequence[str], max_tokens: int = MAX_TEXT_TOKENS) -> tuple[Tensor, Tensor]:
        """ids_TL and paddings_TL, both int64 [texts, max_tokens]; 1 marks padding. What is longer is cut off at the end."""
        ids_TL = torch.full((len(texts), max_tokens), _PAD)
        paddings_TL = torch.ones_like(ids_TL)
        for row, text in enumerate(texts):
            ids = self._pieces.encode(lower(text))[:max_tokens]
            ids_TL[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
            paddings_TL[row, : len(ids)] = 0
        return ids_TL, paddings_TL

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text before anything is cut off."""
        return [len(self._pieces.encode(lower(text))) for text in texts]


def lower(text: str) -> str:
    """The text with its ASCII letters in lower case."""
    return text.encode("utf-8", "replace").lower().decode("utf-8")
