"""The networks this project owns: the TIPS image and text towers, their tokenizer, and the files their weights come in.

    configs         VisionConfig, TextConfig, vision_config(name), text_config(name): the published sizes (imports no torch)
    vision          VisionTower: normalised pixels -> global tokens and patch features
    text            TextTower: token ids -> one embedding a text
    dinotxt         TokenHead, CausalTextTower: what dino.txt adds to a frozen image encoder
    layers          the transformer blocks of all
    dropping        DropPaths, Dropout: what training leaves out, by a seed and the numbers of samples
    cpu             a faster way through a block on a CPU
    initialization  first weights from a seed
    tokenizer       Tokenizer: strings -> token ids and paddings
    dpt             the DPT decoder
    devices         which device a run computes on
    heap            on a CPU, memory that is freed stays for the next tensor
    files/          load_vision, load_text, save_checkpoint, export_huggingface

From a card to features:

    from tips_bench.models.files.checkpoints import load_text, load_vision
    from tips_bench.models.configs import text_config, vision_config
    from tips_bench.models.tokenizer import Tokenizer

    tower = load_vision("tips_v2_oss_b14_vision.npz", vision_config("tipsv2-b14"), device="cpu", dtype=torch.bfloat16)
    tower = load_vision(None, vision_config("tipsv2-b14"), seed=0)      # random weights, the same on every machine
    tower = load_vision("model.safetensors")                            # shape told by the file, or by the config.json beside it
    tower.pack()                                                        # frozen weights on a CPU: the fast path; elsewhere does nothing
    with torch.inference_mode():
        seen = tower(pixels_B3HW, layers=(2, 5, 8, 11), norm=True, values=False)
    seen.globals_BKD, seen.patches, seen.value_patches_BhwD             # [B,2,D], four of [B,h,w,D], None without values=True

    text = load_text("tips_v2_oss_b14_text.npz", text_config("tipsv2-b14"))
    text.temperature                                                    # logits = cosine / temperature; None where the file states none
    embeddings_TD = text(*Tokenizer("tokenizer.model")(["a cat", "a dog"]))

Towers come in evaluation mode, with no gradients required. Every fault of a file is a `UserError`.
"""
