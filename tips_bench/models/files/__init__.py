"""Weight files and configurations: read, recognized and written.

checkpoints   load_vision, load_text, save_checkpoint, export_huggingface
inspection    what a file holds, told from names and shapes
formats       how each format names and lays out tensors
weight_files  named tensors from .npz and .safetensors
huggingface   config.json
dpt_heads     released DPT heads
"""
