"""Vision-language models of random weights and of the smallest sizes, in folders as transformers writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ["a", "red", "blue", "sofa", "lamp", "beside", "the", "floor", "room", "with", "caption", "en", "Describe", "USER", "BOT", "."]
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %} BOT{% endif %}"
)


def _tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate([*SPECIAL, *WORDS])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    named = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, extra_special_tokens={"image_token": "<image>"})
    return found


def _text(kind: type[Any], vocabulary: int, **more: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    return kind(vocab_size=vocabulary, **sizes, **ids, **more)


def _save(folder: Path, model: Any, processor: Any) -> Path:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
        for number, name in enumerate(SPECIAL):
            if name != "<eos>":
                model.get_output_embeddings().weight[number] = 0  # it says words, and ends
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def write_paligemma(folder: Path) -> Path:
    """A PaliGemma: no chat template."""
    from transformers import (
        GemmaConfig,
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    images = SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, _tokenizer())
    vocabulary = len(processor.tokenizer)
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, projection_dim=32
    )
    text = _text(GemmaConfig, vocabulary, head_dim=16)
    config = PaliGemmaConfig(vision_config=vision, text_config=text, image_token_index=4, projection_dim=32, hidden_size=32)
    torch.manual_seed(0)
    return _save(folder, PaliGemmaForConditionalGeneration(config), processor)


def write_llava(folder: Path) -> Path:
    """A LLaVA with a chat template."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    images = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(images, _tokenizer(), patch_size=14, vision_feature_select_strategy="default", chat_template=TEMPLATE)
    processor.num_additional_image_tokens = 1
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, projection_dim=32
    )
    text = _text(LlamaConfig, len(processor.tokenizer))
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, vision_feature_layer=-1)
    torch.manual_seed(0)
    return _save(folder, LlavaForConditionalGeneration(config), processor)
