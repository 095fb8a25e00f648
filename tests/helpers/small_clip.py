"""A small CLIP with the weights that `filled` gives, in Hugging Face layout, with CLIP's own tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.helpers.filled import filled

TOWER = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256, "hidden_act": "quick_gelu", "projection_dim": 32}
VISION = TOWER | {"num_hidden_layers": 3, "image_size": 64, "patch_size": 16}
TEXT = TOWER | {"num_hidden_layers": 2, "vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407}
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def small_clip(folder: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """The folder, filled. shapes: of every tensor but the temperature, by its name in transformers."""
    import transformers

    config = transformers.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=32)
    config.save_pretrained(folder)
    save_file(filled(shapes) | {"logit_scale": torch.tensor(2.0)}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    """CLIP's vocabulary and merges, from the copy that open_clip ships."""
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    words = [word for word, _ in sorted(tokenizer.encoder.items(), key=lambda item: item[1])]
    vocabulary = [*words[:-2], "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: id for id, word in enumerate(vocabulary)}))
    merges = [" ".join(pair) for pair, _ in sorted(tokenizer.bpe_ranks.items(), key=lambda item: item[1])]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}))
