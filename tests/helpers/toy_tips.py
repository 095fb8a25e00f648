"""A TIPS model of both towers with random weights and a tokenizer of its own, as a folder that `--model` takes."""

from __future__ import annotations

from pathlib import Path

import sentencepiece
import torch

from tips_bench.models.configs import TextConfig, VisionConfig
from tips_bench.models.files.checkpoints import export_huggingface
from tips_bench.models.text import TextTower
from tips_bench.models.vision import VisionTower

VISION = VisionConfig(name="toy", embed_dim=48, depth=3, num_heads=4, mlp_dim=96, position_grid=(4, 4))
TEXT = TextConfig(name="toy", embed_dim=48, depth=2, num_heads=4, mlp_dim=96, vocab_size=60)
CORPUS = ["a cat on a sofa", "two dogs by a chair", "the lamp is on the table", "a red book", "a disc, a bar and a ring on the ground"]


def write_toy(folder: Path) -> Path:
    """Weights, config and tokenizer; every parameter is other than initial, so that none goes unnoticed."""
    torch.manual_seed(0)
    towers = [kind.random(config, 1) for kind, config in ((VisionTower, VISION), (TextTower, TEXT))]
    with torch.no_grad():
        for tower in towers:
            for parameter in tower.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    export_huggingface(folder, *towers)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=30,
        pad_id=0,
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    return folder
