"""Frozen encoders behind one contract, whatever they came from: TIPS, timm, transformers, open_clip, a user's callable, raw pixels."""

from tips_bench.encoders.load import load_encoder, resolve_model_card

__all__ = ["load_encoder", "resolve_model_card"]
