"""A TIPS model with both towers, small and random, whose tokenizer knows a few English words."""

from __future__ import annotations

from pathlib import Path

import sentencepiece
import yaml

CORPUS = [
    "a red sofa on the left",
    "two white plates on a table",
    "a bedroom with a green carpet floor",
    "there are books on a shelf",
    "wall",
]


def train_tokenizer(folder: Path, vocab_size: int = 60) -> Path:
    """tokenizer.model in a folder."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


def small_tips(folder: Path, name: str = "text-tiny") -> str:
    """The path of a model card beside its tokenizer."""
    tower = {"embed_dim": 48, "depth": 2, "num_heads": 4, "mlp_dim": 96}
    card = {
        "name": name,
        "title": "Both towers at random",
        "source": "tips",
        "architecture": {"vision": tower | {"position_grid": [4, 4]}, "text": tower | {"vocab_size": 64}},
        "weights": {"seed": 0},
        "tokenizer": {"path": str(train_tokenizer(folder))},
        "patch_size": 14,
        "embed_dim": 48,
        "depth": 2,
        "mean": [0, 0, 0],
        "std": [1, 1, 1],
        "resolution": 56,
        "preprocessing": {"short_side": 56, "shape": "square", "interpolation": "bilinear", "library": "torchvision"},
        "global_tokens": 2,
        "has_text": True,
        "license": "none",
        "citation": "none",
        "homepage": "none",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(card))
    return str(path)
