"""Frozen encoders behind one contract, whatever they came from: TIPS, timm, transformers, open_clip, a user's callable, raw pixels.

    base           Encoder, EncoderSpec, ImageFeatures: the contract
    load           from a name to an encoder
    weights        which weights, and that they fit
    foreign        what stands between transformers and the files of strangers
    hub            files from addresses and the Hugging Face hub
    huggingface    what the JSON files of a Hugging Face folder say
    preprocessing  how each library resizes and crops an image
    values         the value path of towers that meet text
    flops          operations an image takes, and how many a second a device does
    last_block     the last block of a CLIP tower under another attention
    waiting        sent, LateChecks: what lets a GPU work on while the processor prepares what comes next

The sources:

    tips           this project's own towers
    timm, transformers, open_clip   models of those libraries
    dinotxt        a backbone of another source, with dino.txt's head and text tower
    user           `module.path:callable`
    pixels         raw pixels, the floor for all others
"""

from tips_bench.encoders.load import load_encoder, resolve_model_card

__all__ = ["load_encoder", "resolve_model_card"]
