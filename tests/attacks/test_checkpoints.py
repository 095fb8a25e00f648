"""Weights and configs of models: broken .npz and .safetensors files, pickles under other names, indexes, config.json of every kind."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.attacks.frame import Attack, Case, Outcome, command, corpus, meet, same_numbers, seeded, write
from tests.attacks.mutations import bytes_mutated, data_mutated
from tests.attacks.seeds import (
    TOY,
    npy,
    npz_with,
    run_shapes,
    tips_folder,
    tips_npz,
    tips_safetensors,
    tips_tensors,
    transformers_folder,
    write_card,
)

BROKEN = 40  # forms of each container
OWN_KEY = "tips-bench/weights/1"  # of our own files' metadata
FAMILIES = ("dinov2", "dinov3_vit", "vit", "vit_mae", "clip", "siglip")


def weights_run(folder: Path, data: bytes, name: str) -> Attack:
    """A run of the small tower with a file of weights."""
    write_card(folder, "model", TOY)
    write(folder / name, data)
    return command(*run_shapes(folder, "--weights", name, model="toy"))


class _Opens:
    """A pickle that would write a file if it were loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("owned", "w")


def _torch_file(legacy: bool) -> bytes:
    file = io.BytesIO()
    torch.save({name: torch.from_numpy(array) for name, array in tips_tensors().items()}, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def _header(shape: object, dtype: str = "<f4", version: tuple[int, int] = (1, 0), extra: str = "") -> bytes:
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}{extra}}}".ljust(117) + "\n"
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text.encode("latin-1") + bytes(48 * 4)


NORM = "norm.weight"
HEADERS = {
    "an object array": lambda: npy_objects(),
    "a negative size": lambda: _header("(-48,)"),
    "a size of 2**62": lambda: _header(f"({2**62},)"),
    "a size of 5,000 digits": lambda: _header(f"({'9' * 5000},)"),
    "a size that is a text": lambda: _header("('48',)"),
    "a shape of 70 axes": lambda: _header("(" + "1," * 70 + ")"),
    "a shape that calls": lambda: _header("__import__('os').getpid()"),
    "deep brackets": lambda: _header("(" * 3000),
    "no dtype": lambda: _header("(48,)", "x"),
    "a dtype of fields": lambda: _header("(48,)", "f4,f4"),
    "a dtype that is a text of 10**9": lambda: _header("(48,)", "U999999999"),
    "complex": lambda: _header("(24,)", "<c8"),
    "integers": lambda: _header("(48,)", "<i4"),
    "big-endian": lambda: _header("(48,)", ">f4"),
    "version 3": lambda: _header("(48,)", version=(3, 0)),
    "version 9": lambda: _header("(48,)", version=(9, 0)),
    "a key more": lambda: _header("(48,)", extra=", 'x': 1"),
    "no header": lambda: b"\x93NUMPY",
    "nothing": lambda: b"x",
    "NaN": lambda: npy(np.full(48, np.nan, np.float32)),
    "infinity": lambda: npy(np.full(48, np.inf, np.float32)),
    "another shape": lambda: npy(np.ones(47, np.float32)),
    "one axis more": lambda: npy(np.ones((48, 1), np.float32)),
    "no values": lambda: npy(np.ones(0, np.float32)),
    "a single number": lambda: npy(np.ones((), np.float32)),
}


def npy_objects() -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([_Opens()], dtype=object), allow_pickle=True)
    return file.getvalue()


def npz_named(*names: str) -> bytes:
    """The image tower with further members."""
    file = io.BytesIO(npz_with())
    with zipfile.ZipFile(file, "a") as archive:
        for name in names:
            archive.writestr(name, npy(np.ones(3, np.float32)))
    return file.getvalue()


def safetensors(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {NORM: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


WHOLE_FILES = {
    "pickle.npz": lambda: pickle.dumps(_Opens()),
    "torch.npz": lambda: _torch_file(legacy=False),
    "torch-legacy.npz": lambda: _torch_file(legacy=True),
    "torch.safetensors": lambda: _torch_file(legacy=False),
    "torch.pth": lambda: _torch_file(legacy=False),
    "single-array.npz": lambda: npy(np.ones(48, np.float32)),
    "empty-zip.npz": lambda: b"PK\x05\x06" + bytes(18),
    "page.npz": lambda: b"<html><body>404</body></html>",
    "lfs.safetensors": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "escape-name.npz": lambda: npz_named("\x1b[2J.npy"),
    "path-name.npz": lambda: npz_named("../../outside.npy"),
    "twice.npz": lambda: npz_named("once.npy", "zwei.npy").replace(b"zwei.npy", b"once.npy"),
    "long-name.npz": lambda: npz_named("x" * 60_000 + ".npy"),
    "many.npz": lambda: npz_named(*(f"{i}.npy" for i in range(5000))),
    "no-array.npz": lambda: npz_named("readme.txt"),
    "header-2-62.safetensors": lambda: safetensors({}, length=2**62),
    "header-zero.safetensors": lambda: safetensors(b""),
    "header-list.safetensors": lambda: safetensors(b"[]"),
    "header-deep.safetensors": lambda: safetensors(b'{"a":' + b"[" * 100_000),
    "no-tensor.safetensors": lambda: safetensors({}),
    "negative.safetensors": lambda: safetensors(_entry([-48], [0, 192]), bytes(192)),
    "great.safetensors": lambda: safetensors(_entry([2**61], [0, 2**63]), bytes(192)),
    "overlap.safetensors": lambda: safetensors({**_entry([48], [0, 192]), "b": _entry([48], [0, 192])[NORM]}, bytes(192)),
    "beyond.safetensors": lambda: safetensors(_entry([48], [10**12, 10**12 + 192]), bytes(192)),
    "text-offsets.safetensors": lambda: safetensors(_entry([48], ["0", "192"]), bytes(192)),
    "no-dtype.safetensors": lambda: safetensors(_entry([48], [0, 192], None), bytes(192)),
    "odd-dtype.safetensors": lambda: safetensors(_entry([48], [0, 192], "X99"), bytes(192)),
    "integers.safetensors": lambda: safetensors(_entry([48], [0, 192], "I32"), bytes(192)),
    "escape-name.safetensors": lambda: safetensors({"\x1b[2J": _entry([48], [0, 192])[NORM]}, bytes(192)),
    "metadata-number.safetensors": lambda: safetensors({"__metadata__": {"a": 1}, **_entry([48], [0, 192])}, bytes(192)),
    "metadata-deep.safetensors": lambda: safetensors({"__metadata__": {OWN_KEY: "[" * 5000}, **_entry([48], [0, 192])}, bytes(192)),
}  # fmt: skip


def weight_files() -> Iterator[Case]:
    yield Case("the file as it is", lambda folder: weights_run(folder, tips_npz(), "w.npz"), statuses=(0,), check=same_numbers)
    for name, make in WHOLE_FILES.items():
        yield Case(name, lambda folder, make=make, name=name: weights_run(folder, make(), name), statuses=(2,))
    for name, make in HEADERS.items():
        case = lambda folder, make=make: weights_run(folder, npz_with(**{NORM: make()}), "w.npz")  # noqa: E731
        yield Case(f"an array with {name}", case, check=same_numbers)
    for number in range(BROKEN):
        for name, make_file in (("w.npz", tips_npz), ("w.safetensors", tips_safetensors)):

            def prepare(folder: Path, number: int = number, name: str = name, make_file: Any = make_file) -> Attack:
                return weights_run(folder, _nth(bytes_mutated(make_file(), number + 1, seeded("weights", name)), number), name)

            yield Case(f"{name}, broken form {number}", prepare, check=same_numbers)

        def header(folder: Path, number: int = number) -> Attack:
            data, rng = npy(tips_tensors()[NORM]), seeded("headers", str(number))
            return weights_run(folder, npz_with(**{NORM: _nth(bytes_mutated(data, number + 1, rng), number)}), "w.npz")

        yield Case(f"an array's header, broken form {number}", header, check=same_numbers)


def _nth(forms: Iterator[tuple[str, Any]], number: int) -> Any:
    for index, (_, form) in enumerate(forms):
        if index == number:
            return form
    raise AssertionError(f"there are no {number} forms")


@corpus("weights", list(weight_files()))
def test_a_weight_file_is_scored_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def checksums() -> Iterator[Case]:
    """A card that states the SHA-256 of its weights, and a file with another."""
    for number in range(12):

        def prepare(folder: Path, number: int = number) -> Attack:
            data, rng = tips_safetensors(), seeded("checksums", str(number))
            at = rng.randrange(len(data))
            write(folder / "w.safetensors", data[:at] + bytes([data[at] ^ (1 + rng.randrange(255))]) + data[at + 1 :])
            write_card(folder, "model", TOY | {"weights": {"path": "w.safetensors", "sha256": hashlib.sha256(data).hexdigest()}})
            return command(*run_shapes(folder, model="toy"))

        yield Case(f"a byte changed, {number}", prepare, statuses=(2,))


@corpus("checksums", list(checksums()))
def test_weights_that_are_not_those_of_the_card_are_refused(case: Case, arena: Path) -> None:
    meet(case, arena)


def folder_run(folder: Path, source: Path, changes: dict[str, bytes | None]) -> Attack:
    """A run of a model in a folder, some files of which hold other bytes or are not there."""
    shutil.copytree(source, folder / "model")
    for name, data in changes.items():
        if data is None:
            (folder / "model" / name).unlink(missing_ok=True)
        else:
            write(folder / "model" / name, data)
    return command(*run_shapes(folder, model="./model"))


def configs() -> Iterator[Case]:
    for family, number in (("tips", 60), *((family, 45) for family in FAMILIES)):
        yield Case(f"{family}, as it is", _config_case(family, None), statuses=(0,), check=same_numbers)
        yield from (Case(f"{family}, value {n}", _config_case(family, n), check=same_numbers) for n in range(number))
        yield from (Case(f"{family}, bytes {n}", _config_case(family, n, of_bytes=True), check=same_numbers) for n in range(10))


def _config_case(family: str, number: int | None, of_bytes: bool = False) -> Any:
    def prepare(folder: Path) -> Attack:
        source = tips_folder() if family == "tips" else transformers_folder(family)
        text = (source / "config.json").read_bytes()
        if number is None:
            return folder_run(folder, source, {})
        if of_bytes:
            return folder_run(folder, source, {"config.json": _nth(bytes_mutated(text, number + 1, seeded("config", family)), number)})
        form = _nth(data_mutated(json.loads(text), number + 1, seeded("config values", family)), number)
        return folder_run(folder, source, {"config.json": json.dumps(form).encode()})

    return prepare


QUANTIZED = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
WORDS: dict[str, Any] = {
    "quantised": QUANTIZED,
    "quantised by what nobody knows": {"quantization_config": {"quant_method": "x"}},
    "quantised by a number": {"quantization_config": 4},
    "code of its own": {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}},
    "a dtype that nobody knows": {"torch_dtype": "float3", "dtype": "float3"},
    "an attention that nobody knows": {"_attn_implementation": "../../evil", "attn_implementation": "x"},
    "an activation that nobody knows": {"hidden_act": "os.system"},
    "no layers": {"num_hidden_layers": 0},
    "a million layers": {"num_hidden_layers": 10**6},
    "heads that do not divide": {"num_attention_heads": 5},
    "no heads": {"num_attention_heads": 0},
    "a width of minus 48": {"hidden_size": -48},
    "a width of 10**9": {"hidden_size": 10**9},
    "a patch of zero": {"patch_size": 0},
    "a patch of two sides": {"patch_size": [14, 16]},
    "an image of zero": {"image_size": 0},
    "an image of 10**9": {"image_size": 10**9},
    "five channels": {"num_channels": 5},
    "a dropout of two": {"hidden_dropout_prob": 2.0},
    "a range of initial values below zero": {"initializer_range": -1.0},
    "another model type": {"model_type": "llama"},
    "a model type with a path": {"model_type": "../../x"},
    "a model type of a number": {"model_type": 7},
    "labels of ten thousand": {"id2label": {str(i): "x" * 100 for i in range(10_000)}},
    "another architecture": {"architectures": ["../x"]},
    "another version": {"transformers_version": "99.0"},
    "a name with an escape": {"_name_or_path": "\x1b[2J"},
    "a subfolder": {"subfolder": "../.."},
}


def words() -> Iterator[Case]:
    for family in ("dinov2", "clip", "vit"):
        for name, change in WORDS.items():

            def prepare(folder: Path, family: str = family, change: dict[str, Any] = change) -> Attack:
                config = json.loads((transformers_folder(family) / "config.json").read_text())
                inner = {"vision_config": config["vision_config"] | change} if family == "clip" else {}
                return folder_run(folder, transformers_folder(family), {"config.json": json.dumps(config | change | inner).encode()})

            yield Case(f"{family}, {name}", prepare, check=same_numbers)


@corpus("configs", list(configs()))
def test_a_models_config_is_taken_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


@corpus("config words", list(words()))
def test_a_models_config_that_asks_for_more_is_taken_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


INDEXES: dict[str, Any] = {
    "no map": {},
    "a list": [],
    "a map of numbers": {"weight_map": {"a": 1}},
    "a shard that is not there": {"weight_map": {"a": "x.safetensors"}},
    "a shard above": {"weight_map": {"a": "../x.safetensors"}},
    "an absolute shard": {"weight_map": {"a": "/etc/passwd"}},
    "itself": {"weight_map": {"a": "model.safetensors.index.json"}},
    "a long name": {"weight_map": {"a": "x" * 5000}},
    "a NUL": {"weight_map": {"a": "a\0b"}},
    "an escape": {"weight_map": {"a": "\x1b[2J"}},
    "no shards": {"weight_map": {}},
}


def others() -> Iterator[Case]:
    for family in ("tips", "dinov2"):
        source = tips_folder if family == "tips" else lambda: transformers_folder("dinov2")
        for name, index in INDEXES.items():

            def prepare(folder: Path, source: Any = source, index: Any = index) -> Attack:
                changes = {"model.safetensors": None, "model.safetensors.index.json": json.dumps(index).encode()}
                return folder_run(folder, source(), changes)

            yield Case(f"{family}, an index with {name}", prepare, statuses=(2,))
        for name, data in {"nothing": None, "no JSON": b"{", "a list": b"[]", "deep": b"[" * 100_000, "half": b'"\xff"'}.items():
            for file in ("config.json", "preprocessor_config.json"):
                case = lambda folder, source=source, file=file, data=data: folder_run(folder, source(), {file: data})  # noqa: E731
                yield Case(f"{family}, {file} is {name}", case, check=same_numbers)


@corpus("model folders", list(others()))
def test_a_models_folder_is_taken_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    outcome: Outcome = meet(case, arena)
    assert not (arena / "work" / "owned").exists(), outcome
