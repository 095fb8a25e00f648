"""The config.json of Hugging Face repositories, read and written.

Nested: transformers' Tipsv2Config, with a text_config and a vision_config of which only what differs from the defaults need be stated
(transformers/models/tipsv2/configuration_tipsv2.py). Flat: that of google/tipsv2-*, which names the image tower by its constructor
("vit_base"). Both say what the shapes of tensors do not; everything else is taken from the tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tips_bench.errors import UserError, unknown_name
from tips_bench.models.configs import MAX_TEXT_TOKENS, Gelu, Kind, TextConfig, VisionConfig, vision_config
from tips_bench.models.files.weight_files import read_json

CONFIG_FILE = "config.json"

# google-deepmind/tips, pytorch/image_encoder.py: the constructors, and the size each makes.
_CONSTRUCTORS = {"vit_small": "s", "vit_base": "b", "vit_large": "l", "vit_so400m": "so400m", "vit_giant2": "g"}
# Defaults of Tipsv2VisionConfig and Tipsv2TextConfig, and of the temperature in Tipsv2Config.
_DEFAULTS: dict[Kind, dict[str, Any]] = {
    "vision": {"num_attention_heads": 12, "layer_norm_eps": 1e-6, "hidden_act": "gelu"},
    "text": {"num_attention_heads": 12, "layer_norm_eps": 1e-5},
}
_GELUS: dict[str, Gelu] = {"gelu": "erf", "gelu_pytorch_tanh": "tanh"}
_DEFAULT_TEMPERATURE = 0.005065968260169029


@dataclass(frozen=True)
class Stated:
    """What a config.json says that tensors do not: num_heads and layer_norm_eps of each tower, its GELU, and the temperature."""

    vision: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    temperature: float | None = None

    def of(self, kind: Kind) -> dict[str, Any]:
        """Fields of one tower's config, empty where nothing is stated."""
        return self.vision if kind == "vision" else self.text


def read_config(folder: Path) -> Stated:
    """What the config.json in a folder states; nothing where there is none, or one of something else than TIPS."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        return Stated()
    values = read_json(path)
    if "vision_config" in values or "text_config" in values:
        temperature = _number({"temperature_init_value": _DEFAULT_TEMPERATURE} | values, "temperature_init_value", f"{path}: ")
        return Stated(_nested(values, "vision", path), _nested(values, "text", path), temperature)
    if values.get("model_type") == "tipsv2_vision_model":
        return Stated(vision=_tower(values, "vision", f"{path}: "))
    if values.get("model_type") == "tipsv2_text_model":
        return Stated(text=_tower(values, "text", f"{path}: "))
    if "vision_fn" in values:
        return _flat(values, path)
    return Stated()


def _nested(values: dict[str, Any], kind: Kind, path: Path) -> dict[str, Any]:
    part = values.get(f"{kind}_config") or {}
    if not isinstance(part, dict):
        raise UserError(f"it is of type {type(part).__name__} where an object is expected", where=f"{path}: {kind}_config")
    return _tower(part, kind, f"{path}: {kind}_config.")


def _tower(part: dict[str, Any], kind: Kind, where: str) -> dict[str, Any]:
    part = _DEFAULTS[kind] | part
    stated: dict[str, Any] = {"num_heads": _integer(part, "num_attention_heads", where)}
    stated["layer_norm_eps"] = _number(part, "layer_norm_eps", where)
    if kind == "vision":
        if part["hidden_act"] not in _GELUS:
            raise unknown_name("activation", str(part["hidden_act"]), _GELUS, where=f"{where}hidden_act")
        stated["gelu"] = _GELUS[part["hidden_act"]]
    return stated


def _flat(values: dict[str, Any], path: Path) -> Stated:
    constructor = values["vision_fn"]
    if constructor not in _CONSTRUCTORS:
        raise unknown_name("image tower", str(constructor), _CONSTRUCTORS, where=f"{path}: vision_fn")
    heads = vision_config(f"tips-{_CONSTRUCTORS[constructor]}14").num_heads
    text = {"num_heads": _integer(values, "text_num_heads", f"{path}: ")} if "text_num_heads" in values else {}
    temperature = _number(values, "temperature", f"{path}: ") if "temperature" in values else None
    return Stated({"num_heads": heads}, text, temperature)


def _integer(values: dict[str, Any], key: str, where: str) -> int:
    number = _number(values, key, where)
    if number != int(number):
        raise UserError(f"{number!r} is not a whole number", where=f"{where}{key}", fix="Download the file again.")
    return int(number)


def _number(values: dict[str, Any], key: str, where: str) -> float:
    """A positive number. where: the file, and what stands before the key in it."""
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise UserError(f"{value!r} is not a positive number", where=f"{where}{key}", fix="Download the file again.")
    return value


def config_files(vision: VisionConfig, text: TextConfig, temperature: float | None, resolution: int) -> dict[str, dict[str, Any]]:
    """The JSON files of an exported model, by name. Errors: what Tipsv2Config cannot state."""
    where = f"export of {vision.name!r}"
    if vision.embed_dim != text.embed_dim:
        raise UserError(f"the towers are {vision.embed_dim} and {text.embed_dim} wide, and Tipsv2Config has one width", where=where)
    rows, columns = vision.position_grid
    if rows != columns:
        raise UserError(f"the position grid is {rows} x {columns}, and Tipsv2Config states square ones only", where=where)
    config = {
        "architectures": ["Tipsv2Model"],
        "model_type": "tipsv2",
        "temperature_init_value": _DEFAULT_TEMPERATURE if temperature is None else temperature,
        "vision_config": {
            "model_type": "tipsv2_vision_model",
            "hidden_size": vision.embed_dim,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.num_heads,
            "mlp_ratio": _mlp_ratio(vision, where),
            "hidden_act": next(name for name, gelu in _GELUS.items() if gelu == vision.gelu),
            "use_swiglu_ffn": vision.ffn == "swiglu",
            "image_size": rows * vision.patch_size,
            "patch_size": vision.patch_size,
            "num_register_tokens": vision.num_global_tokens - 1,
            "layerscale_value": vision.init_values,
            "layer_norm_eps": vision.layer_norm_eps,
        },
        "text_config": {
            "model_type": "tipsv2_text_model",
            "vocab_size": text.vocab_size,
            "hidden_size": text.embed_dim,
            "intermediate_size": text.mlp_dim,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.num_heads,
            "max_position_embeddings": MAX_TEXT_TOKENS,
            "layer_norm_eps": text.layer_norm_eps,
        },
    }
    processor = {"image_processor_type": "Tipsv2ImageProcessor", "do_resize": True, "resample": 2}
    processor["size"] = {"height": resolution, "width": resolution}
    processor |= {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False, "do_convert_rgb": True}
    return {CONFIG_FILE: config, "preprocessor_config.json": processor}


def _mlp_ratio(config: VisionConfig, where: str) -> float:
    """The factor from which transformers works out mlp_dim again; for SwiGLU it takes two thirds and rounds up to a multiple of 8."""
    wanted = config.mlp_dim if config.ffn == "mlp" else math.ceil(config.mlp_dim * 3 / 2)
    ratio = wanted / config.embed_dim
    # The product may fall short of the integer it was made from, and is then cut to the one below.
    while int(config.embed_dim * ratio) < wanted:
        ratio = math.nextafter(ratio, math.inf)
    hidden = int(config.embed_dim * ratio)
    found = hidden if config.ffn == "mlp" else (int(hidden * 2 / 3) + 7) // 8 * 8
    if found != config.mlp_dim:
        raise UserError(f"transformers rounds a gate of {config.mlp_dim} to {found}", where=where, fix="Use a multiple of 8.")
    return ratio
