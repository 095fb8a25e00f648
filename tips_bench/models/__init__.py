"""The networks this project owns: the TIPS image and text towers, their tokenizer, and the files their weights come in.

    configs      VisionConfig, TextConfig and the published sizes (imports no torch)
    vision       VisionTower: normalised pixels -> global tokens and patch features
    text         TextTower: token ids -> one embedding a text
    tokenizer    Tokenizer: strings -> token ids and paddings
    checkpoints  load_vision, load_text, detect_format, save_checkpoint, export_huggingface
"""
